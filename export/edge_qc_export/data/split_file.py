"""A run's split on the disk: which training pictures are held out, and of which session each is."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc_export.data.sample import Sample
from edge_qc_export.data.splitting import HELD_OUT, TRAIN
from edge_qc_export.data.tables import Fault, raise_faults, read_table
from edge_qc_export.whole_file import write_whole


def write_split(file: Path, samples: Sequence[Sample], held_out: NDArray[np.bool_]) -> None:
    """Write ``filename,split``, and ``session`` if it is known. Raises EdgeQCError if the disk
    refuses."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    known = all(sample.session is not None for sample in samples)
    writer.writerow(["filename", "split", "session"] if known else ["filename", "split"])
    for sample, out in zip(samples, held_out, strict=True):
        row = [sample.filename, HELD_OUT if out else TRAIN]
        writer.writerow([*row, sample.session] if known else row)
    write_whole(file, text.getvalue().encode())


def read_split(file: Path) -> dict[str, str]:
    """``train`` or ``held-out`` by filename. Raises DataError with all faults of the file."""
    faults: list[Fault] = []
    parts: dict[str, str] = {}
    for line, row in read_table(file, ["filename", "split"], faults):
        if row["split"] not in (TRAIN, HELD_OUT):
            text = f"split {row['split']!r}, wanted {TRAIN} or {HELD_OUT}"
            faults.append(Fault(file, line, text))
        parts[row["filename"]] = row["split"]
    raise_faults(file, faults)
    return parts


def as_split(samples: Sequence[Sample], file: Path) -> tuple[Sample, ...]:
    """The samples with the sessions that training knew them by; without any where it knew none."""
    rows = read_table(file, ["filename"], [], ["session"])
    sessions = {row["filename"]: row.get("session") for _, row in rows}
    return tuple(replace(s, session=sessions.get(s.filename)) for s in samples)


def held_out_by(parts: dict[str, str], samples: Sequence[Sample], file: Path) -> NDArray[np.bool_]:
    """Which samples a split that was read holds out. Raises DataError if it is another set's."""
    unknown = [sample.filename for sample in samples if sample.filename not in parts]
    if unknown or len(parts) != len(samples):
        raise DataError(
            f"split {file}: is of another data set: {len(parts)} files where the data has "
            f"{len(samples)}, {len(unknown)} of them not in the split. Name the data that it "
            "was made of, or train again"
        )
    return np.array([parts[sample.filename] == HELD_OUT for sample in samples])
