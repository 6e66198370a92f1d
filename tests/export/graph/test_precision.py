"""FP16: what leaves half's range is named and stays in FP32, what changes too much is refused."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, fx, nn

from edge_qc.errors import EdgeQCError, UsageError
from edge_qc_export.graph import TENSORRT_OPERATORS, Features, onnx_from_module
from edge_qc_export.graph.body import module_of, trace_body
from edge_qc_export.graph.precision import (
    LIMIT,
    EmulatedBody,
    HalfPlan,
    PrecisionReport,
    check_precision,
    half_body,
    layer_ranges,
    plan_half,
)
from edge_qc_export.learn.networks import build_network

pytestmark = pytest.mark.torch

SIZE = 32


def body(name: str = "cnn-basic") -> fx.GraphModule:
    torch.manual_seed(0)
    network = build_network(name, 3, (SIZE, SIZE)).train()
    with torch.no_grad():
        network(torch.randn(8, network.input_channels, SIZE, SIZE))
    return trace_body(network.eval(), (0.4,), (0.2,))


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return Features.inputs(torch.randint(0, 256, (4, 1, SIZE, SIZE), generator=generator))


def enlarged(traced: fx.GraphModule, layer: str, factor: float) -> fx.GraphModule:
    """The body with one convolution's answer made larger, and taken back by the next one."""
    nodes = [node for node in traced.graph.nodes if isinstance(module_of(traced, node), nn.Conv2d)]
    at = [node.name for node in nodes].index(layer)
    one, after = (module_of(traced, node) for node in nodes[at : at + 2])
    assert isinstance(one, nn.Conv2d)
    assert isinstance(after, nn.Conv2d)
    with torch.no_grad():
        one.weight *= factor
        assert one.bias is not None
        one.bias *= factor
        after.weight /= factor
    return traced


def kinds(module: fx.GraphModule, x: Tensor) -> dict[str, torch.dtype]:
    found: dict[str, torch.dtype] = {}

    class Kinds(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            answer = super().run_node(n)
            if isinstance(answer, Tensor):
                found[n.name] = answer.dtype
            return answer

    with torch.no_grad():
        Kinds(module).run(x)
    return found


@pytest.mark.parametrize("name", ["cnn-basic", "resnet18"])
def test_a_well_behaved_body_runs_in_half_throughout(name: str) -> None:
    traced, x = body(name), inputs()
    plan = plan_half(traced, layer_ranges(traced, [x]))
    assert plan == HalfPlan((), None)
    with torch.no_grad():
        half, emulated = half_body(traced, plan)(x), EmulatedBody(traced, plan)(x)
        whole = traced(x)
    for native, rounded, exact in zip(half, emulated, whole, strict=True):
        assert native.dtype is torch.float16
        scale = float(exact.abs().max())
        assert float((rounded - exact).abs().max()) < 0.01 * scale
        assert float((native.float() - rounded).abs().max()) < 0.01 * scale


def test_the_first_tensor_that_leaves_the_range_is_named_and_its_part_stays_in_fp32() -> None:
    traced, x = enlarged(body("resnet18"), "trunk_layer2_1_conv1", 1e6), inputs()
    plan = plan_half(traced, layer_ranges(traced, [x]))
    assert plan.first is not None
    assert plan.first[0] == "trunk_layer2_1_conv1"
    assert plan.first[1] > LIMIT
    assert "trunk_layer2_1_conv1 reaches" in plan.sentence
    assert set(plan.islands) == {
        "trunk_layer2_1_conv1",
        "relu_7",
        "trunk_layer2_1_conv2",
    }
    half = half_body(traced, plan)
    found = kinds(half, x)
    assert {found[name] for name in plan.islands} == {torch.float32}
    assert found["trunk_layer1_0_conv1"] is torch.float16
    assert found["trunk_layer3_0_conv1"] is torch.float16
    with torch.no_grad():
        for native, exact in zip(half(x), traced(x), strict=True):
            assert torch.isfinite(native).all()
            scale = float(exact.abs().max())
            assert float((native.float() - exact).abs().max()) < 0.02 * scale


def test_without_its_islands_the_overflow_is_seen() -> None:
    """The same body in half throughout: infinity in torch's half, and named by the emulation."""
    traced, x = enlarged(body("resnet18"), "trunk_layer2_1_conv1", 1e6), inputs()
    bare = HalfPlan((), None)
    with torch.no_grad():
        embedding, *_ = half_body(traced, bare)(x)
        assert not torch.isfinite(embedding).all()
        with pytest.raises(EdgeQCError, match="trunk_layer2_1_conv1 reaches"):
            EmulatedBody(traced, bare)(x)


def test_a_body_that_leaves_the_range_everywhere_is_refused() -> None:
    traced = body()
    ranges = dict.fromkeys(layer_ranges(traced, [inputs()]), 1000000.0)
    with pytest.raises(EdgeQCError, match="without --fp16"):
        plan_half(traced, ranges)


def test_a_layer_whose_answer_is_not_a_number_is_an_island() -> None:
    traced = body()
    ranges = layer_ranges(traced, [inputs()])
    ranges["dense"] = float("nan")
    assert "dense" in plan_half(traced, ranges).islands


@pytest.mark.parametrize("name", ["cnn-basic", "resnet18"])
def test_the_half_graph_holds_half_tensors_and_supported_operators(name: str) -> None:
    traced = body(name)

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = half_body(traced, HalfPlan((), None))

        def forward(self, view: Tensor) -> Tensor:
            embedding: Tensor = self.body(Features.inputs(view))[0]
            return embedding.float()

    graph = onnx_from_module(Bare().eval(), (SIZE, SIZE), 1, outputs=("logits",)).graph
    assert {node.op_type for node in graph.node} <= TENSORRT_OPERATORS - {"BatchNormalization"}
    weights = [tensor for tensor in graph.initializer if tensor.name.endswith("weight")]
    assert weights
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    assert sum(node.op_type == "Cast" for node in graph.node) == 3


def test_a_node_that_an_engine_cannot_run_in_half_stays_in_fp32() -> None:
    traced, x = body(), inputs()
    plan = plan_half(traced, layer_ranges(traced, [x]), ["block1_2/Add", "dense"])
    assert plan.islands == ("block1_2", "dense")
    assert "2 stay in FP32 (block1_2, dense) as told" in plan.sentence
    found = kinds(half_body(traced, plan), x)
    assert found["block1_2"] is found["dense"] is torch.float32
    assert found["block1_3"] is torch.float16


def test_a_node_that_is_not_there_is_refused_with_the_nearest() -> None:
    traced = body()
    with pytest.raises(UsageError, match="did you mean 'block1_3'"):
        plan_half(traced, {}, ["block1_33"])


def report(
    views: int = 1000,
    flips: int = 0,
    auroc: tuple[float, float] | None = None,
    escapes: int = 0,
) -> Any:
    return PrecisionReport(views, flips, escapes, auroc, 0.0, 0.0, 0, 0.0)


def test_the_gate_lets_one_flip_in_a_thousand_pass() -> None:
    check_precision(report(flips=1))
    check_precision(report(views=480, flips=1))
    check_precision(report(auroc=(0.95, 0.949)))
    check_precision(report(auroc=(0.95, 0.99)))


def test_the_gate_refuses_more_flips_and_says_how_many() -> None:
    with pytest.raises(EdgeQCError, match="2 of 1000 decisions change"):
        check_precision(report(flips=2))


def test_the_gate_refuses_two_flips_of_few_views_and_one_that_lets_a_bad_part_pass() -> None:
    with pytest.raises(EdgeQCError, match="2 of 480 decisions change"):
        check_precision(report(views=480, flips=2))
    with pytest.raises(EdgeQCError, match="1 of 5000 parts are bad, stopped in FP32"):
        check_precision(report(views=5000, flips=1, escapes=1))


def test_the_gate_refuses_a_fall_of_the_auroc() -> None:
    with pytest.raises(EdgeQCError, match=r"0\.9500 to 0\.9470"):
        check_precision(report(auroc=(0.95, 0.947)))
