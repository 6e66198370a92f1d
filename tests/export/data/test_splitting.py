"""The split: stratified, seeded, kept in a file; nothing alike on both sides."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_qc.bundle.dies import read_dies
from edge_qc.errors import DataError
from edge_qc_export.data.dataset import Sample, read_samples
from edge_qc_export.data.split_file import held_out_by, read_split, write_split
from edge_qc_export.data.splitting import near_groups, split, split_of
from edge_qc_export.data.view_store import make_views
from tests.rig.pictures import DIES, write_challenge, write_picture
from tests.rig.real_images import deeppcb


def sample(number: int, label: str, die: str = "Die01", window: str = "2003") -> Sample:
    file = Path(f"{number}.png")
    return Sample(file.name, file, die, window, label, None, Path("Y_train.csv"), number + 2)


def alone(samples: list[Sample]) -> NDArray[np.intp]:
    return np.arange(len(samples))


@pytest.fixture
def challenge() -> list[Sample]:
    """The challenge's counts over dies and windows of uneven shares."""
    rng = np.random.default_rng(1)
    counts = {"GOOD": 1235, "Boucle plate": 71, "Lift-off noir": 104, "Missing": 2000}
    labels = [label for label, count in counts.items() for _ in range(count)]
    dies = rng.choice(["Die01", "Die02", "Die03", "Die04"], len(labels), p=[0.4, 0.3, 0.2, 0.1])
    windows = rng.choice(["2003", "2005"], len(labels), p=[0.7, 0.3])
    return [sample(i, *row) for i, row in enumerate(zip(labels, dies, windows, strict=True))]


def test_a_fifth_of_every_label_die_and_window_is_held_out(challenge: list[Sample]) -> None:
    held_out = split(challenge, alone(challenge), seed=0)
    for chosen in (
        lambda s: s.label,
        lambda s: (s.label, s.die),
        lambda s: (s.label, s.die, s.window),
    ):
        totals = Counter(map(chosen, challenge))
        held = Counter(chosen(s) for s, out in zip(challenge, held_out, strict=True) if out)
        for stratum, total in totals.items():
            assert abs(held[stratum] - total / 5) <= 1, stratum


def test_a_seed_names_one_split(challenge: list[Sample]) -> None:
    first, again, other = (split(challenge, alone(challenge), seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("12"), st.integers(0, 12)),
        min_size=4,
        max_size=60,
    ),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=60)
def test_no_group_straddles_and_every_class_is_on_both_sides(
    rows: list[tuple[str, str, int]], seed: int
) -> None:
    samples = [sample(i, label, die) for i, (label, die, _) in enumerate(rows)]
    groups = np.array([group for _, _, group in rows])
    try:
        held_out = split(samples, groups, seed)
    except DataError:
        labels = [{g for other, _, g in rows if other == label} for label, _, _ in rows]
        assert min(map(len, labels)) == 1 or len(set(groups.tolist())) < 5, "could be split"
        return
    for group in set(groups.tolist()):
        assert len(set(held_out[groups == group].tolist())) == 1
    for label in {label for label, _, _ in rows}:
        sides = {bool(out) for s, out in zip(samples, held_out, strict=True) if s.label == label}
        assert sides == {True, False}


def test_a_class_within_one_group_is_told() -> None:
    samples = [sample(0, "GOOD"), sample(1, "GOOD"), sample(2, "bent"), sample(3, "bent")]
    with pytest.raises(DataError, match=r"Y_train\.csv:4: all images of the class 'bent' are near"):
        split(samples, np.array([0, 1, 2, 2]), seed=0)


def test_near_duplicates_are_found_whatever_noise_light_and_shift(tmp_path: Path) -> None:
    write_challenge(tmp_path, {"GOOD": 6, "Missing": 6})
    rng = np.random.default_rng(0)
    folder = tmp_path / "input_train"
    changes: tuple[Callable[[Any], Any], ...] = (
        lambda p: np.clip(p + rng.normal(0, 2, p.shape), 0, 255),
        lambda p: np.clip(p * 1.05 + 3, 0, 255),
        lambda p: cv2.GaussianBlur(p, (0, 0), 0.5),
    )
    lines = (tmp_path / "Y_train.csv").read_text().splitlines()
    for number, change in enumerate(changes, 1):
        original = cv2.imread(str(folder / f"train_{number:04}.png"), cv2.IMREAD_GRAYSCALE)
        assert original is not None
        write_picture(folder / f"copy_{number}.png", change(original).astype(np.uint8))
        die = ("Die01", "Die02")[(number - 1) % 2]
        lines.append(f"{len(lines)},copy_{number}.png,2005,{die},Missing")
    (tmp_path / "Y_train.csv").write_text("\n".join(lines) + "\n")
    samples = read_samples(tmp_path, "train", DIES)
    store = make_views(tmp_path, samples, read_dies(tmp_path / "dies.json"), (32, 32))
    groups = near_groups(samples, store.hashes)
    names = {s.filename: int(group) for s, group in zip(samples, groups, strict=True)}
    for number in range(1, 4):
        assert names[f"copy_{number}.png"] == names[f"train_{number:04}.png"]
    assert len(set(names.values())) == 12, "pictures that differ were taken for near-duplicates"


def test_a_named_group_is_one(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text(
        "filename,group\ntrain_0001.png,a\ntrain_0004.png,a\ntrain_0002.png,b\n"
    )
    write_challenge(tmp_path, {"GOOD": 4})
    samples = read_samples(tmp_path, "train", DIES)
    hashes = np.random.default_rng(0).random((4, 256)) < 0.5
    assert near_groups(samples, hashes).tolist() == [0, 1, 2, 0]


def alike(count: int, seed: int) -> NDArray[np.bool_]:
    """Hashes that differ in a few bits of 256."""
    rng = np.random.default_rng(seed)
    first = rng.random(256) < 0.5
    return np.stack([first ^ (rng.random(256) < 0.01) for _ in range(count)])


def test_parts_that_all_lie_alike_are_split_with_a_warning() -> None:
    samples = [sample(i, "GOOD" if i < 60 else "scratch") for i in range(120)]
    samples[5] = dataclasses.replace(samples[5], group="a")
    samples[70] = dataclasses.replace(samples[70], group="a")
    said: list[str] = []
    held_out = split_of(samples, alike(120, 0), 0, said.append)
    assert said[0].startswith("120 of 120 images look alike, as parts in a fixture do")
    assert held_out[:60].sum() in (11, 12, 13)
    assert held_out[5] == held_out[70], "a named group is one all the same"


def test_a_class_that_lies_alike_does_not_undo_the_other_duplicates() -> None:
    samples = [sample(i, "GOOD") for i in range(40)] + [sample(i, "bent") for i in range(40, 80)]
    different = np.random.default_rng(3).random((80, 256)) < 0.5
    hashes = np.concatenate([alike(40, 1), different[40:]])
    hashes[50] = hashes[60]
    said: list[str] = []
    groups = near_groups(samples, hashes, said.append)
    assert groups[50] == groups[60]
    assert len(set(groups[:40].tolist())) == 40
    assert said[0].startswith("40 of 80 images look alike")


def test_what_the_set_holds_out_is_held_out(challenge: list[Sample]) -> None:
    own = [dataclasses.replace(s, held_out=i % 3 == 0) for i, s in enumerate(challenge)]
    hashes = np.zeros((len(own), 256), np.bool_)
    assert split_of(own, hashes, 0, lambda _: None).tolist() == [s.held_out for s in own]
    lacking = [dataclasses.replace(s, held_out=s.label == "Missing") for s in challenge]
    with pytest.raises(DataError, match="leaves no image of the class 'GOOD' to hold out"):
        split_of(lacking, hashes, 0, lambda _: None)


def test_a_split_is_read_as_it_was_written(tmp_path: Path, challenge: list[Sample]) -> None:
    held_out = split(challenge, alone(challenge), seed=0)
    file = tmp_path / "split.csv"
    write_split(file, challenge, held_out)
    np.testing.assert_array_equal(held_out_by(read_split(file), challenge, file), held_out)


def test_a_split_of_another_set_is_refused(tmp_path: Path, challenge: list[Sample]) -> None:
    file = tmp_path / "split.csv"
    write_split(file, challenge, split(challenge, alone(challenge), seed=0))
    others = [dataclasses.replace(challenge[0], filename="new.png"), *challenge[1:]]
    with pytest.raises(DataError, match=r"is of another data set: .* 1 of them not in the split"):
        held_out_by(read_split(file), others, file)


def test_a_split_that_is_none_is_told_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    file.write_text("filename,split\na.png,train\nb.png,validation\n")
    with pytest.raises(DataError, match=r"split\.csv:3: split 'validation', wanted train or held"):
        read_split(file)


@pytest.mark.deeppcb
def test_real_crops_of_one_board_picture_stay_together(tmp_path: Path) -> None:
    root = deeppcb(tmp_path, pictures=False)
    samples = read_samples(root, "train", read_dies(root / "dies.json"))
    hashes = np.random.default_rng(0).random((len(samples), 256)) < 0.5
    held_out = split(list(samples), near_groups(samples, hashes), seed=0)
    sides: dict[str | None, set[bool]] = {}
    for s, out in zip(samples, held_out, strict=True):
        sides.setdefault(s.group, set()).add(bool(out))
    assert len(sides) > 900
    assert all(len(found) == 1 for found in sides.values())
    totals = Counter(s.label for s in samples)
    held = Counter(s.label for s, out in zip(samples, held_out, strict=True) if out)
    assert all(0.17 <= held[label] / total <= 0.23 for label, total in totals.items())
