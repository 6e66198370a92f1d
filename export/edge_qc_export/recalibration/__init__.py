"""A new version of a bundle, with thresholds that parts verified at a station set too.

``calibrate`` is the composition: the bundle's own graph scores the parts, tails and threshold are
set again from the old and the new scores (``gate.settling``), and the bundle is written with the
same ``model.onnx``. No network learns, and nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc import __version__
from edge_qc.bundle.calibration import Calibrated
from edge_qc.bundle.golden import Golden
from edge_qc.bundle.manifest import GOLDEN, PARTS, Manifest
from edge_qc.bundle.verification import Bundle, open_bundle
from edge_qc.errors import DataError, UsageError
from edge_qc.evidence import LabelStore
from edge_qc_export.data.sample import Part
from edge_qc_export.figures.exact import CONFIDENCE
from edge_qc_export.gate.parts_file import KeptParts, parts_bytes, read_parts
from edge_qc_export.gate.rule_of_many import Said, said_of, weigh
from edge_qc_export.gate.scored import both
from edge_qc_export.gate.settling import Refitted, Settled, refit, settle
from edge_qc_export.gate.threshold import Wish
from edge_qc_export.packing.bundle_folder import require_free, require_version, write_bundle
from edge_qc_export.packing.golden_file import golden_bytes, is_steady
from edge_qc_export.packing.proof import prove
from edge_qc_export.packing.signing import read_private_key
from edge_qc_export.progress import Reporter
from edge_qc_export.recalibration.fitness import require_fit
from edge_qc_export.recalibration.report import report_files
from edge_qc_export.recalibration.verified import Verified, read_verified

USUAL_ESCAPE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """A bundle and the parts for its calibration, scored; thresholds are still to be settled.

    parts: all, as they will travel; pixels: (m, 1, H, W) of the last m, which were added now.
    before: what the bundle's own rule makes of them. known: how many parts the bundle held already.
    """

    bundle: Bundle
    parts: KeptParts
    pixels: NDArray[np.uint8]
    source: str
    before: Said
    refitted: Refitted
    known: int

    @property
    def now(self) -> NDArray[np.bool_]:
        """(n,): which parts were added now."""
        return np.asarray(np.arange(len(self.parts)) >= len(self.parts) - len(self.pixels))

    def wish(self, max_escape: float | None = None, confidence: float | None = None) -> Wish:
        """What is wished for; None for what the bundle was made with."""
        gate = self.bundle.manifest.gate
        bound = None if gate is None else gate.bound
        return Wish(
            max_escape or (USUAL_ESCAPE if bound is None else bound.max_escape),
            confidence or (CONFIDENCE if bound is None else bound.confidence),
            self.bundle.manifest.drift.alpha,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A calibrated bundle, accepted by ONNX Runtime, and what it came from."""

    bundle: Bundle
    begun: Begun
    settled: Settled


def begin(
    path: Path,
    data: Path,
    *,
    part: Part | None = None,
    labels: LabelStore | None = None,
    source: str | None = None,
    public_key: Path | None = None,
    version: int | None = None,
    reporter: Reporter | None = None,
) -> Begun:
    """Score the verified parts of ``data`` with the bundle at ``path`` and refit its tails.

    data, part, labels, source: see ``verified.read_verified``. public_key: one that must verify the
    bundle's signature. version: what ``write`` will be asked for, looked at before the work. Raises
    UsageError for a bundle without the scores of its parts or such a version, DataError where the
    new parts are at fault, none, or all in the bundle already; BundleError as the station.
    """
    reporter = reporter or Reporter()
    bundle = open_bundle(path, public_key)
    if bundle.manifest.gate is None:
        raise UsageError(
            f"bundle {path}: is of schema 1 and has no gate to calibrate. Export it again from its "
            "run ('edge-qc export RUN')"
        )
    if version is not None:
        require_version(version, bundle.manifest)
    kept = read_parts(bundle)
    verified = read_verified(
        bundle, data, part=part, labels=labels, source=source, reporter=reporter
    )
    fresh = _not_known(kept, verified)
    known = len(verified.views) - len(fresh)
    if not len(fresh):
        raise DataError(
            f"data {data}: the bundle holds all of its {known} labelled parts already, and a part "
            "counts once. Give parts that were verified since"
        )
    if known:
        reporter.note(f"{known} parts are in the bundle already, or twice in the data: left out")
    number = 1 + len(bundle.manifest.calibrated or ())
    parts = KeptParts(
        both(kept.scored, verified.scored.chosen(fresh)),
        kept.views + tuple(verified.views[row] for row in fresh),
        kept.sessions + tuple(verified.sessions[row] for row in fresh),
        np.concatenate([kept.added, np.full(len(fresh), number, np.int32)]),
    )
    return Begun(
        bundle=bundle,
        parts=parts,
        pixels=verified.pixels[fresh],
        source=verified.source,
        before=said_of(bundle.manifest, weigh(bundle.manifest, parts.scored)),
        refitted=refit(bundle.manifest, parts.scored, parts.added > 0),
        known=known,
    )


def _not_known(kept: KeptParts, verified: Verified) -> NDArray[np.intp]:
    seen = set(kept.views)
    rows = []
    for row, view in enumerate(verified.views):
        if view not in seen:
            rows.append(row)
            seen.add(view)
    return np.array(rows, np.intp)


def write(
    begun: Begun,
    settled: Settled,
    out: Path,
    *,
    version: int | None = None,
    sign: Path | None = None,
) -> Written:
    """Write what was settled as the bundle folder ``out``.

    version: None takes the old one's and 1. sign: a private key's file. Raises DataError where the
    network no longer fits (``fitness``), UsageError for a taken folder or a version that is not
    newer, AcceptanceError if ONNX Runtime does not give the golden answers. Nothing is left then.
    """
    out = out if out.name else out.resolve()
    require_free(out)
    key = None if sign is None else read_private_key(sign)
    old = begun.bundle.manifest
    number = old.version + 1 if version is None else version
    require_version(number, old)
    require_fit(old, begun.before.passes, begun.refitted, settled)
    manifest = settled.manifest.model_copy(
        update={
            "version": number,
            "producer": f"edge-qc-export {__version__}",
            "calibrated": (*(old.calibrated or ()), _ancestor(begun, settled)),
        }
    )
    written = write_bundle(
        out,
        manifest,
        {
            **_carried(begun.bundle),
            GOLDEN: _golden(begun.bundle, manifest),
            PARTS: parts_bytes(begun.parts),
            **report_files(begun.bundle, begun.parts.scored, begun.pixels, settled, manifest),
        },
        key,
        prove,
    )
    return Written(written, begun, settled)


def _carried(bundle: Bundle) -> dict[str, bytes]:
    """What stays byte for byte: the graph, and what parts are found by."""
    return {
        name: (bundle.path / name).read_bytes()
        for name in bundle.manifest.files
        if name not in (GOLDEN, PARTS) and not name.startswith("report/")
    }


def _ancestor(begun: Begun, settled: Settled) -> Calibrated:
    good, now = begun.parts.scored.good, begun.now
    rows = good & now
    sessions = sorted({begun.parts.sessions[row] for row in np.flatnonzero(now)} - {""})
    return Calibrated(
        id=begun.bundle.id,
        version=begun.bundle.manifest.version,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        source=begun.source,
        sessions=tuple(sessions),
        good=int(rows.sum()),
        bad=int((~good & now).sum()),
        passed_before=float(begun.before.passes[rows].mean()) if rows.any() else None,
        passed_after=float(settled.passes[rows].mean()) if rows.any() else None,
    )


def _golden(bundle: Bundle, manifest: Manifest) -> bytes:
    """The golden views as they are; without those whose label would change by an engine's rounding
    under the new thresholds. Raises DataError if none is left."""
    golden = bundle.golden()
    moved = replace(bundle, manifest=manifest)
    steady = [
        row for row, die in enumerate(golden.dies) if is_steady(moved, die, golden.reading(row))
    ]
    if not steady:
        raise DataError(
            "with the new thresholds every golden view lies where rounding decides, so that no "
            "engine could be accepted. Export the run again"
        )
    if len(steady) == len(golden.dies):
        return (bundle.path / GOLDEN).read_bytes()
    columns: dict[str, Any] = {
        field.name: value[steady]
        if isinstance(value := getattr(golden, field.name), np.ndarray)
        else tuple(value[row] for row in steady)
        for field in dataclasses.fields(Golden)
    }
    return golden_bytes(Golden(**columns))


def calibrate(
    path: Path,
    data: Path,
    out: Path,
    *,
    part: Part | None = None,
    labels: LabelStore | None = None,
    source: str | None = None,
    public_key: Path | None = None,
    max_escape: float | None = None,
    confidence: float | None = None,
    mix: Mapping[str, float] | None = None,
    costs: Mapping[str, Mapping[str, float]] | None = None,
    version: int | None = None,
    sign: Path | None = None,
    reporter: Reporter | None = None,
) -> Written:
    """All in one: ``begin``, ``gate.settling.settle``, ``write``; see there."""
    require_free(out)
    if sign is not None:
        read_private_key(sign)  # before the work
    begun = begin(
        path,
        data,
        part=part,
        labels=labels,
        source=source,
        public_key=public_key,
        version=version,
        reporter=reporter,
    )
    settled = settle(begun.refitted, begun.wish(max_escape, confidence), mix, costs)
    return write(begun, settled, out, version=version, sign=sign)
