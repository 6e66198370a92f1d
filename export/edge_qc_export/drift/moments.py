"""First and second moments of every patch, in one streaming pass over the images.

Kept in the nested form that ``padim`` needs: on each stage the products of its channels with
themselves and with those of the coarser stages. What is fitted from them lives in ``padim``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edge_qc_export.drift.patches import Layout, spread

CHUNK = 128
"""Patches that are whitened at once: bounds the fit's memory, changes no number."""

ALLOCATOR = 128 * 2**20
"""Bytes that glibc may keep of freed chunks: it learns to hold on to blocks of up to 32 MiB."""


class Moments:
    """First and second moments of every patch, by one streaming pass."""

    def __init__(self, layout: Layout, about: Sequence[Tensor] | None = None) -> None:
        """about: features whose mean is the point that the moments are about; None takes the first
        that come. Moments about the same point can be added."""
        self.layout = layout
        self.count = 0
        self._shift = [] if about is None else [x.mean(dim=1, keepdim=True) for x in about]
        self.sums = [
            torch.zeros(stage.patches, stage.width, dtype=torch.float64) for stage in layout.stages
        ]
        self.products = [
            torch.zeros(
                stage.patches, stage.width, layout.before(i) + stage.width, dtype=torch.float64
            )
            for i, stage in enumerate(layout.stages)
        ]

    @staticmethod
    def memory_bytes(layout: Layout) -> int:
        """What the moments and the fit from them take at most, known before a byte is taken."""
        moments = weights = chunk = 0
        for i, stage in enumerate(layout.stages):
            known = layout.before(i) + stage.width
            moments += 8 * stage.patches * stage.width * (known + 1)
            weights += 4 * stage.patches * stage.width * known
            before, width = layout.before(i), stage.width
            cell = 2 * before**2 + 3 * before * width + 5 * width**2
            chunk = max(chunk, 8 * min(CHUNK, stage.patches) * cell)
        # The moments, the covariance that becomes the factor, and the weights (or a batch's
        # products) in float32 twice.
        return 2 * moments + 2 * weights + chunk + ALLOCATOR

    def add(self, other: Moments) -> None:
        """Add the images of moments about the same point."""
        self.count += other.count
        for i in range(len(self.sums)):
            self.sums[i] += other.sums[i]
            self.products[i] += other.products[i]

    def update(self, features: Sequence[Tensor]) -> None:
        """Add images. features: (patches, N, channels) of each stage."""
        if not self._shift:
            # Moments about a point near the mean lose no digits; any such point will do.
            self._shift = [stage.mean(dim=1, keepdim=True) for stage in features]
        centred = [x - shift for x, shift in zip(features, self._shift, strict=True)]
        self.count += features[0].shape[1]
        stages = self.layout.stages
        for i, stage in enumerate(stages):
            self.sums[i] += centred[i].sum(dim=1)
            known = torch.cat(
                [spread(centred[j], stages[j].grid, stage.grid) for j in range(i + 1)], dim=2
            )
            self.products[i] += centred[i].transpose(1, 2) @ known

    def means(self) -> list[Tensor]:
        """(patches, channels) of each stage."""
        return [
            total / self.count + shift[:, 0]
            for total, shift in zip(self.sums, self._shift, strict=True)
        ]

    def scatter(self) -> list[Tensor]:
        """(patches, channels, channels so far) of each stage: the sample covariance's rows."""
        stages, rows = self.layout.stages, []
        for i, stage in enumerate(stages):
            known = torch.cat(
                [spread(self.sums[j], stages[j].grid, stage.grid) for j in range(i + 1)], dim=1
            )
            between = self.sums[i][:, :, None] * known[:, None, :] / self.count
            # In place: a stage's products are the largest things here.
            rows.append(between.neg_().add_(self.products[i]).div_(self.count - 1))
        return rows
