"""Synthetic data sets: the challenge's layout, exact counts, the same bytes for the same seed,
bands that stand upright in their views, classes that differ, and drift in the test part alone."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_qc.bundle.alignment import Alignment, DieTemplate
from edge_qc.bundle.dies import CHALLENGE_DIES
from edge_qc.errors import DataError, UsageError
from edge_qc.inspection.alignment import Template, edges_of, reduced
from edge_qc.inspection.view import crop_centre, view
from edge_qc_export import synthetic
from edge_qc_export.commands.synth import command
from edge_qc_export.data.dataset import CHALLENGE_CLASSES, read_samples
from edge_qc_export.synthetic import (
    DIES,
    DRIFT_KINDS,
    LARGE,
    SMALL,
    Aside,
    class_counts,
    plan,
    render,
)
from edge_qc_export.synthetic.items import CHALLENGE_COUNTS
from edge_qc_export.synthetic.layout import LAYOUTS


def synth(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def table(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def band(label: str, die: str, resolution: tuple[int, int], *seed: int) -> NDArray[np.float64]:
    """The upright band of one photograph, grey levels."""
    pixels = render(label, die, resolution, seed)
    return np.asarray(view(pixels, CHALLENGE_DIES[die], None).pixels[0], np.float64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "data"
    result = synth(str(out), "--train", "14", "--test", "26", "--seed", "7", "--processes", "1")
    assert result.exit_code == 0, result.output
    return out


def test_the_folder_holds_the_challenges_files_and_columns(folder: Path) -> None:
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "Y_test_truth.csv",
        "Y_train.csv",
        "input_test",
        "input_train",
        "synthetic.txt",
        "win_and_lib.csv",
    ]
    header, *rows = table(folder / "Y_train.csv")
    assert header == ["", "filename", "window", "lib", "Label"]
    assert [row[0] for row in rows] == [str(index) for index in range(14)]
    assert sorted(row[1] for row in rows) == sorted(
        file.name for file in (folder / "input_train").iterdir()
    )
    assert {row[2] for row in rows} <= {"2003", "2005"}
    assert {row[3] for row in rows} <= set(DIES)
    assert {row[4] for row in rows} <= set(CHALLENGE_CLASSES)

    header, *known = table(folder / "win_and_lib.csv")
    assert header == ["filename", "window", "lib"]
    header, *truth = table(folder / "Y_test_truth.csv")
    assert header == ["filename", "Label"]
    assert [row[0] for row in known] == [row[0] for row in truth]
    assert sorted(row[0] for row in truth) == sorted(
        file.name for file in (folder / "input_test").iterdir()
    )
    assert {row[1] for row in truth} <= {*CHALLENGE_CLASSES, "Drift"}


def test_photographs_are_grey_png_of_the_two_sizes(folder: Path) -> None:
    sizes = set()
    for file in folder.glob("input_*/*.png"):
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 2
        sizes.add((pixels.shape[1], pixels.shape[0]))
    assert sizes == {SMALL, LARGE}


def test_the_workstation_reads_what_it_made(folder: Path) -> None:
    training = read_samples(folder, "train", DIES)
    testing = read_samples(folder, "test", DIES)
    assert (len(training), len(testing)) == (14, 26)
    assert "DRIFT" not in {sample.label for sample in training}
    assert Counter(sample.label for sample in testing)["DRIFT"] == 3


def test_the_same_seed_gives_the_same_bytes_on_two_processes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    size = ["--train", "14", "--test", "26", "--processes", "2"]
    assert synth(str(again), *size, "--seed", "7").exit_code == 0
    files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    assert len(files) == 44
    for file in files:
        assert (again / file).read_bytes() == (folder / file).read_bytes(), file


def test_another_seed_gives_other_images() -> None:
    first, second = (render("GOOD", "Die01", SMALL, seed) for seed in (1, 2))
    assert np.mean(first != second) > 0.5
    assert plan(60, 0, seed=1)[0] != plan(60, 0, seed=2)[0]


def test_the_challenges_size_gives_the_challenges_counts() -> None:
    assert class_counts(8278) == dict(CHALLENGE_COUNTS)
    assert tuple(CHALLENGE_COUNTS) == CHALLENGE_CLASSES


@given(st.integers(0, 4000), st.sampled_from(["challenge", "even"]))
@settings(max_examples=60, deadline=None)
def test_counts_are_exact_and_leave_no_class_out(images: int, balance: str) -> None:
    counts = class_counts(images, "even" if balance == "even" else "challenge")
    assert sum(counts.values()) == images
    assert min(counts.values()) >= min(8, images // 12)
    if balance == "even":
        assert max(counts.values()) - min(counts.values()) <= 1
    elif images >= 60:
        assert max(counts, key=counts.__getitem__) == "Missing"


def test_drift_is_in_the_test_part_alone_and_its_kinds_are_alike() -> None:
    training, testing = plan(800, 600)
    assert {item.label for item in training} == set(CHALLENGE_CLASSES)
    kinds = Counter(item.kind for item in testing if item.label == "Drift")
    assert kinds == dict.fromkeys(DRIFT_KINDS, 12)
    assert len(DRIFT_KINDS) >= 5


def test_half_the_photographs_are_small_and_every_class_shows_every_die() -> None:
    training, _ = plan(4000, 0)
    assert np.mean([item.resolution == SMALL for item in training]) == pytest.approx(0.53, abs=0.03)
    assert {(item.label, item.die) for item in training} == set(
        itertools.product(CHALLENGE_CLASSES, DIES)
    )
    only_large, _ = plan(40, 0, sizes=(LARGE,))
    assert {item.resolution for item in only_large} == {LARGE}


@pytest.mark.parametrize("resolution", [SMALL, LARGE])
@pytest.mark.parametrize("die", DIES)
def test_the_bond_stands_upright_in_the_middle_of_its_view(
    die: str, resolution: tuple[int, int]
) -> None:
    """What GOOD parts have and Missing ones lack lies along the band, within 6 degrees."""
    with_wire, without = (
        np.mean([band(label, die, resolution, place, seed) for seed in range(7)], axis=0)
        for place, label in enumerate(("GOOD", "Missing"))
    )
    difference = np.abs(with_wire - without)
    # The most different tenth: the wire and its shadow, not the noise.
    strong = difference * (difference > np.quantile(difference, 0.9))
    ys, xs = np.mgrid[: strong.shape[0], : strong.shape[1]].astype(np.float64)
    total = strong.sum()
    x, y = (xs * strong).sum() / total, (ys * strong).sum() / total
    # A high loop is seen a little aside, and its shadow falls beside it.
    assert abs(x - strong.shape[1] / 2) < 24
    xx = ((xs - x) ** 2 * strong).sum()
    yy = ((ys - y) ** 2 * strong).sum()
    xy = ((xs - x) * (ys - y) * strong).sum()
    assert abs(np.degrees(0.5 * np.arctan2(2 * xy, yy - xx))) < 6
    assert yy > 9 * xx


def test_dies_look_different_from_each_other() -> None:
    """Each die's bare band is nearer to its own kind than to any other die's."""
    bands = {
        die: [
            cv2.resize(band("Missing", die, LAYOUTS[die].native, seed), (16, 48)) for seed in (1, 2)
        ]
        for die in DIES
    }
    for die, other in itertools.permutations(DIES, 2):
        own = np.abs(bands[die][0] - bands[die][1]).mean()
        assert own < np.abs(bands[die][0] - bands[other][1]).mean(), (die, other)


def test_classes_can_be_told_apart_from_their_views() -> None:
    """A linear classifier on thumbnails of one die, 16 views of each class, far beats chance."""
    from sklearn.linear_model import LogisticRegression

    views, labels = [], []
    for place, label in enumerate(CHALLENGE_CLASSES):
        for number in range(24):
            thumbnail = cv2.resize(
                band(label, "Die01", SMALL, place, number), (20, 60), interpolation=cv2.INTER_AREA
            )
            views.append(((thumbnail - thumbnail.mean()) / thumbnail.std()).ravel())
            labels.append(label)
    held_out = np.arange(len(labels)) % 3 == 0
    x, y = np.array(views), np.array(labels)
    model = LogisticRegression(C=0.01, max_iter=300).fit(x[~held_out], y[~held_out])
    right = model.predict(x[held_out]) == y[held_out]
    assert right.mean() > 0.5
    assert right[y[held_out] == "Missing"].mean() > 0.8


def test_drift_shows() -> None:
    """Each kind of drift moves what it is named for beyond what known parts show."""

    def sharpness(pixels: NDArray[np.uint8]) -> float:
        fine = cv2.GaussianBlur(pixels, (0, 0), 2.0)
        return float(cv2.Laplacian(fine, cv2.CV_64F).std())

    def saturated(pixels: NDArray[np.uint8]) -> float:
        return float(np.mean(pixels >= 250))

    known = [render(label, "Die02", LARGE, 5) for label in CHALLENGE_CLASSES]
    blurred = [render("defocus", "Die02", LARGE, seed) for seed in range(4)]
    burnt = [render("over-exposure", "Die02", LARGE, seed) for seed in range(4)]
    assert max(map(sharpness, blurred)) < min(map(sharpness, known))
    assert min(map(saturated, burnt)) > max(map(saturated, known))


def test_synth_answers_in_json_alone_on_standard_output(tmp_path: Path) -> None:
    out, sheet = tmp_path / "data", tmp_path / "sheet.png"
    result = synth(
        str(out), "--train", "6", "--test", "0", "--photographs", "540x630", "--balance", "even",
        "--contact-sheet", str(sheet), "--json",
    )  # fmt: skip
    answer = json.loads(result.stdout)
    assert answer["train"] == dict.fromkeys(CHALLENGE_CLASSES, 1)
    assert answer["test"] == {}
    pixels = cv2.imread(str(sheet), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.ndim == 2
    assert pixels.shape[0] > 6 * 150
    assert list((out / "input_test").iterdir()) == []


def test_a_folder_in_use_is_refused_and_force_replaces_the_data_set_alone(tmp_path: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    refused = synth(str(out), "--train", "1", "--test", "0")
    assert isinstance(refused.exception, UsageError)
    assert "mine.txt" in str(refused.exception)
    assert "--force" in str(refused.exception)
    assert synth(str(out), "--train", "1", "--test", "0", "--force").exit_code == 0
    (out / "input_train" / "old.png").write_text("old")
    assert synth(str(out), "--train", "1", "--test", "0", "--force").exit_code == 0
    assert (out / "mine.txt").read_text() == "keep"
    assert [file.name for file in (out / "input_train").iterdir()] == ["bond_000000.png"]


def test_real_photographs_are_never_removed(tmp_path: Path) -> None:
    """A data set that synth did not make stays, whatever the options."""
    (tmp_path / "input_train").mkdir()
    (tmp_path / "input_train" / "real.png").write_text("real")
    refused = synth(str(tmp_path), "--train", "1", "--test", "0", "--force")
    assert isinstance(refused.exception, UsageError)
    assert "never removes" in str(refused.exception)
    assert (tmp_path / "input_train" / "real.png").read_text() == "real"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--train", "-1"], "-1 is not in the range 0<=x<=1000000"),
        (["--test", "9" * 20], "is not in the range 0<=x<=1000000"),
        (["--seed", "-4"], "-4 is not in the range"),
        (["--seed", "9" * 20], "is not in the range 0<=x<=4294967295"),
        (["--processes", "99999"], "99999 is not in the range 1<=x<=256"),
    ],
)
def test_wrong_sizes_and_seeds_are_refused_before_anything_is_written(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    result = synth(str(tmp_path / "data"), *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"caf\xe9")
    result = synth(str(out), "--train", "8", "--test", "0")
    assert "the name is not UTF-8" in str(result.exception)
    assert not out.exists()


def test_no_image_at_all_is_refused(tmp_path: Path) -> None:
    result = synth(str(tmp_path / "data"), "--train", "0", "--test", "0")
    assert isinstance(result.exception, UsageError)
    assert "at least one image" in str(result.exception)


def test_a_file_in_the_way_and_no_place_to_write_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in str(synth(str(tmp_path / "file")).exception)
    inside = synth(str(tmp_path / "file" / "data"))
    assert isinstance(inside.exception, DataError)
    assert "cannot be written" in str(inside.exception)
    assert isinstance(synth().exception, UsageError)


@pytest.mark.parametrize(
    ("label", "die", "resolution"),
    [("Bent", "Die01", SMALL), ("GOOD", "Die09", SMALL), ("GOOD", "Die01", (640, 480))],
)
def test_render_names_what_there_is(label: str, die: str, resolution: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"there are .*(GOOD|Die01|540)"):
        synthetic.render(label, die, resolution, 0)


def test_parts_lie_aside_as_far_as_asked_for(tmp_path: Path) -> None:
    """By where the bond's feet and the chip are found, against those of parts in their place."""
    die, die_row = "Die04", CHALLENGE_DIES["Die04"]
    step, (right, down) = 4, crop_centre(die_row, *SMALL)
    seen = [edges_of(reduced(render("GOOD", die, SMALL, (1, n)), step)) for n in range(10)]
    facts = DieTemplate(step=step, anchor=(right / step - 0.5, down / step - 0.5), limit=0.9)
    edges = np.moveaxis(np.round(127 * np.mean(seen, axis=0)), -1, 0).astype(np.int8)
    bounds = Alignment(shift=0.15, turn=10, dies={die: facts})
    template = Template(die, facts, edges, bounds)

    def placed(aside: Aside) -> NDArray[np.float64]:
        pictures = [render("GOOD", die, SMALL, (2, n), aside) for n in range(12)]
        found = [template.find(pixels, (right, down)) for pixels in pictures]
        return np.abs([[one.right_px, one.down_px, one.turn_deg] for one in found])

    usual, askew = placed(Aside()), placed(Aside(shift=0.1, turn=6.0))
    slack = np.array([24, 24, 4])
    assert (usual < slack).all()
    assert (askew < np.array([54, 63, 6]) + slack).all()
    assert (askew.max(axis=0) > np.array([27, 31, 3])).all()


def test_synth_draws_parts_askew_on_request(tmp_path: Path) -> None:
    for name, more in (("still", []), ("askew", ["--shift", "6%", "--turn", "4"])):
        done = synth(str(tmp_path / name), "--train", "2", "--test", "0", *more)
        assert done.exit_code == 0, done.output
    still, askew = (
        cv2.imread(str(tmp_path / name / "input_train" / "bond_000000.png"), 0)
        for name in ("still", "askew")
    )
    assert still.shape == askew.shape
    assert np.abs(still.astype(int) - askew).mean() > 5
    assert synth(str(tmp_path / "no"), "--train", "2", "--shift", "120%").exit_code == 2
