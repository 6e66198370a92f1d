"""The embeddings laid out flat: t-SNE (van der Maaten and Hinton 2008), perplexity 30."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_qc.parts import DRIFT
from edge_qc_export.report.palette import WIDTH_IN, Theme, marks, short

PERPLEXITY = 30.0
MOST_POINTS = 2000
_FEWEST_POINTS = 5
_COMPONENTS = 50


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingMap:
    """places: (m, 2) of the pictures in ``rows`` of the evaluation."""

    rows: NDArray[np.intp]
    places: NDArray[np.float64]
    perplexity: float


def lay_out(embeddings: NDArray[np.float32], seed: int = 0) -> EmbeddingMap | None:
    """The map of at most ``MOST_POINTS`` pictures, the others left out at random; None if there are
    too few or all embeddings are the same. The perplexity is at most a third of the pictures."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = len(embeddings)
    rows = np.arange(count)
    if count > MOST_POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(count, MOST_POINTS, replace=False))
    points = embeddings[rows].astype(np.float64)
    spread = points.std(0)
    if len(rows) < _FEWEST_POINTS or points.shape[1] == 0 or not spread.max() > 0:
        return None
    if not np.isfinite(points).all():
        return None
    components = min(_COMPONENTS, *points.shape)
    points = PCA(components, random_state=seed).fit_transform(points)
    # One unit of the first component: t-SNE's result does not hang on the scale, its descent does.
    points /= points[:, 0].std()
    perplexity = min(PERPLEXITY, max(1.0, (len(rows) - 1) / 3))
    tsne = TSNE(
        perplexity=perplexity,
        init="pca" if components >= 2 else "random",
        random_state=seed,
        n_jobs=1,
    )
    return EmbeddingMap(rows, np.asarray(tsne.fit_transform(points), np.float64), perplexity)


def draw_map(
    laid: EmbeddingMap,
    truth: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    theme: Theme,
) -> Figure:
    """Points by true label; those that the run called otherwise carry a ring."""
    figure = Figure(figsize=(WIDTH_IN, 5.6))
    axes = figure.subplots()
    seen = {truth[row] for row in laid.rows}
    shown = [label for label in labels if label in seen]
    # The commonest first, so that rare classes lie on top.
    counts = {label: sum(truth[row] == label for row in laid.rows) for label in shown}
    looks = marks(labels, theme)
    for label in sorted(shown, key=lambda name: -counts[name]):
        chosen = np.array([truth[row] == label for row in laid.rows])
        axes.scatter(
            laid.places[chosen, 0],
            laid.places[chosen, 1],
            s=34,
            c=looks[label].colour,
            marker=looks[label].shape,
            edgecolors=theme.paper,
            linewidths=0.5,
            label=f"{'Drift' if label == DRIFT else short(label)} ({counts[label]})",
        )
    wrong = np.array([truth[row] != predicted[row] and truth[row] != DRIFT for row in laid.rows])
    if wrong.any():
        axes.scatter(
            laid.places[wrong, 0],
            laid.places[wrong, 1],
            s=110,
            facecolors="none",
            edgecolors=theme.ink,
            linewidths=1.1,
            label=f"called otherwise ({int(wrong.sum())})",
        )
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(theme.grid)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"t-SNE, perplexity {laid.perplexity:.3g}", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, handletextpad=0.3)
    return figure
