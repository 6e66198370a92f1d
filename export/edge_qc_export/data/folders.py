"""A set laid out as folders: which files are its pictures, and which belong to other tools.

The class of a picture is the name of its folder, or what its part's ``_classes.csv`` says.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_qc.bundle.costs import label_from_text
from edge_qc.camera.images import SUFFIXES
from edge_qc.parts import GOOD
from edge_qc_export.data.picture_files import closed_faults
from edge_qc_export.data.sample import Part, Sample
from edge_qc_export.data.tables import Fault, read_pictures

CLASSES_TABLE = "_classes.csv"
"""Beside the pictures of a part: ``filename``, and a column per class with 0 or 1."""

_HELD_OUT_PARTS = ("valid", "val", "validation")
"""What other tools call the part that is held out from learning."""

_OF_OTHER_TOOLS = frozenset(
    name.casefold()
    for name in (
        "__MACOSX",
        "@eaDir",
        "__pycache__",
        "lost+found",
        "$RECYCLE.BIN",
        "System Volume Information",
        "#recycle",
        "thumbnails",
    )
)


def folder_samples(
    root: Path, part: Part, dies: Collection[str], faults: list[Fault], notes: list[str]
) -> list[Sample]:
    """The samples of a set laid out as folders, below the root or its parts.

    faults: what is wrong is appended, and left out of the samples. notes: what a user should know
    of how the set was read is appended.
    """
    in_parts = (root / "train").is_dir() or (root / "test").is_dir()
    if not in_parts and part == "test":
        faults.append(Fault(root, 0, "has neither win_and_lib.csv nor a folder test/"))
        return []
    base = root / part if in_parts else root
    if not base.is_dir():
        faults.append(Fault(base, 0, "is missing"))
        return []
    bases = [base]
    if part == "train":
        bases += [root / name for name in _HELD_OUT_PARTS if (root / name).is_dir()]
    if closed := [folder for folder in bases if not _may_list(folder)]:
        faults.extend(closed_faults(closed))
        return []
    # One table makes it a set with tables: a part that lacks its own is at fault, not empty.
    by_table = any(
        os.path.exists(folder / CLASSES_TABLE) for folder in (*bases, root / "train", root / "test")
    )
    samples: list[Sample] = []
    for number, folder in enumerate(bases):
        held_out = number > 0
        place = _Place(folder, root if held_out else base, held_out, dies, faults)
        if by_table:
            samples += _samples_of_table(place, notes)
            continue
        classes = [f for f in _folders_in(folder) if in_parts or f.name not in _HELD_OUT_PARTS]
        for of_class in classes:
            samples += _samples_of_class(of_class, place)
        over = _passed_over_below(folder)
        if over:
            notes.append(
                f"{len(over)} image files below {folder} are hidden or other tools' and are passed "
                f"over, such as {over[0].relative_to(folder)}"
            )
    held = sum(sample.held_out for sample in samples)
    if held:
        notes.append(f"{held} images are held out, as {bases[1]} says")
    return samples


@dataclass(frozen=True, slots=True)
class _Place:
    """Where samples are read from, and what holds for all of them: their names begin below
    ``base``."""

    folder: Path
    base: Path
    held_out: bool
    dies: Collection[str]
    faults: list[Fault]

    def sample(
        self, below: Path, dies: Sequence[str], label: str, table: Path, line: int
    ) -> Sample:
        """The one of the file ``below`` the folder. dies: the folders that may name its die; none
        if there is one die alone."""
        return Sample(
            filename=(self.folder.relative_to(self.base) / below).as_posix(),
            file=self.folder / below,
            die=dies[0] if dies else next(iter(self.dies)),
            window="",
            label=label_from_text(label),
            group=None,
            table=table,
            line=line,
            held_out=self.held_out,
            spelling=label,
        )


def _samples_of_class(folder: Path, place: _Place) -> list[Sample]:
    """Those of one class's folder."""
    if closed := _closed_below(folder):
        place.faults.extend(closed_faults(closed))
        return []
    pictures = _pictures_below(folder)
    if not pictures:
        text = "the class has no image; add some or remove the folder"
        place.faults.append(Fault(folder, 0, text))
    samples = []
    for picture in pictures:
        below = picture.relative_to(place.folder)
        inner = below.parts[1:-1]
        if not inner and len(place.dies) > 1:
            text = (
                f"no die: put it below {folder.name}/DIE/, DIE one of {sorted(place.dies)}, or "
                "name a table of one die with --dies"
            )
            place.faults.append(Fault(picture, 0, text))
            continue
        samples.append(place.sample(below, inner, folder.name, picture, 0))
    return samples


def _samples_of_table(place: _Place, notes: list[str]) -> list[Sample]:
    """Those that the table of classes beside them names."""
    table = place.folder / CLASSES_TABLE
    rows = read_pictures(table, [], place.faults, rest=True)
    if rows and len(rows[0][1]) == 1:
        text = "has no column of a class; wanted filename and a column for each class"
        place.faults.append(Fault(table, 1, text))
        return []
    samples = []
    listed = set()
    for line, row in rows:
        name = row.pop("filename")
        listed.add(place.folder / name)
        inner = Path(name).parts[:-1]
        text = _fault_of_cells(row) if name else "has no filename"
        if not text and not inner and len(place.dies) > 1:
            text = (
                f"has no die: put it below DIE/ and write DIE/{name}, DIE one of "
                f"{sorted(place.dies)}, or name a table of one die with --dies"
            )
        if text:
            place.faults.append(Fault(table, line, f"{name} {text}".strip()))
            continue
        (label,) = (column for column, cell in row.items() if cell == "1")
        samples.append(place.sample(Path(name), inner, label, table, line))
    over = [
        file
        for file in _image_files(place.folder)
        if file not in listed and file.relative_to(place.folder).parts[0] not in _HELD_OUT_PARTS
    ]
    if over and not place.faults:  # beside faults the count would mislead
        notes.append(
            f"{len(over)} image files below {place.folder} are not in {CLASSES_TABLE} and are "
            f"passed over, such as {over[0].relative_to(place.folder)}"
        )
    return samples


def _fault_of_cells(cells: Mapping[str, str]) -> str:
    """What is wrong with a picture's row of classes; empty if one of them is 1, the others 0."""
    wrong = {name: cell for name, cell in cells.items() if cell not in ("0", "1")}
    if wrong:
        seen = ", ".join(f"{cell!r} in the column {name!r}" for name, cell in wrong.items())
        return f"has {seen}; wanted 0 or 1"
    ones = [repr(name) for name, cell in cells.items() if cell == "1"]
    if not ones:
        return f"has no 1; wanted one, in the column of its class ({GOOD} if it is a good part)"
    if len(ones) > 1:
        return (
            f"has {len(ones)} classes, {' and '.join(ones)}, and a photograph has one label here; "
            "wanted one 1. Leave the one that decides"
        )
    return ""


def _is_of_other_tools(name: str) -> bool:
    """Whether a file or folder of this name is hidden or another tool's."""
    return name.startswith(".") or name.casefold() in _OF_OTHER_TOOLS


def _folders_in(folder: Path) -> list[Path]:
    """The folders directly below, by name, without those of other tools."""
    return sorted(f for f in folder.iterdir() if f.is_dir() and not _is_of_other_tools(f.name))


def _pictures_below(folder: Path) -> list[Path]:
    """The pictures below, by name, without hidden files and those of other tools."""
    return [file for file in _image_files(folder) if not _passed_over(file, folder)]


def _passed_over_below(folder: Path) -> list[Path]:
    """The image files below that are hidden or lie in folders of other tools."""
    return [file for file in _image_files(folder) if _passed_over(file, folder)]


def _closed_below(folder: Path) -> list[Path]:
    """The folder and those below that this user may not list: ``rglob`` passes over them."""
    if not _may_list(folder):
        return [folder]
    inner = [below for below in _folders_in(folder) if not below.is_symlink()]  # as rglob does
    return [closed for below in inner for closed in _closed_below(below)]


def _may_list(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _image_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix.casefold() in SUFFIXES and f.is_file())


def _passed_over(file: Path, folder: Path) -> bool:
    return any(_is_of_other_tools(part) for part in file.relative_to(folder).parts)
