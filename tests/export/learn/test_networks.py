"""The networks are the report's; what is frozen is what Keras would freeze."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from edge_qc.errors import UsageError
from edge_qc_export.learn.keras_layers import keras_layers
from edge_qc_export.learn.network import Network, learning_parameters, normalised
from edge_qc_export.learn.networks import NETWORKS, build_network

pytestmark = pytest.mark.torch


def on_meta(name: str, unfreeze: int | None = None, classes: int = 6) -> Network:
    with torch.device("meta"):
        return build_network(name, classes, (224, 224), unfreeze=unfreeze)


@pytest.mark.parametrize(
    ("name", "widths", "dense"),
    [("cnn-basic", (32, 64), 128), ("cnn-deep", (32, 64, 128, 256), 256)],
)
def test_the_cnns_have_the_reports_layers(name: str, widths: tuple[int, ...], dense: int) -> None:
    wanted: list[object] = []
    channels = 1
    for width in widths:
        for into in (channels, width):
            wanted += [("conv", into, width, (3, 3), (1, 1)), "relu", ("norm", width, 1e-3)]
        wanted.append(("pool", 2))
        channels = width
    side = 224 >> len(widths)
    wanted += [
        ("dropout", 0.25),
        ("dense", channels * side * side, dense),
        ("dropout", 0.5),
        ("dense", dense, 6),
    ]
    found: list[object] = []
    for module in on_meta(name).modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            sizes = module.in_channels, module.out_channels, module.kernel_size, module.padding
            found.append(("conv", *sizes))
        elif isinstance(module, nn.ReLU):
            found.append("relu")
        elif isinstance(module, nn.BatchNorm2d):
            found.append(("norm", module.num_features, module.eps))
        elif isinstance(module, nn.MaxPool2d):
            found.append(("pool", module.kernel_size))
        elif isinstance(module, nn.Dropout):
            found.append(("dropout", module.p))
        elif isinstance(module, nn.Linear):
            found.append(("dense", module.in_features, module.out_features))
    assert found == wanted


def test_every_block_of_a_cnn_ends_in_dropout_and_the_last_dense_too() -> None:
    network = build_network("cnn-deep", 3, (32, 32))
    called: list[float] = []
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda m, *_: called.append(m.p))
    network(torch.rand(2, 1, 32, 32))
    assert called == [0.25] * 4 + [0.5]


@pytest.mark.parametrize("name", NETWORKS)
def test_one_pass_gives_logits_features_and_levels(name: str) -> None:
    network = build_network(name, 4, (64, 32)).eval()
    x = torch.rand(2, network.input_channels, 64, 32)
    with torch.no_grad():
        logits, embedding, levels = network.forward_all(x)
        torch.testing.assert_close(network(x), logits)
    assert logits.shape == (2, 4)
    assert embedding.shape == (2, network.embedding_size)
    assert len(levels) == len(network.level_names)
    heights = [level.shape[2] for level in levels]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize(("name", "count"), [("resnet50", 175), ("resnet101", 345)])
def test_the_layers_are_as_many_as_keras_lists(name: str, count: int) -> None:
    with torch.device("meta"):
        layers = keras_layers(get_model(name, weights=None))
    assert len(layers) == count
    assert [layer.name for layer in layers[-12:]] == [
        "conv5_block2_add",
        "conv5_block2_out",
        "conv5_block3_1_conv",
        "conv5_block3_1_bn",
        "conv5_block3_1_relu",
        "conv5_block3_2_conv",
        "conv5_block3_2_bn",
        "conv5_block3_2_relu",
        "conv5_block3_3_conv",
        "conv5_block3_3_bn",
        "conv5_block3_add",
        "conv5_block3_out",
    ]
    assert [layer.name for layer in layers[-32:-20]] == [
        "conv5_block1_1_conv",
        "conv5_block1_1_bn",
        "conv5_block1_1_relu",
        "conv5_block1_2_conv",
        "conv5_block1_2_bn",
        "conv5_block1_2_relu",
        "conv5_block1_0_conv",
        "conv5_block1_3_conv",
        "conv5_block1_0_bn",
        "conv5_block1_3_bn",
        "conv5_block1_add",
        "conv5_block1_out",
    ]


BLOCK = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
LEARNS = {
    3: {"2.bn3"},
    6: {"2.bn2", "2.conv3", "2.bn3"},
    12: {f"2.{part}" for part in BLOCK},
    24: {f"{block}.{part}" for block in (1, 2) for part in BLOCK} | {"0.bn3", "0.downsample.1"},
}


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
@pytest.mark.parametrize("unfreeze", [3, 6, 12, 24])
def test_the_last_layers_learn_and_nothing_up_to_layer3_does(name: str, unfreeze: int) -> None:
    network = on_meta(name, unfreeze)
    learning = {parameter.rsplit(".", 1)[0] for parameter, _ in learning_parameters(network)}
    assert learning == {f"trunk.layer4.{part}" for part in LEARNS[unfreeze]} | {"classifier"}
    for part in ("conv1", "bn1", "layer1", "layer2", "layer3"):
        module = network.get_submodule(f"trunk.{part}")
        assert not any(parameter.requires_grad for parameter in module.parameters())
        norms = [inner for inner in module.modules() if isinstance(inner, nn.BatchNorm2d)]
        assert not any(norm.training for norm in norms)


def test_a_step_of_training_leaves_everything_frozen_as_it_was() -> None:
    network = build_network("resnet18", 3, (32, 32), unfreeze=3)
    before = copy.deepcopy(network.state_dict())
    network.train()
    optimizer = torch.optim.Adam([p for _, p in learning_parameters(network)], lr=0.1)
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    changed = {
        name
        for name, tensor in network.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert changed == {
        "classifier.weight",
        "classifier.bias",
        *(
            f"trunk.layer4.1.bn2.{part}"
            for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("training", [True, False])
def test_the_layers_together_are_torchvisions_network(name: str, training: bool) -> None:
    network = build_network(name, 3, (64, 64)).train(training)
    theirs = get_model(name, weights=None).train(training)
    theirs.fc = nn.Identity()
    trunk = network.get_submodule("trunk")
    theirs.load_state_dict(trunk.state_dict())
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        wanted = theirs(x)
        _, embedding, levels = network.forward_all(x)
    torch.testing.assert_close(embedding, wanted, rtol=1e-5, atol=1e-5)
    assert [level.shape[2] for level in levels] == [16, 8, 4]


def test_a_network_cut_after_any_layer_is_the_same_network() -> None:
    x = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    whole = build_network("resnet18", 3, (32, 32)).eval()
    with torch.no_grad():
        wanted = whole(x)
        for unfreeze in (0, 1, 3, 4, 5, 6, 8, 9, 11, 14, 18, 40, 69):
            cut = build_network("resnet18", 3, (32, 32), unfreeze=unfreeze).eval()
            cut.load_state_dict(whole.state_dict())
            states = cut.frozen(x)
            assert torch.equal(cut.learning(states), wanted), unfreeze


def test_unfreezing_nothing_trains_the_head_alone() -> None:
    network = build_network("resnet18", 3, (32, 32), unfreeze=0)
    assert {name for name, _ in learning_parameters(network)} == {
        "classifier.weight",
        "classifier.bias",
    }
    assert network.frozen(torch.randn(1, 3, 32, 32))[0].shape == (1, 512, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "vgg"}, "network 'vgg' is not known; wanted one of efficientnet-lite0"),
        (
            {"name": "cnn-basic", "unfreeze": 3},
            "leave unfreeze out, or take one of efficientnet-lite0",
        ),
        (
            {"name": "cnn-deep", "weights": "imagenet"},
            "leave weights out, or take one of efficientnet-lite0",
        ),
        ({"name": "resnet18", "unfreeze": 200}, "resnet18 has 69 layers, wanted 0 to 69"),
        ({"name": "cnn-basic", "dropout": 1.0}, "dropout 1.0: wanted a share"),
        ({"name": "cnn-deep", "size": (8, 8)}, "is too small for 4 blocks"),
    ],
)
def test_what_does_not_go_together_is_told(arguments: dict[str, object], told: str) -> None:
    call = {"classes": 3, "size": (32, 32), **arguments}
    with pytest.raises(UsageError) as caught:
        build_network(**call)  # type: ignore[arg-type]
    assert told in str(caught.value)


def test_grey_becomes_the_networks_channels() -> None:
    pixels = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    x = normalised(pixels, (0.5, 0.0, 0.2), (0.5, 1.0, 0.1))
    assert x.shape == (1, 3, 2, 2)
    torch.testing.assert_close(x[0, 0], torch.tensor([[-1.0, 1.0], [-0.6, -0.2]]))
    torch.testing.assert_close(x[0, 1], torch.tensor([[0.0, 1.0], [0.2, 0.4]]))
    torch.testing.assert_close(x[0, 2], torch.tensor([[-2.0, 8.0], [0.0, 2.0]]))
    assert torch.equal(normalised(pixels.unsqueeze(1), (0.5,), (0.5,))[:, 0], x[:, 0])


def test_a_network_without_its_passes_cannot_be_made() -> None:
    """A new network that lacks a pass fails when it is built, not in its first epoch."""

    class Incomplete(Network):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Incomplete()
