"""From a training run to a bundle: fit, calibrate, export, prove, write.

``release`` is the one composition of the workstation's second half; each step lives in its own
module. The same run and settings give the same bytes: times come from the run, and nothing says
where it was made.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from edge_qc import __version__
from edge_qc.bundle import (
    GOLDEN,
    MODEL,
    SCHEMA_VERSION,
    Bundle,
    DecisionRule,
    DriftCalibration,
    FileEntry,
    InputSpec,
    Manifest,
    PaDiMSpec,
    Tolerances,
)
from edge_qc.decision import label_of
from edge_qc.engine import open_engine
from edge_qc.engine.acceptance import AcceptanceReport, accept
from edge_qc.errors import DataError, UsageError
from edge_qc.parts import DRIFT, GOOD, Disposition
from edge_qc_export.bundle_folder import require_free, write_bundle
from edge_qc_export.calibration import calibrate_drift, fit_temperature
from edge_qc_export.checkpoints import Run
from edge_qc_export.fitting import Answers, FitSettings, Fitted, answers, fit_views
from edge_qc_export.golden import choose_golden, golden_bytes
from edge_qc_export.graph import OPSET, Features, OnePass, onnx_from_module
from edge_qc_export.progress import Reporter
from edge_qc_export.run_views import RunViews, views_of_run
from edge_qc_export.signing import read_private_key

REPORT = "report/export.json"

_NO_FILE = FileEntry(sha256="0" * 64, size=0)


@dataclass(frozen=True, slots=True)
class ReleaseSettings:
    """What an export is told, beside the run.

    batch: views that the graph takes at once. combine, alpha, prior: see ``DriftCalibration``.
    version: None takes the run's creation time in seconds. name: None takes the run folder's.
    sign: a private key's file.
    """

    fit: FitSettings = field(default_factory=FitSettings)
    batch: int = 1
    combine: Literal["padim", "embedding", "fisher", "max"] = "fisher"
    alpha: float = 0.01
    prior: float = 0.05
    policy: Literal["threshold", "expected-cost"] = "expected-cost"
    review_margin: float = 0.0
    version: int | None = None
    name: str | None = None
    sign: Path | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """A bundle that was written, accepted by ONNX Runtime, and what its making saw."""

    bundle: Bundle
    fitted: Fitted
    acceptance: AcceptanceReport


def release(
    run: Run, out: Path, settings: ReleaseSettings, reporter: Reporter | None = None
) -> Released:
    """Write the bundle folder ``out`` from a run.

    Raises UsageError for settings that do not go with the run, DataError for data that do not
    suffice, AcceptanceError where ONNX Runtime does not reproduce torch.
    """
    reporter = reporter or Reporter()
    require_free(out)
    key = None if settings.sign is None else read_private_key(settings.sign)
    network = run.load_network()
    views = views_of_run(run, reporter)
    features = Features(network, run.mean, run.std).eval()
    reporter.begin("fit", len(views.train))
    fitted = fit_views(features, views.train, run.classes, settings.fit, reporter.advance)
    module = OnePass(network, features, fitted.padim, fitted.embedding, settings.fit.score).eval()
    reporter.begin("calibrate", len(views.held_out))
    held_out = answers(module, views.held_out.pixels, advance=reporter.advance)
    labels = views.held_out.class_indices(run.classes)
    manifest = _manifest(
        run,
        settings,
        fitted,
        network.level_names,
        temperature=fit_temperature(held_out.logits, labels),
        drift=calibrate_drift(
            held_out.drift,
            held_out.embedding_distance,
            views.held_out.dies,
            combine=settings.combine,
            alpha=settings.alpha,
            prior=settings.prior,
        ),
        tolerances=_tolerances(held_out),
    )
    reporter.note("writing the graph, and proving it in ONNX Runtime")
    graph = onnx_from_module(module, run.size, settings.batch)
    golden = choose_golden(
        Bundle(out, "", manifest, signed=False),
        module,
        [part for part in (views.held_out, views.train, views.test) if part is not None],
    )
    reports: list[AcceptanceReport] = []
    bundle = write_bundle(
        out,
        manifest,
        {
            MODEL: graph.SerializeToString(deterministic=True),
            GOLDEN: golden_bytes(golden),
            REPORT: _report(run, settings, fitted, views, held_out, manifest),
        },
        key,
        lambda written: reports.append(_prove(written)),
    )
    return Released(bundle, fitted, reports[0])


def version_from_time(created: str) -> int:
    """A run's creation time as whole seconds: grows from run to run."""
    try:
        return int(datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp())
    except ValueError as error:
        raise DataError(f"run: created {created!r} is not an RFC 3339 time") from error


def _prove(bundle: Bundle) -> AcceptanceReport:
    engine = open_engine(bundle, "onnxruntime", threads=2)
    try:
        return accept(bundle, engine, label_of)
    finally:
        engine.close()


def _tolerances(held_out: Answers) -> Tolerances:
    """Room for another order of summation and for TF32, far below what moves a verdict."""
    largest = float(np.abs(held_out.logits).max())
    return Tolerances(logits=max(0.02, 1e-3 * largest), drift=0.02, embedding_distance=0.02)


def _manifest(
    run: Run,
    settings: ReleaseSettings,
    fitted: Fitted,
    levels: tuple[str, ...],
    *,
    temperature: float,
    drift: DriftCalibration,
    tolerances: Tolerances,
) -> Manifest:
    labels = (*run.classes, DRIFT)
    if GOOD not in run.classes:
        raise DataError(f"run {run.folder}: no class {GOOD}, only {', '.join(run.classes)}")
    version = version_from_time(run.created) if settings.version is None else settings.version
    if version <= 0:
        raise UsageError(f"version {version}: wanted a number above 0")
    layout = fitted.padim.layout
    dispositions = dict.fromkeys(run.classes, Disposition.REJECT)
    dispositions |= {GOOD: Disposition.PASS, DRIFT: Disposition.REVIEW}
    return Manifest(
        schema_version=SCHEMA_VERSION,
        version=version,
        name=settings.name or run.folder.resolve().name[:100],
        created=run.created,
        producer=f"edge-qc-export {__version__}",
        network=run.network,
        classes=run.classes,
        dies=run.dies,
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
        temperature=temperature,
        drift=drift,
        decision=DecisionRule(
            policy=settings.policy,
            review_margin=settings.review_margin,
            dispositions=dispositions,
        ),
        costs={true: {name: run.costs[true][name] for name in labels} for true in labels},
        tolerances=tolerances,
        files={MODEL: _NO_FILE, GOLDEN: _NO_FILE},
    )


def _report(
    run: Run,
    settings: ReleaseSettings,
    fitted: Fitted,
    views: RunViews,
    held_out: Answers,
    manifest: Manifest,
) -> bytes:
    def summary(scores: np.ndarray[tuple[int], np.dtype[np.float32]]) -> dict[str, float]:
        return {
            name: float(np.quantile(scores, share))
            for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
        }

    parts = {"train": views.train, "held_out": views.held_out, "test": views.test}
    document = {
        "images": {
            name: dict(sorted(Counter(part.labels).items()))
            for name, part in parts.items()
            if part is not None
        },
        "padim": {
            "fit": settings.fit.fit,
            "channels": fitted.padim.layout.width,
            "stages": [
                {"grid": stage.grid, "channels": stage.width}
                for stage in fitted.padim.layout.stages
            ],
            "shrinkage": fitted.padim.shrinkage,
            "parameter_bytes": fitted.padim.bytes,
        },
        "embedding": {
            "features": len(fitted.embedding.inverse_scale),
            "directions": fitted.embedding.weights.shape[1],
            "shrinkage": fitted.embedding.shrinkage,
        },
        "temperature": manifest.temperature,
        "held_out_scores": {
            "padim": summary(held_out.drift),
            "embedding": summary(held_out.embedding_distance),
        },
        "held_out_accuracy": float(
            np.mean(held_out.logits.argmax(axis=1) == views.held_out.class_indices(run.classes))
        ),
    }
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()
