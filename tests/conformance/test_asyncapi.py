"""AsyncAPI's own parser, fetched from the npm registry, on the contract's document."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.npm import fetched

ROOT = Path(__file__).parents[2]
HERE = ROOT / "docs" / "mqtt"

PARSER = "@asyncapi/parser@3.6.3"
VALIDATE = """
const { Parser, fromFile } = require('@asyncapi/parser');
(async () => {
  const parser = new Parser();
  const found = await fromFile(parser, process.argv[1]).parse();
  const said = found.diagnostics.map(d => `${d.severity} ${d.path.join('.')}: ${d.message}`);
  console.log(JSON.stringify({ channels: found.document?.channels().all().length, said }));
})();
"""


def asyncapi_parser() -> Path:
    """Where the parser is, which AsyncAPI's command line (1.5 GB) validates with; skips where npm
    cannot give it."""
    return fetched("asyncapi", PARSER, "@asyncapi/parser/package.json")


@pytest.mark.conformance
def test_asyncapi_itself_accepts_the_document() -> None:
    """Severity 0 is an error, 1 a warning."""

    def said(document: Path) -> dict[str, Any]:
        done = subprocess.run(
            ["node", "-e", VALIDATE, document],
            env={**os.environ, "NODE_PATH": str(asyncapi_parser() / "node_modules")},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    accepted = said(HERE / "asyncapi.json")
    assert not [word for word in accepted["said"] if word.startswith(("0", "1"))]
    assert accepted["channels"] == len(list(HERE.glob("*.schema.json")))
    spoilt = HERE / "spoilt.tmp.json"
    document = json.loads((HERE / "asyncapi.json").read_text(encoding="utf-8"))
    document["operations"]["send-verdict"]["action"] = "shout"
    try:
        spoilt.write_text(json.dumps(document), encoding="utf-8")
        assert any(word.startswith("0 operations") for word in said(spoilt)["said"])
    finally:
        spoilt.unlink()
