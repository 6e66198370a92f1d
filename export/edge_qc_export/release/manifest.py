"""The settings of an export, and the manifest made from a run, its fit and its calibration."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from edge_qc import __version__
from edge_qc.bundle.dies import Die
from edge_qc.bundle.manifest import (
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
from edge_qc.errors import DataError, UsageError
from edge_qc.inspection.decision import least_p_to_pass
from edge_qc.parts import DRIFT, GOOD, Disposition
from edge_qc_export.figures.calibration import Combine, calibrate_drift, fit_temperature
from edge_qc_export.graph import OPSET
from edge_qc_export.learn.checkpoints import Run
from edge_qc_export.learn.run_views import LabelledViews
from edge_qc_export.release.fitting import Answers, FitSettings, Fitted

_LATER = FileEntry(sha256="0" * 64, size=0)


@dataclass(frozen=True, slots=True)
class ReleaseSettings:
    """The settings of an export, beside the run.

    fp16: the body in half, where it passes the gate. fp32_nodes: layers that stay in FP32 all the
    same. batch: views that the graph takes at once. combine, alpha, prior,
    assumed_auroc: see ``DriftCalibration``. version: None takes the run's creation time in seconds.
    name: None takes the run folder's. sign: a private key's file. preflight: NVIDIA's compiler has
    to take the graph (``edge_qc_export.preflight``).
    """

    fit: FitSettings = field(default_factory=FitSettings)
    fp16: bool = False
    fp32_nodes: tuple[str, ...] = ()
    batch: int = 1
    combine: Combine = "fisher"
    alpha: float = 0.01
    prior: float = 0.01
    assumed_auroc: float = 0.9
    policy: Literal["threshold", "expected-cost"] = "expected-cost"
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


def _learned_dies(run: Run, learnt: LabelledViews, held_out: LabelledViews) -> dict[str, Die]:
    """The dies with a training view, each with the sizes of its frames; without them where no
    camera took the pictures as they are, since there are more sizes than cameras have."""
    sizes: dict[str, set[tuple[int, int]]] = {}
    for views in (learnt, held_out):
        for die, size in zip(views.dies, views.frame_sizes, strict=True):
            sizes.setdefault(die, set()).add(size)
    return {
        name: die.model_copy(
            update={
                "frame_sizes": tuple(sorted(sizes[name]))
                if len(sizes[name]) <= _CAMERA_SIZES
                else None
            }
        )
        for name, die in run.dies.items()
        if name in set(learnt.dies)
    }


def manifest_from_run(
    run: Run,
    settings: ReleaseSettings,
    fitted: Fitted,
    levels: tuple[str, ...],
    learnt: LabelledViews,
    held_out: LabelledViews,
    answers: Answers,
) -> Manifest:
    """The manifest in FP32, calibrated on the held-out views; its files are still to be filled in.

    levels: the network's. learnt: a die of which it holds no view is unknown to the bundle. Raises
    DataError if the held-out views do not suffice, UsageError if no part could ever pass.
    """
    if GOOD not in run.classes:
        raise DataError(f"run {run.folder}: no class {GOOD}, only {', '.join(run.classes)}")
    version = version_from_time(run.created) if settings.version is None else settings.version
    if version <= 0:
        raise UsageError(f"version {version}: wanted a number above 0")
    labels = (*run.classes, DRIFT)
    layout = fitted.padim.layout
    dispositions = dict.fromkeys(run.classes, Disposition.REJECT)
    dispositions |= {GOOD: Disposition.PASS, DRIFT: Disposition.REVIEW}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        version=version,
        name=settings.name or run.folder.resolve().name[:NAME_LIMIT],
        created=run.created,
        producer=f"edge-qc-export {__version__}",
        network=run.network,
        classes=run.classes,
        dies=_learned_dies(run, learnt, held_out),
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
            fit=settings.fit.fit,
            score=settings.fit.score,
        ),
        temperature=fit_temperature(answers.logits, held_out.class_indices(run.classes)),
        drift=calibrate_drift(
            answers.drift,
            answers.embedding_distance,
            held_out.dies,
            combine=settings.combine,
            alpha=settings.alpha,
            prior=settings.prior,
            assumed_auroc=settings.assumed_auroc,
        ),
        decision=DecisionRule(
            policy=settings.policy,
            review_margin=settings.review_margin,
            dispositions=dispositions,
        ),
        costs={true: {name: run.costs[true][name] for name in labels} for true in labels},
        tolerances=_tolerances(answers),
        files={MODEL: _LATER, GOLDEN: _LATER},
    )
    if least_p_to_pass(manifest) is None:
        raise UsageError(
            f"prior {settings.prior:g} at an AUROC of {settings.assumed_auroc:g}: by these costs "
            f"no view could be called {GOOD}, however ordinary. Say that drift is rarer (--prior), "
            "or is detected better (--assumed-auroc)"
        )
    return manifest


def _tolerances(held_out: Answers) -> Tolerances:
    """Room for another order of summation and for TF32, far below what moves a verdict."""
    largest = float(np.abs(held_out.logits).max())
    return Tolerances(logits=max(0.02, 1e-3 * largest), drift=0.02, embedding_distance=0.02)
