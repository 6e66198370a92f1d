"""The networks: the report's two CNNs and torchvision's ResNets, each with one trunk pass for all.

``forward_all`` gives logits, the penultimate features and the feature maps that PaDiM reads.
``frozen`` and ``learning`` are the same pass in two pieces, so that what does not learn can be
computed once (``trunk_cache``). Weights come from ``pretrained``; losses and optimiser live in
``losses`` and ``training``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from edge_qc.errors import UsageError
from edge_qc_export.learn import pretrained
from edge_qc_export.learn.keras_layers import State, first_learning_layer, keras_layers, run_layers

NETWORKS = ("cnn-basic", "cnn-deep", "resnet18", "resnet50", "resnet101")

_CNN_WIDTHS = {"cnn-basic": ((32, 64), 128), "cnn-deep": ((32, 64, 128, 256), 256)}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Network(nn.Module):
    """A classifier that also shows its features.

    level_names: the stages whose maps ``forward_all`` gives, finest first. input_channels: 1, or 3
    with grey repeated. embedding_size: length of the penultimate features. x is float32
    [N, input_channels, H, W], normalised by the run's mean and std.
    """

    level_names: tuple[str, ...]
    input_channels: int
    embedding_size: int

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


class ConvolutionalNetwork(Network):
    """The report's CNN: blocks of (conv 3 x 3 same, ReLU, batch norm) twice, max-pool 2, dropout
    0.25; then flatten, dense, ReLU, dropout 0.5, dense.

    Initialised as Keras does (Glorot uniform, zero bias; batch norm's epsilon 0.001). Batch norm's
    running averages are measured anew after every epoch (``batch_norm``), whatever their momentum.
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


class ResidualNetwork(Network):
    """A torchvision ResNet with a new head: mean over places, dropout, dense.

    unfreeze: how many of the last layers learn, counted as Keras counts (``keras_layers``); None:
    all. The head always learns. Frozen batch norms stay in evaluation mode whatever ``train`` says.
    """

    def __init__(self, name: str, classes: int, unfreeze: int | None, dropout: float) -> None:
        super().__init__()
        from torchvision.models import get_model
        from torchvision.models.resnet import ResNet

        trunk = get_model(name, weights=None)
        assert isinstance(trunk, ResNet)
        self.level_names = ("layer1", "layer2", "layer3")
        self.input_channels, self.embedding_size = 3, trunk.fc.in_features
        trunk.fc = nn.Identity()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.embedding_size, classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self._layers = keras_layers(trunk)
        count = len(self._layers)
        if unfreeze is not None and not 0 <= unfreeze <= count:
            raise UsageError(f"unfreeze {unfreeze}: {name} has {count} layers, wanted 0 to {count}")
        self._cut = first_learning_layer(self._layers, count if unfreeze is None else unfreeze)
        if unfreeze is not None:
            for layer in self._layers[: self._cut]:
                if layer.module is not None:
                    layer.module.requires_grad_(False)
        else:
            self._cut = 0
        self.train()

    @property
    def has_frozen_trunk(self) -> bool:
        return self._cut > 0

    def frozen_names(self) -> set[str]:
        return {
            f"trunk.{layer.module_name}.{name}"
            for layer in self._layers[: self._cut]
            if layer.module is not None
            for name in layer.module.state_dict()
        }

    def train(self, mode: bool = True) -> ResidualNetwork:
        super().train(mode)
        for layer in self._layers[: self._cut]:
            if layer.module is not None:
                layer.module.eval()
        return self

    def forward_all(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        taps: dict[str, Tensor] = {}
        embedding = run_layers(self._layers, State(x, None), taps).main.mean((2, 3))
        maps = [taps[name] for name in self.level_names]
        return self.classifier(self.dropout(embedding)), embedding, maps

    def frozen(self, x: Tensor) -> tuple[Tensor, ...]:
        if self._cut == 0:
            return (x,)
        with torch.no_grad():
            state = run_layers(self._layers[: self._cut], State(x, None), {})
        return tuple(tensor for tensor in state if tensor is not None)

    def learning(self, states: tuple[Tensor, ...]) -> Tensor:
        state = State(states[0], states[1] if len(states) > 1 else None)
        embedding = run_layers(self._layers[self._cut :], state, {}).main.mean((2, 3))
        logits: Tensor = self.classifier(self.dropout(embedding))
        return logits


def build_network(
    name: str,
    classes: int,
    size: tuple[int, int],
    *,
    unfreeze: int | None = None,
    dropout: float | None = None,
    weights: str = "none",
) -> Network:
    """A network by name, for ``classes`` classes and views of ``size`` (rows, columns).

    unfreeze: for ResNets, see ``ResidualNetwork``. dropout: before the last dense layer; None takes
    the report's (0.5 in the CNNs, 0 in the ResNets). weights: ``none``, ``imagenet`` or a file
    (see ``pretrained``), for ResNets alone. Initial values follow torch's global generator.
    Raises UsageError for what does not go together, DataError for weights that do not fit.
    """
    if dropout is not None and not 0 <= dropout < 1:
        raise UsageError(f"dropout {dropout}: wanted a share of at least 0 and below 1")
    if name in _CNN_WIDTHS:
        if unfreeze is not None or weights != "none":
            flag = "unfreeze" if unfreeze is not None else "weights"
            raise UsageError(
                f"{name} is trained whole and from nothing; leave {flag} out, or take a resnet"
            )
        widths, dense = _CNN_WIDTHS[name]
        return ConvolutionalNetwork(
            widths, dense, classes, size, 0.5 if dropout is None else dropout
        )
    if name not in NETWORKS:
        raise UsageError(f"network {name!r} is not known; wanted one of {', '.join(NETWORKS)}")
    network = ResidualNetwork(name, classes, unfreeze, 0.0 if dropout is None else dropout)
    if weights != "none":
        pretrained.load_weights(network.trunk, name, weights)
    return network


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
