"""First and second moments of every patch, in one streaming pass over the images.

Kept in the nested form that ``padim`` needs: on each stage the products of its channels with
themselves and with those of the coarser stages. What is fitted from them lives in ``padim``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from edge_qc_export.drift.patches import Grid, Layout, spread

Fit = Literal["pooled", "per-class"]

CHUNK = 128
"""Patches that are whitened at once: bounds the fit's memory, changes no number."""

ALLOCATOR = 128 * 2**20
"""Bytes that glibc may keep of freed chunks: it learns to hold on to blocks of up to 32 MiB."""


class Moments:
    """First and second moments of every patch, by one streaming pass."""

    def __init__(self, layout: Layout, classes: int, about: Sequence[Tensor] | None = None) -> None:
        """about: features whose mean is the point that the moments are about; None takes the first
        that come. Moments about the same point can be added."""
        self.layout = layout
        self.counts = torch.zeros(classes, dtype=torch.float64)
        self._shift = [] if about is None else [x.mean(dim=1, keepdim=True) for x in about]
        self.sums = [
            torch.zeros(classes, stage.patches, stage.width, dtype=torch.float64)
            for stage in layout.stages
        ]
        self.products = [
            torch.zeros(
                stage.patches, stage.width, layout.before(i) + stage.width, dtype=torch.float64
            )
            for i, stage in enumerate(layout.stages)
        ]

    @staticmethod
    def memory_bytes(layout: Layout, classes: int) -> int:
        """What the moments and the fit from them take at most, known before a byte is taken."""
        moments = weights = chunk = 0
        for i, stage in enumerate(layout.stages):
            known = layout.before(i) + stage.width
            moments += 8 * stage.patches * stage.width * (known + classes)
            weights += 4 * stage.patches * stage.width * known
            before, width = layout.before(i), stage.width
            cell = 2 * before**2 + 3 * before * width + 5 * width**2
            chunk = max(chunk, 8 * min(CHUNK, stage.patches) * cell)
        # The moments, the covariance that becomes the factor, and the weights (or a batch's
        # products) in float32 twice.
        return 2 * moments + 2 * weights + chunk + ALLOCATOR

    def add(self, other: Moments) -> None:
        """Add the images of moments about the same point."""
        self.counts += other.counts
        for i in range(len(self.sums)):
            self.sums[i] += other.sums[i]
            self.products[i] += other.products[i]

    def update(self, features: Sequence[Tensor], labels: Tensor) -> None:
        """Add images. features: (patches, N, channels) of each stage; labels: (N,) of class."""
        if not self._shift:
            # Moments about a point near the mean lose no digits; any such point will do.
            self._shift = [stage.mean(dim=1, keepdim=True) for stage in features]
        centred = [x - shift for x, shift in zip(features, self._shift, strict=True)]
        one_hot = torch.nn.functional.one_hot(labels, len(self.counts)).to(torch.float32)
        self.counts += one_hot.sum(dim=0)
        stages = self.layout.stages
        for i, stage in enumerate(stages):
            self.sums[i] += torch.einsum("pnc,nk->kpc", centred[i], one_hot)
            known = torch.cat(
                [spread(centred[j], stages[j].grid, stage.grid) for j in range(i + 1)], dim=2
            )
            self.products[i] += centred[i].transpose(1, 2) @ known

    def means(self, fit: Fit) -> list[Tensor]:
        """(groups, patches, channels) of each stage: one group, or one a class."""
        if fit == "pooled":
            counts, sums = self.counts.sum()[None], [s.sum(dim=0, keepdim=True) for s in self.sums]
        else:
            counts, sums = self.counts, self.sums
        return [
            total / counts[:, None, None] + shift[None, :, 0]
            for total, shift in zip(sums, self._shift, strict=True)
        ]

    def scatter(self, fit: Fit) -> list[Tensor]:
        """(patches, channels, channels so far) of each stage: the sample covariance's rows."""
        groups = 1 if fit == "pooled" else len(self.counts)
        freedom = float(self.counts.sum()) - groups
        stages, rows = self.layout.stages, []
        for i, stage in enumerate(stages):
            known = torch.cat(
                [spread_groups(self.sums[j], stages[j].grid, stage.grid) for j in range(i + 1)],
                dim=2,
            )
            if fit == "pooled":
                own = self.sums[i].sum(dim=0)
                total = known.sum(dim=0)
                between = own[:, :, None] * total[:, None, :] / self.counts.sum()
            else:
                weighted = self.sums[i] / self.counts[:, None, None]
                between = torch.einsum("kpc,kpd->pcd", weighted, known)
            # In place: a stage's products are the largest things here.
            rows.append(between.neg_().add_(self.products[i]).div_(freedom))
        return rows


def spread_groups(values: Tensor, coarse: Grid, fine: Grid) -> Tensor:
    """``spread`` for (groups, patches, channels)."""
    return spread(values.transpose(0, 1), coarse, fine).transpose(0, 1)
