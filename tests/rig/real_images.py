"""Real images, which are not ours: EDGE_QC_DEEPPCB names them, and nothing else does."""

from __future__ import annotations

import csv
import os
import shutil
import tarfile
from pathlib import Path

import pytest

_TABLES = {
    "Y_train.csv": "input_train",
    "win_and_lib.csv": "input_test",
    "Y_test_truth.csv": "input_test",
}


def deeppcb(
    folder: Path, train: int | None = None, test: int | None = None, *, pictures: bool = True
) -> Path:
    """A copy of the first rows of the set, in its own layout, in ``folder``.

    train, test: how many rows of each; None for all. pictures: without, the files are there but
    empty. Skips the test where the environment names no images.
    """
    named = os.environ.get("EDGE_QC_DEEPPCB", "")
    if not named:
        pytest.skip(
            "needs real images: EDGE_QC_DEEPPCB is the folder of the script in docs/training.md, "
            "or a tar of it"
        )
    whole = Path(named)
    assert whole.exists(), f"EDGE_QC_DEEPPCB is {named}, which is not there"
    if whole.is_file():
        whole = _unpacked(whole, folder / "whole", train, test, pictures)
    part = folder / "deeppcb"
    part.mkdir()
    for file in whole.glob("*.*"):
        if file.name not in _TABLES:
            shutil.copy(file, part)
    for table, images in _TABLES.items():
        (part / images).mkdir(exist_ok=True)
        header, kept = _first_rows(whole / table, train if images == "input_train" else test)
        with (part / table).open("w", newline="") as target:
            csv.writer(target).writerows([header, *kept])
        for row in kept:
            name = row[header.index("filename")]
            if pictures:
                shutil.copy(whole / images / name, part / images / name)
            else:
                (part / images / name).touch()
    return part


def _first_rows(table: Path, count: int | None) -> tuple[list[str], list[list[str]]]:
    with table.open(newline="") as source:
        header, *rows = csv.reader(source)
    return header, rows[:count]


def _unpacked(tar: Path, folder: Path, train: int | None, test: int | None, pictures: bool) -> Path:
    """The tables, and no more pictures than are asked for: there are thousands."""
    with tarfile.open(tar) as archive:
        members = archive.getmembers()
        tables = [member for member in members if not member.name.endswith(".png")]
        archive.extractall(folder, tables, filter="data")
        (whole,) = folder.iterdir()
        wanted: set[str] = set()
        for table, images in _TABLES.items() if pictures else ():
            header, rows = _first_rows(whole / table, train if images == "input_train" else test)
            at = header.index("filename")
            wanted |= {f"{whole.name}/{images}/{row[at]}" for row in rows}
        archive.extractall(folder, [one for one in members if one.name in wanted], filter="data")
    return whole
