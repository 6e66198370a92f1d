"""PWA as the number of GOOD pictures varies: the report's figure 3, with the skill beneath it.

The set keeps its size; n of its pictures are GOOD, the others keep their proportions, and each
class is judged as the run judged it. All figures come from ``metrics`` over confusion matrices
scaled so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.figures import metrics
from edge_qc_export.figures.costs import Costs, cost_matrix
from edge_qc_export.report.palette import BLUE, VERMILION, WIDTH_IN, Theme, short

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class GoodShare:
    """Figures at each number of GOOD among ``total`` pictures. good: (k,). run and constant: by
    figure name, each (k,). constant_label: the one that costs least with the set as it is; actual:
    how many GOOD the set has."""

    total: int
    actual: int
    good: Floats
    run: dict[str, Floats]
    constant: dict[str, Floats]
    constant_label: str


def vary_good(
    confusion: NDArray[np.int64], costs: Costs, labels: tuple[str, ...], points: int = 201
) -> GoodShare | None:
    """None if the set has no GOOD picture, or nothing else: then nothing is known of how those
    would be judged. confusion: (L, L) in the order of ``labels``; drift is left out."""
    kept = [index for index, label in enumerate(labels) if label != DRIFT]
    names = [labels[index] for index in kept]
    counts = confusion[np.ix_(kept, kept)].astype(np.float64)
    place = names.index(GOOD)
    total, actual = counts.sum(), counts[place].sum()
    if actual in (0, total):
        return None
    good = np.linspace(0, total, points)
    scale = np.tile(((total - good) / (total - actual))[:, None], (1, len(names)))
    scale[:, place] = good / actual
    varied = counts * scale[:, :, None]
    true = varied.sum(2)
    constant = int((counts.sum(1) @ cost_matrix(costs, names)).argmin())
    said = np.zeros_like(varied)
    said[:, :, constant] = true
    return GoodShare(
        total=int(total),
        actual=int(actual),
        good=good,
        run=metrics.figures(varied, costs, names),
        constant=metrics.figures(said, costs, names),
        constant_label=names[constant],
    )


def draw_good_share(share: GoodShare, theme: Theme) -> Figure:
    """Two panels over the number of GOOD pictures: PWA, and PWA skill."""
    figure = Figure(figsize=(WIDTH_IN, 5.6))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    constant = f"constant {short(share.constant_label)}"
    lines = (
        (share.run, "this run", BLUE if theme.name == "light" else theme.shade, 2.0),
        (share.constant, constant, theme.alarm, 1.6),
    )
    for values, name, colour, width in lines:
        for kind, dash in (("challenge", "-"), ("report", "--")):
            upper.plot(
                share.good,
                values[f"pwa_{kind}"],
                dash,
                color=colour,
                linewidth=width,
                label=f"{name}, {kind}'s",
            )
    # Where nearly all are GOOD the constant falls to 0, which would flatten everything else.
    usual = share.good <= max(0.8 * share.total, share.actual)
    low = min(float(np.nanmin(v[f"pwa_{k}"][usual])) for v, *_ in lines for k in _KINDS)
    upper.set_ylim(low - 0.05 * (1 - low) - 1e-4, 1 + 0.05 * (1 - low) + 1e-4)
    upper.set_ylabel("PWA")
    upper.legend(loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=2, handlelength=2.2)
    skill = share.run["pwa_skill"]
    lower.plot(share.good, skill, color=lines[0][2], linewidth=2)
    lower.axhline(0, color=VERMILION if theme.name == "light" else theme.alarm, linewidth=1.6)
    lower.annotate(
        "0: best constant",
        (0, 0),
        xycoords=("axes fraction", "data"),
        xytext=(3, 3),
        textcoords="offset points",
        fontsize=9,
    )
    finite = skill[np.isfinite(skill)]
    least = float(finite.min()) if len(finite) else 0.0
    if least < -1:
        lower.set_yscale("symlog", linthresh=1)
        lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lower.set_ylim(min(-0.15, 1.3 * least), 1.15)
    lower.set_ylabel("PWA skill")
    lower.set_xlabel(f"GOOD pictures among {share.total}")
    for axes in (upper, lower):
        axes.axvline(share.actual, color=theme.ink, linewidth=1, linestyle=":")
    upper.annotate(
        f"this set: {share.actual}",
        (share.actual, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=9,
    )
    return figure


_KINDS = ("challenge", "report")
