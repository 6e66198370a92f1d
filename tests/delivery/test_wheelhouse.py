"""What ``make wheelhouse`` packs, and under which name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import edge_qc
from tests.rig.programs import need

ROOT = Path(__file__).parents[2]


def test_a_wheelhouse_is_named_by_its_version() -> None:
    """Two releases are told apart where they lie beside each other."""
    need("make")
    said = subprocess.run(
        ["make", "-n", "wheelhouse", "PYTHON_OF=3.10", "MACHINE_OF=aarch64"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f" build/edge-qc-{edge_qc.__version__}-py3.10-aarch64 " in said.stdout
