"""The network's body as a traced graph of named layers, ready to be exported.

The body is everything up to the penultimate features and the levels; the head is not in it. Batch
norm is folded into convolutions, and so is the normalisation: a grey view v, repeated to channels
(v / 255 - mean) / std and convolved with zeros around it, is one convolution of the two channels
(v, 1) with zeros around them, exactly, at the borders too. A traced body can be run layer by layer,
which is how ``precision`` finds what leaves half's range.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edge_qc.errors import EdgeQCError
from edge_qc_export.learn.network import Network


class _Body(nn.Module):
    """The network's own modules under their own names, so that layers are named after them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        for name, module in network.named_children():
            self.add_module(name, module)
        self._forward_all = network.forward_all

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        _, embedding, levels = self._forward_all(x)
        return (embedding, *levels)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A convolution that pads in its own way is a layer all the same.
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        try:
            self.path_of_module(m)
        except NameError:
            # A layer without parameters that the network does not register: trace through it.
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


SCALE = 128.0
"""What uint8 views are divided by before the body: a power of two, exact in half, near one."""


def trace_body(network: Network, mean: tuple[float, ...], std: tuple[float, ...]) -> fx.GraphModule:
    """(view / SCALE, ones) float32 [N, 2, H, W] to (embedding, *levels), in evaluation mode, on a
    copy of the network.

    mean, std: of the network's channels, or one for all, as ``networks.normalised`` takes them.
    """
    body = _Body(copy.deepcopy(network)).eval()
    traced = fx.GraphModule(body, _Tracer().trace(body))
    graph = traced.graph
    for node in list(graph.nodes):
        if isinstance(module_of(traced, node), nn.Dropout):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        _fold_batch_norm(traced, graph, node)
    _fold_normalisation(traced, mean, std)
    for node in list(graph.nodes):
        _make_module(traced, graph, node)
    graph.lint()
    traced.recompile()
    traced.delete_all_unused_submodules()
    traced.requires_grad_(False)
    return traced.eval()


def _fold_batch_norm(body: fx.GraphModule, graph: fx.Graph, node: fx.Node) -> None:
    """conv -> batch norm becomes conv, where nothing else reads the convolution."""
    norm, before = module_of(body, node), node.args[0] if node.args else None
    if not isinstance(norm, nn.BatchNorm2d) or not isinstance(before, fx.Node):
        return
    conv = module_of(body, before)
    if not isinstance(conv, nn.Conv2d) or len(before.users) > 1:
        return
    fused = fuse_conv_bn_eval(conv.double(), norm.double()).float()
    parent, _, name = str(before.target).rpartition(".")
    setattr(body.get_submodule(parent), name, fused)
    node.replace_all_uses_with(before)
    graph.erase_node(node)


def _fold_normalisation(
    body: fx.GraphModule, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """The first convolution takes (view / SCALE, ones) in place of the normalised channels."""
    (view,) = (node for node in body.graph.nodes if node.op == "placeholder")
    (first,) = view.users
    conv = module_of(body, first)
    if not isinstance(conv, nn.Conv2d) or conv.groups != 1 or conv.padding_mode != "zeros":
        raise EdgeQCError(
            f"the network's first layer is {first.name}, wanted a plain convolution, which takes "
            "in the normalisation"
        )
    means, stds = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    weight = conv.weight.double()
    of_view = (weight * (SCALE / (255 * stds)).reshape(1, -1, 1, 1)).sum(dim=1)
    of_one = -(weight * (means / stds).reshape(1, -1, 1, 1)).sum(dim=1)
    conv.in_channels = 2
    conv.weight = nn.Parameter(torch.stack([of_view, of_one], dim=1).float())


class Operation(nn.Module):
    """A function of tensors as a layer of its own: a module keeps its name when exported."""

    def __init__(self, function: Callable[..., Any], rest: tuple[Any, ...], named: Any) -> None:
        super().__init__()
        self._function, self._rest, self._named = function, rest, named

    def forward(self, *tensors: Tensor) -> Any:
        return self._function(*tensors, *self._rest, **self._named)


def _make_module(body: fx.GraphModule, graph: fx.Graph, node: fx.Node) -> None:
    """A function or method of the graph becomes an ``Operation`` under the same name."""
    if node.op not in ("call_function", "call_method"):
        return
    tensors = tuple(argument for argument in node.args if isinstance(argument, fx.Node))
    rest = node.args[len(tensors) :]
    if node.op == "call_function":
        assert callable(node.target)
        function: Callable[..., Any] = node.target
    else:
        function = getattr(Tensor, str(node.target))
    name = node.name
    body.add_submodule(name, Operation(function, rest, dict(node.kwargs)))
    with graph.inserting_after(node):
        layer = graph.call_module(name, tensors)
    node.replace_all_uses_with(layer)
    graph.erase_node(node)
    layer.name = name


def module_of(body: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a layer calls, if it is one."""
    return body.get_submodule(str(node.target)) if node.op == "call_module" else None
