"""Photographs of a part that lies askew: a die on a substrate under a loop, 200 x 240, shifted and
turned by known amounts, in the challenge's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.rig.pictures import write_picture, write_rows

WIDTH, HEIGHT = 200, 240
DIES = {"Die01": {"angle": 25, "center": [72, 144]}}
_MARGIN = 60


def photograph(
    label: str,
    rng: np.random.Generator,
    right: float = 0.0,
    down: float = 0.0,
    turn: float = 0.0,
) -> NDArray[np.uint8]:
    """(240, 200) uint8. right, down: pixels; turn: degrees counter-clockwise, about the middle.
    label: GOOD has an arched loop, Boucle plate a straight one, Missing none; ``elsewhere`` shows
    no part at all."""
    width, height = WIDTH + 2 * _MARGIN, HEIGHT + 2 * _MARGIN
    sheet = np.full((height, width), 95, np.float32)
    x, y = width // 2, height // 2
    if label != "elsewhere":
        sheet[y - 150 : y - 70] = 150
        sheet[y - 74 : y - 66] = 25
        sheet[y - 40 : y + 150, x - 52 : x + 61] = 175
        sheet[y - 22 : y - 14, x - 52 : x + 61] = 60
        sheet[y + 10 : y + 150, x + 30 : x + 36] = 55
        sheet[y - 40 : y + 150, x + 61 : x + 66] = 40
    if label in ("GOOD", "Boucle plate"):
        bow = 24.0 if label == "GOOD" else 0.0
        along = np.linspace(-1, 1, 30)
        lean = rng.normal(0, 1.5)
        points = np.stack([x - 40 * along + bow * (1 - along**2) + lean, y + 70 * along], axis=1)
        path = [np.round(points * 16).astype(np.int32)]
        cv2.polylines(sheet, path, False, 235 if label == "GOOD" else 15, 14, cv2.LINE_AA, 4)
    soft = cv2.resize(rng.normal(0, 9, (12, 10)).astype(np.float32), (width, height))
    sheet = (sheet + soft) * np.float32(rng.uniform(0.85, 1.15))
    affine = cv2.getRotationMatrix2D((x - 0.5, y - 0.5), turn, 1.0)
    affine[:, 2] += right - _MARGIN, down - _MARGIN
    seen = cv2.warpAffine(sheet, affine, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    return np.clip(seen + rng.normal(0, 3, seen.shape), 0, 255).astype(np.uint8)


def aside(
    rng: np.random.Generator, shift: float = 0.06, turn: float = 4.0
) -> tuple[float, float, float]:
    """Evenly up to a share of the picture and degrees: right, down, turn."""
    right, down, turned = rng.uniform(-1, 1, 3)
    return right * shift * WIDTH, down * shift * HEIGHT, turned * turn


def write_askew(folder: Path, counts: Mapping[str, int], test: Mapping[str, int]) -> Path:
    """A data set whose parts lie aside; returns its folder, which also holds dies.json."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    (folder / "dies.json").write_text(json.dumps(DIES))
    rows: list[list[object]] = [["", "filename", "window", "lib", "Label"]]
    for label, count in counts.items():
        for _ in range(count):
            name = f"train_{len(rows):04}.png"
            write_picture(folder / "input_train" / name, photograph(label, rng, *aside(rng)))
            rows.append([len(rows) - 1, name, 2003, "Die01", label])
    write_rows(folder / "Y_train.csv", rows)
    listed: list[list[object]] = [["filename", "window", "lib"]]
    truth: list[list[object]] = [["filename", "Label"]]
    for label, count in test.items():
        for _ in range(count):
            name = f"test_{len(truth):04}.png"
            write_picture(folder / "input_test" / name, photograph(label, rng, *aside(rng)))
            listed.append([name, 2003, "Die01"])
            truth.append([name, label])
    write_rows(folder / "win_and_lib.csv", listed)
    write_rows(folder / "Y_test_truth.csv", truth)
    return folder
