"""What every network answers, and what it takes: one trunk pass for all.

``forward_all`` gives logits, the penultimate features and the feature maps that PaDiM reads.
``frozen`` and ``learning`` are the same pass in two pieces, so that what does not learn can be
computed once (``trunk_cache``). The networks themselves live in ``convolutional``, ``residual`` and
``efficientnet_lite``; ``networks`` knows them by name.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A classifier that also shows its features.

    level_names: the stages whose maps ``forward_all`` gives, finest first. input_channels: 1, or 3
    with grey repeated. embedding_size: length of the penultimate features. normalisation: mean and
    std per channel that its published weights were trained with; None: those of the views that it
    learns from. x is float32 [N, input_channels, H, W], normalised by the run's mean and std.
    """

    level_names: tuple[str, ...]
    input_channels: int
    embedding_size: int
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, C]."""
        return self.learning(self.frozen(x))

    def forward_all(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [N, C], penultimate features [N, E], and the maps [N, c, h, w] of every level in
        the order of ``level_names``; the trunk runs once."""
        raise NotImplementedError

    def frozen(self, x: Tensor) -> tuple[Tensor, ...]:
        """What reaches the first layer that learns; the input itself where all learns."""
        raise NotImplementedError

    def learning(self, states: tuple[Tensor, ...]) -> Tensor:
        """Logits from what ``frozen`` gave."""
        raise NotImplementedError

    @property
    def has_frozen_trunk(self) -> bool:
        """Whether ``frozen`` computes anything, so that it is worth keeping."""
        return False

    def frozen_names(self) -> set[str]:
        """The entries of the state dict that training never changes."""
        return set()


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Views as networks take them: uint8 [N, H, W] or [N, 1, H, W] to float32 [N, len(mean), H, W],
    (pixel / 255 - mean) / std, grey repeated to the channels of mean."""
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(1)
    offset = torch.tensor(mean, device=pixels.device).view(1, -1, 1, 1)
    scale = torch.tensor(std, device=pixels.device).view(1, -1, 1, 1)
    return (pixels.float() / 255 - offset) / scale


def learning_parameters(network: Network) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that learn, by name."""
    return ((name, p) for name, p in network.named_parameters() if p.requires_grad)
