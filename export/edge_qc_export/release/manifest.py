"""The settings of an export, and the manifest made of a run and its cross-fitted scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_qc import __version__
from edge_qc.bundle.alignment import ALIGNMENT, Alignment
from edge_qc.bundle.calibration import GateCalibration
from edge_qc.bundle.dies import Die
from edge_qc.bundle.manifest import (
    ALIGNED_VERSION,
    GOLDEN,
    MODEL,
    NAME_LIMIT,
    SCHEMA_VERSION,
    DecisionRule,
    FileEntry,
    InputSpec,
    Manifest,
    PaDiMSpec,
    Tolerances,
)
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD, Disposition
from edge_qc_export.drift.whitening import LARGEST
from edge_qc_export.figures.calibration import Combine, calibrate_drift, fit_temperature
from edge_qc_export.figures.exact import CONFIDENCE
from edge_qc_export.gate.another_day import document, foretell
from edge_qc_export.gate.bound import bound_of
from edge_qc_export.gate.calibration import WEIGHTS, GateFit, fit_gate
from edge_qc_export.gate.head import NEVER
from edge_qc_export.gate.held import Held, parts_at_the_threshold
from edge_qc_export.gate.left_out import LeftOut, leave_each_out, told_apart
from edge_qc_export.gate.mix import learned_shares, line_mix
from edge_qc_export.gate.threshold import Wish
from edge_qc_export.graph import OPSET
from edge_qc_export.learn.checkpoints import Run
from edge_qc_export.learn.run_views import LabelledViews
from edge_qc_export.packing.bundle_folder import require_version
from edge_qc_export.release.fitting import Answers, CrossFitted, FitSettings, Fitted
from edge_qc_export.release.named_parts import Doubt, doubtful_labels
from edge_qc_export.release.rule import verdicts_from_answers

_LATER = FileEntry(sha256="0" * 64, size=0)


@dataclass(frozen=True, slots=True)
class ReleaseSettings:
    """The settings of an export, beside the run.

    fp16: the body in half, where it changes hardly a decision. fp32_nodes: layers that stay in FP32
    all the same. batch: views that the graph takes at once. max_escape, confidence: at most this
    share of bad parts passes, with this confidence. mix: the line's shares of labels, where they
    are known. combine, prior: see ``DriftCalibration``. alpha: the share of known parts called
    drift at the threshold, and of GOOD parts stopped if there is no defect. assumed_auroc: how
    well drift stands apart, if no defect is there to measure it by. policy: None takes
    ``expected-cost``, and ``threshold`` if there is no defect. version: None takes the run's
    creation time in seconds. name: None takes the run folder's. sign: a private key's file.
    preflight: NVIDIA's compiler has to take the graph (``edge_qc_export.preflight``).
    """

    fit: FitSettings = field(default_factory=FitSettings)
    fp16: bool = False
    fp32_nodes: tuple[str, ...] = ()
    batch: int = 1
    max_escape: float = 0.01
    confidence: float = CONFIDENCE
    mix: Mapping[str, float] = field(default_factory=dict)
    combine: Combine = "fisher"
    alpha: float = 0.01
    prior: float = 0.01
    assumed_auroc: float = 0.9
    policy: Literal["threshold", "expected-cost"] | None = None
    review_margin: float = 0.0
    version: int | None = None
    name: str | None = None
    sign: Path | None = None
    preflight: bool = False


def version_from_time(created: str) -> int:
    """A run's creation time as whole seconds: grows from run to run."""
    try:
        return int(datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp())
    except ValueError as error:
        raise DataError(f"run: created {created!r} is not an RFC 3339 time") from error


_CAMERA_SIZES = 16
"""Of more sizes than this, pictures were cut by somebody, and a new size says nothing."""


def learned_dies(run: Run, views: LabelledViews) -> dict[str, Die]:
    """The dies that a GOOD image shows, each with the sizes of its frames; without them where no
    camera took the pictures as they are, since there are more sizes than cameras have."""
    sizes: dict[str, set[tuple[int, int]]] = {}
    for die, size in zip(views.dies, views.frame_sizes, strict=True):
        sizes.setdefault(die, set()).add(size)
    shown = {die for die, label in zip(views.dies, views.labels, strict=True) if label == GOOD}
    return {
        name: die.model_copy(
            update={
                "frame_sizes": tuple(sorted(sizes[name]))
                if len(sizes[name]) <= _CAMERA_SIZES
                else None
            }
        )
        for name, die in run.dies.items()
        if name in shown
    }


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """The manifest in FP32, whose files are still to be filled in, and what it was made from.

    left_out: by defect, as if never seen. another_day: what is foretold
    of it (``gate.another_day.document``). good_passed: the share of GOOD parts that the whole rule
    passes. held, doubts: see ``named_parts``.
    """

    manifest: Manifest
    gate: GateFit
    left_out: dict[str, LeftOut]
    another_day: Mapping[str, Any]
    good_passed: float
    held: list[Held]
    doubts: list[Doubt]


def manifest_from_run(
    run: Run,
    settings: ReleaseSettings,
    fitted: Fitted,
    cross: CrossFitted,
    sessions: tuple[str, ...],
    levels: tuple[str, ...],
    dies: Mapping[str, Die],
) -> Calibrated:
    """Calibrate on the cross-fitted scores of all labelled parts.

    sessions: of each part, or none if there are not several. levels: the network's. dies: those
    that are known to the bundle. Raises DataError where the parts do not suffice, UsageError for
    settings that do not go with them.
    """
    parts = cross.parts
    if GOOD not in run.classes:
        raise DataError(f"run {run.folder}: no class {GOOD}, only {', '.join(run.classes)}")
    version = version_from_time(run.created) if settings.version is None else settings.version
    require_version(version)
    labels = (*run.classes, DRIFT)
    layout = fitted.padim.layout
    dispositions = dict.fromkeys(run.classes, Disposition.REJECT)
    dispositions |= {GOOD: Disposition.PASS, DRIFT: Disposition.REVIEW}
    learned = learned_shares(parts.labels)
    mix = line_mix(settings.mix, learned, settings.prior)
    wish = Wish(settings.max_escape, settings.confidence, settings.alpha)
    gate = fit_gate(cross.scores, wish)
    left_out = leave_each_out(parts, wish, directions=settings.fit.directions, start=fitted.head)
    has_defects = len(run.classes) > 1
    manifest = Manifest(
        schema_version=SCHEMA_VERSION if run.alignment is None else ALIGNED_VERSION,
        version=version,
        name=settings.name or run.folder.resolve().name[:NAME_LIMIT],
        created=run.created,
        producer=f"edge-qc-export {__version__}",
        network=run.network,
        classes=run.classes,
        dies=dies,
        alignment=_alignment(run, dies),
        input=InputSpec(
            height=run.size[0],
            width=run.size[1],
            batch=settings.batch,
            interpolation=run.interpolation,
            mean=run.mean,
            std=run.std,
        ),
        precision="fp32",
        opset=OPSET,
        padim=PaDiMSpec(
            layers=levels,
            channels=layout.width,
            grid=layout.grid,
            fit="good",
            score=settings.fit.score,
            largest=LARGEST if settings.fit.score == "largest" else None,
        ),
        temperature=_temperature(cross) if has_defects else 1.0,
        gate=GateCalibration(
            witnesses=gate.tails,
            weights={name: WEIGHTS[name] for name in gate.tails},
            threshold=gate.threshold,
            mix=mix,
            learned=learned,
            evidence=gate.evidence,
        ),
        drift=calibrate_drift(
            cross.scores.padim,
            cross.scores.embedding_distance,
            parts.dies,
            combine=settings.combine,
            alpha=settings.alpha,
            prior=settings.prior,
            assumed_auroc=told_apart(left_out, settings.assumed_auroc),
        ),
        decision=DecisionRule(
            policy=settings.policy or ("expected-cost" if has_defects else "threshold"),
            review_margin=settings.review_margin,
            dispositions=dispositions,
        ),
        costs={true: {name: run.costs[true][name] for name in labels} for true in labels},
        tolerances=_tolerances(cross.answers()),
        files=dict.fromkeys(
            (MODEL, GOLDEN, *((ALIGNMENT,) if run.alignment is not None else ())), _LATER
        ),
    )
    good_passed = share_passed(manifest, cross)
    unseen = {name: one.passed / one.images for name, one in left_out.items()}
    bound = bound_of(cross.scores, gate.open, unseen, wish, good_passed=good_passed)
    assert manifest.gate is not None
    with_bound = manifest.gate.model_copy(update={"bound": bound})
    return Calibrated(
        manifest=manifest.model_copy(update={"gate": with_bound}),
        gate=gate,
        left_out=left_out,
        another_day=document(
            None
            if cross.within is None
            else foretell((cross.scores, parts.folds), cross.within, sessions, wish),
            several=cross.within is not None,
        ),
        good_passed=good_passed,
        held=parts_at_the_threshold(parts, gate.choice),
        doubts=doubtful_labels(manifest, cross),
    )


def _alignment(run: Run, dies: Mapping[str, Die]) -> Alignment | None:
    """The run's, of the dies that the bundle knows."""
    if run.alignment is None:
        return None
    known = {name: run.alignment.dies[name] for name in dies}
    return run.alignment.model_copy(update={"dies": known})


def share_passed(manifest: Manifest, cross: CrossFitted) -> float:
    """The share of labelled GOOD parts that the whole rule passes, by their cross-fitted scores;
    of those that the trunk had not learned from, if there are any."""
    parts = cross.parts
    fresh = parts.good & ~parts.seen
    rows = np.flatnonzero(fresh if fresh.any() else parts.good)
    dies = [parts.dies[row] for row in rows]
    verdicts = verdicts_from_answers(manifest, dies, cross.answers(rows))
    return sum(one.disposition is Disposition.PASS for one in verdicts) / len(verdicts)


def _temperature(cross: CrossFitted) -> float:
    """Of the defects among themselves, by cross-fitted logits."""
    parts = cross.parts
    defects = [index for index, name in enumerate(parts.classes) if name != GOOD]
    place = {parts.classes[index]: row for row, index in enumerate(defects)}
    bad = np.flatnonzero(~parts.good)
    truth = np.array([place[parts.labels[row]] for row in bad])
    return fit_temperature(cross.scores.logits[bad][:, defects], truth) if len(defects) > 1 else 1.0


def _tolerances(held_out: Answers) -> Tolerances:
    """Room for another order of summation and for TF32, far below what moves a verdict."""
    within = np.abs(held_out.logits[held_out.logits > -NEVER / 2])
    largest = float(within.max()) if len(within) else 1.0
    return Tolerances(logits=max(0.02, 1e-3 * largest), drift=0.02, embedding_distance=0.02)
