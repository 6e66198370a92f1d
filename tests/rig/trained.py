"""Runs that many tests start from, made once for all tests and workers: a small data set, run and
bundle by the README's own commands, and a run of seconds."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.rig.pictures import write_challenge
from tests.rig.traced import Home

if TYPE_CHECKING:
    from edge_qc_export.learn.checkpoints import Run

ROOT = Path(__file__).parents[2]
EDGE_QC = (sys.executable, "-m", "edge_qc.cli")


@dataclass(frozen=True)
class Trained:
    """folder: of the commands, with their results. home: of the three that made them."""

    folder: Path
    home: Home

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"


def readme_commands() -> list[list[str]]:
    """The lines of each ``sh`` block of the README, without their comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [[line.split(" #")[0].strip() for line in block.splitlines()] for block in blocks]


def shell(command: str, folder: Path, home: Home | None = None) -> subprocess.CompletedProcess[str]:
    """Run one line as a user would, in a folder, with this environment's commands first, and with
    all cores: a worker's one would make another network of the same data. home: to run it in, and
    to have it traced."""
    inherited = dict(os.environ) if home is None else home.environment
    inherited.pop("OMP_NUM_THREADS", None)
    line = ["bash", "-c", command]
    return subprocess.run(
        line if home is None else home.traced(line),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=inherited | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )


@contextmanager
def _once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """The run of the tests' own folder, for one worker at a time."""
    pytest.importorskip("torch", reason="needs torch: pip install ./export")
    root = tmp_path_factory.getbasetemp()
    if root.name.startswith("popen-"):  # a worker of pytest-xdist
        root = root.parent
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A CNN that learnt three shapes for a few seconds."""
    with _once(tmp_path_factory, "quick") as root:
        from edge_qc_export.learn.training import TrainingConfig, load_run, train

        out = root / "quick" / "run"
        if (out / "run.json").exists():
            return load_run(out)
        data = write_challenge(
            root / "quick" / "data",
            {"GOOD": 60, "Boucle plate": 60, "Missing": 80},
            {"GOOD": 6, "Boucle plate": 6, "Missing": 6, "Drift": 8},
        )
        return train(
            TrainingConfig(
                network="cnn-basic",
                data=data,
                out=out,
                dies=data / "dies.json",
                size=(32, 32),
                epochs=4,
            )
        )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What the README's synth, train and export make, in an empty home."""
    with _once(tmp_path_factory, "trained") as root:
        made = Trained(root / "trained", Home(root / "trained-home"))
        if not (made.bundle / "manifest.sha256").exists():
            made.folder.mkdir()
            Home.made(made.home.folder)
            for command in readme_commands()[0]:
                if command.split()[:2] in (
                    ["edge-qc", "synth"],
                    ["edge-qc", "train"],
                    ["edge-qc", "export"],
                ):
                    done = shell(command, made.folder, made.home)
                    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return made
