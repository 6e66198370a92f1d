"""Colours, marks and the two themes of every figure.

The colours are Okabe and Ito's (2008), told apart by people with any of the common colour
blindnesses; every class has a mark beside its colour, so that nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from edge_qc.parts import DRIFT, GOOD

BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, YELLOW = "#e69f00", "#56b4e9", "#f0e442"

_OTHERS = (ORANGE, SKY, PURPLE, BLUE, VERMILION, YELLOW)
_MARKS = ("s", "^", "v", "D", "P", "<", ">", "p", "h", "8")
WIDTH_IN = 5.2
"""Inches: on a phone 360 pixels wide the smallest letters are then still about 10 pixels high."""


@dataclass(frozen=True, slots=True)
class Theme:
    """One look of a figure. shade: the full colour of a matrix of counts; alarm: of one of
    costs."""

    name: str
    ink: str
    paper: str
    grid: str
    shade: str
    alarm: str


LIGHT = Theme("light", "#1b1f24", "#ffffff", "#d0d7de", BLUE, VERMILION)
DARK = Theme("dark", "#e6edf3", "#161b22", "#3d444d", SKY, "#ff8a3d")


@dataclass(frozen=True, slots=True)
class Mark:
    """How the points of one label look."""

    colour: str
    shape: str


def marks(labels: Sequence[str], theme: Theme) -> dict[str, Mark]:
    """A mark for every label, the same in every figure: GOOD a green disc, DRIFT a cross in the
    theme's ink."""
    chosen = {}
    others = [label for label in labels if label not in (GOOD, DRIFT)]
    for index, label in enumerate(others):
        chosen[label] = Mark(_OTHERS[index % len(_OTHERS)], _MARKS[index % len(_MARKS)])
    return chosen | {GOOD: Mark(GREEN, "o"), DRIFT: Mark(theme.ink, "X")}


@contextmanager
def drawn_in(theme: Theme) -> Iterator[None]:
    """Matplotlib's settings for figures of this theme. Labels are text as it stands: a ``$`` in a
    class's name starts no formula."""
    import matplotlib as mpl

    settings: dict[str, Any] = {
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.titlesize": 11,
        "axes.titlecolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.6,
        "text.color": theme.ink,
        "text.parse_math": False,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "font.family": "sans-serif",
        "font.size": 10,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "hatch.linewidth": 0.8,
        "figure.constrained_layout.use": True,
    }
    with mpl.rc_context(cast(Any, settings)):
        yield


def short(label: str, letters: int = 18) -> str:
    """A label that fits beside a matrix."""
    return label if len(label) <= letters else label[: letters - 1] + "…"
