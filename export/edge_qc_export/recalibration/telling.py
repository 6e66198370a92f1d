"""What a calibration says when it is done, to people and as one JSON document."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.calibration import sentences
from edge_qc.parts import GOOD
from edge_qc_export.figures.exact import share
from edge_qc_export.recalibration import Written


def document_of(written: Written) -> dict[str, Any]:
    """The facts, as ``edge-qc calibrate --json`` prints them."""
    begun, settled, manifest = written.begun, written.settled, written.bundle.manifest
    good, now = begun.parts.scored.good, begun.now
    assert manifest.gate is not None
    assert manifest.calibrated is not None
    return {
        "bundle": str(written.bundle.path),
        "id": written.bundle.id,
        "version": manifest.version,
        "signed": written.bundle.signed,
        "calibrated": manifest.calibrated[-1].model_dump(mode="json"),
        "says": manifest.calibrated[-1].sentence,
        "known_already": begun.known,
        "added": {
            "overkill_before": _share(~begun.before.passes, good & now),
            "overkill": _share(~settled.passes, good & now),
            "escapes_before": _share(begun.before.passes, ~good & now),
            "escapes": _share(settled.passes, ~good & now),
        },
        "gate": {
            "says": sentences(manifest.gate.bound),
            "bound": None
            if manifest.gate.bound is None
            else manifest.gate.bound.model_dump(mode="json"),
        },
        "bytes": sum(entry.size for entry in manifest.files.values()),
    }


def _share(counted: NDArray[np.bool_], rows: NDArray[np.bool_]) -> dict[str, Any] | None:
    """None without a part."""
    if not rows.any():
        return None
    found = share(int((counted & rows).sum()), int(rows.sum()))
    return {"count": found.count, "of": found.of, "low": found.low, "high": found.high}


def lines_of(document: dict[str, Any]) -> list[str]:
    """The document for a person at a terminal."""
    signed = "" if document["signed"] else "  (not signed)"
    added = document["added"]
    lines = [
        f"bundle: {document['bundle']}  (version {document['version']})",
        f"id: {document['id']}{signed}",
        f"calibrated {document['says']}",
    ]
    for kind, what in (
        ("overkill", f"added {GOOD} parts stopped"),
        ("escapes", "added bad passed"),
    ):
        if added[kind] is not None:
            before, after = added[f"{kind}_before"], added[kind]
            lines.append(
                f"  {what}: {before['count']} of {before['of']} before, {after['count']} now "
                f"({after['low']:.1%} to {after['high']:.1%})"
            )
    lines += ["the gate to GOOD:", *(f"  {sentence}" for sentence in document["gate"]["says"])]
    lines.append(
        "the network and its plan are the same. See it on live frames first: 'edge-qc install "
        f"{document['bundle']} --shadow-parts 500'"
    )
    return lines
