"""``latest.json`` as a page that people read: each figure beside its peer and its goal, on each
kind of processor that it was taken on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_TRADE_MARKS = re.compile(r"\(R\)|\(TM\)|\bProcessor\b|\bCPU\b|@.*")
_GOAL = re.compile(r"\s*(<=|>=|<|>)\s*([0-9.]+)\s*")


def processor(machine: Mapping[str, Any]) -> str:
    """The kind that engines tell apart: the maker's name, and the widest vectors where they are
    known."""
    name = " ".join(_TRADE_MARKS.sub("", str(machine["cpu"])).split())
    instructions = str(machine.get("instructions", ""))
    for flag, shown in (("avx512", "AVX-512"), ("avx2", "AVX2"), ("sve", "SVE"), ("asimd", "NEON")):
        if flag in instructions:
            return f"{name}, {shown}"
    return name


def page(figures: Iterable[Mapping[str, Any]]) -> str:
    """The Markdown of ``docs/figures.md``."""
    lines = [
        "# Figures beside peers",
        "",
        "Made by `make bench` from",
        "[bench/results/latest.json](../bench/results/latest.json), which also holds the medians",
        "in seconds and the machine. Both sides of a ratio were timed in turn, in one run. The",
        "machines are virtual, with two cores whose clock their neighbours change: a ratio of two",
        "engines moves by some per cent from hour to hour, that of an engine to torch by a third.",
        "What was taken on another kind of processor is another row.",
        "",
        "| figure | processor | ratio | of | goal | reached | taken | what |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        what = str(figure["note"]).replace("|", "/")
        cells = (
            f"`{figure['name']}`",
            processor(figure["machine"]),
            f"{figure['ratio']:.4g}",
            figure["ratio_is"],
            figure["goal"] or "–",
            _reached(figure),
            figure["taken"][:10],
            what,
        )
        lines.append(f"| {' | '.join(cells)} |")
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
