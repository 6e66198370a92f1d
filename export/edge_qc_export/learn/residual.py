"""torchvision's ResNets as our networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_qc.errors import UsageError
from edge_qc_export.learn.keras_layers import State, first_learning_layer, keras_layers, run_layers
from edge_qc_export.learn.network import Network

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels, as torchvision's weights were trained."""


class ResidualNetwork(Network):
    """A torchvision ResNet with a new head: mean over places, dropout, dense.

    unfreeze: how many of the last layers learn, counted as Keras counts (``keras_layers``); None:
    all. The head always learns. Frozen batch norms stay in evaluation mode whatever ``train`` says.
    """

    normalisation = IMAGENET_MEAN, IMAGENET_STD

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
