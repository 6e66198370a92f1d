"""The fused graph: one trunk, five answers, a file that checkers and engines take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edge_qc.bundle.manifest import OUTPUTS
from edge_qc.errors import EdgeQCError
from edge_qc_export.drift.embedding import EmbeddingMoments, fit_embedding
from edge_qc_export.drift.moments import Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import choose_channels, plan_layout, stage_features
from edge_qc_export.drift.whitening import Score
from edge_qc_export.graph import (
    OPSET,
    TENSORRT_OPERATORS,
    Features,
    OnePass,
    onnx_from_module,
)
from edge_qc_export.learn.network import Network, normalised
from edge_qc_export.learn.networks import build_network
from tests.export.drift.test_padim import reference
from tests.rig.untrained import MEAN, STD, fitted, settled, views

pytestmark = pytest.mark.torch


def fused(
    network: Network, size: int, channels: int = 12, rank: int = 512, score: Score = "mean"
) -> OnePass:
    """A fitted module over an untrained network."""
    return fitted(network, size, channels, rank, score).module()


@pytest.fixture(scope="module")
def cnn() -> OnePass:
    torch.manual_seed(0)
    return fused(settled(build_network("cnn-basic", 3, (32, 32)), 32), 32)


@pytest.fixture(scope="module")
def cnn_graph(cnn: OnePass) -> onnx.ModelProto:
    return onnx_from_module(cnn, (32, 32), 2)


def answers(graph: onnx.ModelProto, pixels: Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"view": pixels.numpy()}), strict=True))


def test_the_graph_takes_uint8_views_and_gives_five_float32_answers(
    cnn_graph: onnx.ModelProto,
) -> None:
    graph = cnn_graph.graph
    kinds = onnx.TensorProto
    (view,) = graph.input

    def shape(value: onnx.ValueInfoProto) -> list[int]:
        return [dim.dim_value for dim in value.type.tensor_type.shape.dim]

    assert (view.name, view.type.tensor_type.elem_type) == ("view", kinds.UINT8)
    assert shape(view) == [2, 1, 32, 32]
    assert {output.name: shape(output) for output in graph.output} == {
        "logits": [2, 3],
        "distances": [2, 16, 16],
        "drift": [2],
        "embedding_distance": [2],
        "good_distance": [2],
    }
    assert {output.type.tensor_type.elem_type for output in graph.output} == {kinds.FLOAT}


def test_checker_and_strict_shape_inference_are_clean(cnn_graph: onnx.ModelProto) -> None:
    onnx.checker.check_model(cnn_graph, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(cnn_graph, strict_mode=True, data_prop=True)
    named = {value.name for value in inferred.graph.value_info}
    assert {output for node in inferred.graph.node for output in node.output} <= named | set(
        OUTPUTS
    )
    assert [(entry.domain, entry.version) for entry in cnn_graph.opset_import] == [("", OPSET)]


def test_every_operator_is_one_that_tensorrt_supports(cnn_graph: onnx.ModelProto) -> None:
    assert {node.op_type for node in cnn_graph.graph.node} <= TENSORRT_OPERATORS


def test_an_operator_that_tensorrt_lacks_is_named() -> None:
    class Sorted(nn.Module):
        def forward(self, view: Tensor) -> Tensor:
            sorted_values: Tensor = torch.unique(view.float())
            return sorted_values

    with pytest.raises(EdgeQCError, match="Unique"):
        onnx_from_module(Sorted(), (8, 8), 1, outputs=("logits",))


def test_the_trunk_runs_once(cnn_graph: onnx.ModelProto) -> None:
    convolutions = [node for node in cnn_graph.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 4


def test_nodes_of_the_body_are_named_after_their_layers(cnn_graph: onnx.ModelProto) -> None:
    """So that the node at which an engine fails is one that --fp32-node takes."""
    names = [node.name for node in cnn_graph.graph.node]
    assert len(names) == len(set(names))
    assert {"block1_0", "block1_2", "block2_6", "flatten", "dense", "relu"} <= set(names)


def test_onnx_runtime_gives_torchs_answers(cnn: OnePass, cnn_graph: onnx.ModelProto) -> None:
    pixels = views(2, 32, seed=1)
    with torch.no_grad():
        wanted = dict(zip(OUTPUTS, cnn(pixels), strict=True))
    for name, answer in answers(cnn_graph, pixels).items():
        np.testing.assert_allclose(answer, wanted[name].numpy(), rtol=1e-4, atol=1e-4)


def test_a_views_answers_do_not_depend_on_its_neighbour(cnn_graph: onnx.ModelProto) -> None:
    pixels = views(2, 32, seed=1)
    before = answers(cnn_graph, pixels)
    pixels[1] = 255
    after = answers(cnn_graph, pixels)
    for name in OUTPUTS:
        np.testing.assert_array_equal(before[name][0], after[name][0])
        assert not np.array_equal(before[name][1], after[name][1])


def test_the_same_module_gives_the_same_bytes_and_nothing_says_where(
    cnn: OnePass, cnn_graph: onnx.ModelProto
) -> None:
    raw = onnx_from_module(cnn, (32, 32), 2).SerializeToString(deterministic=True)
    assert raw == cnn_graph.SerializeToString(deterministic=True)
    assert str(Path(__file__).parents[3]).encode() not in raw
    assert b"site-packages" not in raw


def test_drift_is_the_mean_or_the_largest_patch(cnn: OnePass) -> None:
    pixels = views(3, 32, seed=1)
    torch.manual_seed(0)
    largest = fused(settled(build_network("cnn-basic", 3, (32, 32)), 32), 32, score="max")
    with torch.no_grad():
        _, distances, drift, *_ = cnn(pixels)
        _, _, drift_of_largest, *_ = largest(pixels)
    torch.testing.assert_close(drift, distances.mean(dim=(1, 2)))
    torch.testing.assert_close(drift_of_largest, distances.amax(dim=(1, 2)))


@pytest.mark.parametrize("name", ["cnn-basic", "cnn-deep", "resnet18", "resnet50"])
def test_folding_normalisation_and_batch_norm_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    network = settled(build_network(name, 3, (64, 64)), 64)
    ch = network.input_channels
    features = Features(network, MEAN[ch], STD[ch]).eval()
    pixels = views(2, 64)
    with torch.no_grad():
        _, wanted, wanted_levels = network.forward_all(normalised(pixels, MEAN[ch], STD[ch]))
        embedding, levels = features(pixels)
    for got, want in zip([embedding, *levels], [wanted, *wanted_levels], strict=True):
        assert float((got - want).abs().max()) < 1e-4 * float(want.abs().max())
    norms = [m for m in features.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == name.startswith("cnn")


@pytest.mark.parametrize("batch", [1, 2])
def test_a_resnet_exports_with_a_short_embedding_and_nested_stages(batch: int) -> None:
    torch.manual_seed(0)
    module = fused(settled(build_network("resnet18", 3, (64, 64)), 64), 64, channels=36, rank=8)
    assert [stage.grid for stage in module.layout.stages] == [(4, 4), (8, 8), (16, 16)]
    graph = onnx_from_module(module, (64, 64), batch)
    assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}
    pixels = views(batch, 64, seed=1)
    with torch.no_grad():
        wanted = dict(zip(OUTPUTS, module(pixels), strict=True))
    for name, answer in answers(graph, pixels).items():
        np.testing.assert_allclose(answer, wanted[name].numpy(), rtol=1e-3, atol=1e-3)


def test_padims_features_are_the_frozen_pretrained_networks_own(tmp_path: Path) -> None:
    """With few layers unfrozen the classifier's trunk up to layer3 is the pretrained one, so that
    one pass serves both, exactly: PaDiM sees what it would see in torchvision's network."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    pretrained = resnet18(weights=None)
    pretrained.train()
    with torch.no_grad():
        pretrained(torch.randn(8, 3, 64, 64))
    pretrained.eval()
    save_file(pretrained.state_dict(), tmp_path / "weights.safetensors")
    weights = str(tmp_path / "weights.safetensors")
    network = build_network("resnet18", 3, (64, 64), unfreeze=6, weights=weights)
    network.train()
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        loss = nn.functional.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.arange(4) % 3)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    network.eval()
    assert not torch.equal(
        network.get_parameter("trunk.layer4.1.conv2.weight"), pretrained.layer4[1].conv2.weight
    )
    pixels = views(2, 64)
    with torch.no_grad():
        x = normalised(pixels, MEAN[3], STD[3])
        stem = pretrained.maxpool(pretrained.relu(pretrained.bn1(pretrained.conv1(x))))
        one = pretrained.layer1(stem)
        two = pretrained.layer2(one)
        wanted = [one, two, pretrained.layer3(two)]
        _, _, unfolded = network.forward_all(x)
        _, levels = Features(network, MEAN[3], STD[3]).eval()(pixels)
    for level, same, want in zip(levels, unfolded, wanted, strict=True):
        assert torch.equal(same, want)
        assert float((level - want).abs().max()) < 1e-4 * float(want.abs().max())


def test_distances_are_within_a_ten_thousandth_of_float64_end_to_end() -> None:
    """From the uint8 view: network, statistics and solution in float64, against the FP32 graph."""
    torch.manual_seed(0)
    network = settled(build_network("resnet18", 2, (64, 64)), 64)
    features = Features(network, MEAN[3], STD[3]).eval()
    train, new = views(80, 64), views(1, 64, seed=1)
    labels = torch.arange(80) % 2
    with torch.no_grad():
        embedding, levels = features(train)
    channels = choose_channels([level.shape[1] for level in levels], 40, 0)
    layout = plan_layout([(16, 16), (8, 8), (4, 4)], channels, None)
    moments, embeddings = Moments(layout), EmbeddingMoments(embedding.shape[1], 2)
    moments.update(stage_features(levels, layout))
    embeddings.update(embedding, labels)
    whitening = fit(moments, Regularisation(0.1, 0.0, 0.01))
    embedding_fit = fit_embedding(embeddings, 512)
    module = OnePass(features, whitening, embedding_fit, network.classifier, "mean").eval()
    distances = answers(onnx_from_module(module, (64, 64), 1), new)["distances"]

    exact = network.double()
    mean, std = torch.tensor(MEAN[3]).double(), torch.tensor(STD[3]).double()
    with torch.no_grad():
        exact_levels = [
            exact.forward_all((x.double() / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))[2]
            for x in (train, new)
        ]
    wanted = reference(exact_levels[0], exact_levels[1], channels, 16, 0.1, 0.01)
    assert float(np.max(np.abs(distances - wanted) / wanted)) < 1e-4
