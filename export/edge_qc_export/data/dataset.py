"""Labelled images in: the challenge's layout, a folder per class, or a table of classes per part.

Tables and folders become samples; every fault of a table is collected with its file and line, so
that all are reported at once (those of the pictures are added where they are decoded, in
``view_store``). Nothing here decodes a picture, splits a set or knows
a cost.

The challenge's layout (Challenge Data ENS no. 157): ``input_train/*.png`` with ``Y_train.csv`` (an
unnamed index column, ``filename,window,lib,Label``), ``input_test/*.png`` with ``win_and_lib.csv``
(``filename,window,lib``) and, where the truth is known, ``Y_test_truth.csv`` (``filename,Label``).
The first two may have a column ``session``.
A folder per class: ``CLASS/*.png``, or ``CLASS/DIE/*.png`` if there are several dies, below the
root or below its ``train``, ``valid`` (or ``val``: what is held out) and ``test``, as MVTec AD and
Roboflow lay them out.
A table of classes per part: each of these folders holds its pictures and a ``_classes.csv``
(``filename`` and a column per class, with a 1 in one of them), as Roboflow writes it for pictures
with several labels.
With each an optional ``groups.csv`` (``filename,group``) names what a split must keep together.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_qc.bundle.costs import label_from_text
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.data.class_names import spelling_faults, spelling_notes
from edge_qc_export.data.folders import CLASSES_TABLE, folder_samples
from edge_qc_export.data.picture_files import closed_faults, file_fault
from edge_qc_export.data.sample import Part, Sample
from edge_qc_export.data.sessions import Rule, with_sessions
from edge_qc_export.data.tables import Fault, Lines, raise_faults, read_lookup, read_pictures
from edge_qc_export.whole_file import is_utf8, readable

__all__ = [
    "CHALLENGE_CLASSES",
    "GROUPS_TABLE",
    "TEST_TABLE",
    "TRAIN_TABLE",
    "TRUTH_TABLE",
    "Part",
    "Sample",
    "count_table",
    "ordered_classes",
    "read_samples",
    "require_classes",
]

CHALLENGE_CLASSES = (
    GOOD,
    "Boucle plate",
    "Lift-off blanc",
    "Lift-off noir",
    "Missing",
    "Short circuit MOS",
)
"""In the challenge's own order: index 0 to 5; 6 is Drift."""

TRAIN_TABLE, TEST_TABLE, TRUTH_TABLE = "Y_train.csv", "win_and_lib.csv", "Y_test_truth.csv"
GROUPS_TABLE = "groups.csv"


def ordered_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes among labels: GOOD first, then by name, which is the challenge's own order."""
    names = set(labels) - {DRIFT}
    return tuple(sorted(names, key=lambda name: (name != GOOD, name)))


def truth_is_known(root: Path) -> bool:
    """Whether a data set has a test part with labels."""
    return (root / TRUTH_TABLE).exists() or (root / "test").is_dir()


def read_samples(
    root: Path,
    part: Part,
    dies: Collection[str],
    labels: Collection[str] | None = None,
    faults: list[Fault] | None = None,
    notes: list[str] | None = None,
    sessions: Rule = "column",
    *,
    any_label: bool = False,
) -> tuple[Sample, ...]:
    """The samples of one part of a data set, in the tables' order.

    dies: the names that the die table knows. labels: the classes that may occur; None takes the
    challenge's where one of its defects occurs, else any. With a list of faults, faults are
    appended to it and their rows left out; without, DataError lists all of them. notes: what a
    user should know of how the set was read is appended. sessions: where they are read from.
    any_label: others than the challenge's may occur beside those.

    A class of the test part that is not in ``labels`` was never learned: its pictures are drift. In
    the challenge's tables that holds for the challenge's own classes.
    """
    if not os.path.isdir(root):  # False below a folder that cannot be entered, too
        kind = "a file" if os.path.exists(root) else "nothing"
        raise DataError(
            f"data {root}: {kind} there, wanted a folder in the challenge's layout "
            f"({TRAIN_TABLE}, input_train/), with a folder per class, or with a {CLASSES_TABLE} in "
            "train/"
        )
    if not is_utf8(str(root.resolve())):  # what is made of the data names it
        raise DataError(
            f"data {readable(str(root.resolve()))}: the folder's name is not UTF-8. Rename it"
        )
    if not os.access(root, os.R_OK | os.X_OK):
        raise_faults(root, closed_faults([root]))
    found: list[Fault] = []
    said: list[str] = []
    if any((root / name).exists() for name in (TRAIN_TABLE, TEST_TABLE, "input_train")):
        samples = _challenge_samples(root, part, found)
        if part == "test" and labels is not None:
            # In a table any other name is one misspelt, and must not pass for drift.
            samples = _never_learned_as_drift(samples, labels, said, CHALLENGE_CLASSES)
    else:
        samples = folder_samples(root, part, dies, found, said)
        if part == "test" and labels is not None:
            samples = _never_learned_as_drift(samples, labels, said)
    if (root / GROUPS_TABLE).exists():
        groups = read_lookup(root / GROUPS_TABLE, "group", found)
        if (
            part == "train"
            and groups
            and samples
            and not any(s.filename in groups for s in samples)
        ):
            text = f"names no picture to learn from; wanted names such as {samples[0].filename}"
            found.append(Fault(root / GROUPS_TABLE, 2, text))
        # A cell that is left blank names no group.
        samples = [replace(s, group=groups.get(s.filename, (0, ""))[1] or None) for s in samples]
    samples = with_sessions(samples, sessions, found)
    _check_spellings(samples, found, said)
    samples = _known_samples(samples, part, dies, labels, found, any_label)
    if notes is not None:
        notes.extend(said)
    if not samples and not found:
        text = f"names no picture for its {part} part"
        if not any(root.glob("*.csv")):
            text = (
                f"holds no image for its {part} part; wanted {TRAIN_TABLE} beside input_train/, "
                f"a folder of images for each class, or {CLASSES_TABLE} beside the images"
            )
        found.append(Fault(root, 0, text))
    if faults is None:
        raise_faults(root, found)
    else:
        faults.extend(found)
    return tuple(samples)


def _challenge_samples(root: Path, part: Part, faults: list[Fault]) -> list[Sample]:
    table = root / (TRAIN_TABLE if part == "train" else TEST_TABLE)
    folder = root / f"input_{part}"
    columns = ["window", "lib"] + (["Label"] if part == "train" else [])
    truth: Lines = {}
    if part == "test" and (root / TRUTH_TABLE).exists():
        truth = read_lookup(root / TRUTH_TABLE, "Label", faults)
    samples: list[Sample] = []
    for line, row in read_pictures(table, columns, faults, ["session"]):
        name = row["filename"]
        label = row["Label"] if part == "train" else truth.pop(name, (0, None))[1]
        samples.append(
            Sample(
                filename=name,
                file=folder / name,
                die=row["lib"],
                window=row["window"],
                label=None if label is None else label_from_text(label),
                group=None,
                table=table,
                line=line,
                spelling=label or "",
                session=row.get("session"),
            )
        )
    for name, (line, _) in truth.items() if samples else ():  # without, the table is at fault
        faults.append(Fault(root / TRUTH_TABLE, line, f"{name} is not in {TEST_TABLE}"))
    return samples


def _never_learned_as_drift(
    samples: Sequence[Sample],
    labels: Collection[str],
    notes: list[str],
    among: Collection[str] | None = None,
) -> list[Sample]:
    """among: only these names; None for any."""
    named = {s.label for s in samples if s.label and (among is None or s.label in among)}
    unknown = sorted(named - {*labels, DRIFT})
    if unknown:
        notes.append(f"not learned, so drift in the test part: {', '.join(unknown)}")
    return [replace(s, label=DRIFT) if s.label in unknown else s for s in samples]


def _check_spellings(samples: Sequence[Sample], faults: list[Fault], notes: list[str]) -> None:
    spellings: dict[str, set[str]] = {}
    first: dict[str, Sample] = {}
    for sample in samples:
        if sample.label:
            spellings.setdefault(sample.label, set()).add(sample.spelling.strip())
            first.setdefault(sample.label, sample)
    for label, written in spellings.items():
        at = first[label]
        texts = spelling_faults({label: written})
        faults.extend(Fault(at.table, at.line, text) for text in texts)
    notes.extend(spelling_notes(spellings))


def _known_samples(
    samples: Sequence[Sample],
    part: Part,
    dies: Collection[str],
    labels: Collection[str] | None,
    faults: list[Fault],
    any_label: bool,
) -> list[Sample]:
    """The samples whose label, die and file are as they should be."""
    guessed = ""
    if labels is None and not any_label and {s.label for s in samples} & set(CHALLENGE_CLASSES[1:]):
        labels = CHALLENGE_CLASSES
        guessed = (
            ", the challenge's classes, as other labels here are. If it is a class of your own, "
            "name all classes with --costs"
        )
    known = []
    closed: set[Path] = set()
    for sample in samples:
        texts = []
        label = sample.label
        if label == DRIFT and part == "train":
            texts.append(f"{sample.filename} is Drift; drift belongs in the test part alone")
        elif label == "":
            texts.append(f"{sample.filename} has no label")
        elif label not in (None, DRIFT) and labels is not None and label not in labels:
            wanted = ", ".join(sorted(set(labels) - {DRIFT}))
            texts.append(
                f"{sample.filename} has the unknown label {label!r}; wanted {wanted}{guessed}"
            )
        if sample.die not in dies:
            wanted = ", ".join(sorted(dies))
            texts.append(f"{sample.filename} has the unknown die {sample.die!r}; wanted {wanted}")
        if text := file_fault(sample.filename, sample.file, closed):
            texts.append(text)
        faults.extend(Fault(sample.table, sample.line, text) for text in texts)
        if not texts and sample.file.parent not in closed:
            known.append(sample)
    faults.extend(closed_faults(closed))
    return known


def require_classes(
    root: Path, samples: Sequence[Sample], wanted: Collection[str] | None = None
) -> tuple[str, ...]:
    """The classes to learn, in order; GOOD alone is enough. Raises DataError if GOOD or a wanted
    class has no image, or if a class has one image alone."""
    counts = Counter(sample.label for sample in samples if sample.label is not None)
    classes = ordered_classes(counts)
    faults = []
    for name in sorted(({GOOD} | set(wanted or ())) - {DRIFT} - set(classes)):
        faults.append(Fault(root, 0, f"the class {name!r} has no image; add some"))
    for name in classes:
        if counts[name] == 1:
            line = next(sample for sample in samples if sample.label == name)
            text = (
                f"the class {name!r} has one image alone ({line.filename}), which cannot be both "
                "training and held-out part; add images or remove the class"
            )
            faults.append(Fault(line.table, line.line, text))
    if GOOD in classes and len(classes) > 1:
        for die in sorted({s.die for s in samples} - {s.die for s in samples if s.label == GOOD}):
            line = next(sample for sample in samples if sample.die == die)
            text = (
                f"the die {die!r} has no {GOOD} image, so that no part could pass there; add some, "
                "or take the die's images out"
            )
            faults.append(Fault(line.table, line.line, text))
    raise_faults(root, faults)
    return classes


def count_table(samples: Sequence[Sample]) -> Mapping[str, Mapping[str, int]]:
    """Images by class, then by die."""
    dies = sorted({sample.die for sample in samples})
    labels = sorted(
        {sample.label for sample in samples if sample.label is not None},
        key=lambda name: (name != GOOD, name == DRIFT, name),
    )
    counts = Counter((sample.label, sample.die) for sample in samples)
    return {label: {die: counts[label, die] for die in dies} for label in labels}
