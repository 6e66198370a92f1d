"""A torchvision ResNet as the list of layers that Keras would count.

The report says "N layers unfrozen" of Keras models, where every convolution, batch norm,
activation, addition, padding and pooling counts one. Here torchvision's modules stand in the order
of ``keras.applications.ResNet50(include_top=False).layers`` (175 of them, 345 in ResNet101) and
under Keras's names. A layer takes the state that reached it and gives the next, so that a network
can be cut between any two of them. What is frozen and trained is decided in ``networks``.

Not the same as in Keras: Keras's convolutions carry a bias and stride in a block's first
convolution, torchvision's have no bias and stride in the 3 x 3 one. ResNet18, which Keras does not
have, is counted in the same manner.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import Tensor, nn

if TYPE_CHECKING:
    from torchvision.models.resnet import ResNet


class State(NamedTuple):
    """What flows from layer to layer: the main path, and the block's shortcut beside it."""

    main: Tensor
    shortcut: Tensor | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One Keras layer. module and module_name: torchvision's, None if torch needs none (input,
    padding, addition). opens: the first layer of a block, whose input is also the shortcut's. ends:
    the name of the stage that this layer ends (``layer1`` …), else empty."""

    name: str
    module_name: str | None
    module: nn.Module | None
    path: Literal["main", "shortcut", "add"]
    opens: bool = False
    ends: str = ""

    @property
    def has_parameters(self) -> bool:
        return self.module is not None and any(True for _ in self.module.parameters())

    def __call__(self, state: State) -> State:
        main, shortcut = state
        if self.opens:
            shortcut = main
        if self.path == "add":
            assert shortcut is not None
            return State(main + shortcut, None)
        if self.module is None:
            return State(main, shortcut)
        if self.path == "shortcut":
            return State(main, self.module(shortcut))
        return State(self.module(main), shortcut)


def keras_layers(resnet: ResNet) -> tuple[Layer, ...]:
    """All layers of the backbone, first to last: what Keras lists with ``include_top=False``."""
    stem = [
        Layer("input_1", None, None, "main"),
        Layer("conv1_pad", None, None, "main"),
        Layer("conv1_conv", "conv1", resnet.conv1, "main"),
        Layer("conv1_bn", "bn1", resnet.bn1, "main"),
        Layer("conv1_relu", None, nn.ReLU(), "main"),
        Layer("pool1_pad", None, None, "main"),
        Layer("pool1_pool", "maxpool", resnet.maxpool, "main"),
    ]
    return (*stem, *(layer for stage in range(1, 5) for layer in _stage(resnet, stage)))


def _stage(resnet: ResNet, stage: int) -> Iterator[Layer]:
    blocks = getattr(resnet, f"layer{stage}")
    for index, block in enumerate(blocks):
        ends = f"layer{stage}" if index == len(blocks) - 1 else ""
        yield from _block(block, f"conv{stage + 1}_block{index + 1}", f"layer{stage}.{index}", ends)


def _block(block: nn.Module, name: str, path: str, ends: str) -> Iterator[Layer]:
    # Here and not above: torchvision takes as long to import as torch, and most networks lack it.
    from torchvision.models.resnet import BasicBlock, Bottleneck

    if not isinstance(block, (Bottleneck, BasicBlock)):
        raise TypeError(f"{path}: a {type(block).__name__}, wanted a block of a torchvision ResNet")
    convolutions = 3 if isinstance(block, Bottleneck) else 2
    for number in range(1, convolutions):
        conv, norm = f"conv{number}", f"bn{number}"
        yield Layer(
            f"{name}_{number}_conv", f"{path}.{conv}", getattr(block, conv), "main", number == 1
        )
        yield Layer(f"{name}_{number}_bn", f"{path}.{norm}", getattr(block, norm), "main")
        yield Layer(f"{name}_{number}_relu", None, nn.ReLU(), "main")
    # Keras lists layers by depth: where the shortcut has layers, they alternate with the last ones.
    last = convolutions
    down = block.downsample
    if down is not None:
        yield Layer(f"{name}_0_conv", f"{path}.downsample.0", down[0], "shortcut")
    yield Layer(f"{name}_{last}_conv", f"{path}.conv{last}", getattr(block, f"conv{last}"), "main")
    if down is not None:
        yield Layer(f"{name}_0_bn", f"{path}.downsample.1", down[1], "shortcut")
    yield Layer(f"{name}_{last}_bn", f"{path}.bn{last}", getattr(block, f"bn{last}"), "main")
    yield Layer(f"{name}_add", None, None, "add")
    yield Layer(f"{name}_out", None, nn.ReLU(), "main", ends=ends)


def run_layers(layers: Sequence[Layer], state: State, taps: dict[str, Tensor]) -> State:
    """The state after ``layers``; the output of every stage that ends there goes into ``taps``."""
    for layer in layers:
        state = layer(state)
        if layer.ends:
            taps[layer.ends] = state.main
    return state


def first_learning_layer(layers: Sequence[Layer], unfreeze: int) -> int:
    """The index of the first of the last ``unfreeze`` layers that has parameters; the number of
    layers if none has. All before it is frozen and can be computed once."""
    for index in range(len(layers) - unfreeze, len(layers)):
        if layers[index].has_parameters:
            return index
    return len(layers)
