"""Sessions: whole ones on one side of a split and of a fold, and what was left unsaid is told."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc_export.data.dataset import Sample, read_samples
from edge_qc_export.data.sessions import session_groups, session_notes, several_sessions
from edge_qc_export.data.split_file import as_split, held_out_by, read_split, write_split
from edge_qc_export.data.splitting import require_both_sides, split_of
from tests.rig.pictures import DIES, draw, write_challenge, write_picture


def with_column(data: Path, sessions: list[str]) -> None:
    """Add the column ``session`` to a set's table."""
    table = data / "Y_train.csv"
    lines = table.read_text().splitlines()
    cells = ["session", *sessions]
    table.write_text("".join(f"{line},{cell}\n" for line, cell in zip(lines, cells, strict=True)))


def samples_of(counts: dict[tuple[str, str], int]) -> list[Sample]:
    """So many samples of each label and session."""
    rows = [pair for pair, count in counts.items() for _ in range(count)]
    table = Path("Y_train.csv")
    return [
        Sample(f"{i}.png", Path(f"{i}.png"), "Die01", "", label, None, table, i + 2, session=day)
        for i, (label, day) in enumerate(rows)
    ]


def hashes_of(samples: list[Sample]) -> NDArray[np.bool_]:
    return np.random.default_rng(0).random((len(samples), 256)) < 0.5


def test_a_column_names_the_sessions_and_a_blank_one_is_told_by_its_line(tmp_path: Path) -> None:
    data = write_challenge(tmp_path, {"GOOD": 2, "Missing": 2})
    with_column(data, ["monday", "tuesday", "monday", "tuesday"])
    read = read_samples(data, "train", DIES)
    assert [s.session for s in read] == ["monday", "tuesday"] * 2
    assert {s.session for s in read_samples(data, "train", DIES, sessions="none")} == {None}
    text = (data / "Y_train.csv").read_text()
    (data / "Y_train.csv").write_text(text.replace("Missing,monday", "Missing,"))
    with pytest.raises(DataError, match=r"Y_train\.csv:4: train_0003\.png has no session; wanted"):
        read_samples(data, "train", DIES)


def test_a_folder_below_the_die_s_is_a_session_where_that_is_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("GOOD", "bent"):
        for day in ("lot 1", "lot 2"):
            write_picture(tmp_path / label / "Die01" / day / "1.png", draw(label, rng))
    asked = read_samples(tmp_path, "train", DIES, sessions="folder")
    assert [s.session for s in asked] == ["lot 1", "lot 2"] * 2
    assert {s.session for s in read_samples(tmp_path, "train", DIES)} == {None}
    write_picture(tmp_path / "GOOD" / "Die01" / "2.png", draw("GOOD", rng))
    with pytest.raises(DataError, match=r"2\.png has no session; .*CLASS/DIE/SESSION"):
        read_samples(tmp_path, "train", DIES, sessions="folder")


def test_the_day_of_a_file_is_a_session_where_that_is_asked_for(tmp_path: Path) -> None:
    data = write_challenge(tmp_path, {"GOOD": 2})
    os.utime(data / "input_train" / "train_0001.png", (0, 86400 * 365))
    os.utime(data / "input_train" / "train_0002.png", (0, 86400 * 366))
    read = read_samples(data, "train", DIES, sessions="day")
    assert [s.session for s in read] == ["1971-01-01", "1971-01-02"]


@pytest.mark.parametrize("seed", range(5))
def test_whole_sessions_are_held_out_near_a_fifth(seed: int) -> None:
    days = [f"day {number}" for number in range(10)]
    samples = samples_of({(label, day): 6 for label in ("GOOD", "bent") for day in days})
    said: list[str] = []
    held_out = split_of(samples, hashes_of(samples), seed, said.append)
    sides = {
        day: {bool(h) for s, h in zip(samples, held_out, strict=True) if s.session == day}
        for day in days
    }
    assert all(len(found) == 1 for found in sides.values())
    assert held_out.mean() == 0.2
    assert said[0].startswith("10 sessions, each kept on one side; held out: day ")


def test_sessions_that_share_a_named_group_are_one() -> None:
    samples = samples_of({("GOOD", day): 4 for day in "abcd"})
    samples[0] = dataclasses.replace(samples[0], group="part 7")
    samples[5] = dataclasses.replace(samples[5], group="part 7")
    groups = session_groups(samples).tolist()
    assert groups == [0] * 8 + [1] * 4 + [2] * 4


def test_a_class_of_one_session_is_learned_and_told(tmp_path: Path) -> None:
    samples = samples_of(
        {("GOOD", "mon"): 10, ("GOOD", "tue"): 10, ("bent", "mon"): 5, ("bent", "tue"): 5}
        | {("crack", "tue"): 4}
    )
    for seed in range(4):
        held_out = split_of(samples, hashes_of(samples), seed, lambda _: None)
        assert {s.session for s, out in zip(samples, held_out, strict=True) if out} == {"mon"}
        require_both_sides(samples, held_out, tmp_path / "split.csv")
    (told,) = session_notes(samples)
    assert told.startswith("of one session alone: crack in tue.")


def test_where_no_session_can_be_held_out_that_is_told_and_the_classes_come_first() -> None:
    samples = samples_of(
        {("GOOD", "mon"): 10, ("GOOD", "tue"): 10, ("bent", "mon"): 5, ("crack", "tue"): 5}
    )
    said: list[str] = []
    held_out = split_of(samples, hashes_of(samples), 0, said.append)
    assert "every session with GOOD images holds a class that no other has" in said[0]
    for label in ("GOOD", "bent", "crack"):
        assert {bool(h) for s, h in zip(samples, held_out, strict=True) if s.label == label} == {
            True,
            False,
        }


def test_one_session_alone_is_told() -> None:
    samples = samples_of({("GOOD", "mon"): 10, ("bent", "mon"): 5, ("bent", "tue"): 5})
    assert not several_sessions(samples)
    (told,) = session_notes(samples)
    assert told.startswith("all GOOD images are of one session (mon)")


def test_a_split_keeps_the_sessions_that_training_knew(tmp_path: Path) -> None:
    samples = samples_of({("GOOD", "mon"): 3, ("GOOD", "tue"): 3})
    held_out = np.array([False] * 3 + [True] * 3)
    file = tmp_path / "split.csv"
    write_split(file, samples, held_out)
    np.testing.assert_array_equal(held_out_by(read_split(file), samples, file), held_out)
    changed = [dataclasses.replace(s, session="never") for s in samples]
    assert [s.session for s in as_split(changed, file)] == [s.session for s in samples]
    write_split(file, [dataclasses.replace(s, session=None) for s in samples], held_out)
    assert {s.session for s in as_split(changed, file)} == {None}
