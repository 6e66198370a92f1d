"""What a run says of the tests that it skipped, and that every skip says what it needs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

EXAMPLE = """
import pytest
from tests.rig.programs import need, needs

@pytest.fixture
def browser():
    return need("chromium", "chromedriver")

def test_page(browser): ...
def test_print(): need("chromium")
@needs("npm")
def test_flow(): ...
@pytest.mark.gpu
@pytest.mark.skip(reason="needs an NVIDIA GPU")
def test_gpu(): ...
def test_that_passes(): ...
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The example, in a process of its own that finds no program."""
    (folder / "conftest.py").write_text('pytest_plugins = ["tests.rig.end_of_run"]\n')
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu:\n")
    (folder / "test_example.py").write_text(EXAMPLE)
    (folder / "programs").mkdir()
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", folder, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        # Without the options of the run around it, whose own skips those are.
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
            "PATH": str(folder / "programs"),
            "PYTHONPATH": str(TESTS.parent),
        },
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_end_adds_up_what_was_skipped(tmp_path: Path, workers: str) -> None:
    """One line for each missing program, however many tests need it together with another."""
    done = run(tmp_path, "-n", workers)
    assert done.returncode == 0, done.stdout
    end = done.stdout.partition("not run here")[2].splitlines()[1:6]
    assert end == [
        "   2 skipped: needs chromium",
        "   1 skipped: needs an NVIDIA GPU",
        "   1 skipped: needs chromedriver",
        "   1 skipped: needs npm",
        "On Debian or Ubuntu: sudo apt install chromium chromium-driver npm",
    ]


def test_a_run_that_may_skip_nothing_else_fails(tmp_path: Path) -> None:
    done = run(tmp_path, "--only-skip", "gpu", "-k", "gpu or passes")
    assert done.returncode == 0, done.stdout
    (tmp_path / "programs").rmdir()
    done = run(tmp_path, "--only-skip", "gpu")
    assert done.returncode == 1
    named = done.stdout.partition("skipped, and must not be")[2]
    assert "test_example.py::test_flow: needs npm: apt install npm" in named
    assert "test_gpu" not in named


def reasons(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and beginning of each reason to skip that is written out."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        name = call.func.attr
        given = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
        if name == "skip" and not given:
            given = call.args[:1]
        if name not in ("skip", "skipif", "importorskip"):
            continue
        for value in given:
            first = value.values[0] if isinstance(value, ast.JoinedStr) else value
            if isinstance(first, ast.Constant):
                yield call.lineno, str(first.value)


@pytest.mark.parametrize(
    "file", sorted(TESTS.rglob("*.py")), ids=lambda file: str(file.relative_to(TESTS))
)
def test_every_skip_says_what_it_needs(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    wrong = [f"{line}: {why}" for line, why in reasons(tree) if not re.match("needs ", why)]
    assert not wrong


def test_tests_start_brokers_by_the_rig() -> None:
    """Which skips them where the broker is not installed; the demo's own raises."""
    for file in TESTS.rglob("*.py"):
        if file.name != "brokers.py":
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"^(from|import) broker\b", text, re.MULTILINE), file
