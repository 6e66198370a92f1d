"""Pretrained weights: fetched, given as a file, or missing with a way out; never altered ones."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from edge_qc.errors import DataError
from edge_qc_export.learn import pretrained
from edge_qc_export.learn.networks import build_network
from edge_qc_export.learn.pretrained import weights_name

pytestmark = pytest.mark.torch

SIZE = (32, 32)


@pytest.fixture(autouse=True)
def no_internet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without internet and with an empty cache of weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def saved(folder: Path, state: Mapping[str, Any], name: str = "resnet18-{}.pth") -> Path:
    """A file of weights whose name carries its hash, as torchvision's do."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state), folder / "state")
    digest = hashlib.sha256((folder / "state").read_bytes()).hexdigest()
    return (folder / "state").rename(folder / name.format(digest[:8]))


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return dict(get_model("resnet18", weights=None).state_dict())


def loaded(source: str) -> Any:
    return build_network("resnet18", 3, SIZE, unfreeze=3, weights=source).state_dict()


def test_a_file_with_its_hash_in_its_name_is_loaded(tmp_path: Path, state: dict[str, Any]) -> None:
    file = saved(tmp_path, state)
    network = loaded(str(file))
    assert torch.equal(network["trunk.layer3.1.conv2.weight"], state["layer3.1.conv2.weight"])
    assert weights_name(str(file)) == f"file:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def test_an_altered_file_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    file = saved(tmp_path, state)
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    with pytest.raises(DataError, match=r"its sha256 begins with \w{8}, wanted \w{8}"):
        loaded(str(file))


def test_a_renamed_file_is_held_against_torchvisions_hash(
    tmp_path: Path, state: dict[str, Any]
) -> None:
    file = saved(tmp_path, state, "mine.pth")
    with pytest.raises(DataError, match="wanted f37072fd: the file is damaged or another one"):
        loaded(str(file))


def test_a_date_in_a_file_s_name_is_no_hash(
    tmp_path: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's file, and the published one, under whatever name they were kept."""
    other = build_network("resnet18", 7, SIZE)
    run = tmp_path / "trunk-20261105.safetensors"
    save_file(other.state_dict(), run)
    name = "trunk.layer4.1.conv2.weight"
    assert torch.equal(loaded(str(run))[name], other.state_dict()[name])

    published = saved(tmp_path, state)
    monkeypatch.setattr(pretrained, "_entry", lambda _: SimpleNamespace(url=published.name))
    dated = published.rename(tmp_path / "resnet18-20261105.pth")
    assert torch.equal(loaded(str(dated))["trunk.conv1.weight"], state["conv1.weight"])
    dated.write_bytes(dated.read_bytes() + b"0")
    with pytest.raises(DataError, match=r"wanted 20261105 or \w{8}: the file is damaged"):
        loaded(str(dated))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, get_model("resnet34", weights=None).state_dict())
    with pytest.raises(DataError, match="are not those of resnet18: 0 tensors missing, "):
        loaded(str(file))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "state").write_bytes(pickle.dumps(Trap()))
    digest = hashlib.sha256((tmp_path / "state").read_bytes()).hexdigest()
    file = (tmp_path / "state").rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    with pytest.raises(DataError, match="cannot be read"):
        loaded(str(file))
    assert not (tmp_path / "ran").exists()


def test_the_model_of_another_run_gives_its_trunk(tmp_path: Path) -> None:
    other = build_network("resnet18", 7, SIZE)
    save_file(other.state_dict(), tmp_path / "model.safetensors")
    network = loaded(str(tmp_path / "model.safetensors"))
    name = "trunk.layer4.1.conv2.weight"
    assert torch.equal(network[name], other.state_dict()[name])
    assert network["classifier.weight"].shape == (3, 512)


def test_without_internet_the_message_names_the_file_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        loaded("imagenet")
    text = str(caught.value)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in text
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in text
    assert "--weights FILE" in text
    assert "no route to host" in text


def test_imagenet_weights_that_were_put_in_place_need_no_internet(
    tmp_path: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path / "hub" / "checkpoints", state)
    url = f"https://download.pytorch.org/models/{file.name}"
    entry = SimpleNamespace(
        url=url, get_state_dict=lambda **given: torch.hub.load_state_dict_from_url(url, **given)
    )
    monkeypatch.setattr(pretrained, "_entry", lambda _: entry)
    assert torch.equal(loaded("imagenet")["trunk.conv1.weight"], state["conv1.weight"])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged or another one"):
        loaded("imagenet")


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(DataError, match=r"no such file; wanted torchvision's resnet18 weights"):
        loaded("none.pth")
