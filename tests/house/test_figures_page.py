"""The page of figures says what the benchmarks measured, and nothing else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("page", ROOT / "bench/page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_kept_figures(maker: ModuleType) -> None:
    kept = json.loads((ROOT / "bench/results/latest.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/figures.md").read_text(encoding="utf-8")
    assert page == maker.page(kept["figures"]), "run: python bench/run.py, or bring back the page"


@pytest.mark.parametrize(
    ("ratio", "goal", "said"),
    [(1.04, "<= 1.05", "yes"), (1.06, "<= 1.05", "**no**"), (2.1, ">= 1.8", "yes"), (1, "", "–")],
)
def test_a_goal_that_was_missed_is_said(
    maker: ModuleType, ratio: float, goal: str, said: str
) -> None:
    figure = {
        "name": "pass",
        "ratio": ratio,
        "ratio_is": "ours/theirs",
        "goal": goal,
        "note": "one | other",
        "taken": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "Maker(R) Chip(TM) Processor @ 2.50GHz", "instructions": "avx avx2"},
    }
    *_, name, chip, shown, of, wanted, reached, taken, what, _ = (
        cell.strip() for cell in maker.page([figure]).splitlines()[-1].split("|")
    )
    assert (name, chip) == ("`pass`", "Maker Chip, AVX2")
    assert (shown, of) == (str(ratio), "ours/theirs")
    assert (wanted, reached) == (goal or "–", said)
    assert (taken, what) == ("2026-01-02", "one / other")
