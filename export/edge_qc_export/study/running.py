"""A study run: every configuration trained and measured on the same pictures."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from edge_qc.errors import DataError, EdgeQCError
from edge_qc_export.evaluation import evaluate
from edge_qc_export.figures import metrics
from edge_qc_export.figures.scoring import score
from edge_qc_export.learn.checkpoints import LOG, SPLIT, Run
from edge_qc_export.learn.networks import TRUNKS, build_network
from edge_qc_export.learn.training import TrainingConfig, train
from edge_qc_export.progress import Reporter
from edge_qc_export.study.configurations import (
    CONFIGURATIONS,
    CONSTANT,
    CONSTANT_REPORT_NOTE,
    CONSTANT_REPORT_PWA,
    Configuration,
    chosen,
    loss_costs,
)
from edge_qc_export.study.ground import CACHE, Ground, lay_ground
from edge_qc_export.study.results import RESULT, Row, Study, read_row, write_text
from edge_qc_export.study.settings import StudySettings


def run_study(settings: StudySettings, reporter: Reporter | None = None) -> Study:
    """Run what is not finished yet, and write the table after every configuration.

    Raises UsageError and DataError before anything is trained where the call, the data or the
    weights are at fault, EdgeQCError where the disk is full or training was stopped. A training
    that fails otherwise becomes a row of its own, and the others go on.
    """
    reporter = reporter or Reporter()
    settings = settings.checked()
    configurations = chosen(settings.only)
    found = [read_row(settings.out / configuration.name) for configuration in CONFIGURATIONS]
    rows = {row.name: row for row in found if row is not None}
    missing = [c for c in configurations if c.name not in rows]
    _try_trainings(settings, missing)
    ground = lay_ground(settings, reporter)
    rows[CONSTANT] = _constant(ground)
    study = _study(settings, ground, rows)
    study.write()
    for configuration in missing:
        reporter.note(f"{configuration.name}: {configuration.title}")
        row = _run(configuration, settings, ground, reporter)
        if row.state:
            reporter.note(f"{row.name}: {row.state}{f': {row.failed}' if row.failed else ''}")
        rows[row.name] = row
        study = _study(settings, ground, rows)
        study.write()
    if not study.failed:
        shutil.rmtree(settings.out / CACHE, ignore_errors=True)
    return study


def _try_trainings(settings: StudySettings, configurations: Sequence[Configuration]) -> None:
    """Look at each training's settings, and build each network once, to report a size, a batch or
    missing weights now and not after hours."""
    for configuration in configurations:
        _training_of(configuration, settings).checked()
    for network in {configuration.network: None for configuration in configurations}:
        build_network(
            network,
            2,
            settings.view_size,
            weights=settings.weights_of(network) or "none",
        )


def _loss_costs_file(configuration: Configuration, settings: StudySettings) -> Path | None:
    if configuration.matrix_order is None:
        return None
    return settings.out / f"loss-costs-{configuration.matrix_order}.json"


def _training_of(configuration: Configuration, settings: StudySettings) -> TrainingConfig:
    return TrainingConfig(
        data=settings.data,
        out=settings.out / configuration.name,
        network=configuration.network,
        epochs=settings.epochs,
        dies=settings.dies,
        costs=settings.costs,
        loss_costs=_loss_costs_file(configuration, settings),
        size=settings.view_size,
        interpolation=settings.interpolation,
        split=settings.out / SPLIT,
        seed=settings.seed,
        loss=configuration.loss,
        unfreeze=configuration.unfreeze,
        dropout=configuration.dropout,
        weights=settings.weights_of(configuration.network),
        batch=settings.batch,
        patience=None,
        cache_folder=settings.out / CACHE,
        resume=True,
        threads=settings.threads,
        device=settings.device,
    )


def _run(
    configuration: Configuration, settings: StudySettings, ground: Ground, reporter: Reporter
) -> Row:
    config = _training_of(configuration, settings)
    folder = config.out
    if configuration.matrix_order is not None and config.loss_costs is not None:
        matrix = loss_costs(configuration.matrix_order, ground.classes)
        write_text(config.loss_costs, json.dumps(matrix, indent=1, ensure_ascii=False) + "\n")
    facts = (
        configuration.name,
        configuration.title,
        configuration.report_pwa,
        configuration.report_note,
    )
    began = time.monotonic()
    try:
        run = train(config, reporter)
    except DataError:
        raise
    except EdgeQCError as error:
        if isinstance(error.__cause__, (KeyboardInterrupt, OSError)):
            raise
        return Row(*facts, failed=str(error))
    # Where an earlier call trained some of the epochs, their own clock is the longer one.
    seconds = max(time.monotonic() - began, _seconds_of_epochs(folder))
    row = _measured(facts, run, round(seconds, 1), ground, settings, reporter)
    write_text(folder / RESULT, json.dumps(asdict(row), indent=1, ensure_ascii=False) + "\n")
    return row


def _measured(
    facts: tuple[str, str, float | None, str],
    run: Run,
    seconds: float,
    ground: Ground,
    settings: StudySettings,
    reporter: Reporter,
) -> Row:
    reporter.begin("measure", len(ground.measured))
    evaluation = evaluate(run, ground.measured, device=settings.device, advance=reporter.advance)
    scores = evaluation.score(ground.costs)
    decided = metrics.least_cost_labels(evaluation.probabilities, ground.costs, run.classes)
    return Row(
        *facts,
        scores=scores.as_json(),
        decided=score(evaluation.labels, decided, ground.costs).as_json(),
        collapsed=scores.collapsed or run.collapsed,
        epochs=run.epochs,
        best_epoch=run.best_epoch,
        seconds=seconds,
    )


def _seconds_of_epochs(folder: Path) -> float:
    with (folder / LOG).open(newline="", encoding="utf-8-sig") as stream:
        return sum(float(row["seconds"]) for row in csv.DictReader(stream))


def _constant(ground: Ground) -> Row:
    """The constant prediction with the least cost on the training part."""
    label = metrics.best_constant([str(s.label) for s in ground.train], ground.costs)
    truth = [str(sample.label) for sample in ground.measured]
    return Row(
        CONSTANT,
        f"constant {label}",
        CONSTANT_REPORT_PWA,
        CONSTANT_REPORT_NOTE,
        scores=score(truth, [label] * len(truth), ground.costs).as_json(),
    )


def _study(settings: StudySettings, ground: Ground, found: Mapping[str, Row]) -> Study:
    order = (CONSTANT, *(configuration.name for configuration in CONFIGURATIONS))
    rows = [found[name] for name in order if name in found]
    counts = Counter(str(sample.label) for sample in ground.train)
    listed = ", ".join(f"{label} {counts[label]}" for label in ground.classes)
    facts = {
        "data": f"{settings.data.name}; {len(ground.train)} training images ({listed})",
        "measured on": ground.measured_text,
        "views": "{} x {} pixels (height x width)".format(*settings.view_size),
        "training": f"{settings.epochs} epochs, batch {settings.batch}, Adam, seed {settings.seed}",
        "weights of the trunks": ", ".join(settings.weights),
        "machine": _machine(settings),
    }
    notes = [
        "PWA has two definitions: the challenge's divides by the matrix's highest cost, the "
        "report's by the cost of the worst answer to each image.",
        "Skill: 1 is perfect, 0 the best constant prediction on the measured images, below 0 worse "
        "than a constant. Escapes: bad parts called GOOD. Overkill: GOOD parts called bad.",
        "Figures use the most probable class, as in the report; the skill at least cost uses the "
        "class with the least expected cost, as a station does.",
        "COLLAPSED: all images get one class, whatever the PWA.",
    ]
    networks = {c.name: c.network for c in CONFIGURATIONS}
    shown = {networks[row.name] for row in rows if row.name in networks} & set(TRUNKS)
    if untaught := sorted(name for name in shown if settings.weights_of(name) == "none"):
        notes.append(
            f"No weights were given for {', '.join(untaught)}: the frozen part of the trunk holds "
            "random numbers and only its last layers learn. These rows show the machinery, not "
            "transfer learning."
        )
    return Study(settings.out, facts, notes, tuple(rows))


def _machine(settings: StudySettings) -> str:
    if settings.device != "cpu" and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{os.cpu_count()} cores, no GPU"
