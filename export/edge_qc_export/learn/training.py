"""Training from a data set to a run folder: ``train(TrainingConfig(...)) -> Run``.

Everything is put together here: samples, costs, views, split, network, loss, the source of what
the learning part sees. The epochs themselves are in ``epochs``, the run folder in ``checkpoints``.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections import Counter
from contextlib import ExitStack, nullcontext
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from edge_qc.bundle.alignment import ALIGNMENT, alignment_bytes
from edge_qc.errors import EdgeQCError, UsageError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.learn import checkpoints, pretrained
from edge_qc_export.learn.augmentation import augment
from edge_qc_export.learn.checkpoints import Run, load_run
from edge_qc_export.learn.configuration import TrainingConfig
from edge_qc_export.learn.epochs import Epochs
from edge_qc_export.learn.losses import build_loss
from edge_qc_export.learn.network import Network, trunk_learns
from edge_qc_export.learn.networks import DEFAULT_NETWORK, build_network
from edge_qc_export.learn.preparation import TrainingData, normalisation, prepare
from edge_qc_export.learn.processes import Processes, joined_processes
from edge_qc_export.learn.resuming import (
    Outcome,
    claimed,
    require_no_more_epochs,
    require_same_settings,
)
from edge_qc_export.learn.trunk_cache import CachedSource, PlainSource, Source
from edge_qc_export.progress import Reporter
from edge_qc_export.whole_file import write_whole

__all__ = ["Reporter", "Run", "TrainingConfig", "load_run", "train"]


def train(config: TrainingConfig, reporter: Reporter | None = None) -> Run:
    """Train and leave a run folder; returns its facts.

    Under torchrun every process calls this with the same configuration; the first one writes.
    Raises UsageError for a call that cannot be, DataError with all faults of the data, EdgeQCError
    where training itself fails or is interrupted (``resume`` then goes on after the last epoch).
    """
    reporter = reporter or Reporter()
    config = config.checked()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with joined_processes(config.device) as processes:
        if not processes.first:
            reporter = Reporter()
        try:
            with claimed(config.out) if processes.first else nullcontext():
                # Once more: another training may have ended there meanwhile.
                return _train(config.checked(), processes, reporter)
        except KeyboardInterrupt as error:
            raise EdgeQCError(
                f"stopped; the epochs that were finished are whole in {config.out}. "
                "Call again with --resume to go on"
            ) from error


def _train(config: TrainingConfig, processes: Processes, reporter: Reporter) -> Run:
    if config.resume and (config.out / checkpoints.RUN).exists():
        done = load_run(config.out)
        asked = config.learning_of(len(done.classes)).fixed_settings()
        require_same_settings(config.out / checkpoints.RUN, done.settings, asked)
        require_no_more_epochs(done, config.epochs, config.patience)
        reporter.note(f"{config.out} is done already")
        return done
    pretrained.require_weights(config.network, config.weights or "none")
    data = prepare(config, processes, reporter)
    config = config.learning_of(len(data.classes))
    torch.manual_seed(config.seed)
    network = build_network(
        config.network,
        len(data.classes),
        config.view_size,
        unfreeze=config.unfreeze,
        dropout=config.dropout,
        weights=config.weights or "none",
    ).to(processes.device)
    if processes.device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)
    alone = len(data.classes) == 1
    if alone and trunk_learns(network):
        raise UsageError(
            f"data {config.data}: holds only {GOOD} images, which teach a trunk nothing. Take "
            f"{DEFAULT_NETWORK}, or a ResNet with --unfreeze 0, or add images of defects"
        )
    if alone:
        reporter.note(
            f"only {GOOD} images: the bundle will say {GOOD} or {DRIFT}, and nothing bounds how "
            "many bad parts pass"
        )
    if network.has_frozen_trunk and config.weights == "none":
        reporter.note("the frozen layers hold random weights; give trained ones with --weights")
    mean, std = normalisation(network, data)
    with ExitStack() as stack:
        plain = PlainSource(network, data.views.pixels, mean, std, processes.device)
        source: Source = plain
        if config.cache and not config.augment and network.has_frozen_trunk:
            reporter.begin("frozen trunk", len(data.samples))
            source = CachedSource(
                plain,
                len(data.samples),
                _trunk_folder(config),
                config.batch,
                processes,
                reporter.advance,
            )
            stack.callback(source.close)
        epochs = _epochs(config, data, network, source, processes)
        if config.resume:
            epochs.resume()
        outcome = epochs.run(1 if alone else config.epochs, config.patience, reporter)
    run = _run(config, data, outcome, mean, std)
    if processes.first:
        network.load_state_dict(outcome.best_state, strict=False)
        checkpoints.write_tensors(config.out / checkpoints.MODEL, network.state_dict())
        if data.edges:
            write_whole(config.out / ALIGNMENT, alignment_bytes(data.edges), checkpoints.GO_ON)
        checkpoints.write_run(run)
        (config.out / checkpoints.RESUME).unlink(missing_ok=True)
        shutil.rmtree(config.own_cache, ignore_errors=True)
    if run.collapsed:
        reporter.note("COLLAPSED: the run predicts one class for all held-out pictures")
    processes.wait()
    return run


def _trunk_folder(config: TrainingConfig) -> Path:
    """Where the frozen trunk's activations lie: below ``--cache``, which other trainings share, in
    a folder that no other run has, whatever its name. All processes of a training, and the same
    one gone on with, which then takes what a killed one left, find the same."""
    cache = config.cache_folder or config.own_cache
    # The inode tells apart what two machines or containers mount at one path.
    facts = f"{config.out.resolve()} {config.out.stat().st_ino}"
    return cache / f"trunk-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def _epochs(
    config: TrainingConfig,
    data: TrainingData,
    network: Network,
    source: Source,
    processes: Processes,
) -> Epochs:
    counts = Counter(
        str(sample.label)
        for sample, out in zip(data.samples, data.held_out, strict=True)
        if not out
    )
    place = {label: index for index, label in enumerate(data.classes)}
    return Epochs(
        network,
        source,
        np.array([place[str(sample.label)] for sample in data.samples], np.int64),
        data.held_out,
        data.classes,
        data.costs,
        build_loss(config.loss, data.classes, counts, data.loss_costs),
        processes,
        folder=config.out,
        settings=config.fixed_settings(),
        batch=config.batch,
        seed=config.seed,
        learning_rate=config.learning_rate,
        change=(lambda epoch: augment(config.seed, epoch)) if config.augment else None,
    )


def _run(
    config: TrainingConfig,
    data: TrainingData,
    outcome: Outcome,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Run:
    best = outcome.log[outcome.best_epoch - 1]
    figures = [name for name in best if name.startswith("held_out_")]
    return Run(
        folder=config.out,
        schema_version=checkpoints.SCHEMA_VERSION
        if data.alignment is None
        else checkpoints.ALIGNED_VERSION,
        network=config.network,
        classes=data.classes,
        dies=dict(data.dies),
        costs={true: dict(row) for true, row in data.costs.items()},
        size=config.view_size,
        interpolation=config.interpolation,
        alignment=data.alignment,
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
            name.removeprefix("held_out_"): best[name] if math.isfinite(best[name]) else None
            for name in figures
        },
        settings=config.fixed_settings(),
    )
