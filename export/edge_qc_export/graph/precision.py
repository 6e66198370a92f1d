"""The body in half precision: which layers can, the body that does, and the check it must pass.

Half holds numbers up to 65 504. A layer whose input or output leaves half of that on the
calibration views stays in FP32, as an island; so do normalisation, head, whitening and distances,
which are not in the body. ONNX Runtime on a CPU computes half in FP32 and hides an overflow, so
the check does not ask it: ``EmulatedBody`` rounds every layer's answer to half (infinity where it
does not fit), with sums in FP32 as TensorRT's and cuDNN's are, at FP32's speed; torch's own half
is run on a few views beside it, because it takes fifty times as long on most CPUs.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from edge_qc.errors import EdgeQCError, UsageError
from edge_qc_export.graph.body import module_of

LARGEST = 65504.0
LIMIT = LARGEST / 2
"""What calibration views may reach: others may reach further than they."""

MOST_FLIPS = 0.001
MOST_AUROC_LOST = 0.002


class Affine(nn.Module):
    """Batch norm that no convolution could take in, as one product and one sum a channel: a form
    that every engine takes in half."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        self.register_buffer("scale", scale.float().reshape(1, -1, 1, 1))
        self.register_buffer("shift", shift.float().reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def layer_ranges(body: fx.GraphModule, inputs: Iterable[Tensor]) -> dict[str, float]:
    """The largest magnitude of every layer's answer over the inputs, in the graph's order."""
    ranges: dict[str, float] = {}

    class Ranges(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            answer = super().run_node(n)
            if isinstance(answer, Tensor):
                ranges[n.name] = max(ranges.get(n.name, 0.0), float(answer.abs().max()))
            return answer

    with torch.no_grad():
        for x in inputs:
            Ranges(body).run(x)
    return ranges


@dataclass(frozen=True, slots=True)
class HalfPlan:
    """islands: the layers that stay in FP32, in the graph's order. first: the first tensor that
    leaves the range, with its magnitude; None if none does."""

    islands: tuple[str, ...]
    first: tuple[str, float] | None

    @property
    def sentence(self) -> str:
        """What to tell whoever exports."""
        islands = f"{len(self.islands)} stay in FP32 ({', '.join(self.islands)})"
        if self.first is None:
            within = "every layer stays within half's range"
            return f"{within}, {islands} as told" if self.islands else within
        name, magnitude = self.first
        return f"{name} reaches {magnitude:.3g}, over {LIMIT:.0f}: {islands}"


def plan_half(
    body: fx.GraphModule, ranges: Mapping[str, float], told: Collection[str] = ()
) -> HalfPlan:
    """Which layers must stay in FP32, given ``layer_ranges``.

    told: nodes of the exported graph that stay as well, because an engine has no half kernel for
    them. Raises UsageError if there is no such layer, EdgeQCError if every layer would stay.
    """
    far = {name for name, magnitude in ranges.items() if not magnitude <= LIMIT}
    islands = []
    layers = [node for node in body.graph.nodes if node.op not in ("placeholder", "output")]
    wanted = _layers_named(told, _layers(body))
    for node in layers:
        heavy = any(
            float(parameter.detach().abs().max()) > LARGEST for parameter in _parameters(body, node)
        )
        sources = {source.name for source in node.all_input_nodes}
        if node.name in wanted or node.name in far or sources & far or heavy:
            islands.append(node.name)
    if layers and len(islands) == len(layers):
        raise EdgeQCError(
            f"precision fp16: {sorted(far)[0] if far else layers[0].name} and every other layer "
            "leave half's range. Export without --fp16"
        )
    first = next(((name, ranges[name]) for name in ranges if name in far), None)
    return HalfPlan(tuple(islands), first)


def require_layers(body: nn.Module, told: Collection[str]) -> None:
    """Raises UsageError, as ``plan_half`` does, for a name in ``told`` that no layer has."""
    assert isinstance(body, fx.GraphModule)
    _layers_named(told, _layers(body))


def _layers(body: fx.GraphModule) -> list[str]:
    return [node.name for node in body.graph.nodes if node.op not in ("placeholder", "output")]


def _layers_named(told: Collection[str], layers: Sequence[str]) -> set[str]:
    """A layer's further nodes have their operator behind a slash (``graph``)."""
    wanted = {name.partition("/")[0] for name in told}
    for name in sorted(wanted - set(layers)):
        near = difflib.get_close_matches(name, layers, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the first is {layers[0]!r}"
        raise UsageError(f"precision fp16: no layer {name!r} in the network; {hint}")
    return wanted


def _parameters(body: fx.GraphModule, node: fx.Node) -> list[Tensor]:
    module = module_of(body, node)
    return [] if module is None else [*module.parameters(), *module.buffers()]


def _prepared(body: fx.GraphModule) -> fx.GraphModule:
    """A copy whose batch norms are ``Affine``."""
    prepared = copy.deepcopy(body)
    for node in prepared.graph.nodes:
        module = module_of(prepared, node)
        if isinstance(module, nn.BatchNorm2d):
            prepared.set_submodule(str(node.target), Affine(module))
    return prepared


def half_body(body: fx.GraphModule, plan: HalfPlan) -> fx.GraphModule:
    """The body with half tensors and explicit casts around its islands: float32 in; its outputs
    are as their layers are."""
    half = _prepared(body)
    islands = set(plan.islands)
    kinds: dict[fx.Node, torch.dtype] = {}
    casts: dict[tuple[fx.Node, torch.dtype], fx.Node] = {}
    for node in list(half.graph.nodes):
        if node.op in ("placeholder", "output"):
            kinds[node] = torch.float32
            continue
        wanted = torch.float32 if node.name in islands else torch.float16
        kinds[node] = wanted
        module = module_of(half, node)
        if module is not None and wanted is torch.float16:
            module.half()
        for source in node.all_input_nodes:
            if kinds[source] is wanted:
                continue
            if (source, wanted) not in casts:
                with half.graph.inserting_before(node):
                    casts[source, wanted] = half.graph.call_method("to", (source, wanted))
            node.replace_input_with(source, casts[source, wanted])
    half.graph.lint()
    half.recompile()
    return half


class EmulatedBody(nn.Module):
    """``half_body`` computed in FP32: weights and every layer's answer rounded to half."""

    def __init__(self, body: fx.GraphModule, plan: HalfPlan) -> None:
        super().__init__()
        self._islands = set(plan.islands)
        self._rounded = _prepared(body)
        for node in self._rounded.graph.nodes:
            module = module_of(self._rounded, node)
            if module is not None and node.name not in self._islands:
                module.half().float()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Embedding and levels. Raises EdgeQCError that names the first layer whose answer half
        cannot hold."""
        islands = self._islands

        class Rounding(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                answer = super().run_node(n)
                if n.op == "output" or n.name in islands or not isinstance(answer, Tensor):
                    return answer
                rounded = answer.half().float()
                if not bool(torch.isfinite(rounded).all()):
                    raise EdgeQCError(
                        f"precision fp16: {n.name} reaches {float(answer.abs().max()):.3g}, over "
                        f"half's {LARGEST:.0f}"
                    )
                return rounded

        answers: tuple[Tensor, ...] = Rounding(self._rounded).run(x)
        return answers


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """What half changed. views: compared; flips: labels that changed; escapes: bad parts that FP32
    stops and half passes; auroc: of drift against known parts, FP32 then half, None if no drift is
    known; native_views: run in torch's own half."""

    views: int
    flips: int
    escapes: int
    auroc: tuple[float, float] | None
    largest_logit_difference: float
    largest_drift_difference: float
    native_views: int
    native_difference: float


def check_precision(report: PrecisionReport) -> None:
    """Raise EdgeQCError where half changes more than it may: no bad part may pass by it, and of
    few views one decision may change that stood at its limit."""
    if report.escapes:
        raise EdgeQCError(
            f"precision fp16: {report.escapes} of {report.views} parts are bad, stopped in FP32, "
            "and would pass. Export without --fp16"
        )
    share = report.flips / report.views
    if report.flips > 1 and share > MOST_FLIPS:
        raise EdgeQCError(
            f"precision fp16: {report.flips} of {report.views} decisions change against FP32 "
            f"({share:.2%}, at most {MOST_FLIPS:.1%} may). Export without --fp16"
        )
    if report.auroc is not None and report.auroc[0] - report.auroc[1] > MOST_AUROC_LOST:
        raise EdgeQCError(
            f"precision fp16: drift's AUROC falls from {report.auroc[0]:.4f} to "
            f"{report.auroc[1]:.4f}, by more than {MOST_AUROC_LOST}. Export without --fp16"
        )
