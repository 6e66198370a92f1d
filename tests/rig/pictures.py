"""Tiny data sets for tests of learning: 40 x 36 pictures, two dies, shapes that a CNN soon tells
apart, each over a smooth random background so that no two are near-duplicates."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

DIES = {"Die01": {"angle": 0, "center": [32, 32]}, "Die02": {"angle": 90, "center": [32, 32]}}
CLASSES = ("GOOD", "Boucle plate", "Missing")
COUNTS = {"GOOD": 20, "Boucle plate": 20, "Missing": 24}
WIDTH, HEIGHT = 40, 36


def draw(label: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(36, 40) uint8: GOOD a bright square, Boucle plate a dark bar, Missing nothing, else a
    cross."""
    ground = cv2.resize(
        rng.uniform(60, 160, (7, 7)).astype(np.float32),
        (WIDTH, HEIGHT),
        interpolation=cv2.INTER_CUBIC,
    )
    row, column = 18 + rng.integers(-4, 5), 20 + rng.integers(-4, 5)
    if label == "GOOD":
        ground[row - 6 : row + 6, column - 6 : column + 6] = 250
    elif label == "Boucle plate":
        ground[row - 3 : row + 3, column - 12 : column + 12] = 5
    elif label != "Missing":
        ground[row - 1 : row + 1], ground[:, column - 1 : column + 1] = 255, 255
    return np.clip(ground, 0, 255).astype(np.uint8)


def write_picture(file: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), pixels)


def write_rows(
    file: Path, rows: Sequence[Sequence[object]], delimiter: str = ",", encoding: str = "utf-8"
) -> None:
    """Write a CSV."""
    with file.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)


def write_challenge(
    folder: Path,
    counts: Mapping[str, int] | None = None,
    test: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> Path:
    """A data set in the challenge's layout; returns its folder, which also holds dies.json."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dies.json").write_text(json.dumps(DIES))
    dies = list(DIES)
    rows: list[list[object]] = [["", "filename", "window", "lib", "Label"]]
    for label, count in (COUNTS if counts is None else counts).items():
        for number in range(count):
            name = f"train_{len(rows):04}.png"
            write_picture(folder / "input_train" / name, draw(label, rng))
            window, die = (2003, 2005)[number // 2 % 2], dies[number % 2]
            rows.append([len(rows) - 1, name, window, die, label])
    write_rows(folder / "Y_train.csv", rows, delimiter, encoding)
    if test is not None:
        listed: list[list[object]] = [["filename", "window", "lib"]]
        truth: list[list[object]] = [["filename", "Label"]]
        for label, count in test.items():
            for number in range(count):
                name = f"test_{len(truth):04}.png"
                write_picture(folder / "input_test" / name, draw(label, rng))
                listed.append([name, 2003, dies[number % 2]])
                truth.append([name, label])
        write_rows(folder / "win_and_lib.csv", listed, delimiter, encoding)
        write_rows(folder / "Y_test_truth.csv", truth, delimiter, encoding)
    return folder
