"""Tables and folders become samples; what is wrong is told at once, with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import (
    CHALLENGE_CLASSES,
    count_table,
    ordered_classes,
    read_samples,
    require_classes,
)
from edge_qc_export.data.tables import Fault
from tests.rig.pictures import DIES, draw, write_challenge, write_picture, write_rows


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_challenges_tables_are_read_whatever_their_delimiter_and_bom(
    tmp_path: Path, delimiter: str, encoding: str
) -> None:
    write_challenge(
        tmp_path, {"GOOD": 2, "Missing": 3}, {"GOOD": 1}, delimiter=delimiter, encoding=encoding
    )
    samples = read_samples(tmp_path, "train", DIES)
    assert [sample.label for sample in samples] == ["GOOD"] * 2 + ["Missing"] * 3
    assert [sample.die for sample in samples[:3]] == ["Die01", "Die02", "Die01"]
    assert samples[0].window == "2003"
    assert samples[0].file == tmp_path / "input_train" / "train_0001.png"
    assert [sample.line for sample in samples] == [2, 3, 4, 5, 6]
    (tested,) = read_samples(tmp_path, "test", DIES)
    assert (tested.filename, tested.label) == ("test_0001.png", "GOOD")


@pytest.mark.parametrize("spelling", ["Drift", "drift", "DRIFT", " Drift "])
def test_drift_is_one_label_however_it_is_spelt(tmp_path: Path, spelling: str) -> None:
    write_challenge(tmp_path, {"GOOD": 2}, {spelling: 1, "GOOD": 1})
    assert [s.label for s in read_samples(tmp_path, "test", DIES)] == [DRIFT, "GOOD"]


def test_a_defect_that_was_not_learned_is_drift_and_a_misspelt_one_a_fault(
    tmp_path: Path,
) -> None:
    """Of a bundle of GOOD parts alone, in the challenge's tables."""
    write_challenge(tmp_path, {"GOOD": 2}, {"GOOD": 1, "Missing": 1})
    notes: list[str] = []
    samples = read_samples(tmp_path, "test", DIES, ("GOOD", DRIFT), notes=notes)
    assert [s.label for s in samples] == ["GOOD", DRIFT]
    assert notes == ["not learned, so drift in the test part: Missing"]
    truth = tmp_path / "Y_test_truth.csv"
    truth.write_text(truth.read_text().replace("Missing", "Mising"))
    with pytest.raises(DataError, match="unknown label 'Mising'"):
        read_samples(tmp_path, "test", DIES, ("GOOD", DRIFT))


def test_a_class_of_ones_own_beside_the_challenges_names_the_way(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 2, "Missing": 2, "bent": 2})
    with pytest.raises(DataError, match=r"'bent'.*name all classes with --costs"):
        read_samples(tmp_path, "train", DIES)


def test_a_test_part_without_truth_has_no_labels(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 2}, {"GOOD": 2})
    (tmp_path / "Y_test_truth.csv").unlink()
    assert [s.label for s in read_samples(tmp_path, "test", DIES)] == [None, None]


def test_all_faults_of_a_table_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 4, "Missing": 4})
    (tmp_path / "input_train" / "train_0003.png").unlink()
    rows = [line.split(",") for line in (tmp_path / "Y_train.csv").read_text().splitlines()]
    rows[1][4] = "Mising"
    rows[2][3] = "Die09"
    rows[4][4] = "Drift"
    rows[6] = rows[5]
    rows[7][4] = ""
    rows[8].append("more")
    write_rows(tmp_path / "Y_train.csv", rows)
    with pytest.raises(DataError) as caught:
        read_samples(tmp_path, "train", DIES)
    text = str(caught.value)
    table = tmp_path / "Y_train.csv"
    for line, told in (
        (2, "unknown label 'Mising'; wanted Boucle plate, GOOD"),
        (3, "unknown die 'Die09'; wanted Die01, Die02"),
        (4, "is missing in"),
        (5, "drift belongs in the test part alone"),
        (7, "is named twice, first in line 6"),
        (8, "has no label"),
        (9, "has 6 cells, wanted 5"),
    ):
        (found,) = [row for row in text.splitlines() if f"{table}:{line}:" in row]
        assert told in found
    assert "7 faults" in text


def test_faults_can_be_collected_and_leave_the_sound_rows(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 3})
    (tmp_path / "input_train" / "train_0002.png").unlink()
    faults: list[Fault] = []
    samples = read_samples(tmp_path, "train", DIES, None, faults)
    assert [s.filename for s in samples] == ["train_0001.png", "train_0003.png"]
    assert [fault.line for fault in faults] == [3]


def test_truth_of_an_image_that_is_not_in_the_test_part_is_a_fault(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 2}, {"GOOD": 1})
    write_rows(
        tmp_path / "Y_test_truth.csv",
        [["filename", "Label"], ["test_0001.png", "GOOD"], ["other.png", "GOOD"]],
    )
    with pytest.raises(DataError, match=r"Y_test_truth\.csv:3: other\.png is not in win_and_lib"):
        read_samples(tmp_path, "test", DIES)


def test_a_test_table_that_is_none_is_told_without_each_row_of_the_truth(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 2}, {"GOOD": 3})
    (tmp_path / "win_and_lib.csv").write_text("file,window,lib\ntest_0001.png,1,Die01\n")
    with pytest.raises(DataError, match="1 fault:") as caught:
        read_samples(tmp_path, "test", DIES)
    assert "win_and_lib.csv:1: has no column filename" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"filename,window,lib\n", r"Y_train\.csv:1: has no column Label"),
        (b"filename,window,lib,Label\na.png,1,Die01,Lift-off n\xe9ant\n", "2: is not UTF-8"),
        (b"", "has no column filename, window, lib, Label"),
        (b"filename,window,lib,Label\n", "names no picture for its train part"),
    ],
)
def test_a_table_that_is_none_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "Y_train.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_samples(tmp_path, "train", DIES)


def test_an_empty_folder_is_told_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no image .* a folder of images for each class"):
        read_samples(tmp_path, "train", DIES)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing there, wanted a folder in the chall"):
        read_samples(tmp_path / "none", "train", DIES)


def test_pictures_of_the_challenge_without_their_table_are_told(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 2})
    (tmp_path / "Y_train.csv").unlink()
    with pytest.raises(DataError, match=r"Y_train\.csv: cannot be read \(No such file"):
        read_samples(tmp_path, "train", DIES)


def test_a_folder_per_class_is_read_with_its_dies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for die in DIES:
        for label in ("GOOD", "bent"):
            write_picture(tmp_path / "train" / label / die / "1.png", draw(label, rng))
    write_picture(tmp_path / "test" / "drift" / "Die02" / "1.png", draw("odd", rng))
    samples = read_samples(tmp_path, "train", DIES)
    assert [(s.label, s.die) for s in samples] == [
        ("GOOD", "Die01"),
        ("GOOD", "Die02"),
        ("bent", "Die01"),
        ("bent", "Die02"),
    ]
    assert [(s.label, s.die) for s in read_samples(tmp_path, "test", DIES)] == [(DRIFT, "Die02")]


def test_a_folder_per_class_needs_no_die_folder_where_there_is_one_die(tmp_path: Path) -> None:
    write_picture(tmp_path / "GOOD" / "1.png", draw("GOOD", np.random.default_rng(0)))
    (sample,) = read_samples(tmp_path, "train", ["only"])
    assert (sample.die, sample.filename) == ("only", "GOOD/1.png")


def test_groups_are_read_with_either_layout(tmp_path: Path) -> None:
    write_picture(tmp_path / "folders" / "GOOD" / "1.png", draw("GOOD", np.random.default_rng(0)))
    (tmp_path / "folders" / "groups.csv").write_text("filename,group\nGOOD/1.png,board 7\n")
    (sample,) = read_samples(tmp_path / "folders", "train", ["only"])
    assert sample.group == "board 7"
    write_challenge(tmp_path / "challenge", {"GOOD": 2})
    (tmp_path / "challenge" / "groups.csv").write_text("filename,group\ntrain_0002.png,x\n")
    assert [s.group for s in read_samples(tmp_path / "challenge", "train", DIES)] == [None, "x"]


def test_a_blank_group_is_none_and_groups_of_other_names_are_told(tmp_path: Path) -> None:
    data = write_challenge(tmp_path, {"GOOD": 3})
    (data / "groups.csv").write_text("filename,group\ntrain_0001.png,\ntrain_0002.png, \n")
    assert [s.group for s in read_samples(data, "train", DIES)] == [None, None, None]
    (data / "groups.csv").write_text("filename,group\ninput_train/train_0001.png,x\n")
    with pytest.raises(DataError, match=r"no picture to learn from; .* such as train_0001\.png"):
        read_samples(data, "train", DIES)


def test_a_quote_without_an_end_is_told_and_not_followed_for_ever(tmp_path: Path) -> None:
    data = write_challenge(tmp_path, {"GOOD": 2})
    whole = (data / "Y_train.csv").read_text()
    lines = "9,train_0002.png,2003,Die01,GOOD\n" * 5000
    (data / "Y_train.csv").write_text(f'{whole}9,"train_0002.png,2003,Die01,GOOD\n{lines}')
    with pytest.raises(DataError, match="a quote before it may have no end"):
        read_samples(data, "train", DIES)
    (data / "Y_train.csv").write_text(whole + "9," + 400 * "x" + ",2003,Die01,GOOD\n")
    with pytest.raises(DataError, match="is missing in"):
        read_samples(data, "train", DIES)


def test_a_folder_per_class_tells_empty_classes_and_pictures_without_die(tmp_path: Path) -> None:
    write_picture(tmp_path / "GOOD" / "1.png", draw("GOOD", np.random.default_rng(0)))
    (tmp_path / "bent").mkdir()
    with pytest.raises(DataError) as caught:
        read_samples(tmp_path, "train", DIES)
    assert "bent: the class has no image" in str(caught.value)
    assert "1.png: no die: put it below GOOD/DIE/" in str(caught.value)


def test_classes_stand_in_the_challenges_order() -> None:
    assert ordered_classes([*reversed(CHALLENGE_CLASSES), DRIFT]) == CHALLENGE_CLASSES


@pytest.mark.parametrize(
    ("counts", "wanted", "told"),
    [
        ({"GOOD": 3, "Missing": 1}, None, "the class 'Missing' has one image alone (train_0004"),
        ({"GOOD": 3, "Missing": 3}, ["GOOD", "Missing", "bent"], "the class 'bent' has no image"),
        ({"Missing": 3, "Boucle plate": 3}, None, "the class 'GOOD' has no image"),
    ],
)
def test_classes_that_cannot_be_learnt_are_told(
    tmp_path: Path, counts: dict[str, int], wanted: list[str] | None, told: str
) -> None:
    samples = read_samples(write_challenge(tmp_path, counts), "train", DIES)
    with pytest.raises(DataError) as caught:
        require_classes(tmp_path, samples, wanted)
    assert told in str(caught.value)


def test_images_are_counted_by_class_and_die(tmp_path: Path) -> None:
    samples = read_samples(write_challenge(tmp_path, {"Missing": 3, "GOOD": 2}), "train", DIES)
    assert count_table(samples) == {
        "GOOD": {"Die01": 1, "Die02": 1},
        "Missing": {"Die01": 2, "Die02": 1},
    }
