"""Composes ``edge-qc qualify``: judge, count, disturb, write, sign."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_qc.bundle.manifest import Manifest
from edge_qc.errors import UsageError
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import Sample, read_samples, truth_is_known
from edge_qc_export.data.sample import Part
from edge_qc_export.evaluation import labelled
from edge_qc_export.figures.exact import Share
from edge_qc_export.judging import Judged, judge_samples, opened
from edge_qc_export.packing.signing import read_private_key
from edge_qc_export.progress import Reporter
from edge_qc_export.qualification.counting import (
    Counts,
    count,
    count_by,
    sentence,
    tighter_statements,
)
from edge_qc_export.qualification.page import qualification_page
from edge_qc_export.qualification.repeatability import (
    Flips,
    disturb,
    photographed_again,
    planned,
)
from edge_qc_export.whole_file import require_writable, write_whole

SCHEMA = "edge-qc/qualification/1"
PAGE, DOCUMENT, SIGNATURE = "qualification.html", "qualification.json", "qualification.json.sig"


@dataclass(frozen=True, slots=True, eq=False)
class Qualification:
    """What was counted, and the document that was written. folder: where it lies."""

    folder: Path
    counts: Counts
    document: Mapping[str, Any]

    @property
    def page(self) -> Path:
        return self.folder / PAGE

    @property
    def sentence(self) -> str:
        return sentence(self.counts)


def qualify(
    bundle: Path,
    data: Path,
    out: Path,
    *,
    part: Part | None = None,
    key_file: Path | None = None,
    reporter: Reporter | None = None,
) -> Qualification:
    """Judge the labelled photographs of ``data`` with ``bundle`` as a station would, and write the
    page, the document and, with a key, the document's Ed25519 signature into ``out``.

    part: ``train`` or ``test``; None takes the test part if there is one with labels, else the
    train part. Raises DataError with all faults of that part's tables, or if nothing labelled is
    there, BundleError and AcceptanceError as the station,
    UsageError for a key that is none, EdgeQCError where ``out`` cannot be written.
    """
    reporter = reporter or Reporter()
    # Before the work, so that a wrong path costs nothing.
    key = None if key_file is None else read_private_key(key_file)
    with opened(bundle) as inspection:
        manifest = inspection.bundle.manifest
        _require_free(out, inspection.bundle.id)
        notes: list[str] = []
        chosen = part or ("test" if truth_is_known(data) else "train")
        samples = _samples(data, manifest, chosen, notes)
        notes += _notes(manifest, samples, chosen)
        for note in notes:
            reporter.note(note)
        reporter.begin("judge", len(samples))
        judged = judge_samples(inspection, samples, reporter.advance)
        reporter.begin("disturb", planned(judged))
        flips = disturb(inspection, judged, advance=reporter.advance)
        facts = {
            "bundle": manifest.name,
            "version": str(manifest.version),
            "id": inspection.bundle.id,
            "signed": "yes" if inspection.bundle.signed else "no",
            "engine": inspection.engine.name,
            "data": f"{data.resolve().name}, its {chosen} part, {len(samples)} photographs",
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
    counts = count(judged)
    again = photographed_again(judged)
    by_class = count_by(judged, lambda one: str(one.sample.label))
    by_die = count_by(judged, lambda one: one.sample.die)
    tighter = tighter_statements(counts)
    wrong = [one for one in judged if one.escaped or one.overkilled or one.mistaken]
    page = qualification_page(
        facts, counts, by_class, by_die, tighter, wrong, flips, again, notes
    ).encode()
    document = {
        "schema": SCHEMA,
        **facts,
        "sentence": sentence(counts),
        "counts": _counts_json(counts),
        "by_class": {name: _counts_json(found) for name, found in by_class.items()},
        "by_die": {name: _counts_json(found) for name, found in by_die.items()},
        "tighter": [asdict(one) for one in tighter],
        "repeatability": {
            "disturbed": [_flips_json(one) for one in flips],
            "photographed_again": _share_json(again),
        },
        "wrong": [_wrong_json(one) for one in wrong],
        "notes": list(notes),
        "page_sha256": hashlib.sha256(page).hexdigest(),
    }
    _write(out, page, document, key)
    return Qualification(out, counts, document)


def _samples(data: Path, manifest: Manifest, part: Part, notes: list[str]) -> tuple[Sample, ...]:
    """The labelled samples of the part. A defect that the model did not learn stays under its own
    name: it is a bad part like any other."""
    return labelled(data, read_samples(data, part, manifest.dies, notes=notes, any_label=True))


def _notes(manifest: Manifest, samples: Sequence[Sample], part: Part) -> list[str]:
    notes = []
    unseen = sorted({str(s.label) for s in samples} - set(manifest.classes) - {DRIFT})
    if unseen:
        notes.append(f"The model did not learn {', '.join(unseen)}: they count as bad parts.")
    silent = sorted(set(manifest.classes) - {str(s.label) for s in samples})
    if silent:
        notes.append(f"No photograph shows {', '.join(silent)}: the page has no figures for them.")
    if part == "train":
        notes.append(
            "These photographs are in the part that training learns from. Where this bundle "
            "learned from them, the figures are too good; qualify on photographs that it never saw."
        )
    return notes


def _require_free(out: Path, bundle_id: str) -> None:
    """An unsigned qualification of the same bundle may be made again; any other is a document that
    somebody may hold up. Raises UsageError."""
    require_writable(out, f"qualification {out}")
    what = None
    if (out / SIGNATURE).exists():
        what = "a signed qualification"
    elif (out / DOCUMENT).exists():
        try:
            before = json.loads((out / DOCUMENT).read_text(encoding="utf-8"))["id"]
        except (OSError, ValueError, TypeError, KeyError):
            before = None
        what = None if before == bundle_id else "the qualification of another bundle"
    if what is not None:
        raise UsageError(
            f"qualification {out}: holds {what} already. Name another folder with --out, or move "
            "that one away"
        )


def _write(
    out: Path, page: bytes, document: Mapping[str, Any], key: Ed25519PrivateKey | None
) -> None:
    raw = json.dumps(document, indent=1, ensure_ascii=False).encode()
    write_whole(out / PAGE, page)
    write_whole(out / DOCUMENT, raw)
    if key is not None:
        write_whole(out / SIGNATURE, key.sign(raw))


def _share_json(found: Share) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "count": found.count,
        "of": found.of,
        "low": number(found.low),
        "high": number(found.high),
    }


def _counts_json(counts: Counts) -> dict[str, Any]:
    names = ("escapes", "overkill", "review", "not_judged", "named")
    return {
        **{name: _share_json(getattr(counts, name)) for name in names},
        "escape_bound": counts.escape_bound,
    }


def _flips_json(flips: Flips) -> dict[str, Any]:
    return {
        "name": flips.name,
        "text": flips.text,
        "good": _share_json(flips.good),
        "bad": _share_json(flips.bad),
    }


def _wrong_json(one: Judged) -> dict[str, Any]:
    kind = "escape" if one.escaped else "overkill" if one.overkilled else "named"
    return {
        "kind": kind,
        "filename": one.sample.filename,
        "die": one.sample.die,
        "true": one.sample.label,
        "label": one.verdict.label,
        "disposition": one.verdict.disposition.value,
        "detail": one.verdict.detail,
    }
