"""A set with a table of classes in each part, as Roboflow writes it, is read as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import Part, Sample, read_samples, require_classes
from edge_qc_export.data.splitting import split_of
from tests.rig.pictures import DIES, draw, write_picture

ONE_DIE = ["only"]
HEADER = "filename, good, hole"


def write_part(folder: Path, rows: Sequence[str], header: str = HEADER) -> Path:
    """A part with its table and the pictures that the rows begin with; returns the table."""
    for row in rows:
        name = row.split(",")[0]
        write_picture(folder / name, draw(name, np.random.default_rng(0)))
    table = folder / "_classes.csv"
    table.write_text("".join(f"{line}\n" for line in (header, *rows)))
    return table


def read(root: Path) -> list[tuple[str, str | None]]:
    return [(s.filename, s.label) for s in read_samples(root, "train", ONE_DIE)]


def faults_of(root: Path, dies: Sequence[str] = ONE_DIE) -> list[str]:
    """The lines of the error, without its first and last."""
    with pytest.raises(DataError) as caught:
        read_samples(root, "train", dies)
    return [line.strip() for line in str(caught.value).splitlines()[1:-1]]


def split_by(samples: Sequence[Sample]) -> list[bool]:
    hashes = np.random.default_rng(0).random((len(samples), 256)) < 0.5
    return [bool(out) for out in split_of(samples, hashes, 0, lambda _: None)]


def test_the_one_1_of_a_row_is_the_label_and_valid_is_held_out(tmp_path: Path) -> None:
    write_part(tmp_path / "train", ["a.png, 1, 0", "b.png, 0, 1"])
    write_part(tmp_path / "valid", ["a.png, 0, 1", "c.png, 1, 0"])
    write_part(tmp_path / "test", ["d.png, 0, 1"])
    notes: list[str] = []
    samples = read_samples(tmp_path, "train", ONE_DIE, notes=notes)
    assert [(s.filename, s.label, s.held_out) for s in samples] == [
        ("a.png", "GOOD", False),
        ("b.png", "hole", False),
        ("valid/a.png", "hole", True),
        ("valid/c.png", "GOOD", True),
    ]
    assert [s.file.is_file() for s in samples] == [True] * 4
    assert notes == [
        f"2 images are held out, as {tmp_path / 'valid'} says",
        "the class 'good' is taken as GOOD",
    ]
    assert require_classes(tmp_path, samples) == ("GOOD", "hole")
    assert split_by(samples) == [False, False, True, True]
    assert [s.label for s in read_samples(tmp_path, "test", ONE_DIE)] == ["hole"]


def test_without_a_valid_part_a_share_is_held_out(tmp_path: Path) -> None:
    rows = [f"{n}.png, {n % 2}, {1 - n % 2}" for n in range(20)]
    write_part(tmp_path / "train", rows)
    assert sum(split_by(read_samples(tmp_path, "train", ONE_DIE))) == 4


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("gap", ["", " "])
def test_marks_line_ends_blanks_and_quotes_are_taken_as_they_come(
    tmp_path: Path, mark: str, end: str, gap: str
) -> None:
    table = tmp_path / "train" / "_classes.csv"
    write_picture(table.parent / "a, b.png", draw("hole", np.random.default_rng(0)))
    lines = (
        ("Filename", "OK", '"bent, twice"', "Hole"),
        ('"a, b.png"', "0", "1", "0"),
    )
    text = mark + "".join(f",{gap}".join(line) + end for line in lines)
    table.write_bytes(text.encode())
    assert read(tmp_path) == [("a, b.png", "bent, twice")]


def test_every_faulty_row_is_told_with_its_line_and_the_sound_ones_are_left(tmp_path: Path) -> None:
    names = ("good", "none", "two", "word", "empty", "good", "gone", "short")
    cells = ("1, 0", "0, 0", "1, 1", "1, yes", ", 1", "0, 1", "0, 1", "1")
    rows = [f"{name}.png, {cell}" for name, cell in zip(names, cells, strict=True)]
    table = write_part(tmp_path / "train", [*rows, "last.png, 0, 1"])
    table.write_text(table.read_text() + ", 0, 1\n")
    (tmp_path / "train" / "gone.png").unlink()
    told = [
        (3, "none.png has no 1; wanted one, in the column of its class (GOOD if it is a good"),
        (4, "two.png has 2 classes, 'good' and 'hole', and a photograph has one label here; want"),
        (5, "word.png has 'yes' in the column 'hole'; wanted 0 or 1"),
        (6, "empty.png has '' in the column 'good'; wanted 0 or 1"),
        (7, "good.png is named twice, first in line 2"),
        (8, f"gone.png is missing in {tmp_path / 'train'}"),
        (9, "has 2 cells, wanted 3"),
        (11, "has no filename"),
    ]
    found = sorted(faults_of(tmp_path), key=lambda line: int(line.split(":")[1]))
    assert len(found) == len(told)
    for line, (number, text) in zip(found, told, strict=True):
        assert line.startswith(f"{table}:{number}: {text}")
    sound = read_samples(tmp_path, "train", ONE_DIE, faults=[])
    assert [s.filename for s in sound] == ["good.png", "last.png"]


def test_faults_of_train_and_valid_are_told_together(tmp_path: Path) -> None:
    tables = [write_part(tmp_path / name, ["a.png, 0, 0"]) for name in ("train", "valid")]
    assert [line.split(": ")[0] for line in faults_of(tmp_path)] == [f"{t}:2" for t in tables]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("image, good, hole", "has no column filename; wanted filename, seen image, good, hole"),
        ("filename, hole, hole", "has the column 'hole' twice; wanted it once"),
        ('filename, "good, hole', "the header has 2 lines, wanted 1: a quote before it may have"),
    ],
)
def test_a_header_that_cannot_be_read_is_told(tmp_path: Path, header: str, told: str) -> None:
    table = write_part(tmp_path / "train", ["a.png, 0, 1"], header)
    assert faults_of(tmp_path)[0].startswith(f"{table}:1: {told}")


def test_a_header_without_a_class_is_told_once(tmp_path: Path) -> None:
    table = write_part(tmp_path / "train", ["a.png", "b.png"], "filename")
    (told,) = faults_of(tmp_path)
    assert told.startswith(f"{table}:1: has no column of a class; wanted filename and a column for")


@pytest.mark.parametrize(("folder", "part"), [("valid", "train"), ("test", "test")])
def test_a_part_without_its_table_is_told_and_not_passed_over(
    tmp_path: Path, folder: str, part: Part
) -> None:
    write_part(tmp_path / "train", ["a.png, 1, 0", "b.png, 0, 1"])
    missing = write_part(tmp_path / folder, ["c.png, 1, 0"])
    missing.unlink()
    with pytest.raises(DataError) as caught:
        read_samples(tmp_path, part, ONE_DIE)
    assert f"{missing}: cannot be read (No such file or directory)" in str(caught.value)


def test_images_that_no_row_names_are_passed_over_and_counted(tmp_path: Path) -> None:
    write_part(tmp_path / "train", ["a.png, 1, 0", "b.png, 0, 1", "c.png, 0, 1"], HEADER)
    table = tmp_path / "train" / "_classes.csv"
    table.write_text(table.read_text().replace("b.png, 0, 1\n", ""))
    notes: list[str] = []
    samples = read_samples(tmp_path, "train", ONE_DIE, notes=notes)
    assert [s.filename for s in samples] == ["a.png", "c.png"]
    folder = table.parent
    assert notes[0] == (
        f"1 image files below {folder} are not in _classes.csv and are passed over, such as b.png"
    )


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("filename, good, Not judged", "'Not judged' has a name that verdicts use"),
        ("filename, GOOD, ok", "'GOOD' is written in 2 ways, 'GOOD' and 'ok'"),
        ("filename, good, drift", "b.png is Drift; drift belongs in the test part alone"),
    ],
)
def test_names_of_classes_follow_the_rules_of_other_layouts(
    tmp_path: Path, header: str, told: str
) -> None:
    write_part(tmp_path / "train", ["a.png, 1, 0", "b.png, 0, 1"], header)
    (found,) = faults_of(tmp_path)
    assert told in found


def test_a_class_of_the_test_part_that_was_never_learned_is_drift(tmp_path: Path) -> None:
    write_part(tmp_path / "train", ["a.png, 1, 0, 0"], "filename, good, hole, scratch")
    write_part(
        tmp_path / "test", ["b.png, 0, 1, 0", "c.png, 0, 0, 1"], "filename, good, hole, scratch"
    )
    notes: list[str] = []
    samples = read_samples(tmp_path, "test", ONE_DIE, ("GOOD", "hole", DRIFT), notes=notes)
    assert [s.label for s in samples] == ["hole", DRIFT]
    assert notes == ["not learned, so drift in the test part: scratch"]


def test_with_several_dies_a_folder_names_the_die(tmp_path: Path) -> None:
    table = write_part(tmp_path / "train", ["Die02/a.png, 1, 0"])
    assert [s.die for s in read_samples(tmp_path, "train", list(DIES))] == ["Die02"]
    write_part(table.parent, ["Die02/a.png, 1, 0", "b.png, 0, 1", "Die09/c.png, 0, 1"])
    without, unknown = faults_of(tmp_path, list(DIES))
    assert without.startswith(f"{table}:3: b.png has no die: put it below DIE/ and write DIE/b.png")
    assert without.endswith("or name a table of one die with --dies")
    assert unknown.startswith(f"{table}:4: Die09/c.png has the unknown die 'Die09'")


def test_a_set_without_parts_may_have_its_table_at_the_root(tmp_path: Path) -> None:
    write_part(tmp_path, ["a.png, 1, 0"])
    write_part(tmp_path / "valid", ["b.png, 1, 0"])
    notes: list[str] = []
    samples = read_samples(tmp_path, "train", ONE_DIE, notes=notes)
    assert [(s.filename, s.held_out) for s in samples] == [("a.png", False), ("valid/b.png", True)]
    assert not any("passed over" in note for note in notes)
