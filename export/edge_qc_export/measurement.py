"""Composes ``edge-qc evaluate``: what to evaluate, on which images, with which costs."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_qc.bundle.manifest import MANIFEST
from edge_qc.bundle.verification import open_bundle
from edge_qc.errors import EdgeQCError, UsageError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.data.dataset import read_samples
from edge_qc_export.evaluation import (
    Evaluation,
    embedding_drift,
    evaluate,
    judge,
    labelled,
    samples_of_split,
)
from edge_qc_export.figures.costs import Costs, costs_for, read_costs
from edge_qc_export.figures.scoring import Scores
from edge_qc_export.learn.checkpoints import load_run
from edge_qc_export.progress import Reporter


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """An evaluation and its scores: over all pictures, over those of known classes where drift is
    among them, and by die."""

    judged_by: str
    split: str
    evaluation: Evaluation
    scores: Scores
    known: Scores | None
    by_die: dict[str, Scores]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The scores' document with ``judged_by``, ``split``, ``not_judged`` (images that a station
        would not judge), ``known``, ``by_die``, ``notes``."""
        return {
            "judged_by": self.judged_by,
            "split": self.split,
            "not_judged": int((~self.evaluation.judged).sum()),
            **self.scores.as_json(),
            "known": None if self.known is None else self.known.as_json(),
            "by_die": {die: scores.as_json() for die, scores in self.by_die.items()},
            "notes": list(self.notes),
        }

    def write_predictions(self, file: Path) -> None:
        """``filename,Label`` with Drift spelt as the challenge does."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["filename", "Label"])
        for name, label in zip(self.evaluation.filenames, self.evaluation.predicted, strict=True):
            writer.writerow([name, "Drift" if label == DRIFT else label])
        try:
            file.write_text(text.getvalue(), encoding="utf-8")
        except OSError as error:
            raise EdgeQCError(f"{file}: cannot be written ({error.strerror})") from error


def measure(
    folder: Path, data: Path, split: str, costs_file: Path | None, reporter: Reporter
) -> Measurement:
    """Evaluate the run or bundle in ``folder`` on a split of ``data``."""
    given = None if costs_file is None else read_costs(costs_file)
    if (folder / MANIFEST).exists():
        by = "bundle"
        bundle = open_bundle(folder)
        if split != "test":
            raise UsageError(
                f"bundle {folder} does not record which images were {split}. Evaluate its run, or "
                "use --split test"
            )
        classes: tuple[str, ...] = bundle.manifest.classes
        costs: Costs = bundle.manifest.costs
        samples = read_samples(data, "test", bundle.manifest.dies, (*classes, DRIFT))
        samples = labelled(data, samples)
        reporter.begin("judge", len(samples))
        evaluation = judge(bundle, samples, advance=reporter.advance)
    else:
        by = "run"
        run = load_run(folder)
        classes, costs = run.classes, run.costs
        samples = samples_of_split(run, data, split)
        reporter.begin("evaluate", len(samples))
        evaluation = evaluate(run, samples, advance=reporter.advance)
        if DRIFT in evaluation.labels:
            learnt = samples_of_split(run, run.data, "train")
            reporter.begin("features of the training images", len(learnt))
            drift = embedding_drift(evaluate(run, learnt, advance=reporter.advance), evaluation)
            evaluation = replace(evaluation, drift_scores=drift)
    costs = costs if given is None else costs_for(given, classes, f"costs {costs_file}")
    return _measured(by, split, evaluation, costs)


def _measured(by: str, split: str, evaluation: Evaluation, costs: Costs) -> Measurement:
    known = [label != DRIFT for label in evaluation.labels]
    scores = evaluation.score(costs)
    notes = []
    if by == "run" and not all(known):
        notes.append(
            "a run's classifier never predicts Drift, so all drift images count as errors. A "
            "bundle's verdicts include Drift; 'known' leaves drift images out"
        )
    count, lost = len(evaluation.judged), int((~evaluation.judged).sum())
    if lost and by == "bundle":
        notes.append(
            f"{lost} of {count} images are not judged, as at a station, and count as Drift here; "
            f"the first: {evaluation.why}"
        )
    elif lost:
        notes.append(
            f"{lost} of {count} parts were not found within the bounds of the alignment: a station "
            "does not judge them; here they were cut where the die table says"
        )
    waiting = sum(name == GOOD for name in evaluation.predicted) - int(evaluation.passed.sum())
    if waiting:
        notes.append(
            f"{waiting} images are called {GOOD} and do not pass: by the bundle's review margin "
            "they wait for a person. Escapes and overkill go by what images are called"
        )
    if scores.collapsed:
        notes.append("COLLAPSED: all images get one label, whatever the PWA")
    return Measurement(
        judged_by=by,
        split=split,
        evaluation=evaluation,
        scores=scores,
        known=None if all(known) or not any(known) else evaluation.score(costs, known),
        by_die={
            die: evaluation.score(costs, [other == die for other in evaluation.dies])
            for die in sorted(set(evaluation.dies))
        },
        notes=tuple(notes),
    )
