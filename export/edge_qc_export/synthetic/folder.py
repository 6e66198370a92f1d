"""A synthetic data set on disk, in the challenge's layout.

    OUT/input_train/*.png   OUT/Y_train.csv         (index),filename,window,lib,Label
    OUT/input_test/*.png    OUT/win_and_lib.csv     filename,window,lib
    OUT/synthetic.txt       OUT/Y_test_truth.csv    filename,Label

``items`` says what goes in, ``photograph`` draws it, ``dataset`` reads it back.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2

from edge_qc.errors import DataError, UsageError
from edge_qc_export.synthetic.items import Item
from edge_qc_export.synthetic.photograph import render
from edge_qc_export.whole_file import require_utf8

MARK = "synthetic.txt"
"""Says that a folder was made here: only such a one is ever removed."""
PARTS = ("input_train", "input_test", "Y_train.csv", "win_and_lib.csv", "Y_test_truth.csv")
# Entropy coding alone takes half the time of the defaults and less room: noise does not repeat.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, 2]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # from OpenCV 4.12 on
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG]


def prepare(out: Path, force: bool = False) -> None:
    """Make ``out`` an empty place for a data set. With ``force`` an earlier synthetic one in it is
    removed, and nothing else; raises UsageError where anything lies in it without, and for a data
    set that was not made here in any case."""
    require_utf8(out, f"data set {out}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder")
    try:
        found = sorted(entry.name for entry in out.iterdir()) if out.exists() else []
        if found and not force:
            raise UsageError(
                f"{out} is not empty (it holds {found[0]!r}): name another folder, or replace the "
                "data set in it with --force"
            )
        if MARK not in found and any(name in found for name in PARTS):
            raise UsageError(
                f"{out} holds a data set that edge-qc synth did not make (there is no {MARK}), "
                "which it never removes: name another folder"
            )
        for name in PARTS:
            if (out / name).is_dir():
                shutil.rmtree(out / name)
            else:
                (out / name).unlink(missing_ok=True)
        for name in PARTS[:2]:
            (out / name).mkdir(parents=True)
        (out / MARK).write_text("Drawn by edge-qc synth; no photograph of anything.\n")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error


def write(
    out: Path, training: Sequence[Item], test: Sequence[Item], processes: int | None = None
) -> Iterator[int]:
    """Draw and write all images, then the tables; yields how many images are done.

    processes: None for one per core. Raises DataError if the disk refuses.
    """
    jobs = [(item, out / PARTS[0]) for item in training] + [(item, out / PARTS[1]) for item in test]
    processes = min(processes or os.cpu_count() or 1, max(1, len(jobs) // 8))
    for done, fault in enumerate(_results(jobs, processes), start=1):
        if fault:
            raise DataError(fault)
        yield done
    try:
        _write_tables(out, training, test)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error


def _results(jobs: Sequence[tuple[Item, Path]], processes: int) -> Iterator[str]:
    if processes == 1:
        yield from map(_make, jobs)
        return
    # Not fork: the caller may run threads (a progress bar), and OpenCV's do not survive one.
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.imap_unordered(_make, jobs, chunksize=4)


def _make(job: tuple[Item, Path]) -> str:
    """Draw and write one image; answers what went wrong, or nothing."""
    item, folder = job
    pixels = render(item.kind, item.die, item.resolution, item.seed, item.aside)
    encoded, data = cv2.imencode(".png", pixels, _PNG)
    if not encoded:
        return f"{item.filename}: OpenCV could not encode it as PNG"
    try:
        (folder / item.filename).write_bytes(data.tobytes())
    except OSError as error:
        return f"{folder / item.filename}: cannot be written ({error.strerror or error})"
    return ""


def _write_tables(out: Path, training: Sequence[Item], test: Sequence[Item]) -> None:
    _write_table(
        out / "Y_train.csv",
        ("", "filename", "window", "lib", "Label"),
        ((row, one.filename, one.window, one.die, one.label) for row, one in enumerate(training)),
    )
    _write_table(
        out / "win_and_lib.csv",
        ("filename", "window", "lib"),
        ((one.filename, one.window, one.die) for one in test),
    )
    _write_table(
        out / "Y_test_truth.csv",
        ("filename", "Label"),
        ((one.filename, one.label) for one in test),
    )


def _write_table(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
