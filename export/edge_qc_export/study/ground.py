"""What all configurations of a study share: pictures, classes, costs, and one split.

It reports every fault in the data before any training starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_qc.bundle.dies import CHALLENGE_DIES, read_dies
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT
from edge_qc_export.data import split_file, splitting
from edge_qc_export.data.dataset import Sample, read_samples, require_classes, truth_is_known
from edge_qc_export.data.view_store import make_views
from edge_qc_export.figures.costs import Costs, costs_for, read_costs
from edge_qc_export.learn.checkpoints import SPLIT
from edge_qc_export.progress import Reporter
from edge_qc_export.study.settings import StudySettings

CACHE = "cache"


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """train: all labelled training pictures. measured: what every configuration is measured on;
    measured_text: which pictures these are."""

    train: tuple[Sample, ...]
    measured: tuple[Sample, ...]
    measured_text: str
    classes: tuple[str, ...]
    costs: Costs


def lay_ground(settings: StudySettings, reporter: Reporter) -> Ground:
    """Read the data, take the study's folder and write its ``split.csv``.

    Measured are the test pictures of known classes; where the test part has no truth, those held
    out from training. Raises DataError with all faults of a table, then with those of pictures,
    UsageError for a folder that holds another study.
    """
    dies = CHALLENGE_DIES if settings.dies is None else read_dies(settings.dies)
    given = None if settings.costs is None else read_costs(settings.costs)
    notes: list[str] = []
    samples = read_samples(settings.data, "train", dies, given, notes=notes)
    classes = require_classes(settings.data, samples, given)
    if len(classes) == 1:
        raise DataError(
            f"data {settings.data}: holds only {classes[0]} images; a study compares how classes "
            "are told apart. Add images of defects"
        )
    costs = costs_for(given, classes, f"costs {settings.costs}")
    test: tuple[Sample, ...] = ()
    if truth_is_known(settings.data):
        known = read_samples(settings.data, "test", dies, (*classes, DRIFT), notes=notes)
        test = tuple(s for s in known if s.label not in (None, DRIFT))
        if not test:
            raise DataError(f"data {settings.data}: no test image is of a known class")
    fingerprint = settings.fingerprint(samples, test)
    settings.require_free(fingerprint)
    for note in notes:
        reporter.note(note)
    reporter.counts(samples)
    reporter.begin("views", len(samples) + len(test))
    views = make_views(
        settings.data,
        samples,
        dies,
        settings.view_size,
        settings.interpolation,
        folder=settings.out / CACHE,
        advance=reporter.advance,
    )
    make_views(
        settings.data,
        test,
        dies,
        settings.view_size,
        settings.interpolation,
        advance=reporter.advance,
    )
    settings.claim(fingerprint)
    file = settings.out / SPLIT
    if not file.exists():
        held = splitting.split_of(samples, views.hashes, settings.seed, reporter.note)
        split_file.write_split(file, samples, held)
    if test:
        text = f"{len(test)} test images of known classes; drift left out"
        return Ground(samples, test, text, classes, costs)
    held_out = split_file.held_out_by(split_file.read_split(file), samples, file)
    kept = tuple(s for s, out in zip(samples, held_out, strict=True) if out)
    text = f"{len(kept)} images held out from training; the test part has no truth"
    return Ground(samples, kept, text, classes, costs)
