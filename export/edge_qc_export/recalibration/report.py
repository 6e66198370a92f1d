"""The report of a calibrated bundle: that of its export, with the gate as it was settled."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.calibration import sentences
from edge_qc.bundle.manifest import Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.errors import DataError
from edge_qc_export.gate.held import parts_at_the_threshold
from edge_qc_export.gate.scored import Scored
from edge_qc_export.gate.settling import Settled
from edge_qc_export.gate.threshold import traded

REPORT = "report/export.json"
_OF_THE_EXPORT = ("cross_fitted_scores", "policies", "drift_auroc", "temperature")
"""What the new thresholds make untrue."""


def report_files(
    bundle: Bundle,
    parts: Scored,
    pixels: NDArray[np.uint8],
    settled: Settled,
    manifest: Manifest,
) -> dict[str, bytes]:
    """Contents by name. bundle: the one before; pixels: (m, 1, H, W) of the last m parts.

    A part at the threshold has its picture if it was added now, or the bundle before showed it.
    """
    document = _report_of(bundle)
    told = document.get("gate", {})
    first = len(parts) - len(pixels)
    shown = {
        str(one["image"]): f"report/threshold-{place}.png"
        for place, one in enumerate(told.get("at_the_threshold", []), 1)
    }
    files = {
        name: (bundle.path / name).read_bytes()
        for name in bundle.manifest.files
        if PurePosixPath(name).match("report/doubtful-*.png")
    }
    held = parts_at_the_threshold(parts, settled.choice)
    for place, one in enumerate(held, 1):
        old = bundle.path / shown.get(one.image, "")
        if one.row >= first:
            picture = cv2.imencode(".png", pixels[one.row - first, 0])[1].tobytes()
            files[f"report/threshold-{place}.png"] = picture
        elif old.is_file():
            files[f"report/threshold-{place}.png"] = old.read_bytes()
    gate = manifest.gate
    assert gate is not None
    document |= {
        "gate": {
            "bound": sentences(gate.bound),
            "good_passed": None if gate.bound is None else gate.bound.good_passed,
            "left_out": {},
            "at_the_threshold": [one.as_json() for one in held],
            "doubtful_labels": told.get("doubtful_labels", []),
            "another_day": {"says": ["another day, lot or shift: not known since the calibration"]},
            "trade_off": None
            if settled.choice is None
            else traded(settled.scores, parts.good, settled.open),
        },
        "calibrated": [one.model_dump(mode="json") for one in manifest.calibrated or ()],
    }
    for name in _OF_THE_EXPORT:
        document.pop(name, None)
    files[REPORT] = (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()
    return files


def _report_of(bundle: Bundle) -> dict[str, Any]:
    file = bundle.path / REPORT
    if not file.exists():
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Export the bundle again") from error
    return document if isinstance(document, dict) else {}
