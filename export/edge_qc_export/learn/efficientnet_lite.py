"""EfficientNet-Lite0: inverted residual blocks without squeeze-and-excitation, ReLU6 throughout.

Made by Google for edge devices (Tan and Le 2019, arXiv 1905.11946; the Lite variants 2020). Layers
and sizes are the published network's. Its convolutions pad as TensorFlow's ``SAME`` does: where the
stride is 2 and the length even, the odd pixel of padding lies below and to the right.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own short name
from torch import Tensor, nn

from edge_qc.errors import UsageError
from edge_qc_export.learn.network import Network

NORMALISATION = (0.498,) * 3, (0.502,) * 3
"""Mean and std, of all three channels alike, as the published weights were trained."""

STRIDE = 32
"""Of the last features to the view; the view's sides are multiples of it, so that every layer of
stride 2 halves an even length."""

_FEATURES = 1280
_STEM = 32

# Channels out, kernel, stride of the first, expansion, how many blocks.
_STAGES = (
    (16, 3, 1, 1, 1),
    (24, 3, 2, 6, 2),
    (40, 5, 2, 6, 2),
    (80, 3, 2, 6, 3),
    (112, 5, 1, 6, 3),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)
_BLOCKS = sum(count for *_, count in _STAGES)

_LEVELS = (2, 4, 10)
"""The blocks at whose ends PaDiM reads: the last at strides 4, 8 and 16."""

PARTS = ("stem", *(f"blocks.{index}" for index in range(_BLOCKS)), "features")
"""What an image goes through in turn, by name."""


class SamePaddedConv2d(nn.Conv2d):
    """A convolution with TensorFlow's ``SAME`` padding of lengths that its stride divides."""

    def __init__(self, inward: int, out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inward, out, kernel, stride, groups=groups, bias=False)
        whole = kernel - stride
        self.before_after = whole // 2, whole - whole // 2

    def forward(self, input: Tensor) -> Tensor:
        before, after = self.before_after
        padded = F.pad(input, (before, after, before, after)) if after else input
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


def _layer(inward: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        SamePaddedConv2d(inward, out, kernel, stride, groups),
        nn.BatchNorm2d(out, eps=1e-3, momentum=0.01),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expand (1 x 1), depthwise, project (1 x 1, no activation); the input is added where the
    shape stays."""

    def __init__(self, inward: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inward * expansion
        self.expand = _layer(inward, wide, 1) if expansion != 1 else None
        self.depthwise = _layer(wide, wide, kernel, stride, groups=wide)
        self.project = _layer(wide, out, 1)[:2]
        self.adds = stride == 1 and inward == out

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else self.expand(x)
        narrow: Tensor = self.project(self.depthwise(wide))
        return x + narrow if self.adds else narrow


class Trunk(nn.Module):
    """Stem, sixteen blocks and the 1 x 1 convolution to the 1280 penultimate channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(3, _STEM, 3, 2)
        self.blocks = nn.ModuleList()
        inward = _STEM
        for out, kernel, stride, expansion, count in _STAGES:
            for index in range(count):
                first = index == 0
                self.blocks.append(
                    InvertedResidual(inward, out, kernel, stride if first else 1, expansion)
                )
                inward = out
        self.features = _layer(inward, _FEATURES, 1)

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """Those that ``PARTS`` names."""
        return (self.stem, *self.blocks, self.features)


class EfficientNetLite0(Network):
    """The trunk with a new head: mean over places, dropout, dense.

    unfreeze: how many of the last of the sixteen blocks learn, and with them the 1 x 1 convolution
    behind them; 0: the head alone; 17: the stem too, which is all; None: all. Frozen batch norms
    stay in evaluation mode whatever ``train`` says. Raises UsageError for a size whose sides are
    not multiples of ``STRIDE``.
    """

    normalisation = NORMALISATION

    def __init__(
        self, classes: int, size: tuple[int, int], unfreeze: int | None, dropout: float
    ) -> None:
        super().__init__()
        if any(length % STRIDE for length in size):
            wanted = "x".join(str(max(1, round(length / STRIDE)) * STRIDE) for length in size)
            raise UsageError(
                f"size {size[0]}x{size[1]}: efficientnet-lite0 wants height and width in multiples "
                f"of {STRIDE}, such as {wanted}"
            )
        self.trunk = Trunk()
        most = _BLOCKS + 1
        if unfreeze is not None and not 0 <= unfreeze <= most:
            raise UsageError(
                f"unfreeze {unfreeze}: efficientnet-lite0 has {_BLOCKS} blocks, wanted 0 (the "
                f"head alone) to {most} (all blocks and the stem)"
            )
        self.level_names = tuple(f"block{index}" for index in _LEVELS)
        self.input_channels, self.embedding_size = 3, _FEATURES
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(_FEATURES, classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        if unfreeze == 0:
            self._cut = len(PARTS)
        else:
            self._cut = 0 if unfreeze is None else most - unfreeze
        for part in self.trunk.parts[: self._cut]:
            part.requires_grad_(False)
        self.train()

    @property
    def has_frozen_trunk(self) -> bool:
        return self._cut > 0

    def frozen_names(self) -> set[str]:
        return {
            f"trunk.{part}.{name}"
            for part in PARTS[: self._cut]
            for name in self.trunk.get_submodule(part).state_dict()
        }

    def train(self, mode: bool = True) -> EfficientNetLite0:
        super().train(mode)
        for part in self.trunk.parts[: self._cut]:
            part.eval()
        return self

    def forward_all(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        x = self.trunk.stem(x)
        levels = []
        for index, block in enumerate(self.trunk.blocks):
            x = block(x)
            if index in _LEVELS:
                levels.append(x)
        embedding = self.trunk.features(x).mean((2, 3))
        return self.classifier(self.dropout(embedding)), embedding, levels

    def frozen(self, x: Tensor) -> tuple[Tensor, ...]:
        if self._cut == 0:
            return (x,)
        with torch.no_grad():
            x = _channels_last(x)
            for part in self.trunk.parts[: self._cut]:
                x = part(x)
            # The head sees a mean alone: where only it learns, no more is kept of an image.
            return (x if self._cut < len(PARTS) else x.mean((2, 3)),)

    def learning(self, states: tuple[Tensor, ...]) -> Tensor:
        x = _channels_last(states[0])
        for part in self.trunk.parts[self._cut :]:
            x = part(x)
        embedding = x if x.ndim == 2 else x.mean((2, 3))
        logits: Tensor = self.classifier(self.dropout(embedding))
        return logits


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _channels_last(x: Tensor) -> Tensor:
    """The same values in the order in which torch's depthwise convolutions take half the time."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def named_as_published(name: str) -> str | None:
    """The place in ``Trunk`` of a tensor of the published weights; None for those of its head.

    The published file has the names of TensorFlow's network in PyTorch: ``_conv_stem``, ``_bn0``,
    ``_blocks.0._depthwise_conv``.
    """
    if name.startswith("_fc."):
        return None
    path, _, end = name.rpartition(".")
    block, _, layer = path.rpartition(".")
    if not block:
        return f"{_OUTER[layer]}.{end}"
    # Without an expansion the first batch norm is the depthwise layer's all the same: _bn1.
    return f"{block.removeprefix('_')}.{_INNER[layer]}.{end}"


_OUTER = {
    "_conv_stem": "stem.0",
    "_bn0": "stem.1",
    "_conv_head": "features.0",
    "_bn1": "features.1",
}
_INNER = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
