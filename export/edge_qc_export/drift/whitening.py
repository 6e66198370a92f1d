"""PaDiM applied: patch features whitened, their squared distances, an image's score.

A coarse feature meets the rows of all its finer patches in one product, and only sums of squares
are spread from coarse to fine. The same functions serve the checks and, traced, the graph. How a
``Whitening`` is fitted lives in ``padim``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from edge_qc.errors import UsageError
from edge_qc_export.drift.patches import Grid, Layout

Score = Literal["max", "mean"]


@dataclass(frozen=True, slots=True)
class Whitening:
    """What the graph needs.

    weights: of each stage (patches, channels, columns), where the columns are those of the patch's
    own channels and then, stage by stage, those of the finer patches inside it. means: (groups,
    patches, channels) of each stage, whitened; centres: before, float64. scales: (channels,) of
    each stage, what features are multiplied with first; empty for ones. shrinkage: what was used.
    """

    layout: Layout
    weights: tuple[Tensor, ...]
    means: tuple[Tensor, ...]
    centres: tuple[Tensor, ...]
    shrinkage: float
    scales: tuple[Tensor, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.weights, *self.means))


def whitened_centres(
    centres: Sequence[Tensor], layout: Layout, weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The means of ``Whitening``: by the weights as they are stored, so that
    their rounding acts on x - mean, not on x."""
    groups = [centre.transpose(0, 1) for centre in centres]
    white = whitened(groups, layout, (weight.double() for weight in weights))
    return tuple(mean.transpose(0, 1).float().contiguous() for mean in white)


def stored_in_half(whitening: Whitening) -> Whitening:
    """The whitening with weights that half holds: each channel's are brought near one by a power of
    two, which the feature is multiplied with instead."""
    layout = whitening.layout
    weights, scales = [], []
    for weight in whitening.weights:
        largest = weight.abs().amax(dim=(0, 2)).clamp_min(torch.finfo(torch.float32).tiny)
        scale = torch.exp2(torch.floor(torch.log2(largest)))
        weights.append((weight / scale[None, :, None]).half().float())
        scales.append(scale)
    scaled = [
        centre * scale.double() for centre, scale in zip(whitening.centres, scales, strict=True)
    ]
    return dataclasses.replace(
        whitening,
        weights=tuple(weights),
        means=whitened_centres(scaled, layout, weights),
        scales=tuple(scales),
    )


def patch_distances(
    features: Sequence[Tensor], layout: Layout, weights: Sequence[Tensor], means: Sequence[Tensor]
) -> Tensor:
    """(N, gh, gw): squared Mahalanobis distance of each patch, the least over the groups.

    features: (patches, N, channels) of each stage. Used by the checks and, traced, by the graph.
    """
    images = features[0].shape[1]
    total: Tensor | None = None
    coarse: Grid | None = None
    for stage, white, mean in zip(
        layout.stages, whitened(features, layout, weights), means, strict=True
    ):
        difference = white - mean[:, :, None]
        # Over the last axis, along memory: engines sum any other axis ten times as slowly.
        distance = (difference * difference).sum(dim=3)
        if total is not None and coarse is not None:
            distance = _add_coarse(total, distance, coarse, stage.grid)
        total, coarse = distance, stage.grid
    assert total is not None
    return total.amin(dim=0).permute(1, 0).reshape(images, *layout.grid)


def whitened(features: Sequence[Tensor], layout: Layout, weights: Iterable[Tensor]) -> list[Tensor]:
    """(patches, N, channels) of each stage: W x. features: of the same shapes."""
    products = [x @ weight for weight, x in zip(weights, features, strict=True)]
    stages, offsets = layout.stages, [0] * len(products)
    white = []
    for i, stage in enumerate(stages):
        parts = []
        for j in range(i + 1):
            width = stage.patches // stages[j].patches * stage.width
            rows = products[j][:, :, offsets[j] : offsets[j] + width]
            offsets[j] += width
            parts.append(_to_fine(rows, stages[j].grid, stage.grid))
        white.append(functools.reduce(torch.add, parts))
    return white


def _to_fine(rows: Tensor, coarse: Grid, fine: Grid) -> Tensor:
    """(coarse patches, N, group x width) to (fine patches, N, width)."""
    if coarse == fine:
        return rows
    images = rows.shape[1]
    down, across = fine[0] // coarse[0], fine[1] // coarse[1]
    if images == 1:
        cells = rows.reshape(coarse[0], coarse[1], down, -1).permute(0, 2, 1, 3)
    else:
        cells = rows.reshape(*coarse, images, down, across, -1).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(fine[0] * fine[1], images, -1)


def _add_coarse(total: Tensor, distance: Tensor, coarse: Grid, fine: Grid) -> Tensor:
    """(groups, fine patches, N): the coarser stages' sum added to each patch's own."""
    groups, _, images = distance.shape
    down, across = fine[0] // coarse[0], fine[1] // coarse[1]
    # Repeated along a row before the sum: engines that broadcast an axis as short as ``across``
    # take ten times as long.
    rows = torch.cat([total.reshape(groups * coarse[0], coarse[1], images)] * across, dim=2)
    own = distance.reshape(groups * coarse[0], down, fine[1] * images)
    together = rows.reshape(groups * coarse[0], 1, fine[1] * images) + own
    return together.reshape(groups, fine[0] * fine[1], images)


def score_from_distances(distances: Tensor, score: Score) -> Tensor:
    """(N,): the image's score from its patches (N, gh, gw): the largest, or the mean."""
    if score == "max":
        return distances.flatten(1).amax(dim=1)
    if score == "mean":
        return distances.flatten(1).mean(dim=1)
    raise UsageError(f"PaDiM: score {score!r}, wanted 'max' or 'mean'")
