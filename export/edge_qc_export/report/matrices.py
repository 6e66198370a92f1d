"""The confusion matrix as pictures: how many, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.figures.costs import Costs, cost_matrix
from edge_qc_export.report.palette import WIDTH_IN, Theme, short


def draw_counts(confusion: NDArray[np.int64], labels: Sequence[str], theme: Theme) -> Figure:
    """Pictures by true and predicted label, shaded by their share of the true label."""
    counts = confusion.astype(np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    texts = [[f"{int(count)}" if count else "·" for count in row] for row in confusion]
    return _draw(shares, texts, labels, theme.shade, theme)


def draw_costs(
    confusion: NDArray[np.int64], costs: Costs, labels: Sequence[str], theme: Theme
) -> Figure:
    """What the pictures of each cell cost together, shaded by the logarithm."""
    spent = confusion * cost_matrix(costs, labels)
    top = max(float(spent.max()), 1.0)
    shades = np.log1p(spent) / np.log1p(top)
    texts = [[compact(value) if value else "·" for value in row] for row in spent]
    return _draw(shades, texts, labels, theme.alarm, theme)


def compact(value: float) -> str:
    """A cost in few letters: 950, 12k, 3.4M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            scaled = value / unit
            return (
                f"{scaled:.1f}".removesuffix(".0") + letter
                if scaled < 100
                else (f"{scaled:.0f}{letter}")
            )
    return f"{value:.3g}"


def _draw(
    shades: NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    labels: Sequence[str],
    colour: str,
    theme: Theme,
) -> Figure:
    count = len(labels)
    figure = Figure(figsize=(WIDTH_IN, max(4.6, 1.6 + 0.5 * count)))
    axes = figure.subplots()
    ramp = LinearSegmentedColormap.from_list("ramp", [theme.paper, colour])
    axes.imshow(shades, cmap=ramp, vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    size = 10 if count <= 8 else max(5, 10 - (count - 8) / 2)
    for row in range(count):
        for column in range(count):
            ink = _contrasting(ramp(float(shades[row, column])))
            weight = "bold" if row == column else "normal"
            axes.text(
                column,
                row,
                texts[row][column],
                ha="center",
                va="center",
                color=ink,
                fontsize=size,
                fontweight=weight,
            )
        axes.add_patch(
            Rectangle((row - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=theme.ink, linewidth=1)
        )
    names = ["Drift" if label == DRIFT else short(label) for label in labels]
    axes.set_xticks(range(count), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if GOOD in labels:
        # The column of escapes: every count in it off the diagonal is a bad part let through.
        place = list(labels).index(GOOD)
        axes.add_patch(
            Rectangle(
                (place - 0.5, -0.5),
                1,
                count,
                fill=False,
                edgecolor=theme.alarm,
                linewidth=2,
                linestyle="--",
            )
        )
        axes.annotate(
            "escapes ↓",
            (place, -0.5),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            annotation_clip=False,
        )
    return figure


def _contrasting(background: tuple[float, float, float, float]) -> str:
    """Black or white, whichever reads better (WCAG's relative luminance)."""
    linear = [
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in background[:3]
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "#ffffff"
