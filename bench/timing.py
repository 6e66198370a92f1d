"""Two sides timed in turn, A B A B …, so that a machine that drifts drifts for both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Literal


def paired(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    runs: int = 30,
    warm_up: int = 3,
    ratio: Literal["theirs/ours", "ours/theirs"] = "theirs/ours",
    goal: str = "",
    note: str = "",
    rest_s: float = 0.0,
) -> dict[str, Any]:
    """A figure: medians of both sides in seconds, and the median of the ratios pair by pair.

    rest_s: before each call. OpenMP's threads, which torch works with, spin for some 20 ms after
    their last work and would take a core from the other side.
    """
    for _ in range(warm_up):
        ours()
        theirs()
    mine: list[float] = []
    other: list[float] = []
    for _ in range(runs):
        time.sleep(rest_s)
        mine.append(_seconds(ours))
        time.sleep(rest_s)
        other.append(_seconds(theirs))
    return {
        "name": name,
        "ratio": statistics.median(
            b / a if ratio == "theirs/ours" else a / b for a, b in zip(mine, other, strict=True)
        ),
        "ratio_is": ratio,
        "goal": goal,
        "ours_median_s": statistics.median(mine),
        "theirs_median_s": statistics.median(other),
        "runs": runs,
        "note": note,
    }


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
