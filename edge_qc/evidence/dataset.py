"""Exports labelled images in the layout that ``edge-qc train`` reads.

That is the layout of Challenge Data ENS no. 157: ``input_train`` with ``Y_train.csv``. Images
labelled drift are not for training; they go to ``input_test`` with their truth, for evaluation.
``groups.csv`` keeps the views of one part on one side of a split; an image's session is the day, in
UTC, on which it was taken.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_qc.errors import DataError, UsageError
from edge_qc.evidence.labels import UNUSABLE, Labels, LabelStore
from edge_qc.evidence.store import FRAME, Exhibit, Store, decoded, png_bytes
from edge_qc.parts import DRIFT

_WINDOW = ""
"""The challenge's column of that name; a station has no value for it."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """counts: images by label. gone: labels whose image is no longer kept. damaged: what is wrong
    with those that were left out."""

    folder: Path
    counts: Mapping[str, int]
    gone: int
    damaged: tuple[str, ...]


class _DamagedError(DataError):
    """An image that cannot be used."""


@dataclass(frozen=True, slots=True)
class _Row:
    filename: str
    die: str
    label: str
    part_id: str | None
    day: str


def export_dataset(store: Store, target: Path, given: LabelStore | None = None) -> ExportReport:
    """Write the labelled images into ``target``, which must be new or empty. given: the labels; by
    default those of the file beside the images.

    An image that is damaged is left out. Raises UsageError if the folder is not empty or cannot be
    made, DataError if nothing is labelled, all that is labelled is damaged, or the disk fails; then
    nothing is left behind.
    """
    _require_new(target)
    labels = (given or Labels(store.folder)).latest()
    exhibits = {exhibit.verdict_id: exhibit for exhibit in store.exhibits()}
    wanted = {key: given.label for key, given in labels.items() if given.label != UNUSABLE}
    chosen = {key: label for key, label in wanted.items() if key in exhibits}
    if not chosen:
        raise DataError(
            f"evidence {store.folder}: none of the {len(exhibits)} images has a label. Label some "
            "with edge-qc review"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_made(target, error) from error
    try:
        rows, damaged = _copy_all(exhibits, chosen, target)
        if not rows:
            raise DataError(f"all {len(damaged)} labelled images are damaged: {damaged[0]}")
        _write_tables(rows, target)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataError(
                f"evidence export to {target}: {error.strerror}. Check the disk and its free space"
            ) from error
        raise
    return ExportReport(
        target, Counter(row.label for row in rows), len(wanted) - len(chosen), tuple(damaged)
    )


def _require_new(target: Path) -> None:
    try:
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise _cannot_be_made(target, error) from error
    if taken:
        raise UsageError(f"{target} already exists and is not empty; name a new folder")


def _cannot_be_made(target: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{target} cannot be made: {error.strerror}. Name a new folder where this user may write"
    )


def _copy_all(
    exhibits: Mapping[str, Exhibit], chosen: Mapping[str, str], target: Path
) -> tuple[list[_Row], list[str]]:
    """Those that could be copied, and what is wrong with the others."""
    for folder in ("input_train", "input_test"):
        (target / folder).mkdir()
    rows, damaged = [], []
    for key, label in chosen.items():
        part = "input_test" if label == DRIFT else "input_train"
        try:
            rows.append(_copied(exhibits[key], label, target / part))
        except _DamagedError as error:
            damaged.append(str(error))
    return rows, damaged


def _write_tables(rows: Sequence[_Row], target: Path) -> None:
    train = [row for row in rows if row.label != DRIFT]
    test = [row for row in rows if row.label == DRIFT]
    _write(
        target / "Y_train.csv",
        ("", "filename", "window", "lib", "Label", "session"),
        ((i, row.filename, _WINDOW, row.die, row.label, row.day) for i, row in enumerate(train)),
    )
    if test:
        _write(
            target / "win_and_lib.csv",
            ("filename", "window", "lib", "session"),
            ((row.filename, _WINDOW, row.die, row.day) for row in test),
        )
        _write(
            target / "Y_test_truth.csv",
            ("filename", "Label"),
            ((row.filename, "Drift") for row in test),
        )
    else:
        (target / "input_test").rmdir()
    groups = [(row.filename, row.part_id) for row in train if row.part_id]
    if groups:
        _write(target / "groups.csv", ("filename", "group"), groups)


def _copied(exhibit: Exhibit, label: str, folder: Path) -> _Row:
    """Raises _DamagedError for an image that cannot be used, DataError if it cannot be written."""
    try:
        verdict, data = exhibit.verdict(), exhibit.file(FRAME)
    except DataError as error:
        raise _DamagedError(str(error)) from error
    die, part_id = verdict.get("die"), verdict.get("part_id")
    if not isinstance(die, str):
        raise _DamagedError(f"evidence {exhibit.folder}: its verdict names no die")
    filename = f"{exhibit.verdict_id}.png"
    # Write the same grey values that were judged; training refuses colour images.
    pixels = None if data is None else decoded(data)
    if pixels is None:
        raise _DamagedError(f"evidence {exhibit.folder}: its {FRAME} cannot be read")
    if pixels.ndim == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
    try:
        (folder / filename).write_bytes(png_bytes(pixels))
    except OSError as error:
        raise DataError(f"evidence: {folder / filename} cannot be written: {error}") from error
    group = part_id if isinstance(part_id, str) else None
    return _Row(filename, die, label, group, exhibit.time.date().isoformat())


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
