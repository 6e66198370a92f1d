"""One streaming pass of all labelled views through the network: PaDiM, embedding and head fitted.

Once on all of them, for the graph, and once for each fold on the others, so that every part has
scores by what had not learned from it. The maths live in ``padim``, ``embedding`` and ``gate``;
here are the pass, its settings and its memory, stated before it is taken. ``answers`` runs views
through the fitted graph.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_qc.errors import EdgeQCError, UsageError
from edge_qc.parts import GOOD
from edge_qc_export.data.mapped import make_mapped
from edge_qc_export.drift.embedding import EmbeddingMoments, EmbeddingWhitening
from edge_qc_export.drift.moments import Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import Layout, choose_channels, plan_layout, stage_features
from edge_qc_export.drift.whitening import Score, Whitening, patch_distances, score_from_distances
from edge_qc_export.gate.crossfit import Labelled, cross_fit, whitening_of
from edge_qc_export.gate.folds import FOLDS, assign_folds
from edge_qc_export.gate.head import Head, fit_head
from edge_qc_export.gate.scored import Scored
from edge_qc_export.learn.run_views import LabelledViews

Advance = Callable[[int], None]

BATCH = 16
"""Views that go through the network at once."""

_USUAL_CHANNELS = 144
_USUAL_PATCHES = 16 * 16
_USUAL_DIRECTIONS = 256


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How PaDiM, embedding and head are fitted.

    score: an image's from its patch distances. channels: None takes 144, or all that the network
    has. grid: rows; ``finest``; or None for the finest level's halved until it has at most 256
    patches. directions: of the embedding that are kept as they are.
    folds: how many times the labelled parts are divided. memory_limit: bytes that the fit may take.
    """

    score: Score = "largest"
    channels: int | None = None
    grid: int | Literal["finest"] | None = None
    directions: int = _USUAL_DIRECTIONS
    folds: int = FOLDS
    seed: int = 0
    memory_limit: int = 4 * 2**30
    regularisation: Regularisation = field(default_factory=Regularisation)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the graph is made of. images: how many GOOD views PaDiM saw. memory: bytes stated."""

    padim: Whitening
    embedding: EmbeddingWhitening
    head: Head
    images: int
    memory: int


@dataclass(frozen=True, slots=True, eq=False)
class CrossFitted:
    """Scores of all labelled parts by what had not learned from them, nor from their session where
    there are several. within: then also the scores by what had learned from other parts of their
    session, and these folds (n,)."""

    parts: Labelled
    scores: Scored
    within: tuple[Scored, NDArray[np.intp]] | None

    def answers(self, rows: NDArray[np.intp] | None = None) -> Answers:
        """The scores as the graph would give them, of ``rows`` or of all parts."""
        chosen = slice(None) if rows is None else rows
        return Answers(
            self.scores.logits[chosen].astype(np.float32),
            self.scores.padim[chosen].astype(np.float32),
            self.scores.embedding_distance[chosen].astype(np.float32),
            self.scores.good_distance[chosen].astype(np.float32),
            None,
        )


def plan_fit(
    features: nn.Module, size: tuple[int, int], classes: int, settings: FitSettings
) -> tuple[Layout, int, int]:
    """The layout, the embedding's length, and the bytes that the fit will take.

    Raises UsageError where the bytes are over the limit, or the settings do not go with the
    network.
    """
    with torch.no_grad():
        embedding, levels = features(torch.zeros(1, 1, *size, dtype=torch.uint8))
    sizes = [(level.shape[2], level.shape[3]) for level in levels]
    available = [level.shape[1] for level in levels]
    count = settings.channels
    if count is None:
        count = min(_USUAL_CHANNELS, sum(available))
    grid = settings.grid
    rows = None if grid == "finest" else grid
    if grid is None:
        rows, columns = sizes[0]
        while rows * columns > _USUAL_PATCHES and rows % 2 == columns % 2 == 0:
            rows, columns = rows // 2, columns // 2
    layout = plan_layout(sizes, choose_channels(available, count, settings.seed), rows)
    length = embedding.shape[1]
    patches = Moments.memory_bytes(layout)
    memory = (settings.folds + 1) * patches + EmbeddingMoments.memory_bytes(length, classes)
    if memory > settings.memory_limit:
        raise UsageError(
            f"PaDiM: {layout.width} channels on {layout.grid[0]}x{layout.grid[1]} take "
            f"{memory / 2**20:.0f} MiB to fit, the limit is {settings.memory_limit / 2**20:.0f} "
            "MiB. Give fewer --channels, a coarser --grid, or a higher --memory-limit"
        )
    return layout, length, memory


def fit_views(
    features: nn.Module,
    views: LabelledViews,
    seen: NDArray[np.bool_],
    classes: Sequence[str],
    settings: FitSettings,
    advance: Advance = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Fitted, CrossFitted]:
    """Fit all that the graph needs on all labelled views, and score each by the other folds.

    features: ``graph.Features``, or the same in an engine. seen: (n,), whether the network's trunk
    learned from the view. say: called with the memory before it is taken. Raises DataError or
    UsageError as ``plan_fit``, ``assign_folds``, ``padim.fit`` and ``fit_embedding`` do,
    EdgeQCError where the disk is full.
    """
    folds = assign_folds(views.labels, views.apart, settings.folds, settings.seed)
    good = np.array([label == GOOD for label in views.labels])
    size = views.pixels.shape[2], views.pixels.shape[3]
    layout, length, memory = plan_fit(features, size, len(classes), settings)
    say(
        f"PaDiM on {int(good.sum())} {GOOD} images: {layout.width} channels on "
        f"{layout.grid[0]}x{layout.grid[1]}, {memory / 2**20:.0f} MiB to fit"
    )
    embeddings = np.empty((len(views), length), np.float32)
    with tempfile.TemporaryDirectory(prefix="edge-qc-features-") as folder:
        patches = _room_for_patches(Path(folder), layout, len(views))
        with torch.no_grad():
            for start in range(0, len(views), BATCH):
                rows = slice(start, min(start + BATCH, len(views)))
                pixels = torch.from_numpy(np.ascontiguousarray(views.pixels[rows]))
                embedding, levels = features(pixels)
                embeddings[rows] = embedding.float().numpy()
                for stage, values in zip(patches, stage_features(levels, layout), strict=True):
                    stage[rows] = values.transpose(0, 1).numpy()
                advance(rows.stop - rows.start)
        whole, padim = _cross_fitted_patches(patches, layout, good, folds, settings)
        plain: tuple[NDArray[np.intp], NDArray[np.float64]] | None = None
        if views.sessions:
            mixed = assign_folds(views.labels, views.groups, settings.folds, settings.seed)
            plain = mixed, _cross_fitted_patches(patches, layout, good, mixed, settings)[1]
    parts = Labelled(
        views.labels, views.dies, views.names, seen, tuple(classes), embeddings, folds, padim
    )
    head = fit_head(embeddings, views.labels, classes)
    fitted = Fitted(
        padim=whole,
        embedding=whitening_of(embeddings, views.labels, classes, settings.directions),
        head=head,
        images=int(good.sum()),
        memory=memory,
    )
    say(f"each of {len(views)} parts scored by the other folds of {int(folds.max()) + 1}")
    within: tuple[Scored, NDArray[np.intp]] | None = None
    if plain is not None:
        alike = replace(parts, folds=plain[0], padim=plain[1])
        within = cross_fit(alike, settings.directions, head), plain[0]
    return fitted, CrossFitted(parts, cross_fit(parts, settings.directions, head), within)


def _room_for_patches(folder: Path, layout: Layout, count: int) -> list[NDArray[np.float32]]:
    """(count, patches, channels) of each stage, on the disk."""
    shapes = [(count, stage.patches, stage.width) for stage in layout.stages]
    try:
        return [
            make_mapped(folder / f"stage-{index}.npy", np.float32, shape)  # type: ignore[misc]
            for index, shape in enumerate(shapes)
        ]
    except OSError as error:
        wanted = sum(int(np.prod(shape)) for shape in shapes) * 4
        raise EdgeQCError(
            f"{wanted / 2**30:.1f} GiB of patch features have no room in {folder.parent}: "
            f"{error.strerror}. Make room, or name another folder with TMPDIR"
        ) from error


def _cross_fitted_patches(
    patches: Sequence[NDArray[np.float32]],
    layout: Layout,
    good: NDArray[np.bool_],
    folds: NDArray[np.intp],
    settings: FitSettings,
) -> tuple[Whitening, NDArray[np.float64]]:
    """PaDiM on all GOOD parts, and each part's image score by that of the other folds."""

    def batches(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]

    def features(rows: NDArray[np.intp]) -> list[Tensor]:
        return [torch.from_numpy(stage[rows]).transpose(0, 1) for stage in patches]

    count = int(folds.max()) + 1
    about = features(np.flatnonzero(good)[:BATCH])
    moments = [Moments(layout, about) for _ in range(count)]
    for fold, own in enumerate(moments):
        for rows in batches(np.flatnonzero(good & (folds == fold))):
            own.update(features(rows))

    def fitted(without: int | None) -> Whitening:
        total = Moments(layout, about)
        for fold, part in enumerate(moments):
            if fold != without:
                total.add(part)
        return fit(total, settings.regularisation)

    scores = np.empty(len(folds))
    for fold in range(count):
        whitening = fitted(fold)
        for rows in batches(np.flatnonzero(folds == fold)):
            distances = patch_distances(features(rows), layout, whitening.weights, whitening.means)
            scores[rows] = score_from_distances(distances, settings.score).numpy()
    return fitted(None), scores


def head_layer(head: Head) -> nn.Linear:
    """The head as a layer of the graph, float32."""
    layer = nn.Linear(head.weights.shape[1], head.weights.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weights))
        layer.bias.copy_(torch.from_numpy(head.bias))
    return layer.requires_grad_(False)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """logits (n, C), drift (n,), embedding_distance (n,), good_distance (n,); distances
    (n, gh, gw) where kept."""

    logits: NDArray[np.float32]
    drift: NDArray[np.float32]
    embedding_distance: NDArray[np.float32]
    good_distance: NDArray[np.float32]
    distances: NDArray[np.float32] | None


def answers(
    module: nn.Module,
    pixels: NDArray[np.uint8],
    *,
    batch: int = BATCH,
    distances: bool = False,
    advance: Advance = lambda _: None,
) -> Answers:
    """What the fused module says of views (n, 1, H, W)."""
    columns: list[list[NDArray[np.float32]]] = [[], [], [], [], []]
    with torch.no_grad():
        for start in range(0, len(pixels), batch):
            part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch]))
            logits, of_patches, drift, embedding, good = module(part)
            for column, values in zip(columns, (logits, drift, embedding, good), strict=False):
                column.append(values.numpy())
            if distances:
                columns[4].append(of_patches.numpy())
            advance(len(part))
    whole = [np.concatenate(column) for column in columns[:4]]
    patches = np.concatenate(columns[4]) if columns[4] else None
    return Answers(whole[0], whole[1], whole[2], whole[3], patches)
