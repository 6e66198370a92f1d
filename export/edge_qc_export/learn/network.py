"""The base class of networks: what each takes and returns, in one pass of the trunk.

``forward_all`` gives logits, the penultimate features and the feature maps that PaDiM reads.
``frozen`` and ``learning`` are the same pass in two pieces, so that what does not learn can be
computed once (``trunk_cache``). The networks are in ``convolutional``, ``residual`` and
``efficientnet_lite``; ``networks`` knows them by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
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

    @abstractmethod
    def forward_all(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [N, C], penultimate features [N, E], and the maps [N, c, h, w] of every level in
        the order of ``level_names``; the trunk runs once."""

    @abstractmethod
    def frozen(self, x: Tensor) -> tuple[Tensor, ...]:
        """The input of the first layer that learns; the network's input if all layers learn."""

    @abstractmethod
    def learning(self, states: tuple[Tensor, ...]) -> Tensor:
        """Logits from the output of ``frozen``."""

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


def trunk_learns(network: Network) -> bool:
    """Whether anything but the last layer learns."""
    return any(not name.startswith("classifier.") for name, _ in learning_parameters(network))
