"""A small data set, run and bundle, made once for all tests and workers by the README's own
commands."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDGE_QC = (sys.executable, "-m", "edge_qc.cli")


@dataclass(frozen=True)
class Trained:
    """Folders of the commands' results."""

    data: Path
    run: Path
    bundle: Path

    @property
    def folder(self) -> Path:
        return self.data.parent


def readme_commands() -> list[list[str]]:
    """The lines of each ``sh`` block of the README, without their comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [[line.split(" #")[0].strip() for line in block.splitlines()] for block in blocks]


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one line as a user would, in a folder, with this environment's commands first."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What the README's synth, train and export make."""
    pytest.importorskip("torch", reason="needs torch: pip install ./export")
    root = tmp_path_factory.getbasetemp()
    if root.name.startswith("popen-"):  # a worker of pytest-xdist
        root = root.parent
    made = Trained(root / "data", root / "run", root / "bundle")
    with (root / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made.bundle / "manifest.sha256").exists():
            for command in readme_commands()[0]:
                if command.split()[:2] in (
                    ["edge-qc", "synth"],
                    ["edge-qc", "train"],
                    ["edge-qc", "export"],
                ):
                    done = shell(command, root)
                    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return made
