"""A small data set, run and bundle, made once for all tests and workers."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

EDGE_QC = (sys.executable, "-m", "edge_qc.cli")


@dataclass(frozen=True)
class Trained:
    """Folders of the commands' results."""

    data: Path
    run: Path
    bundle: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """synth, train and export, as a user would type them, at 48 pixels."""
    pytest.importorskip("torch", reason="training needs torch: pip install ./export")
    root = tmp_path_factory.getbasetemp()
    if root.name.startswith("popen-"):  # a worker of pytest-xdist
        root = root.parent
    made = Trained(root / "data", root / "run", root / "bundle")
    with (root / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made.bundle / "manifest.sha256").exists():
            _edge_qc("synth", made.data, "--train", 400, "--test", 80, "--seed", 3)
            _edge_qc(
                "train", made.data, "--network", "cnn-basic", "--size", 48, "--epochs", 3,
                "--out", made.run,
            )  # fmt: skip
            _edge_qc("export", made.run, "--out", made.bundle)
    return made


def _edge_qc(*arguments: object) -> None:
    done = subprocess.run(
        [*EDGE_QC, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
