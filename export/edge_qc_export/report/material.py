"""Gathers what a report shows from a run, a data set and optionally a bundle; draws nothing."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.calibration import ANY_DIE
from edge_qc.bundle.verification import Bundle, open_bundle
from edge_qc.errors import DataError, UsageError
from edge_qc.inspection.findings import threshold_at
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import Sample, truth_is_known
from edge_qc_export.evaluation import (
    Evaluation,
    embedding_drift,
    evaluate,
    judge,
    samples_of_split,
)
from edge_qc_export.figures.calibration import tail_from_scores
from edge_qc_export.figures.costs import Costs
from edge_qc_export.figures.scoring import Scores
from edge_qc_export.learn.checkpoints import LOG, Run, load_run
from edge_qc_export.progress import Reporter

_ALPHA = 0.01
"""The share of known parts above the threshold, unless a bundle sets another."""

_USE = {
    "threshold": "Over the threshold the station's label is Drift.",
    "expected-cost": "The station weighs the score against the costs, not against the threshold.",
}


@dataclass(frozen=True, slots=True, eq=False)
class DriftPanel:
    """Drift scores of known and of drift pictures, and the threshold if there is one."""

    title: str
    known: NDArray[np.float64]
    drift: NDArray[np.float64]
    threshold: float | None


@dataclass(frozen=True, slots=True, eq=False)
class DriftMaterial:
    """score: what the panels' axis shows; source: who gave the scores; alpha: the share of known
    parts that the threshold lets be called drift; use: what the decision makes of it."""

    score: str
    source: str
    alpha: float
    use: str
    panels: tuple[DriftPanel, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The verdicts of a station with the bundle on the same images. costs: the bundle's, in the
    order of its labels."""

    bundle: Bundle
    costs: Costs
    evaluation: Evaluation
    scores: Scores


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """log: the rows of ``log.csv``. samples and evaluation: the pictures of ``split`` and what the
    run's classifier says of them. known: scores over pictures of known classes; whole: over all,
    None if there is no drift among them. by_die: of known classes. learnt: how many pictures of
    each class were trained on, empty if the training part is not at hand."""

    run: Run
    data: Path
    split: str
    log: tuple[dict[str, float], ...]
    samples: tuple[Sample, ...]
    evaluation: Evaluation
    known: Scores
    whole: Scores | None
    by_die: dict[str, Scores]
    learnt: Counter[str]
    drift: DriftMaterial | None
    judged: Judged | None
    notes: tuple[str, ...]

    @property
    def known_rows(self) -> list[int]:
        """Rows of the evaluation whose truth is a known class."""
        return [i for i, label in enumerate(self.evaluation.labels) if label != DRIFT]


def read_log(run: Run) -> tuple[dict[str, float], ...]:
    """The rows of ``log.csv`` as numbers. Raises DataError if it is damaged."""
    file = run.folder / LOG
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = tuple(
                {name: _number(text) for name, text in row.items() if name}
                for row in csv.DictReader(stream)
            )
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as the log of a training ({error})") from error
    if not rows or not {"train_loss", "held_out_loss", "train_accuracy"} <= set(rows[0]):
        raise DataError(f"{file}: holds no epoch. Train again")
    return rows


def _number(text: str | None) -> float:
    if text in ("True", "False"):
        return float(text == "True")
    return float(text) if text else float("nan")


def gather(
    folder: Path,
    data: Path | None,
    bundle_folder: Path | None,
    reporter: Reporter,
    split: str | None = None,
) -> Material:
    """Everything of a report.

    data: None takes the run's own. split: None takes ``test`` where its truth is known, else
    ``held-out``. Raises DataError for a run, data or bundle at fault, UsageError for a bundle of
    other classes.
    """
    run = load_run(folder)
    log = read_log(run)
    place = data or run.data
    bundle = None if bundle_folder is None else _bundle_for(run, bundle_folder)
    chosen = split or ("test" if truth_is_known(place) else "held-out")
    samples = samples_of_split(run, place, chosen)
    reporter.begin("evaluate", len(samples))
    evaluation = evaluate(run, samples, advance=reporter.advance)
    known = [label != DRIFT for label in evaluation.labels]
    if not any(known):
        raise DataError(f"data {place}: all {len(known)} labelled {chosen} images are drift")
    notes: list[str] = []
    learnt = _learnt(run, place)
    judged = None if bundle is None else _judged(run, bundle, samples, reporter, notes)
    if judged is not None:
        drift = _drift_of_bundle(judged)
    else:
        drift = _drift_of_embedding(run, place, evaluation, learnt, reporter, notes)
    scores = evaluation.score(run.costs, known)
    if scores.collapsed:
        reporter.note("COLLAPSED: the run predicts one class for all images, whatever its PWA")
    return Material(
        run=run,
        data=place,
        split=chosen,
        log=log,
        samples=samples,
        evaluation=evaluation,
        known=scores,
        whole=None if all(known) else evaluation.score(run.costs),
        by_die={
            die: evaluation.score(
                run.costs,
                [is_known and d == die for is_known, d in zip(known, evaluation.dies, strict=True)],
            )
            for die in sorted({d for k, d in zip(known, evaluation.dies, strict=True) if k})
        },
        learnt=Counter(str(sample.label) for sample in learnt),
        drift=drift,
        judged=judged,
        notes=tuple(notes),
    )


def _bundle_for(run: Run, folder: Path) -> Bundle:
    bundle = open_bundle(folder)
    if bundle.manifest.classes != run.classes:
        raise UsageError(
            f"bundle {folder}: knows {', '.join(bundle.manifest.classes)}; the run "
            f"{run.folder} knows {', '.join(run.classes)}. Give the bundle made from this run"
        )
    return bundle


def _learnt(run: Run, data: Path) -> tuple[Sample, ...]:
    """The training images, if ``data`` has the training part."""
    try:
        return samples_of_split(run, data, "train")
    except DataError:
        return ()


def _judged(
    run: Run,
    bundle: Bundle,
    samples: tuple[Sample, ...],
    reporter: Reporter,
    notes: list[str],
) -> Judged:
    if bundle.manifest.created != run.created:
        notes.append(
            f"The bundle was made from another run (of {bundle.manifest.created}, this one is of "
            f"{run.created})."
        )
    reporter.begin("judge", len(samples))
    evaluation = judge(bundle, samples, advance=reporter.advance)
    if lost := int((~evaluation.judged).sum()):
        notes.append(
            f"A station with this bundle does not judge {lost} of the {len(samples)} pictures, "
            f"which count as Drift in its figures. The first: {evaluation.why}"
        )
    manifest = bundle.manifest
    costs = {
        true: {said: manifest.costs[true][said] for said in manifest.labels}
        for true in manifest.labels
    }
    return Judged(bundle, costs, evaluation, evaluation.score(costs))


def _drift_of_bundle(judged: Judged) -> DriftMaterial | None:
    evaluation, calibration = judged.evaluation, judged.bundle.manifest.drift
    scores = evaluation.drift_scores
    if scores is None:
        return None
    tails = calibration.combined
    of_die = {die: die if die in tails else ANY_DIE for die in set(evaluation.dies)}
    panels = []
    for key in sorted(set(of_die.values()), key=lambda name: (name == ANY_DIE, name)):
        rows = [of_die[die] == key for die in evaluation.dies]
        others = "all dies" if set(of_die.values()) == {ANY_DIE} else "other dies"
        title = others if key == ANY_DIE else key
        threshold = threshold_at(tails[key], calibration.alpha)
        panels.append(_panel(title, evaluation, scores, np.array(rows), threshold))
    return DriftMaterial(
        score=f"drift score ({calibration.combine})",
        source="the bundle's engine and calibration",
        alpha=calibration.alpha,
        use=_USE[judged.bundle.manifest.decision.policy],
        panels=tuple(panels),
    )


def _drift_of_embedding(
    run: Run,
    data: Path,
    evaluation: Evaluation,
    learnt: tuple[Sample, ...],
    reporter: Reporter,
    notes: list[str],
) -> DriftMaterial | None:
    """The embedding's witness alone, its threshold at held-out pictures; None if there is no drift
    to find or nothing to fit on."""
    if DRIFT not in evaluation.labels:
        return None
    if not learnt:
        notes.append("No drift scores: the training part is not in the data given.")
        return None
    try:
        held_out = samples_of_split(run, data, "held-out")
        reporter.begin("features of the training images", len(learnt) + len(held_out))
        features = evaluate(run, learnt, advance=reporter.advance)
        calm = embedding_drift(features, evaluate(run, held_out, advance=reporter.advance))
        scores = embedding_drift(features, evaluation)
        threshold = threshold_at(tail_from_scores(calm, "the embedding's distance"), _ALPHA)
    except DataError as error:
        notes.append(f"No threshold of drift: {error}")
        return None
    panel = _panel("all dies", evaluation, scores, np.ones(len(scores), np.bool_), threshold)
    return DriftMaterial(
        score="embedding's distance to the nearest class",
        source="the run's embedding alone; a bundle adds PaDiM",
        alpha=_ALPHA,
        use="A classifier alone does not use it.",
        panels=(panel,),
    )


def _panel(
    title: str,
    evaluation: Evaluation,
    scores: NDArray[np.float64],
    rows: NDArray[np.bool_],
    threshold: float,
) -> DriftPanel:
    odd = np.array([label == DRIFT for label in evaluation.labels])
    return DriftPanel(title, scores[rows & ~odd], scores[rows & odd], threshold)
