"""The default trunk on a band: its graph is one that engines take, in FP32 and in half."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edge_qc_export.drift.patches import choose_channels, plan_layout
from edge_qc_export.graph import Features, onnx_from_module
from edge_qc_export.graph.precision import (
    EmulatedBody,
    HalfPlan,
    half_body,
    layer_ranges,
    plan_half,
)
from edge_qc_export.learn.network import Network, normalised
from edge_qc_export.learn.networks import build_network
from edge_qc_export.release.fitting import FitSettings, plan_fit

pytestmark = pytest.mark.torch

SIZE = (64, 32)
NAMES = ("embedding", "level1", "level2", "level3")


class Answers(nn.Module):
    """What a body gives, as a graph's outputs."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features

    def forward(self, view: Tensor) -> tuple[Tensor, ...]:
        embedding, levels = self.features(view)
        return tuple(x.float() for x in (embedding, *levels))


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network("efficientnet-lite0", 3, SIZE, weights="imagenet").eval()


@pytest.fixture(scope="module")
def features(network: Network) -> Features:
    return Features(network, *network.normalisation or ()).eval()


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 1, *SIZE), generator=generator, dtype=torch.uint8)


def answered(graph: onnx.ModelProto, pixels: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    answers: list[np.ndarray] = session.run(None, {"view": pixels.numpy()})
    return answers


def test_the_graph_answers_as_the_network_and_pads_within_its_convolutions(
    network: Network, features: Features, pixels: Tensor
) -> None:
    graph = onnx_from_module(Answers(features), SIZE, len(pixels), outputs=NAMES)
    with torch.no_grad():
        x = normalised(pixels, *network.normalisation or ())
        _, embedding, levels = network.forward_all(x)
    for found, wanted in zip(answered(graph, pixels), (embedding, *levels), strict=True):
        scale = float(wanted.abs().max())
        np.testing.assert_allclose(found / scale, wanted / scale, atol=1e-5)
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert kinds["Conv"] == 49
    assert kinds["Pad"] == kinds["BatchNormalization"] == 0


def test_it_runs_in_half_throughout(features: Features, pixels: Tensor) -> None:
    x, traced = Features.inputs(pixels), features.body
    plan = plan_half(traced, layer_ranges(traced, [x]))
    assert plan == HalfPlan((), None)
    half = half_body(traced, plan)
    with torch.no_grad():
        emulated = EmulatedBody(traced, plan)(x)
        for found, wanted in zip(emulated, features.body(x), strict=True):
            assert float((found - wanted).abs().max()) < 0.02 * float(wanted.abs().max())
    graph = onnx_from_module(
        Answers(Features(network=None, mean=(), std=(), body=half)),  # type: ignore[arg-type]
        SIZE,
        len(pixels),
        outputs=NAMES,
    )
    weights = {t.name: t.data_type for t in graph.graph.initializer}
    of_convolutions = [weights[n.input[1]] for n in graph.graph.node if n.op_type == "Conv"]
    assert set(of_convolutions) == {onnx.TensorProto.FLOAT16}
    for found, wanted in zip(answered(graph, pixels), emulated, strict=True):
        scale = float(wanted.abs().max())
        np.testing.assert_allclose(found / scale, wanted / scale, atol=0.02)


def test_padim_reads_three_stages_of_a_band(features: Features) -> None:
    with torch.no_grad():
        _, levels = features(torch.zeros(1, 1, 320, 96, dtype=torch.uint8))
    sizes = [(level.shape[2], level.shape[3]) for level in levels]
    assert sizes == [(80, 24), (40, 12), (20, 6)]
    channels = choose_channels([level.shape[1] for level in levels], 100, 0)
    finest = plan_layout(sizes, channels, None)
    assert [stage.grid for stage in finest.stages] == [(20, 6), (40, 12), (80, 24)]
    halved = plan_layout(sizes, channels, 40)
    assert [stage.grid for stage in halved.stages] == [(20, 6), (40, 12)]
    assert halved.width == finest.width == 100
    usual, _, _ = plan_fit(features, (320, 96), 3, FitSettings())
    assert usual.grid == (20, 6), "a band keeps as many patches as a square of 16 rows at most"
