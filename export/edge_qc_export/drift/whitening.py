"""PaDiM applied: patch features whitened, their squared distances, an image's score.

A coarse feature meets the rows of all its finer patches in one product, and only sums of squares
are spread from coarse to fine. The same functions serve the checks and, traced, the graph: weights
are kept in the order in which an engine reads them, so that no product is put in order afterwards.
How a ``Whitening`` is fitted lives in ``padim``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from edge_qc.errors import UsageError
from edge_qc_export.drift.patches import Grid, Layout, Stage

Score = Literal["max", "mean", "largest"]

LARGEST = 0.05
"""The share of patches whose mean is the score ``largest``: chosen by table (docs/decision.md)."""


NARROW = 16
"""Up to so many channels, a stage's own product is taken over all patches at once, patches along
memory: an engine that multiplies thousands of small matrices one by one spends its time between
them."""

WIDE, BLOCKS = 64, 4
"""From so many channels on, a stage's own product is taken in so many blocks."""


@dataclass(frozen=True, slots=True)
class Whitening:
    """What the graph needs.

    weights: of each stage those that meet the features of the coarser stages, from the coarsest,
    and last its own, as ``arranged`` gives them. means: of each stage, whitened, (patches, 1,
    channels), or (1, channels, patches) if it is narrow; centres: before, (patches, channels),
    float64. scales: (channels,) of each stage, what features are multiplied with first;
    empty for ones. shrinkage: what was used.
    """

    layout: Layout
    weights: tuple[tuple[Tensor, ...], ...]
    means: tuple[Tensor, ...]
    centres: tuple[Tensor, ...]
    shrinkage: float
    scales: tuple[Tensor, ...] = ()

    @property
    def bytes(self) -> int:
        tensors = (*itertools.chain.from_iterable(self.weights), *self.means)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def arranged(rows: Sequence[Tensor], layout: Layout) -> tuple[tuple[Tensor, ...], ...]:
    """The weights of ``Whitening``, float32, from the inverse factor's rows, (patches, channels,
    channels so far) of each stage.

    From a coarser stage (its rows, rows inside, its columns, its channels, columns inside x
    channels); a stage's own (patches, channels, channels), the first those of the features; a
    narrow stage's own (channels, channels, patches), the second those of the features.
    """
    weights = []
    for i, (fine, of_stage) in enumerate(zip(layout.stages, rows, strict=True)):
        parts = []
        for j, coarse in enumerate(layout.stages[: i + 1]):
            block = of_stage[:, :, layout.before(j) : layout.before(j + 1)]
            if j == i:
                block = block.permute(1, 2, 0) if _is_narrow(fine) else block.transpose(1, 2)
            else:
                down, across = _inside(coarse.grid, fine.grid)
                shape = coarse.grid[0], down, coarse.grid[1], across, fine.width, coarse.width
                block = block.reshape(shape).permute(0, 1, 2, 5, 3, 4).flatten(4)
            parts.append(block.float().contiguous())
        weights.append(tuple(parts))
    return tuple(weights)


def whitened_centres(
    centres: Sequence[Tensor], layout: Layout, weights: Sequence[Sequence[Tensor]]
) -> tuple[Tensor, ...]:
    """The means of ``Whitening``: by the weights as they are stored, so that
    their rounding acts on x - mean, not on x."""
    exact = [[weight.double() for weight in parts] for parts in weights]
    white = whitened([centre[:, None] for centre in centres], layout, exact)
    return tuple(mean.float().contiguous() for mean in white)


def stored_in_half(whitening: Whitening) -> Whitening:
    """The whitening with weights that half holds: each channel's are brought near one by a power of
    two, which the feature is multiplied with instead."""
    layout, count = whitening.layout, len(whitening.weights)
    scales = []
    for j in range(count):
        # The features' channels are the last axis but one of every weight.
        of_channel = [parts[j].abs().amax(dim=-1).flatten(0, -2) for parts in whitening.weights[j:]]
        largest = torch.cat(of_channel).amax(dim=0).clamp_min(torch.finfo(torch.float32).tiny)
        scales.append(torch.exp2(torch.floor(torch.log2(largest))))
    weights = tuple(
        tuple(
            (weight / scale[:, None]).half().float()
            for weight, scale in zip(parts, scales, strict=False)
        )
        for parts in whitening.weights
    )
    scaled = [
        centre * scale.double() for centre, scale in zip(whitening.centres, scales, strict=True)
    ]
    return dataclasses.replace(
        whitening,
        weights=weights,
        means=whitened_centres(scaled, layout, weights),
        scales=tuple(scales),
    )


def patch_distances(
    features: Sequence[Tensor],
    layout: Layout,
    weights: Sequence[Sequence[Tensor]],
    means: Sequence[Tensor],
) -> Tensor:
    """(N, gh, gw): squared Mahalanobis distance of each patch.

    features: (patches, N, channels) of each stage. Used by the checks and, traced, by the graph.
    """
    images = features[0].shape[1]
    total: Tensor | None = None
    coarse: Grid | None = None
    for stage, white, mean in zip(
        layout.stages, whitened(features, layout, weights), means, strict=True
    ):
        difference = white - mean
        squares = difference * difference
        distance = squares.sum(dim=1) if _is_narrow(stage) else _images_first(squares.sum(dim=2))
        if total is not None and coarse is not None:
            distance = _add_coarse(total, distance, coarse, stage.grid)
        total, coarse = distance, stage.grid
    assert total is not None
    return total.reshape(images, *layout.grid)


def whitened(
    features: Sequence[Tensor], layout: Layout, weights: Sequence[Sequence[Tensor]]
) -> list[Tensor]:
    """W x of each stage, (patches, N, channels), or (N, channels, patches) if it is narrow.

    features: (patches, N, channels) of each stage.
    """
    white = []
    for i, (stage, parts) in enumerate(zip(layout.stages, weights, strict=True)):
        products = [
            _from_coarse(features[j], parts[j], layout.stages[j].grid, stage.grid) for j in range(i)
        ]
        own = features[i]
        if _is_narrow(stage):
            products = [product.permute(1, 2, 0) for product in products]
            products.append((own.permute(1, 2, 0)[:, None] * parts[i]).sum(dim=2))
        else:
            products.append(_by_own(own, parts[i]))
        white.append(functools.reduce(torch.add, products))
    return white


def _by_own(features: Tensor, weight: Tensor) -> Tensor:
    """(patches, N, channels): a stage's features by its own weights, the inverse Cholesky factor:
    the first channels take the first features alone. In blocks, three eighths of it, which are
    zero, are never read, and reading is what the product takes its time for."""
    width = weight.shape[-1]
    if width < WIDE:
        return features @ weight
    ends = [width * block // BLOCKS for block in range(BLOCKS + 1)]
    blocks = [
        features[..., :end] @ weight[:, :end, start:end] for start, end in itertools.pairwise(ends)
    ]
    return torch.cat(blocks, dim=-1)


def _from_coarse(features: Tensor, weight: Tensor, coarse: Grid, fine: Grid) -> Tensor:
    """What a coarser stage's features (patches, N, channels) give to the fine patches inside each:
    (fine patches, N, channels there)."""
    images, (down, across) = features.shape[1], _inside(coarse, fine)
    cells = features.reshape(coarse[0], 1, coarse[1], *features.shape[1:]) @ weight
    if images > 1:
        cells = cells.reshape(coarse[0], down, coarse[1], images, across, -1).transpose(3, 4)
    return cells.reshape(fine[0] * fine[1], images, -1)


def _add_coarse(total: Tensor, distance: Tensor, coarse: Grid, fine: Grid) -> Tensor:
    """(N, fine patches): the coarser stages' sum added to each patch's own."""
    down, across = _inside(coarse, fine)
    # Repeated along a row before the sum: engines that broadcast an axis as short as ``across``
    # take ten times as long.
    rows = torch.cat([total.reshape(-1, coarse[1], 1)] * across, dim=2).reshape(-1, 1, fine[1])
    return (rows + distance.reshape(-1, down, fine[1])).reshape(distance.shape)


def _images_first(distances: Tensor) -> Tensor:
    """(patches, N) to (N, patches); of one image without moving a number."""
    patches, images = distances.shape
    return distances.reshape(1, patches) if images == 1 else distances.transpose(0, 1)


def _is_narrow(stage: Stage) -> bool:
    return stage.width <= NARROW


def _inside(coarse: Grid, fine: Grid) -> Grid:
    """How many rows and columns of the fine grid lie inside one patch of the coarse one."""
    return fine[0] // coarse[0], fine[1] // coarse[1]


def score_from_distances(distances: Tensor, score: Score) -> Tensor:
    """(N,): the image's score from its patches (N, gh, gw): the largest, the mean, or the mean of
    the ``LARGEST`` share of them."""
    if score == "max":
        return distances.flatten(1).amax(dim=1)
    if score == "mean":
        return distances.flatten(1).mean(dim=1)
    if score == "largest":
        patches = distances.flatten(1)
        count = max(1, round(LARGEST * patches.shape[1]))
        return patches.topk(count, dim=1).values.mean(dim=1)
    raise UsageError(f"PaDiM: score {score!r}, wanted 'max', 'mean' or 'largest'")
