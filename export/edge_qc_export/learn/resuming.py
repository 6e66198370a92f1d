"""The state of a training after an epoch: one file from which the next epoch follows exactly.

What never changes is not written: frozen weights are made again from seed or file, and their
digest must be the same. Random numbers follow from (seed, epoch), so that the epoch's number is
their state.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_qc.errors import DataError, EdgeQCError, UsageError
from edge_qc.system.whole_file import PARTIAL
from edge_qc_export.learn import checkpoints
from edge_qc_export.learn.network import Network


@dataclass
class Outcome:
    """Where training stands after an epoch. best_rank: how the best epoch compares; best_state:
    what then differed from the start; log: the rows of ``log.csv``."""

    epoch: int = 0
    best_epoch: int = 0
    best_rank: tuple[float, ...] = (math.inf,)
    best_state: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)


def changing_state(network: Network) -> dict[str, Tensor]:
    """The parameters and statistics that training changes, copied to the CPU."""
    frozen = network.frozen_names()
    state = network.state_dict()
    return {n: t.detach().cpu().clone() for n, t in state.items() if n not in frozen}


def write_state(
    folder: Path,
    outcome: Outcome,
    network: Network,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    settings: Mapping[str, Any],
    classes: Sequence[str],
    frozen: str,
) -> None:
    """Write the state, then the log. frozen: see ``frozen_digest``.

    Raises EdgeQCError if the disk refuses.
    """
    tensors = {f"model.{name}": tensor for name, tensor in changing_state(network).items()}
    if outcome.best_epoch != outcome.epoch:
        tensors |= {f"best.{name}": tensor for name, tensor in outcome.best_state.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    state = {
        "epoch": outcome.epoch,
        "best_epoch": outcome.best_epoch,
        "best_rank": outcome.best_rank,
        "log": outcome.log,
        "settings": dict(settings),
        "classes": list(classes),
        "scaler": scaler.state_dict(),
        "frozen": frozen,
    }
    checkpoints.write_tensors(folder / checkpoints.RESUME, tensors, state)
    checkpoints.write_log(folder, outcome.log)


def read_state(
    folder: Path,
    network: Network,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    settings: Mapping[str, Any],
    classes: Sequence[str],
    frozen: str,
) -> Outcome:
    """Put network, optimiser and scaler into the state of the last epoch that was finished; an
    empty outcome if none was.

    Raises DataError if the file is damaged, or of other classes, settings or frozen weights.
    """
    file = folder / checkpoints.RESUME
    if not file.exists():
        return Outcome()
    tensors, state = checkpoints.read_tensors(file)
    _require_same(file, state, settings, classes)
    if state["frozen"] != frozen:
        raise DataError(
            f"{file}: its frozen weights were others. Give the same --weights, or train into "
            "another folder"
        )
    model = _below("model.", tensors)
    network.load_state_dict(model, strict=False)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer.", tensors).items():
        index, moment = name.split(".")
        moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    if state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    return Outcome(
        epoch=state["epoch"],
        best_epoch=state["best_epoch"],
        best_rank=tuple(state["best_rank"]),
        best_state=_below("best.", tensors) or model,
        log=state["log"],
    )


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """A run's folder for one training at a time, without what a killed one left half written. One
    that is made here goes again if nothing comes into it. Raises UsageError if another training has
    it, EdgeQCError if it cannot be made."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise EdgeQCError(
            f"run {folder}: cannot be made ({error.strerror}). Name another folder with --out"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"run {folder}: another training writes into it. Name another folder with --out, "
                "or wait until that one has ended"
            ) from None
        for partial in folder.glob(f".*{PARTIAL}"):
            partial.unlink(missing_ok=True)
        yield
    finally:
        os.close(fd)
        if made:
            with suppress(OSError):
                folder.rmdir()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _require_same(
    file: Path, state: Mapping[str, Any], settings: Mapping[str, Any], classes: Sequence[str]
) -> None:
    if state["classes"] != list(classes):
        raise DataError(
            f"{file}: is of the classes {', '.join(state['classes'])}; the data has "
            f"{', '.join(classes)}. Train into another folder, or give the same data"
        )
    require_same_settings(file, state["settings"], settings)


def require_same_settings(
    file: Path, before: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Raises DataError if a run that is gone on with was made with other settings (see
    ``TrainingConfig.fixed_settings``)."""
    changed = [name for name in sorted(before) if before[name] != settings.get(name)]
    if changed:
        shown = ", ".join(f"{name} {before[name]!r} -> {settings.get(name)!r}" for name in changed)
        raise DataError(
            f"{file}: was made with other settings: {shown}. Resume with the same ones, "
            "or train into another folder"
        )


def require_no_more_epochs(done: checkpoints.Run, epochs: int, patience: int | None) -> None:
    """Raises UsageError if more epochs are asked of a run that is done than it has, and it did not
    end early for want of a better one. What the next epoch needs went when the run was done."""
    waited = done.epochs - done.best_epoch
    if epochs > done.epochs and (patience is None or waited < patience):
        raise UsageError(
            f"run {done.folder}: is done with {done.epochs} epochs, and {epochs} are asked for. A "
            "run that is done cannot learn on: train into another folder with --out"
        )


def frozen_digest(network: Network) -> str:
    """The sha256 of all that training never changes."""
    digest = hashlib.sha256()
    state = network.state_dict()
    for name in sorted(network.frozen_names()):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
