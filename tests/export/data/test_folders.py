"""Sets as other tools leave them are read as they are; what is none of a set is passed over."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install ./export")

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import read_samples, require_classes
from tests.rig.pictures import DIES, draw, write_challenge, write_picture, write_rows
from tests.rig.privileges import open_folder, without_root

pytestmark = pytest.mark.torch

ONE_DIE = ["only"]


def write_classes(root: Path, *classes: str, count: int = 2) -> None:
    rng = np.random.default_rng(0)
    for label in classes:
        for number in range(count):
            write_picture(root / label / f"{number}.png", draw(label, rng))


def test_hidden_files_and_other_tools_folders_are_passed_over_and_counted(tmp_path: Path) -> None:
    write_classes(tmp_path, "GOOD", "hole")
    for name in (
        "GOOD/._0.png",
        "__MACOSX/GOOD/._0.png",
        "@eaDir/GOOD/0.png",
        "GOOD/.ipynb_checkpoints/0-checkpoint.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    notes: list[str] = []
    samples = read_samples(tmp_path, "train", ONE_DIE, notes=notes)
    assert [s.filename for s in samples] == ["GOOD/0.png", "GOOD/1.png", "hole/0.png", "hole/1.png"]
    assert len(notes) == 1
    assert notes[0].startswith(f"4 image files below {tmp_path} are hidden or other tools'")


@pytest.mark.parametrize("part", ["valid", "val"])
def test_roboflows_folders_are_read_and_its_valid_part_is_held_out(
    tmp_path: Path, part: str
) -> None:
    for folder in ("train", part, "test"):
        write_classes(tmp_path / folder, "good", "hole")
    (tmp_path / "README.roboflow.txt").write_text("made elsewhere")
    notes: list[str] = []
    samples = read_samples(tmp_path, "train", ONE_DIE, notes=notes)
    assert {(s.filename, s.label) for s in samples if s.held_out} == {
        (f"{part}/good/0.png", "GOOD"),
        (f"{part}/good/1.png", "GOOD"),
        (f"{part}/hole/0.png", "hole"),
        (f"{part}/hole/1.png", "hole"),
    }
    assert next(s.filename for s in samples if not s.held_out) == "good/0.png"
    assert notes == [
        f"4 images are held out, as {tmp_path / part} says",
        "the class 'good' is taken as GOOD",
    ]
    assert require_classes(tmp_path, samples) == ("GOOD", "hole")


def test_defects_of_mvtec_ad_that_were_never_learned_are_drift(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "good", "bent")
    write_classes(tmp_path / "test", "good", "bent", "broken_large")
    write_classes(tmp_path / "ground_truth", "broken_large")
    notes: list[str] = []
    samples = read_samples(tmp_path, "test", ONE_DIE, ("GOOD", "bent", DRIFT), notes=notes)
    assert [s.label for s in samples] == ["bent", "bent", DRIFT, DRIFT, "GOOD", "GOOD"]
    assert "not learned, so drift in the test part: broken_large" in notes


@pytest.mark.parametrize("spelling", ["good", "Good", "OK", "ok"])
def test_a_table_may_write_good_as_others_do(tmp_path: Path, spelling: str) -> None:
    write_challenge(tmp_path, {spelling: 2, "bent": 2})
    notes: list[str] = []
    samples = read_samples(tmp_path, "train", DIES, notes=notes)
    assert [s.label for s in samples] == ["GOOD", "GOOD", "bent", "bent"]
    assert notes == [f"the class {spelling!r} is taken as GOOD"]


@pytest.mark.parametrize("name", ["NOT_JUDGED", "not judged", "Pass", "reject", "REVIEW"])
def test_names_that_verdicts_use_are_refused(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path, "GOOD", name)
    with pytest.raises(DataError, match=f"1 fault.*\n.*the class '{name}' has a name that verdic"):
        read_samples(tmp_path, "train", ONE_DIE)


def test_two_names_that_look_alike_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, "GOOD", *(unicodedata.normalize(f, "Défaut") for f in ("NFC", "NFD")))
    with pytest.raises(DataError, match=r"written in 2 ways, 'De\\u0301faut' and 'D\\xe9faut'"):
        read_samples(tmp_path, "train", ONE_DIE)


def test_one_name_in_either_form_is_one_class(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "GOOD", unicodedata.normalize("NFD", "Défaut"))
    write_classes(tmp_path / "test", "GOOD", unicodedata.normalize("NFC", "Défaut"))
    learned = {s.label for s in read_samples(tmp_path, "train", ONE_DIE)}
    tested = {s.label for s in read_samples(tmp_path, "test", ONE_DIE, learned)}  # type: ignore[arg-type]
    assert learned == tested == {"GOOD", "D\xe9faut"}


def test_good_and_ok_together_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, "GOOD", "ok", "hole")
    with pytest.raises(DataError, match="'GOOD' is written in 2 ways, 'GOOD' and 'ok'; write one"):
        read_samples(tmp_path, "train", ONE_DIE)


def test_a_die_without_good_is_told(tmp_path: Path) -> None:
    data = write_challenge(tmp_path, {"GOOD": 4, "Missing": 4})
    rows = [line.split(",") for line in (data / "Y_train.csv").read_text().splitlines()]
    for row in rows[1:5]:
        row[3] = "Die01"
    write_rows(data / "Y_train.csv", rows)
    samples = read_samples(data, "train", DIES)
    with pytest.raises(DataError, match="the die 'Die02' has no GOOD image, so that no part could"):
        require_classes(data, samples)


def test_a_name_that_is_not_utf8_is_told_before_the_work(tmp_path: Path) -> None:
    write_classes(tmp_path, "GOOD", "flat")
    odd = tmp_path / "GOOD" / os.fsdecode(b"caf\xe9.png")
    (tmp_path / "GOOD" / "0.png").rename(odd)
    with pytest.raises(DataError, match="1 fault:") as told:
        read_samples(tmp_path, "train", ONE_DIE)
    assert r"GOOD/caf\udce9.png: the file's name is not UTF-8; rename it" in str(told.value)
    str(told.value).encode()  # a terminal can show it


def test_a_data_folder_whose_name_is_not_utf8_is_told(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", "GOOD", "flat")
    root = (tmp_path / "data").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    with pytest.raises(DataError, match=r"name is not UTF-8\. Rename it") as told:
        read_samples(root, "train", ONE_DIE)
    str(told.value).encode()


def reading_of(root: Path) -> str:
    """What a user who is not root is told of the set."""

    def read() -> str:
        try:
            return f"{len(read_samples(root, 'train', DIES))} samples"
        except DataError as error:
            return str(error)

    return without_root(read)


@pytest.fixture
def shared() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.mark.parametrize("mode", [0o000, 0o644])
def test_a_folder_of_images_that_may_not_be_read_is_one_fault(shared: Path, mode: int) -> None:
    write_challenge(shared / "data", {"GOOD": 4, "Missing": 4})
    (shared / "data" / "input_train").chmod(mode)
    said = reading_of(shared / "data")
    assert "1 fault:" in said
    assert "input_train: cannot be read (Permission denied); let this user read" in said


@pytest.mark.parametrize(
    "closed", ["data", "data/train", "data/train/flat", "data/train/flat/Die01"]
)
def test_a_closed_folder_of_a_class_is_told(shared: Path, closed: str) -> None:
    rng = np.random.default_rng(0)
    for label in ("GOOD", "flat"):
        for die in ("Die01", "Die02"):
            write_picture(shared / "data/train" / label / die / "a.png", draw(label, rng))
    (shared / closed).chmod(0o000)
    said = reading_of(shared / "data")
    assert "1 fault:" in said
    assert f"{closed}: cannot be read (Permission denied)" in said
