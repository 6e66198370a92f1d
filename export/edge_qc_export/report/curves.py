"""Figures with lines: the epochs of a training, and how far confidence can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from edge_qc_export.figures.rates import Reliability
from edge_qc_export.report.palette import WIDTH_IN, Theme


def draw_epochs(
    log: Sequence[Mapping[str, float]], best_epoch: int, quantity: str, theme: Theme
) -> Figure:
    """``loss`` or ``accuracy`` by epoch, for training and held-out part, with the epoch that was
    kept."""
    figure = Figure(figsize=(WIDTH_IN, 3.6))
    axes = figure.subplots()
    epochs = [row["epoch"] for row in log]
    for part, name, mark, dash, colour in (
        ("train", "learnt", "o", "-", theme.shade),
        ("held_out", "held out", "s", "--", theme.alarm),
    ):
        values = [row.get(f"{part}_{quantity}", float("nan")) for row in log]
        axes.plot(epochs, values, dash, marker=mark, markersize=5, color=colour, label=name)
    axes.axvline(best_epoch, color=theme.ink, linewidth=1, linestyle=":")
    axes.annotate(
        f"kept: epoch {best_epoch}",
        (best_epoch, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if best_epoch > (epochs[0] + epochs[-1]) / 2 else 4, 4),
        textcoords="offset points",
        ha="right" if best_epoch > (epochs[0] + epochs[-1]) / 2 else "left",
        fontsize=9,
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    if quantity == "accuracy":
        axes.set_ylim(-0.03, 1.03)
    else:
        axes.set_ylim(bottom=0)
    axes.legend(loc="best")
    return figure


def draw_reliability(reliability: Reliability, theme: Theme) -> Figure:
    """Share that is right by confidence, over how many pictures each bin holds."""
    figure = Figure(figsize=(WIDTH_IN, 4.8))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    edges, filled = reliability.edges, reliability.counts > 0
    width = edges[1] - edges[0]
    middles = (edges[:-1] + edges[1:])[filled] / 2
    upper.bar(
        middles,
        reliability.accuracy[filled],
        width * 0.92,
        color=theme.shade,
        edgecolor=theme.ink,
        linewidth=0.6,
        label="share that is right",
    )
    upper.plot(
        reliability.confidence[filled],
        reliability.confidence[filled],
        "D",
        color=theme.alarm,
        markeredgecolor=theme.ink,
        markersize=6,
        label="mean confidence",
    )
    upper.plot([0, 1], [0, 1], ":", color=theme.ink, linewidth=1, label="calibrated")
    upper.set_ylim(0, 1.03)
    upper.set_xlim(0, 1)
    upper.set_ylabel("accuracy")
    figure.legend(loc="outside upper right", ncols=3, handlelength=1.4, columnspacing=1.0)
    lower.bar(
        middles, reliability.counts[filled], width * 0.92, color=theme.grid, edgecolor=theme.ink
    )
    lower.set_yscale("symlog", linthresh=1)
    lower.set_ylim(0, max(10, 2 * int(np.max(reliability.counts))))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lower.set_ylabel("pictures")
    lower.set_xlabel("confidence of the predicted class")
    return figure
