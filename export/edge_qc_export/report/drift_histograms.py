"""Drift scores of known parts against those of drift, with the threshold."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from edge_qc_export.report.material import DriftMaterial, DriftPanel
from edge_qc_export.report.palette import WIDTH_IN, Theme

_BINS = 30


def draw_drift(drift: DriftMaterial, theme: Theme) -> Figure:
    """One panel a die that has a threshold of its own. Scores beyond ten times the threshold share
    the last bar: how odd a part is beyond that says no more."""
    panels = drift.panels
    figure = Figure(figsize=(WIDTH_IN, 1.2 + 2.3 * len(panels)))
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for panel, place in zip(panels, axes, strict=True):
        _draw_panel(panel, place, theme)
    axes[-1].set_xlabel(drift.score)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=3)
    return figure


def _draw_panel(panel: DriftPanel, axes: Axes, theme: Theme) -> None:
    both = np.concatenate([panel.known, panel.drift])
    top = float(both.max()) if len(both) else 1.0
    if panel.threshold is not None:
        top = min(top, 10 * panel.threshold) if panel.threshold > 0 else top
        top = max(top, 1.2 * panel.threshold)
    low = min(0.0, float(both.min())) if len(both) else 0.0
    edges = np.linspace(low, max(top, low + 1e-9), _BINS + 1)
    for scores, name, colour, hatch, alpha in (
        (panel.known, "known", theme.shade, "", 0.75),
        (panel.drift, "drift", theme.alarm, "////", 0.45),
    ):
        if not len(scores):
            continue
        weights = np.full(len(scores), 1 / len(scores))
        axes.hist(
            np.clip(scores, edges[0], edges[-1]),
            edges.tolist(),
            weights=weights,
            color=(colour, alpha),
            edgecolor=theme.ink,
            linewidth=0.5,
            hatch=hatch,
            label=name,
        )
    title = f"{panel.title}: {len(panel.known)} known, {len(panel.drift)} drift"
    if panel.threshold is not None:
        axes.axvline(
            panel.threshold, color=theme.ink, linewidth=1.6, linestyle="--", label="threshold"
        )
        said = [int((scores >= panel.threshold).sum()) for scores in (panel.known, panel.drift)]
        title += f"; over the threshold {said[0]} and {said[1]}"
    axes.set_title(title, loc="left", fontsize=10)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("share")
    axes.set_xlim(edges[0], edges[-1])
