"""What an export says when it is done, to people and as one JSON document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_qc.bundle.calibration import sentences
from edge_qc_export.release import Released

LOW_YIELD = 0.1
"""Where fewer of the labelled GOOD parts pass, an export warns loudly."""


def document_of(released: Released, run: Path, archive: Path | None) -> dict[str, Any]:
    """The facts, as ``edge-qc export --json`` prints them."""
    bundle, manifest, half = released.bundle, released.bundle.manifest, released.half
    gate = manifest.gate
    assert gate is not None
    return {
        "bundle": str(bundle.path),
        "archive": None if archive is None else str(archive),
        "id": bundle.id,
        "version": manifest.version,
        "signed": bundle.signed,
        "run": str(run),
        "network": manifest.network,
        "precision": manifest.precision,
        "gate": {
            "says": sentences(gate.bound),
            "bound": None if gate.bound is None else gate.bound.model_dump(mode="json"),
            "another_day": released.calibrated.another_day,
            "good_passed": released.calibrated.good_passed,
            "at_the_threshold": [one.as_json() for one in released.calibrated.held],
            "doubtful_labels": [one.as_json() for one in released.calibrated.doubts],
        },
        "padim": {
            "score": manifest.padim.score,
            "channels": manifest.padim.channels,
            "grid": list(manifest.padim.grid),
            "parameter_bytes": released.fitted.padim.bytes,
        },
        "fp16": None
        if half is None
        else {"fp32_islands": list(half.plan.islands), "decisions_changed": half.report.flips},
        "temperature": manifest.temperature,
        "preflight": None if released.preflight is None else released.preflight.sentence,
        "golden_views": released.acceptance.views,
        "differences": released.acceptance.differences,
        "bytes": sum(entry.size for entry in manifest.files.values()),
    }


def lines_of(document: dict[str, Any]) -> list[str]:
    """The document for a person at a terminal."""
    signed = "" if document["signed"] else "  (not signed)"
    padim, gate = document["padim"], document["gate"]
    rows, columns = padim["grid"]
    lines = [
        f"bundle: {document['bundle']}  ({document['bytes'] / 2**20:.1f} MiB, "
        f"version {document['version']})",
        f"id: {document['id']}{signed}",
        f"PaDiM on GOOD: {padim['channels']} channels on {rows}x{columns}",
        "the gate to GOOD:",
        *(f"  {sentence}" for sentence in [*gate["says"], *gate["another_day"]["says"]]),
    ]
    if gate["bound"] is None:
        lines.append(f"  {gate['good_passed']:.1%} of labelled GOOD parts pass")
    held = gate["at_the_threshold"]
    setter = next((one for one in held if not one["passes"]), None)
    if setter is not None:
        most = held[-1]["good_passed_with_the_threshold_here"]
        lines.append(
            f"  {setter['image']} ({setter['label']}, {setter['die']}) sets the threshold; were "
            f"the {len(held) - 1} bad parts most like GOOD let pass, {most:.1%} of GOOD would. "
            "Look at them: report/threshold-*.png"
        )
    if gate["doubtful_labels"]:
        names = ", ".join(
            f"{one['image']} ({one['label']}, looks like {one['said']})"
            for one in gate["doubtful_labels"][:3]
        )
        count = len(gate["doubtful_labels"])
        lines.append(f"  {count} doubtful labels, the most doubtful first: {names}")
    if gate["good_passed"] < LOW_YIELD:
        lines.append(
            f"WARNING: {gate['good_passed']:.1%} of GOOD parts pass: this bundle would stop the "
            "line. Look at the images that set the threshold, learn more (--unfreeze), or allow "
            "more (--max-escape)"
        )
    if document["preflight"] is not None:
        lines.append(f"pre-flight: {document['preflight']}")
    lines.append(f"accepted by ONNX Runtime on {document['golden_views']} golden views")
    return lines
