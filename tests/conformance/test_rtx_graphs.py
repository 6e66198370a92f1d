"""Every graph that ``edge-qc export`` makes, read and built by NVIDIA's own compiler, TensorRT for
RTX, through the engine's own ``build_plan``. It runs nothing: numbers are a device's matter."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import onnx
import pytest
from torch import fx

from edge_qc_export.graph.precision import HalfPlan, half_body
from edge_qc_export.learn.networks import NETWORKS
from edge_qc_export.preflight.tensor_types import FLOAT, HALF, count_casts
from tests.conformance.rtx import ARCHITECTURES
from tests.rig.compilers import Compiler
from tests.rig.untrained import Fit, untrained

pytestmark = [pytest.mark.conformance, pytest.mark.torch]

SIZE = 64
COARSE = 4

Combination = tuple[str, str, int | None, int]
_GRIDS, _BATCHES = (None, COARSE), (1, 4)


def combinations() -> list[Any]:
    """Network, precision, grid, batch; one process takes a network's, which are fitted once."""
    made: list[Combination] = []
    for name in NETWORKS:
        whole = list(itertools.product(("fp32", "fp16"), _GRIDS, _BATCHES))
        if name == "resnet101":
            # ResNet50's blocks, and twice as long: every pair of choices once.
            whole = [("fp32", None, 1), ("fp32", COARSE, 4), ("fp16", None, 4), ("fp16", COARSE, 1)]
        made += [(name, *rest) for rest in whole]
    return [pytest.param(*each, marks=pytest.mark.xdist_group(each[0])) for each in made]


@functools.lru_cache(maxsize=2)
def fit_of(name: str, rows: int | None) -> Fit:
    # The default network with the default channels: PaDiM's widest product.
    return untrained(name, SIZE, rows, 144 if name == "efficientnet-lite0" else 12)


def layers_of(network: Any) -> list[Any]:
    return [network.get_layer(index) for index in range(network.num_layers)]


def casts_of(network: Any) -> int:
    """Casts between half and FP32 of what is no constant."""
    constants = {
        layer.get_output(0).name for layer in layers_of(network) if layer.type.name == "CONSTANT"
    }
    return sum(
        layer.type.name == "CAST"
        and layer.get_input(0).name not in constants
        and {layer.get_input(0).dtype.name, layer.get_output(0).dtype.name} == {HALF, FLOAT}
        for layer in layers_of(network)
    )


@pytest.mark.parametrize(("name", "precision", "rows", "batch"), combinations())
def test_every_graph_is_built_for_every_architecture(
    rtx: Compiler, name: str, precision: str, rows: int | None, batch: int
) -> None:
    """And its types are those of the export's plan, with no cast more than planned."""
    fit = fit_of(name, rows)
    plan = fit.half_plan() if precision == "fp16" else None
    model = fit.onnx(batch, plan)
    built = rtx.build(model.SerializeToString(), architectures=ARCHITECTURES)
    assert len(built.plan) > 100_000
    check_types(rtx, fit, plan, model)


@pytest.mark.xdist_group("cnn-deep")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_graph_is_built_for_one_architecture_alone(rtx: Compiler, architecture: str) -> None:
    fit = fit_of("cnn-deep", None)
    model = fit.onnx(1, fit.half_plan()).SerializeToString()
    assert rtx.build(model, architectures=(architecture,)).plan


@pytest.mark.xdist_group("resnet18")
def test_islands_are_read_as_fp32_with_one_cast_on_each_side(rtx: Compiler) -> None:
    """A layer that stays in FP32 in the middle of the network."""
    fit = fit_of("resnet18", None)
    plan = fit.half_plan(told=("trunk_layer2_0_conv1", "relu_5"))
    assert plan.islands == ("trunk_layer2_0_conv1", "relu_5")
    model = fit.onnx(1, plan)
    check_types(rtx, fit, plan, model)
    assert count_casts(model) == count_casts(fit.onnx(1, fit.half_plan())) + 2


def check_types(rtx: Compiler, fit: Fit, plan: HalfPlan | None, model: onnx.ModelProto) -> None:
    """The network as NVIDIA's parser reads it, held against the plan layer by layer."""
    network, _builder = rtx.network(model.SerializeToString())
    of_body = {node.name for node in fit.body.graph.nodes if node.op not in _ENDS}
    of_graph = {node.name: node.op_type for node in model.graph.node}
    seen = set()
    for layer in layers_of(network):
        kind = layer.get_output(0).dtype.name
        if kind not in (HALF, FLOAT):
            assert kind in ("UINT8", "INT32", "INT64", "BOOL"), f"{layer.name} is {kind}"
            continue
        name = layer.name.partition("/")[0]
        if name in of_body:
            seen.add(name)
            half = plan is not None and name not in plan.islands
            assert kind == (HALF if half else FLOAT), f"{layer.name} is {kind}"
        elif of_graph.get(layer.name, "Gather") not in ("Gather", "Cast"):
            # Patches are gathered before they are cast; constants go with whatever takes them.
            assert kind == FLOAT, f"{layer.name} is {kind}"
    assert seen == of_body
    assert casts_of(network) == count_casts(model) <= planned_casts(fit, plan)


_ENDS = ("placeholder", "output")


def planned_casts(fit: Fit, plan: HalfPlan | None) -> int:
    """Those of the body, and one for the embedding and for each level that leaves it."""
    if plan is None:
        return 0
    halved = half_body(fit.body, plan)
    inside = sum(_is_cast(node) for node in halved.graph.nodes)
    return inside + 1 + len(fit.network.level_names)


def _is_cast(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "to"
