"""A set laid out as folders: which files are its pictures, and which belong to other tools."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from edge_qc.camera.images import SUFFIXES
from edge_qc_export.data.class_names import label_from_text
from edge_qc_export.data.sample import Part, Sample
from edge_qc_export.data.tables import Fault

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
    """The samples of a set laid out as folders: a folder per class, below the root or its parts."""
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
    samples: list[Sample] = []
    for number, folder in enumerate(bases):
        held_out = number > 0
        names = root if held_out else base
        classes = [f for f in _folders_in(folder) if in_parts or f.name not in _HELD_OUT_PARTS]
        for of_class in classes:
            samples += _samples_of_class(of_class, names, held_out, dies, faults)
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


def _samples_of_class(
    folder: Path, base: Path, held_out: bool, dies: Collection[str], faults: list[Fault]
) -> list[Sample]:
    """Those of one class's folder, named by their path below ``base``."""
    pictures = _pictures_below(folder)
    if not pictures:
        faults.append(Fault(folder, 0, "the class has no image; add some or remove the folder"))
    samples = []
    for picture in pictures:
        inner = picture.relative_to(folder).parts[:-1]
        if not inner and len(dies) > 1:
            text = (
                f"no die: put it below {folder.name}/DIE/, DIE one of {sorted(dies)}, or name a "
                "table of one die with --dies"
            )
            faults.append(Fault(picture, 0, text))
            continue
        samples.append(
            Sample(
                filename=picture.relative_to(base).as_posix(),
                file=picture,
                die=inner[0] if inner else next(iter(dies)),
                window="",
                label=label_from_text(folder.name),
                group=None,
                table=picture,
                line=0,
                held_out=held_out,
                spelling=folder.name,
            )
        )
    return samples


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


def _image_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix.casefold() in SUFFIXES and f.is_file())


def _passed_over(file: Path, folder: Path) -> bool:
    return any(_is_of_other_tools(part) for part in file.relative_to(folder).parts)
