"""What a bundle says to people about its making: ``report/export.json``. Numbers only, no times."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.calibration import sentences
from edge_qc.bundle.manifest import Manifest
from edge_qc_export.gate.threshold import traded
from edge_qc_export.learn.run_views import LabelledViews, RunViews
from edge_qc_export.release.fitting import Answers, CrossFitted, Fitted
from edge_qc_export.release.manifest import Calibrated
from edge_qc_export.release.precision_check import Half
from edge_qc_export.release.rule import compare_policies, drift_auroc

REPORT = "report/export.json"


def report_bytes(
    manifest: Manifest,
    calibrated: Calibrated,
    fitted: Fitted,
    views: RunViews,
    cross: CrossFitted,
    test: Answers | None,
    half: Half | None,
    graph: Mapping[str, Any],
) -> bytes:
    """The report. test: FP32's answers to those views. graph: the facts about the ONNX itself
    (``preflight.report_of``)."""
    parts = {"labelled": views.known, "test": views.test}
    document = {
        "images": {
            name: dict(sorted(Counter(part.labels).items()))
            for name, part in parts.items()
            if part is not None
        },
        "gate": {
            "bound": None if manifest.gate is None else sentences(manifest.gate.bound),
            "good_passed": calibrated.good_passed,
            "left_out": {
                name: dataclasses.asdict(one) for name, one in calibrated.left_out.items()
            },
            "at_the_threshold": [one.as_json() for one in calibrated.held],
            "doubtful_labels": [one.as_json() for one in calibrated.doubts],
            "another_day": calibrated.another_day,
            "trade_off": None
            if calibrated.gate.choice is None
            else traded(calibrated.gate.scores, cross.parts.good, calibrated.gate.open),
        },
        "padim": {
            "fit": manifest.padim.fit,
            "stages": [
                {"grid": list(stage.grid), "channels": stage.width}
                for stage in fitted.padim.layout.stages
            ],
            "shrinkage": fitted.padim.shrinkage,
            "parameter_bytes": fitted.padim.bytes,
            "fit_bytes": fitted.memory,
        },
        "embedding": {
            "features": len(fitted.embedding.inverse_scale),
            "directions": fitted.embedding.weights.shape[1],
            "shrinkage": fitted.embedding.shrinkage,
        },
        "temperature": manifest.temperature,
        "cross_fitted_scores": {
            "padim": _summary(cross.scores.padim),
            "embedding": _summary(cross.scores.embedding_distance),
            "good": _summary(cross.scores.good_distance),
        },
        "policies": {
            name: compare_policies(manifest, part.labels, part.dies, answers)
            for name, part, answers in _measured(views, cross, test)
        },
        "drift_auroc": None
        if views.test is None or test is None
        else drift_auroc(manifest, views.test.labels, views.test.dies, test),
        "graph": dict(graph),
        "fp16": None
        if half is None
        else {
            **dataclasses.asdict(half.report),
            "islands": list(half.plan.islands),
            "first_out_of_range": None if half.plan.first is None else list(half.plan.first),
        },
    }
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def _measured(
    views: RunViews, cross: CrossFitted, test: Answers | None
) -> list[tuple[str, LabelledViews, Answers]]:
    measured = [("cross_fitted", views.known, cross.answers())]
    if views.test is not None and test is not None:
        measured.append(("test", views.test, test))
    return measured


def _summary(scores: NDArray[np.float64]) -> dict[str, Any]:
    shares = {"median": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: float(np.quantile(scores, share)) for name, share in shares.items()}
