"""Over several workers what tests share is made once, and what takes long starts first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.rig.order import COMPUTE, WAIT

TESTS = Path(__file__).parents[1]

SHARED = """
import time, pathlib, pytest

@pytest.fixture(scope="module")
def costly():
    with pathlib.Path(__file__).with_name("made").open("a") as made:
        made.write("once\\n")

@pytest.mark.parametrize("number", range(20))
def test_one(costly, number):
    time.sleep(0.01)
"""
QUICK = """
def test_one(): ...
def test_two(): ...
"""


def run(folder: Path) -> str:
    """What pytest says of the examples in a folder that two workers ran."""
    (folder / "conftest.py").write_text(
        'pytest_plugins = ["tests.rig.sharing", "tests.rig.order"]\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadgroup", folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
            "PYTHONPATH": str(TESTS.parent),
        },
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_what_a_module_shares_is_made_by_one_worker(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(SHARED)
    said = run(tmp_path)
    assert (tmp_path / "made").read_text() == "once\n"
    assert len(set(re.findall(r"^\[(gw\d)\] .* PASSED", said, re.MULTILINE))) == 1


def test_what_takes_long_starts_first(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(QUICK)
    (tmp_path / f"{COMPUTE[0]}.py").write_text(QUICK)
    (tmp_path / f"{WAIT[1]}.py").write_text(QUICK)
    said = run(tmp_path)
    by_worker = [
        re.findall(rf"^\[{worker}\] .* PASSED (test_\w+)\.py", said, re.MULTILINE)
        for worker in ("gw0", "gw1")
    ]
    assert {ran[0] for ran in by_worker} == {COMPUTE[0], WAIT[1]}
    for ran in by_worker:
        assert ran == sorted(ran, key=lambda module: module == "test_a")


def test_what_is_called_long_is_there() -> None:
    there = {file.stem: file for file in TESTS.rglob("test_*.py")}
    for module, _, name in (one.partition("::") for one in (*COMPUTE, *WAIT)):
        assert module in there
        assert f"def {name}" in there[module].read_text(encoding="utf-8")
