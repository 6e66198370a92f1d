"""Parts that people verified: a labelled folder, or what a station kept; scored by the bundle's own
graph in ONNX Runtime, with the station's own view."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.verification import Bundle
from edge_qc.camera.checks import nothing_to_judge
from edge_qc.camera.images import read_image
from edge_qc.engine import open_engine
from edge_qc.engine.acceptance import accept
from edge_qc.errors import DataError
from edge_qc.evidence import Labels, LabelStore, Store
from edge_qc.evidence.dataset import export_dataset
from edge_qc.inspection.alignment import templates_of
from edge_qc.inspection.decision import label_of
from edge_qc.parts import Reading
from edge_qc_export.data.dataset import Sample, read_samples, truth_is_known
from edge_qc_export.data.sample import Part
from edge_qc_export.data.tables import Fault, raise_faults
from edge_qc_export.data.view_store import ViewStore, make_views
from edge_qc_export.gate.parts_file import view_digest
from edge_qc_export.gate.scored import Scored
from edge_qc_export.progress import Reporter


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """Parts that a person labelled. pixels: (n, 1, H, W) uint8; views, sessions: n, as
    ``gate.parts_file.KeptParts``. source: where they came from, in words."""

    scored: Scored
    pixels: NDArray[np.uint8]
    views: tuple[str, ...]
    sessions: tuple[str, ...]
    source: str


def read_verified(
    bundle: Bundle,
    data: Path,
    *,
    part: Part | None,
    labels: LabelStore | None,
    source: str | None,
    reporter: Reporter,
) -> Verified:
    """The labelled parts of ``data``, scored.

    data: a set as ``train`` reads it, or a station's evidence. part: of a set; None takes both.
    labels: of evidence; None for those in the file beside it. source: None takes the stations that
    kept the evidence, or the folder's name. Raises DataError with all faults, AcceptanceError if
    the bundle's graph does not give its golden answers.
    """
    with _as_set(data, labels) as (folder, stations):
        samples = _samples(folder, bundle, part)
        reporter.begin("views", len(samples))
        spec = bundle.manifest.input
        store = make_views(
            folder,
            samples,
            bundle.manifest.dies,
            (spec.height, spec.width),
            spec.interpolation,
            templates=templates_of(bundle.manifest.alignment, bundle.edges()),
            advance=reporter.advance,
        )
        judged = _judged(bundle, samples, store, reporter)
    pixels = store.pixels[judged][:, np.newaxis]
    reporter.begin("scores", len(judged))
    chosen = [samples[row] for row in judged]
    return Verified(
        scored=_scored(bundle, chosen, pixels, reporter),
        pixels=pixels,
        views=tuple(view_digest(view) for view in pixels),
        sessions=tuple(sample.session or "" for sample in chosen),
        source=source or stations or data.resolve().name,
    )


@contextmanager
def _as_set(data: Path, labels: LabelStore | None) -> Iterator[tuple[Path, str]]:
    """The folder of a set, and the stations that kept it: evidence is first laid out as one."""
    kept = Store(data)
    exhibits = list(kept.exhibits()) if data.is_dir() else []
    if not exhibits:
        yield data, ""
        return
    given = (labels or Labels(data)).latest()
    verdicts = (one.verdict() for one in exhibits if one.verdict_id in given)
    named = {f"{said.get('site')}/{said.get('station')}" for said in verdicts if "station" in said}
    with tempfile.TemporaryDirectory(prefix="edge-qc-verified-") as folder:
        made = Path(folder) / "set"
        export_dataset(kept, made, labels)
        yield made, ", ".join(sorted(named))


def _samples(data: Path, bundle: Bundle, part: Part | None) -> list[Sample]:
    """Labelled samples; a class that the network did not learn is a bad part like any other."""
    every: list[Part] = ["train", "test"] if truth_is_known(data) else ["train"]
    parts = [part] if part else every
    samples: list[Sample] = []
    faults: list[Fault] = []
    for name in parts:
        found: list[Fault] = []
        read = read_samples(data, name, bundle.manifest.dies, None, found, any_label=True)
        samples += [sample for sample in read if sample.label is not None]
        # Evidence may hold nothing but drift, which is of the test part.
        faults += found if read or len(found) > 1 or len(parts) == 1 else []
    raise_faults(data, faults)
    if not samples:
        raise DataError(f"data {data}: no labelled image. Label some, such as with edge-qc review")
    return samples


def _judged(
    bundle: Bundle, samples: list[Sample], store: ViewStore, reporter: Reporter
) -> list[int]:
    """The rows that a station would judge. Raises DataError if there is none."""
    rows, why = [], ""
    for row, (sample, (width, height)) in enumerate(zip(samples, store.frame_sizes, strict=True)):
        unlearned = bundle.manifest.dies[sample.die].unlearned(int(width), int(height))
        fault = unlearned and f"{sample.filename} {unlearned}"
        if not fault and not store.placed[row]:
            lies = "shows a part that lies beyond the bundle's bounds, or none"
            fault = f"{sample.filename} {lies}"
        fault = fault or nothing_to_judge(read_image(sample.file), sample.filename)
        if not fault:
            rows.append(row)
        why = why or fault
    if not rows:
        raise DataError(f"a station would judge none of the {len(samples)} images: {why}")
    if why:
        reporter.note(
            f"{len(samples) - len(rows)} images that a station would not judge are left out, such "
            f"as: {why}"
        )
    return rows


def _scored(
    bundle: Bundle, samples: list[Sample], pixels: NDArray[np.uint8], reporter: Reporter
) -> Scored:
    engine = open_engine(bundle)
    batch = bundle.manifest.input.batch
    readings: list[Reading] = []
    try:
        accept(bundle, engine, label_of)
        for start in range(0, len(pixels), batch):
            readings.extend(engine.infer(pixels[start : start + batch]))
            reporter.advance(min(batch, len(pixels) - start))
    finally:
        engine.close()
    return Scored(
        labels=tuple(str(sample.label) for sample in samples),
        dies=tuple(sample.die for sample in samples),
        names=tuple(sample.filename for sample in samples),
        seen=np.zeros(len(samples), np.bool_),
        classes=bundle.manifest.classes,
        padim=np.array([reading.drift for reading in readings], np.float64),
        logits=np.stack([reading.logits for reading in readings]).astype(np.float64),
        good_distance=np.array([reading.good_distance for reading in readings], np.float64),
        embedding_distance=np.array([r.embedding_distance for r in readings], np.float64),
    )
