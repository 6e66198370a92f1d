"""``latest.json`` as a page that people read: each figure beside its peer and its goal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_GOAL = re.compile(r"\s*(<=|>=|<|>)\s*([0-9.]+)\s*")


def page(figures: Iterable[Mapping[str, Any]]) -> str:
    """The Markdown of ``docs/figures.md``."""
    lines = [
        "# Figures beside peers",
        "",
        "Made by `make bench` from",
        "[bench/results/latest.json](../bench/results/latest.json), which also holds the medians",
        "in seconds and the machine. Both sides of a ratio were timed in turn, in one run. The",
        "machine is a virtual one with two cores, whose clock its neighbours change: a ratio of",
        "two engines moves by some per cent from hour to hour, that of an engine to torch by a",
        "third.",
        "",
        "| figure | ratio | of | goal | reached | taken | what |",
        "|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        what = str(figure["note"]).replace("|", "/")
        lines.append(
            f"| `{figure['name']}` | {figure['ratio']:.4g} | {figure['ratio_is']} | "
            f"{figure['goal'] or '–'} | {_reached(figure)} | {figure['taken'][:10]} | {what} |"
        )
    return "\n".join(lines) + "\n"


def _reached(figure: Mapping[str, Any]) -> str:
    """Whether a goal that is a bound on the ratio was reached; a dash for other goals."""
    goal = _GOAL.fullmatch(figure["goal"])
    if goal is None:
        return "–"
    sign, bound = goal[1], float(goal[2])
    ratio = figure["ratio"]
    met = ratio <= bound if sign.startswith("<") else ratio >= bound
    return "yes" if met else "**no**"
