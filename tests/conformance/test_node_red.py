"""The Node-RED flow of deploy/dashboards in Node-RED itself, fetched from the npm registry."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.npm import fetched
from tests.edge_qc.cli.test_watch import RUNNING, publish, verdict
from tests.rig.brokers import free_port, running_broker

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "demo"))


ROOT = Path(__file__).parents[2]
FLOW = ROOT / "deploy" / "dashboards" / "node-red-flow.json"
PACKAGE = "node-red@4.1.15"

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def node_red() -> Path:
    """The program; skips where npm cannot give it."""
    return fetched("node-red", PACKAGE, "node-red/red.js") / "node_modules" / "node-red" / "red.js"


class Log:
    """What Node-RED says, as a file grows."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def until(self, words: str, seconds: float = 40) -> str:
        until_s = time.monotonic() + seconds
        while words not in (said := self._file.read_text(encoding="utf-8")):
            assert time.monotonic() < until_s, said
            time.sleep(0.1)
        return said


@contextlib.contextmanager
def running(program: Path, folder: Path, port: int) -> Iterator[Log]:
    """Node-RED with the flow, connected to the broker on this port."""
    flow = json.loads(FLOW.read_text(encoding="utf-8"))
    for node in flow:
        if node["type"] == "mqtt-broker":
            node["port"] = str(port)
    (folder / "flows.json").write_text(json.dumps(flow), encoding="utf-8")
    (folder / "settings.js").write_text(
        "module.exports = {flowFile: 'flows.json', uiHost: '127.0.0.1', telemetry: {enabled: "
        f"false}}, disableEditor: true, uiPort: {free_port()}}};",
        encoding="utf-8",
    )
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["node", program, "--userDir", folder], stdout=sink, stderr=sink, cwd=folder
        )
        try:
            Log(log).until("Connected to broker")
            yield Log(log)
        finally:
            process.terminate()
            process.wait(20)


def test_the_flow_tells_what_did_not_pass_and_what_did_not_come(
    node_red: Path, tmp_path: Path
) -> None:
    with (
        running_broker("mosquitto") as broker,
        running(node_red, tmp_path, broker[1]) as log,
    ):
        publish(broker, ("verdict", verdict(1)), ("verdict", verdict(2, label="Missing")))
        assert "verdict_id: 'e1-2'" in log.until("[debug:rejected]")
        publish(broker, ("verdict", verdict(2, label="Missing")), ("verdict", verdict(5)))
        publish(broker, ("state", RUNNING), ("state", RUNNING.replace(b"RUNNING", b"DEAD")))
        said = log.until("[debug:needs somebody]")
        assert "first: 3, last: 4" in said
        assert said.count("[debug:rejected]") == 1
        assert said.count("[debug:needs somebody]") == 1
