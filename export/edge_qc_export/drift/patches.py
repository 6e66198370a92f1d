"""Where PaDiM's numbers come from: which channels, on which grid, shared by which patches.

Levels of a network differ in size. On PaDiM's grid a finer level is averaged, a coarser one is
repeated (nearest), so that groups of patches share its values. A ``Stage`` is one grid on which
features are distinct; what is the same for a group is computed and kept once for the group, on the
group's own stage. Nothing here knows of Gaussians: those live in ``padim``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_qc.errors import UsageError

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stage:
    """One grid, and the levels (by their place in the network's list) whose features live on it,
    with the channels taken from each."""

    grid: Grid
    levels: tuple[int, ...]
    channels: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """How many channels live on this stage."""
        return sum(len(channels) for channels in self.channels)

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, slots=True)
class Layout:
    """The stages from the coarsest to the finest, which is PaDiM's grid. Every stage's grid
    divides the next one's. sizes: (h, w) of every level of the network."""

    stages: tuple[Stage, ...]
    sizes: tuple[Grid, ...]

    @property
    def grid(self) -> Grid:
        return self.stages[-1].grid

    @property
    def width(self) -> int:
        """How many channels each patch has."""
        return sum(stage.width for stage in self.stages)

    def before(self, index: int) -> int:
        """How many channels live on the stages coarser than ``index``."""
        return sum(stage.width for stage in self.stages[:index])


def choose_channels(available: Sequence[int], count: int, seed: int) -> list[tuple[int, ...]]:
    """A fixed random choice of ``count`` channels, as many from each level as its share of all.

    available: channels of every level. Raises UsageError if there are not so many.
    """
    total = sum(available)
    if not 0 < count <= total:
        raise UsageError(
            f"PaDiM: {count} channels wanted, the network's levels have {total}. "
            f"Give --channels between 1 and {total}"
        )
    exact = [count * size / total for size in available]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for index in by_remainder[: count - sum(shares)]:
        shares[index] += 1
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(sorted(torch.randperm(size, generator=generator)[:share].tolist()))
        for size, share in zip(available, shares, strict=True)
    ]


def plan_layout(
    sizes: Sequence[Grid], channels: Sequence[Sequence[int]], grid: int | None
) -> Layout:
    """The stages for levels of these sizes, finest level first.

    grid: rows of PaDiM's grid, its columns in the finest level's proportion; None for the finest
    level's own grid. Raises UsageError for a grid finer than the finest level.
    """
    finest = sizes[0]
    rows = finest[0] if grid is None else grid
    columns = max(1, round(rows * finest[1] / finest[0]))
    if not 0 < rows <= finest[0]:
        raise UsageError(
            f"PaDiM: a grid of {rows} rows wanted, the network's finest level has {finest[0]}. "
            f"Give --grid finest, or at most {finest[0]}"
        )
    target: Grid = (rows, columns)
    by_grid: dict[Grid, list[int]] = {}
    for level in sorted(range(len(sizes)), key=lambda i: sizes[i][0] * sizes[i][1]):
        size = min(sizes[level][0], rows), min(sizes[level][1], columns)
        by_grid.setdefault(size, []).append(level)
    # From the finest down: a grid that does not divide the next one joins that stage.
    merged: list[tuple[Grid, list[int]]] = [(target, by_grid.pop(target, []))]
    for size in sorted(by_grid, key=lambda s: -s[0] * s[1]):
        next_grid, members = merged[-1]
        if next_grid[0] % size[0] or next_grid[1] % size[1]:
            members.extend(by_grid[size])
        else:
            merged.append((size, by_grid[size]))
    stages = tuple(
        Stage(
            grid=size,
            levels=tuple(level for level in sorted(members, reverse=True) if channels[level]),
            channels=tuple(
                tuple(channels[level]) for level in sorted(members, reverse=True) if channels[level]
            ),
        )
        for size, members in reversed(merged)
    )
    if stages[-1].width == 0:
        raise UsageError(
            f"PaDiM: {sum(map(len, channels))} channels leave none for the network's finest level, "
            "on whose grid it stands. Give more --channels"
        )
    kept = tuple(stage for stage in stages if stage.width)
    return Layout(stages=kept, sizes=tuple(sizes))


def stage_features(levels: Sequence[Tensor], layout: Layout) -> list[Tensor]:
    """The chosen features of each stage, (patches, N, channels), from the coarsest.

    levels: features (N, c, h, w) of each level of the network. Used by the fit and, traced, by the
    graph. Levels may be half; the features are float32.
    """
    features = []
    for stage in layout.stages:
        parts = [
            _chosen(levels[level], channels, layout.sizes[level], stage.grid)
            for level, channels in zip(stage.levels, stage.channels, strict=True)
        ]
        together = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        features.append(together.flatten(2).permute(2, 0, 1))
    return features


def _chosen(level: Tensor, channels: tuple[int, ...], size: Grid, grid: Grid) -> Tensor:
    """(N, channels, gh, gw) float32: the chosen channels of a level on ``grid``."""
    index = torch.tensor(channels)
    if size != grid and _divides(size, grid):
        # Averaged before the choice, which commutes: engines average in the layout of their
        # convolutions, but unpack all that a choice reads.
        return resample(level.float(), size, grid).index_select(1, index)
    return resample(level.index_select(1, index).float(), size, grid)


def _divides(size: Grid, grid: Grid) -> bool:
    return size[0] % grid[0] == 0 and size[1] % grid[1] == 0


def resample(features: Tensor, size: Grid, grid: Grid) -> Tensor:
    """(N, c, h, w) of ``size`` on ``grid``: averaged over the patch's area where the grid is
    coarser, the nearest value (at or before) if it is finer."""
    if size == grid:
        return features
    if _divides(size, grid):
        kernel = size[0] // grid[0], size[1] // grid[1]
        return torch.nn.functional.avg_pool2d(features, kernel)
    rows = axis_weights(size[0], grid[0]).to(features.dtype)
    columns = axis_weights(size[1], grid[1]).to(features.dtype)
    return rows @ features @ columns.T


def axis_weights(size: int, cells: int) -> Tensor:
    """(cells, size): how much of each of ``size`` samples goes into each cell of one axis."""
    weights = torch.zeros(cells, size, dtype=torch.float64)
    for cell in range(cells):
        if cells >= size:
            weights[cell, cell * size // cells] = 1.0
            continue
        first, last = cell * size / cells, (cell + 1) * size / cells
        for sample in range(int(first), min(size, int(last) + 1)):
            overlap = min(last, sample + 1) - max(first, sample)
            weights[cell, sample] = max(0.0, overlap) * cells / size
    return weights


def spread(values: Tensor, coarse: Grid, fine: Grid) -> Tensor:
    """Repeat (coarse patches, …) for the fine patches of each: (fine patches, …)."""
    if coarse == fine:
        return values
    rows, columns = fine[0] // coarse[0], fine[1] // coarse[1]
    rest = values.shape[1:]
    cells = values.reshape(coarse[0], 1, coarse[1], 1, *rest)
    cells = cells.expand(coarse[0], rows, coarse[1], columns, *rest)
    return cells.reshape(fine[0] * fine[1], *rest)
