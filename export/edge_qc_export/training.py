"""Training from a data set to a run folder: ``train(TrainingConfig(...)) -> Run``.

Everything is put together here: samples, costs, views, split, network, loss, the source of what
the learning part sees. The epochs themselves are in ``epochs``, the run folder in ``checkpoints``.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_qc.dies import CHALLENGE_DIES, Die, read_dies
from edge_qc.errors import EdgeQCError, UsageError
from edge_qc.view import Interpolation
from edge_qc_export import checkpoints, pretrained, splitting
from edge_qc_export.augmentation import augment
from edge_qc_export.checkpoints import Run, load_run
from edge_qc_export.costs import Costs, costs_for, read_costs
from edge_qc_export.dataset import Fault, Sample, read_samples, require_classes
from edge_qc_export.epochs import Epochs
from edge_qc_export.losses import build_loss
from edge_qc_export.networks import IMAGENET_MEAN, IMAGENET_STD, Network, build_network
from edge_qc_export.processes import Processes, joined_processes
from edge_qc_export.progress import Reporter
from edge_qc_export.trunk_cache import CachedSource, PlainSource, Source
from edge_qc_export.view_store import ViewStore, make_views

__all__ = ["Reporter", "Run", "TrainingConfig", "load_run", "train"]


@dataclass(frozen=True)
class TrainingConfig:
    """What a training is told.

    data: the data set; out: the run folder. dies, costs, loss_costs: JSON files; None takes the
    challenge's dies and pattern of costs, and ``costs`` for the cost loss. size: (rows, columns) of
    the view. split: a file to reuse. unfreeze, dropout, weights: see ``build_network``; weights
    None is imagenet for a ResNet and none for a CNN. patience: epochs without a better one before
    training stops; None never. augment: alter views at random (``augmentation``); the trunk is then
    run every epoch. cache: keep a frozen trunk's activations; cache_folder: where, and where
    views are kept for other runs to find; None: in the run folder until the run is done.
    """

    data: Path
    out: Path
    network: str = "cnn-basic"
    epochs: int = 10
    dies: Path | None = None
    costs: Path | None = None
    loss_costs: Path | None = None
    size: tuple[int, int] = (224, 224)
    interpolation: Interpolation = "area"
    split: Path | None = None
    seed: int = 0
    loss: str = "cross-entropy"
    unfreeze: int | None = None
    dropout: float | None = None
    weights: str | None = None
    learning_rate: float = 1e-3
    batch: int = 32
    patience: int | None = 5
    augment: bool = False
    cache: bool = True
    cache_folder: Path | None = None
    resume: bool = False
    threads: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class _Data:
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    dies: Mapping[str, Die]
    costs: Costs
    loss_costs: Costs
    views: ViewStore
    held_out: NDArray[np.bool_]


def train(config: TrainingConfig, reporter: Reporter | None = None) -> Run:
    """Train and leave a run folder; returns its facts.

    Under torchrun every process calls this with the same configuration; the first one writes.
    Raises UsageError for a call that cannot be, DataError with all faults of the data, EdgeQCError
    where training itself fails or is interrupted (``resume`` then goes on after the last epoch).
    """
    reporter = reporter or Reporter()
    config = _checked(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with joined_processes(config.device) as processes:
        if not processes.first:
            reporter = Reporter()
        try:
            return _train(config, processes, reporter)
        except KeyboardInterrupt as error:
            raise EdgeQCError(
                f"stopped; the epochs that were finished are whole in {config.out}. "
                "Call again with --resume to go on"
            ) from error


def _checked(config: TrainingConfig) -> TrainingConfig:
    resnet = config.network.startswith("resnet")
    weights = config.weights or ("imagenet" if resnet else "none")
    for name, value, least in (
        ("epochs", config.epochs, 1),
        ("batch", config.batch, 2),
        ("size", min(config.size), 8),
        ("patience", config.patience if config.patience is not None else 1, 1),
        ("threads", config.threads if config.threads is not None else 1, 1),
    ):
        if value < least:
            raise UsageError(f"{name} {value}: wanted at least {least}")
    if not config.learning_rate > 0:
        raise UsageError(f"learning rate {config.learning_rate}: wanted a number above 0")
    taken = [n for n in (checkpoints.RUN, checkpoints.RESUME) if (config.out / n).exists()]
    if taken and not config.resume:
        raise UsageError(
            f"run {config.out}: holds {taken[0]} already. Name another folder with --out, go on "
            "with --resume, or delete it"
        )
    return replace(config, weights=weights)


def _train(config: TrainingConfig, processes: Processes, reporter: Reporter) -> Run:
    if config.resume and (config.out / checkpoints.RUN).exists():
        reporter.note(f"{config.out} is done already")
        return load_run(config.out)
    scratch = config.cache_folder or config.out / "cache"
    data = _prepared(config, scratch, processes, reporter)
    torch.manual_seed(config.seed)
    network = build_network(
        config.network,
        len(data.classes),
        config.size,
        unfreeze=config.unfreeze,
        dropout=config.dropout,
        weights=config.weights or "none",
    ).to(processes.device)
    if processes.device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)
    if network.has_frozen_trunk and config.weights == "none":
        reporter.note("the frozen layers hold random weights: name some with --weights")
    mean, std = _normalisation(network, data)
    counts = Counter(str(sample.label) for sample in data.samples)
    place = {label: index for index, label in enumerate(data.classes)}
    with ExitStack() as stack:
        plain = PlainSource(network, data.views.pixels, mean, std, processes.device)
        source: Source = plain
        if config.cache and not config.augment and network.has_frozen_trunk:
            reporter.begin("frozen trunk", len(data.samples))
            cached = CachedSource(
                plain,
                len(data.samples),
                config.out / "cache",
                config.batch,
                processes,
                reporter.advance,
            )
            stack.callback(cached.close)
            source = cached
        epochs = Epochs(
            network,
            source,
            np.array([place[str(sample.label)] for sample in data.samples], np.int64),
            data.held_out,
            data.classes,
            data.costs,
            build_loss(config.loss, data.classes, counts, data.loss_costs),
            processes,
            folder=config.out,
            settings=_settings(config),
            batch=config.batch,
            seed=config.seed,
            learning_rate=config.learning_rate,
            change=(lambda epoch: augment(config.seed, epoch)) if config.augment else None,
        )
        if config.resume:
            epochs.resume()
        outcome = epochs.run(config.epochs, config.patience, reporter)
    best = outcome.log[outcome.best_epoch - 1]
    run = Run(
        folder=config.out,
        network=config.network,
        classes=data.classes,
        dies=dict(data.dies),
        costs={true: dict(row) for true, row in data.costs.items()},
        size=config.size,
        interpolation=config.interpolation,
        mean=mean,
        std=std,
        unfreeze=config.unfreeze,
        dropout=config.dropout,
        weights=pretrained.weights_name(config.weights or "none"),
        loss=config.loss,
        seed=config.seed,
        data=config.data.resolve(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        epochs=outcome.epoch,
        best_epoch=outcome.best_epoch,
        collapsed=best["collapsed"],
        held_out={
            n.removeprefix("held_out_"): v for n, v in best.items() if n.startswith("held_out_")
        },
        settings=_settings(config),
    )
    if processes.first:
        checkpoints.write_run(run)
        (config.out / checkpoints.RESUME).unlink(missing_ok=True)
        shutil.rmtree(config.out / "cache", ignore_errors=True)
    if run.collapsed:
        reporter.note("COLLAPSED: the run predicts one class for all held-out pictures")
    processes.wait()
    return run


def _prepared(
    config: TrainingConfig, scratch: Path, processes: Processes, reporter: Reporter
) -> _Data:
    """Everything that is read before training; pictures are decoded by the first process alone."""
    dies = CHALLENGE_DIES if config.dies is None else read_dies(config.dies)
    given = None if config.costs is None else read_costs(config.costs)
    loss_given = None if config.loss_costs is None else read_costs(config.loss_costs)
    faults: list[Fault] = []
    samples = read_samples(config.data, "train", dies, given, faults)
    reporter.counts(samples)
    reporter.begin("views", len(samples))
    if not processes.first:
        processes.wait()
    views = make_views(
        config.data,
        samples,
        dies,
        config.size,
        config.interpolation,
        folder=scratch,
        faults=faults,
        advance=reporter.advance,
    )
    classes = require_classes(config.data, samples, given)
    costs = costs_for(given, classes, f"costs {config.costs}")
    loss_costs = (
        costs_for(loss_given, classes, f"costs {config.loss_costs}") if loss_given else costs
    )
    file = config.out / checkpoints.SPLIT
    if processes.first:
        held_out = _split(config, samples, views)
        file.parent.mkdir(parents=True, exist_ok=True)
        splitting.write_split(file, samples, held_out)
        processes.wait()
    held_out = splitting.held_out_by(splitting.read_split(file), samples, file)
    reporter.note(f"{int((~held_out).sum())} to learn from, {int(held_out.sum())} held out: {file}")
    return _Data(samples, classes, dies, costs, loss_costs, views, held_out)


def _split(
    config: TrainingConfig, samples: tuple[Sample, ...], views: ViewStore
) -> NDArray[np.bool_]:
    file = config.split or config.out / checkpoints.SPLIT
    if config.split is not None or file.exists():
        return splitting.held_out_by(splitting.read_split(file), samples, file)
    return splitting.split(samples, splitting.near_groups(samples, views.hashes), config.seed)


def _normalisation(network: Network, data: _Data) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's mean and std for a ResNet; the learning views' own for a CNN."""
    if network.input_channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    rows = np.flatnonzero(~data.held_out)
    histogram = np.zeros(256, np.int64)
    for row in rows:
        histogram += np.bincount(data.views.pixels[row].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = float(histogram @ levels / histogram.sum())
    std = float(np.sqrt(histogram @ (levels - mean) ** 2 / histogram.sum()))
    return (round(mean, 6),), (round(max(std, 1 / 255), 6),)


def _settings(config: TrainingConfig) -> dict[str, Any]:
    """What must be the same to resume, as JSON."""
    aside = {
        "out",
        "epochs",
        "resume",
        "threads",
        "device",
        "cache",
        "cache_folder",
        "patience",
        "split",
    }
    return {
        name: str(value)
        if isinstance(value, Path)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in vars(config).items()
        if name not in aside
    }
