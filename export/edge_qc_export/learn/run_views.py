"""The views of a run for export and measurement: training, held-out and test part.

The same ``make_views`` as in training, the run's own die table, size and split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import TRUTH_TABLE, Sample, read_samples
from edge_qc_export.data.sessions import session_groups, several_sessions
from edge_qc_export.data.split_file import as_split, held_out_by, read_split
from edge_qc_export.data.splitting import near_groups
from edge_qc_export.data.view_store import make_views
from edge_qc_export.learn.alignment import left_out
from edge_qc_export.learn.checkpoints import SPLIT, Run
from edge_qc_export.progress import Reporter


@dataclass(frozen=True, slots=True, eq=False)
class LabelledViews:
    """pixels: (n, 1, H, W) uint8; labels (of a class, or DRIFT), dies and names: n of each, and
    frame_sizes, the (width, height) of the pictures that the views were cut out of. groups: (n,),
    the same number for near-duplicates and for parts of one named group. sessions: n, or none where
    there are not several; apart: (n,), the same number for parts of one session, or of one group
    if there are none."""

    pixels: NDArray[np.uint8]
    labels: tuple[str, ...]
    dies: tuple[str, ...]
    names: tuple[str, ...]
    frame_sizes: tuple[tuple[int, int], ...]
    groups: NDArray[np.intp]
    sessions: tuple[str, ...]
    apart: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.labels)


def joined(one: LabelledViews, other: LabelledViews | None) -> LabelledViews:
    """Both, in order."""
    if other is None:
        return one
    return LabelledViews(
        pixels=np.concatenate([one.pixels, other.pixels]),
        labels=one.labels + other.labels,
        dies=one.dies + other.dies,
        names=one.names + other.names,
        frame_sizes=one.frame_sizes + other.frame_sizes,
        groups=np.concatenate([one.groups, other.groups + one.groups.max() + 1]),
        sessions=(),
        apart=np.concatenate([one.apart, other.apart + one.apart.max() + 1]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class RunViews:
    """known: all labelled pictures, those learned from and, by ``held_out_rows`` (n,), those held
    out. test is None where the data set has no test part with a known truth."""

    known: LabelledViews
    held_out_rows: NDArray[np.bool_]
    test: LabelledViews | None


def views_of_run(run: Run, reporter: Reporter) -> RunViews:
    """The views of every labelled picture of the run's data.

    Raises DataError if the data is gone or is not what the run was trained on.
    """
    split_file = run.folder / SPLIT
    samples = as_split(read_samples(run.data, "train", run.dies, run.classes), split_file)
    held_out = held_out_by(read_split(split_file), samples, split_file)
    if held_out.all() or not held_out.any():
        raise DataError(f"split {split_file}: wants images on both sides. Train again")
    known, placed = _make(run, samples, reporter, "left out")
    return RunViews(known, held_out[placed], _test_part(run, reporter))


def _test_part(run: Run, reporter: Reporter) -> LabelledViews | None:
    if not (run.data / TRUTH_TABLE).exists() and not (run.data / "test").is_dir():
        return None
    notes: list[str] = []
    known = read_samples(run.data, "test", run.dies, (*run.classes, DRIFT), notes=notes)
    for note in notes:
        reporter.note(note)
    samples = [sample for sample in known if sample.label is not None]
    return _make(run, samples, reporter, "left out of the figures")[0] if samples else None


def _make(
    run: Run, samples: Sequence[Sample], reporter: Reporter, what: str
) -> tuple[LabelledViews, NDArray[np.bool_]]:
    """The views of those whose parts were found, and who they are (n,) of the samples."""
    reporter.begin("views", len(samples))
    whole = make_views(
        run.data,
        samples,
        run.dies,
        run.size,
        run.interpolation,
        templates=run.templates(),
        advance=reporter.advance,
    )
    if lost := left_out(samples, whole.placed, what):
        reporter.note(lost)
        samples = [s for s, is_in in zip(samples, whole.placed, strict=True) if is_in]
    store = whole.of_placed()
    groups = near_groups(samples, store.hashes)
    several = several_sessions(samples)
    views = LabelledViews(
        pixels=store.pixels[:, np.newaxis],
        labels=tuple(str(sample.label) for sample in samples),
        dies=tuple(sample.die for sample in samples),
        names=tuple(sample.filename for sample in samples),
        frame_sizes=tuple((int(width), int(height)) for width, height in store.frame_sizes),
        groups=groups,
        sessions=tuple(str(sample.session) for sample in samples) if several else (),
        apart=session_groups(samples) if several else groups,
    )
    return views, whole.placed


def chosen_views(views: LabelledViews, chosen: NDArray[np.bool_]) -> LabelledViews:
    """Those that are chosen, (n,) bool."""
    rows = np.flatnonzero(chosen)
    return LabelledViews(
        pixels=views.pixels[rows],
        labels=tuple(views.labels[i] for i in rows),
        dies=tuple(views.dies[i] for i in rows),
        names=tuple(views.names[i] for i in rows),
        frame_sizes=tuple(views.frame_sizes[i] for i in rows),
        groups=views.groups[rows],
        sessions=tuple(views.sessions[i] for i in rows) if views.sessions else (),
        apart=views.apart[rows],
    )
