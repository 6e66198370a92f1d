"""The run folder: what training leaves for evaluation, report and export.

    run.json            the facts of the run (``Run``)
    alignment.npz       what each die's part is found by, if the run aligns
    model.safetensors   the network's state of the best epoch
    split.csv           which training pictures were held out
    log.csv             one row an epoch
    resume.safetensors  the state after the last epoch (``resuming``); gone when the run is done

A kill or a full disk leaves the previous one of each (``whole_file``). No pickle.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from edge_qc.bundle.alignment import ALIGNMENT, Alignment, Edges, read_edges
from edge_qc.bundle.dies import Die
from edge_qc.errors import DataError, UsageError
from edge_qc.inspection.alignment import Template, templates_of
from edge_qc.inspection.view import Interpolation
from edge_qc_export.learn.network import Network
from edge_qc_export.learn.networks import build_network
from edge_qc_export.whole_file import write_whole

RUN, MODEL, SPLIT, LOG, RESUME = (
    "run.json",
    "model.safetensors",
    "split.csv",
    "log.csv",
    "resume.safetensors",
)
SCHEMA_VERSION, ALIGNED_VERSION = 1, 2
"""Of ``run.json``: the second where parts are found before views are cut."""

GO_ON = "Make room and go on with --resume (a study: call it again)"
"""What to do next where a training finds the disk full."""


class Run(BaseModel):
    """The facts of a run, as they stand in ``run.json``; ``folder`` is where it was read.

    costs: by class name and DRIFT, true then predicted. size: (rows, columns). weights: ``none``,
    ``imagenet`` or ``file:<sha256>``. epochs: how many were trained; best_epoch: whose weights
    these are, from 1. collapsed: the best epoch predicts one class for all held-out pictures.
    held_out: figures of the best epoch on the held-out part.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    schema_version: int = SCHEMA_VERSION
    network: str
    classes: tuple[str, ...]
    dies: dict[str, Die]
    costs: dict[str, dict[str, float]]
    size: tuple[int, int]
    interpolation: Interpolation
    alignment: Alignment | None = None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unfreeze: int | None
    dropout: float | None
    weights: str
    loss: str
    seed: int
    data: Path
    created: str
    epochs: int
    best_epoch: int
    collapsed: bool
    held_out: dict[str, float | None]
    settings: dict[str, Any] = {}

    def edges(self) -> dict[str, Edges]:
        """What each die's part is found by; empty where parts are taken to lie in their place.
        Raises BundleError if the file is missing or damaged."""
        return {} if self.alignment is None else read_edges(self.folder / ALIGNMENT, self.alignment)

    def templates(self) -> dict[str, Template]:
        """By die, what finds its part."""
        return templates_of(self.alignment, self.edges())

    def load_network(self) -> Network:
        """The trained network, in evaluation mode. Raises DataError if its file is damaged or
        another network's."""
        network = build_network(
            self.network, len(self.classes), self.size, unfreeze=self.unfreeze, dropout=self.dropout
        )
        file = self.folder / MODEL
        try:
            network.load_state_dict(load_file(file))
        except (OSError, SafetensorError) as error:
            raise DataError(f"run {self.folder}: {MODEL} cannot be read ({error})") from error
        except RuntimeError as error:
            raise DataError(
                f"run {self.folder}: {MODEL} is not of a {self.network} with {len(self.classes)} "
                f"classes ({str(error).splitlines()[-1].strip()}). Train again"
            ) from error
        return network.eval()


def load_run(folder: Path) -> Run:
    """The facts of the run in ``folder``. Raises DataError if it is none, or not a whole one."""
    file = folder / RUN
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        half = (folder / RESUME).exists()
        raise DataError(
            f"run {folder}: no {RUN} there; "
            + (
                "its training has not ended: go on with --resume"
                if half
                else "make a run with 'edge-qc train DATA --out RUN', or correct the path"
            )
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"run {folder}: {RUN} cannot be read as JSON ({error})") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version not in (SCHEMA_VERSION, ALIGNED_VERSION):
        raise DataError(
            f"run {folder}: schema version {version}, wanted {SCHEMA_VERSION} or {ALIGNED_VERSION}"
        )
    try:
        return Run.model_validate({**document, "folder": folder})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise DataError(f"run {folder}: {RUN}: {faults}") from error


def newest_run() -> Path:
    """The folder of the run below ``runs`` whose training ended last. Raises UsageError if there is
    none."""
    runs = sorted(Path("runs").glob(f"*/{RUN}"), key=lambda file: file.stat().st_mtime)
    if not runs:
        raise UsageError(
            "no run below ./runs: name the RUN folder, or make one with 'edge-qc train DATA'"
        )
    return runs[-1].parent


def write_run(run: Run) -> None:
    """Write ``run.json``: the last file of a run."""
    document = run.model_dump(mode="json", exclude={"folder"})
    for die in document["dies"].values():
        for place in [name for name in ("box", "center", "frame_sizes") if die[name] is None]:
            del die[place]
    if run.alignment is None:
        del document["alignment"]
    write_whole(run.folder / RUN, (json.dumps(document, indent=1) + "\n").encode(), GO_ON)


def write_log(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write ``log.csv``, one row an epoch."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / LOG, text.getvalue().encode(), GO_ON)


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None = None
) -> None:
    """Write named tensors, and a JSON document beside them in the same file."""
    metadata = None if state is None else {"state": json.dumps(state)}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(file, save(whole, metadata), GO_ON)


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``write_tensors`` wrote. Raises DataError if the file is damaged."""
    try:
        with safe_open(file, "pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        return tensors, json.loads(metadata.get("state", "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"{file}: cannot be read ({error}). Train again without --resume"
        ) from error
