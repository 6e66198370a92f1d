"""One streaming pass of the training views through the network: PaDiM and embedding fitted.

The maths live in ``padim`` and ``embedding``; here are the pass, its settings and its memory,
stated before it is taken. ``answers`` runs views through the fitted graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_qc.errors import UsageError
from edge_qc_export.drift.embedding import EmbeddingMoments, EmbeddingWhitening, fit_embedding
from edge_qc_export.drift.moments import Fit, Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import Layout, choose_channels, plan_layout, stage_features
from edge_qc_export.drift.whitening import Score, Whitening
from edge_qc_export.graph import Features
from edge_qc_export.learn.run_views import LabelledViews

Advance = Callable[[int], None]

_BATCH = 16
_USUAL_CHANNELS = 100
_USUAL_PATCHES = 32 * 32
_USUAL_DIRECTIONS = 256


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How PaDiM and the embedding are fitted.

    fit: see ``padim``. score: an image's drift is its largest or its mean patch distance. channels:
    None takes 100, or what the network and the number of images allow. grid: rows; ``finest``; or
    None for the finest level's halved until it has at most 1024 patches. directions: of the
    embedding that are kept as they are. memory_limit: bytes that the fit may take.
    """

    fit: Fit = "per-class"
    score: Score = "max"
    channels: int | None = None
    grid: int | Literal["finest"] | None = None
    directions: int = _USUAL_DIRECTIONS
    seed: int = 0
    memory_limit: int = 4 * 2**30
    regularisation: Regularisation = field(default_factory=Regularisation)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the pass gave. images: how many training views it saw. memory: bytes stated."""

    padim: Whitening
    embedding: EmbeddingWhitening
    images: int
    memory: int


def plan_fit(
    features: Features, size: tuple[int, int], images: int, classes: int, settings: FitSettings
) -> tuple[Layout, int, int]:
    """The layout, the embedding's length, and the bytes that the fit will take.

    Raises UsageError if that is over the limit, or the settings do not go with the network.
    """
    with torch.no_grad():
        embedding, levels = features(torch.zeros(1, 1, *size, dtype=torch.uint8))
    sizes = [(level.shape[2], level.shape[3]) for level in levels]
    available = [level.shape[1] for level in levels]
    count = settings.channels
    if count is None:
        # Twice as many images as channels, so that the covariance is more than its shrinkage.
        count = max(1, min(_USUAL_CHANNELS, sum(available), (images - classes) // 2))
    grid = settings.grid
    rows = None if grid == "finest" else grid
    if grid is None:
        rows, columns = sizes[0]
        while rows * columns > _USUAL_PATCHES and rows % 2 == columns % 2 == 0:
            rows, columns = rows // 2, columns // 2
    layout = plan_layout(sizes, choose_channels(available, count, settings.seed), rows)
    length = embedding.shape[1]
    groups = classes if settings.fit == "per-class" else 1
    memory = Moments.memory_bytes(layout, groups) + EmbeddingMoments.memory_bytes(length, classes)
    if memory > settings.memory_limit:
        raise UsageError(
            f"PaDiM: {layout.width} channels on {layout.grid[0]}x{layout.grid[1]} take "
            f"{memory / 2**20:.0f} MiB to fit, the limit is {settings.memory_limit / 2**20:.0f} "
            "MiB. Give fewer --channels, a coarser --grid, or a higher --memory-limit"
        )
    return layout, length, memory


def fit_views(
    features: Features,
    views: LabelledViews,
    classes: Sequence[str],
    settings: FitSettings,
    advance: Advance = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Fitted:
    """Fit both witnesses on views of known parts, in one pass.

    say: receives the memory needed before it is allocated. Raises DataError or UsageError as
    ``plan_fit``, ``padim.fit`` and ``fit_embedding`` do.
    """
    size = views.pixels.shape[2], views.pixels.shape[3]
    layout, length, memory = plan_fit(features, size, len(views), len(classes), settings)
    say(
        f"PaDiM {settings.fit}: {layout.width} channels on {layout.grid[0]}x{layout.grid[1]}, "
        f"{memory / 2**20:.0f} MiB to fit"
    )
    patches = Moments(layout, len(classes) if settings.fit == "per-class" else 1)
    embeddings = EmbeddingMoments(length, len(classes))
    labels = torch.from_numpy(views.class_indices(classes))
    with torch.no_grad():
        for start in range(0, len(views), _BATCH):
            pixels = torch.from_numpy(np.ascontiguousarray(views.pixels[start : start + _BATCH]))
            of_class = labels[start : start + _BATCH]
            embedding, levels = features(pixels)
            groups = of_class if settings.fit == "per-class" else torch.zeros_like(of_class)
            patches.update(stage_features(levels, layout), groups)
            embeddings.update(embedding, of_class)
            advance(len(pixels))
    return Fitted(
        padim=fit(patches, settings.fit, settings.regularisation),
        embedding=fit_embedding(embeddings, settings.directions),
        images=len(views),
        memory=memory,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """logits (n, C), drift (n,), embedding_distance (n,); distances (n, gh, gw) where kept."""

    logits: NDArray[np.float32]
    drift: NDArray[np.float32]
    embedding_distance: NDArray[np.float32]
    distances: NDArray[np.float32] | None


def answers(
    module: nn.Module,
    pixels: NDArray[np.uint8],
    *,
    batch: int = _BATCH,
    distances: bool = False,
    advance: Advance = lambda _: None,
) -> Answers:
    """What the fused module says of views (n, 1, H, W)."""
    columns: list[list[NDArray[np.float32]]] = [[], [], [], []]
    with torch.no_grad():
        for start in range(0, len(pixels), batch):
            part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch]))
            logits, patches, drift, embedding = module(part)
            columns[0].append(logits.numpy())
            columns[1].append(drift.numpy())
            columns[2].append(embedding.numpy())
            if distances:
                columns[3].append(patches.numpy())
            advance(len(part))
    whole = [np.concatenate(column) if column else None for column in columns]
    assert whole[0] is not None
    assert whole[1] is not None
    assert whole[2] is not None
    return Answers(whole[0], whole[1], whole[2], whole[3])


def joined_answers(one: Answers, other: Answers | None) -> Answers:
    """Both, in order; distances are left behind."""
    if other is None:
        return one
    return Answers(
        np.concatenate([one.logits, other.logits]),
        np.concatenate([one.drift, other.drift]),
        np.concatenate([one.embedding_distance, other.embedding_distance]),
        None,
    )
