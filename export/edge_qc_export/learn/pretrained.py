"""Weights that a ResNet's trunk starts from: torchvision's ImageNet weights, or a file.

A file is torchvision's own, whose name carries the first eight hexadecimal digits of its sha256,
or the ``model.safetensors`` of another run. Files are read without executing anything
(``weights_only``, or safetensors).
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from edge_qc.errors import DataError

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


def load_weights(trunk: nn.Module, network: str, source: str) -> None:
    """Fill a torchvision ResNet from ``imagenet`` or a file; its ``fc`` is left aside.

    Raises DataError where the weights cannot be had, were altered, or are another network's.
    """
    state = _state(source, network)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    wanted = trunk.state_dict()
    missing = sorted(set(wanted) - set(state) - _counters(wanted))
    foreign = sorted(set(state) - set(wanted))
    wrong = [n for n in wanted if n in state and wanted[n].shape != state[n].shape]
    if missing or foreign or wrong:
        first = (missing or foreign or wrong)[0]
        raise DataError(
            f"weights {source}: are not those of {network}: {len(missing)} tensors missing, "
            f"{len(foreign)} unknown, {len(wrong)} of another shape, such as {first!r}. "
            f"Give the weights of a torchvision {network}"
        )
    trunk.load_state_dict(state, strict=False)


def require_weights(network: str, source: str) -> None:
    """Raise DataError where weights cannot be had, before hours are spent on anything else."""
    if source != "none":
        _state(source, network)


def _state(source: str, network: str) -> dict[str, Tensor]:
    return _imagenet(network) if source == "imagenet" else _from_file(Path(source), network)


def weights_name(source: str) -> str:
    """What a run records: ``none``, ``imagenet``, or ``file:`` with the file's sha256."""
    return source if source in ("none", "imagenet") else f"file:{_sha256(Path(source))}"


def _counters(names: Mapping[str, Tensor]) -> set[str]:
    return {name for name in names if name.endswith("num_batches_tracked")}


def _entry(network: str) -> Any:
    """The weights nearest to those of Keras: He et al.'s recipe, not torchvision's later one."""
    from torchvision.models import get_model_weights

    return get_model_weights(network)["IMAGENET1K_V1"]


def _imagenet(network: str) -> dict[str, Tensor]:
    entry = _entry(network)
    name = Path(urlparse(entry.url).path).name
    place = Path(torch.hub.get_dir()) / "checkpoints" / name
    if place.exists():
        _require_hash(place, name)
    try:
        state: dict[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"ImageNet weights of {network}: cannot be fetched ({error}). Fetch {entry.url} on a "
            f"machine with internet and put it at {place}, or give its path with --weights FILE; "
            "--weights none starts from nothing"
        ) from error
    return state


def _from_file(file: Path, network: str) -> dict[str, Tensor]:
    if not file.is_file():
        raise DataError(
            f"weights {file}: no such file; wanted torchvision's {network} weights "
            f"({_entry(network).url}), a run's model.safetensors, 'imagenet' or 'none'"
        )
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if _HASH_IN_NAME.search(file.name):
            _require_hash(file, file.name)
        try:
            tensors: dict[str, Tensor] = load_file(file)
        except (OSError, SafetensorError) as error:
            raise DataError(f"weights {file}: cannot be read ({error})") from error
        return {
            name.removeprefix("trunk."): tensor
            for name, tensor in tensors.items()
            if name.startswith("trunk.") or not name.startswith("classifier.")
        }
    _require_hash(file, file.name if _HASH_IN_NAME.search(file.name) else _entry(network).url)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"weights {file}: cannot be read ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise DataError(f"weights {file}: holds something else than named tensors")
    return state


def _require_hash(file: Path, name: str) -> None:
    found = _HASH_IN_NAME.search(name)
    assert found is not None
    seen, wanted = _sha256(file), found.group(1)
    if not seen.startswith(wanted):
        raise DataError(
            f"weights {file}: its sha256 begins with {seen[:8]}, wanted {wanted}: the file is "
            "damaged or another one. Fetch it again"
        )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"weights {file}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
