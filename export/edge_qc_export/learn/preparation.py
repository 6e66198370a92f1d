"""Everything that is read before training: samples, costs, views, split, normalisation.

All faults of tables and pictures are raised together. Under torchrun the first process decodes the
pictures and writes the split, the others read what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.alignment import Alignment, Edges
from edge_qc.bundle.dies import CHALLENGE_DIES, Die, read_dies
from edge_qc.inspection.alignment import templates_of
from edge_qc.parts import GOOD
from edge_qc_export.data import split_file, splitting
from edge_qc_export.data.dataset import Sample, read_samples, require_classes
from edge_qc_export.data.sessions import session_notes
from edge_qc_export.data.tables import Fault, raise_faults
from edge_qc_export.data.view_store import ViewStore, make_views
from edge_qc_export.figures.calibration import too_few_for_a_bundle
from edge_qc_export.figures.costs import Costs, costs_for, read_costs
from edge_qc_export.learn import checkpoints
from edge_qc_export.learn.alignment import learn_alignment, left_out
from edge_qc_export.learn.configuration import TrainingConfig
from edge_qc_export.learn.network import Network
from edge_qc_export.learn.processes import Processes
from edge_qc_export.progress import Reporter


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """What a training learns from; views and held_out are in the samples' order. alignment, edges:
    what parts are found by, if they are looked for."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    dies: Mapping[str, Die]
    costs: Costs
    loss_costs: Costs
    views: ViewStore
    held_out: NDArray[np.bool_]
    alignment: Alignment | None
    edges: Mapping[str, Edges]


def prepare(config: TrainingConfig, processes: Processes, reporter: Reporter) -> TrainingData:
    """Read everything. Raises DataError with all faults."""
    dies = CHALLENGE_DIES if config.dies is None else read_dies(config.dies)
    given = None if config.costs is None else read_costs(config.costs)
    loss_given = None if config.loss_costs is None else read_costs(config.loss_costs)
    faults: list[Fault] = []
    notes: list[str] = []
    samples = read_samples(config.data, "train", dies, given, faults, notes, config.session)
    for note in notes + session_notes(samples):
        reporter.note(note)
    reporter.counts(samples)
    alignment, edges = _alignment(config, samples, dies, faults, reporter)
    reporter.begin("views", len(samples))
    if not processes.first:
        processes.wait()
    views = make_views(
        config.data,
        samples,
        dies,
        config.view_size,
        config.interpolation,
        templates=templates_of(alignment, edges),
        folder=config.cache_folder or config.own_cache,
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
        held_out = _split(config, samples, views, reporter)
        split_file.write_split(file, samples, held_out)
        processes.wait()
    held_out = split_file.held_out_by(split_file.read_split(file), samples, file)
    if lost := left_out(samples, views.placed, "not learned from"):
        reporter.note(lost)
        samples = tuple(s for s, is_in in zip(samples, views.placed, strict=True) if is_in)
        held_out = held_out[views.placed]
        splitting.require_both_sides(samples, held_out, file)
    if (lacking := too_few_for_a_bundle(sum(s.label == GOOD for s in samples))) is not None:
        reporter.note(lacking)
    reporter.note(f"{int((~held_out).sum())} to learn from, {int(held_out.sum())} held out: {file}")
    return TrainingData(
        samples,
        classes,
        dies,
        costs,
        loss_costs,
        views.of_placed(),
        held_out,
        alignment,
        edges,
    )


def _alignment(
    config: TrainingConfig,
    samples: tuple[Sample, ...],
    dies: Mapping[str, Die],
    faults: Sequence[Fault],
    reporter: Reporter,
) -> tuple[Alignment | None, dict[str, Edges]]:
    """Every process learns the same; faults of the tables come first."""
    if config.align is None:
        return None, {}
    raise_faults(config.data, faults)
    reporter.begin("alignment", len({sample.die for sample in samples}))
    return learn_alignment(samples, dies, config.align, reporter.advance, reporter.note)


def _split(
    config: TrainingConfig, samples: tuple[Sample, ...], views: ViewStore, reporter: Reporter
) -> NDArray[np.bool_]:
    own = config.out / checkpoints.SPLIT
    file = own if config.resume and own.exists() else config.split
    if file is not None:
        held_out = split_file.held_out_by(split_file.read_split(file), samples, file)
        splitting.require_both_sides(samples, held_out, file)
        return held_out
    return splitting.split_of(samples, views.hashes, config.seed, reporter.note)


def normalisation(
    network: Network, data: TrainingData
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel: those of a trunk's published weights; for a CNN those of the views
    to learn."""
    if network.normalisation is not None:
        return network.normalisation
    rows = np.flatnonzero(~data.held_out)
    histogram = np.zeros(256, np.int64)
    for row in rows:
        histogram += np.bincount(data.views.pixels[row].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = float(histogram @ levels / histogram.sum())
    std = float(np.sqrt(histogram @ (levels - mean) ** 2 / histogram.sum()))
    return (round(mean, 6),), (round(max(std, 1 / 255), 6),)
