"""A program of the npm registry, fetched once into ``.venv``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.rig.programs import need

ROOT = Path(__file__).parents[2]


def fetched(name: str, package: str, program: str) -> Path:
    """The folder with ``package`` installed, of which the file ``program`` is; skips where npm
    cannot give it."""
    folder = ROOT / ".venv" / name
    if not (folder / "node_modules" / program).exists():
        npm = need("npm", "node")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--prefix", folder, package],
            check=True,
            capture_output=True,
            timeout=300,
        )
    return folder
