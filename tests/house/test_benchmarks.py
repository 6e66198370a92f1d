"""The benchmarks' runner: what was measured stays, whatever is missing or fails beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FIGURE = """
def figure(name):
    return {"name": name, "ratio": 2.0, "ratio_is": "theirs/ours", "goal": "",
            "ours_median_s": 1.0, "theirs_median_s": 2.0, "runs": 1, "note": "made up"}
"""
FAILS_LATER = f"""{FIGURE}
def figures():
    yield figure("early")
    raise RuntimeError("the disk is full")
"""
WANTS_A_PEER = f"""{FIGURE}
from peers import beside

def figures():
    with_peer = beside("no_such_peer", "with_peer")
    print("measuring")
    yield figure("alone")
    if with_peer:
        import no_such_peer
        yield figure("with_peer")
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A copy of the runner, in a house with two small benchmarks."""
    folder = tmp_path / "bench"
    folder.mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    for name in ("run.py", "page.py", "timing.py", "peers.py"):
        shutil.copy(ROOT / "bench" / name, folder)
    (folder / "fails_later.py").write_text(FAILS_LATER)
    (folder / "wants_a_peer.py").write_text(WANTS_A_PEER)
    return folder


def run(bench: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, bench / "run.py", *names], capture_output=True, text=True, check=False
    )


def kept(bench: Path) -> set[str]:
    document = json.loads((bench / "results" / "latest.json").read_text(encoding="utf-8"))
    return {figure["name"] for figure in document["figures"]}


def test_a_figure_whose_peer_is_missing_is_left_out_by_name(bench: Path) -> None:
    """Before anything is measured, and it is no failure."""
    done = run(bench, "wants_a_peer")
    assert done.returncode == 0, done.stderr
    assert "with_peer: left out, no_such_peer is not installed here" in done.stderr
    assert done.stdout == "measuring\n"
    assert kept(bench) == {"alone"}
    assert "`alone`" in (bench.parent / "docs" / "figures.md").read_text(encoding="utf-8")


def test_what_was_measured_before_a_failure_is_written(bench: Path) -> None:
    done = run(bench)
    assert done.returncode == 1
    assert "failed: the disk is full" in done.stderr
    assert done.stderr.endswith("failed: fails_later\n")
    assert kept(bench) == {"early", "alone"}


def test_an_older_figure_stays_where_its_peer_is_missing(bench: Path) -> None:
    run(bench, "wants_a_peer")
    file = bench / "results" / "latest.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    document["figures"].append({**document["figures"][0], "name": "with_peer"})
    file.write_text(json.dumps(document), encoding="utf-8")
    run(bench, "wants_a_peer")
    assert kept(bench) == {"alone", "with_peer"}


def test_what_was_taken_on_another_processor_stays_beside_it(bench: Path) -> None:
    run(bench, "wants_a_peer")
    file = bench / "results" / "latest.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    (here,) = document["figures"]
    document["figures"].append({**here, "ratio": 7.5, "machine": {"cpu": "Another Chip"}})
    file.write_text(json.dumps(document), encoding="utf-8")
    run(bench, "wants_a_peer")
    shown = (bench.parent / "docs" / "figures.md").read_text(encoding="utf-8")
    rows = [line for line in shown.splitlines() if line.startswith("| `alone`")]
    assert len(rows) == 2
    assert sum("| Another Chip | 7.5 |" in row for row in rows) == 1


def test_a_benchmark_that_is_none_is_named(bench: Path) -> None:
    done = run(bench, "wants_a_pear")
    assert done.returncode == 2
    assert done.stderr == ("no benchmark wants_a_pear; there are fails_later, wants_a_peer\n")
