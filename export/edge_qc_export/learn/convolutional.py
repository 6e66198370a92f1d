"""The report's CNNs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_qc.errors import UsageError
from edge_qc_export.learn.network import Network


class ConvolutionalNetwork(Network):
    """The report's CNN: blocks of (conv 3 x 3 same, ReLU, batch norm) twice, max-pool 2, dropout
    0.25; then flatten, dense, ReLU, dropout 0.5, dense.

    Initialised as Keras does (Glorot uniform, zero bias; batch norm's epsilon 0.001). Batch norm's
    running averages are measured again after every epoch (``batch_norm``), whatever their momentum.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        dense: int,
        classes: int,
        size: tuple[int, int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.level_names = tuple(f"block{number}" for number in range(1, len(widths) + 1))
        self.input_channels, self.embedding_size = 1, dense
        rows, columns = (length >> len(widths) for length in size)
        if rows == 0 or columns == 0:
            raise UsageError(
                f"size {size[0]}x{size[1]} is too small for {len(widths)} blocks that halve it; "
                f"use at least {1 << len(widths)} pixels each way"
            )
        channels = 1
        for name, width in zip(self.level_names, widths, strict=True):
            self.add_module(name, _cnn_block(channels, width))
            channels = width
        self.dropout = nn.Dropout(0.25)
        self.dense = nn.Linear(channels * rows * columns, dense)
        self.dense_dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dense, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_all(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        maps = []
        for name in self.level_names:
            x = self.get_submodule(name)(x)
            maps.append(x)
            x = self.dropout(x)
        embedding = torch.relu(self.dense(x.flatten(1)))
        return self.classifier(self.dense_dropout(embedding)), embedding, maps

    def frozen(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def learning(self, states: tuple[Tensor, ...]) -> Tensor:
        return self.forward_all(states[0])[0]


def _cnn_block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(width, eps=1e-3),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(width, eps=1e-3),
        nn.MaxPool2d(2),
    )
