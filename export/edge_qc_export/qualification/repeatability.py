"""Whether a part keeps its verdict when it is photographed again.

Two ways to ask. Where the data names photographs of one part (``groups.csv``), their verdicts are
compared. Else photographs are disturbed as a station disturbs them: sensor noise, a lamp that ages
or a neighbour's light, a part that lies a little beside its place. Disturbances act on the
photograph, before the view is cut, and are seeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.images import read_image
from edge_qc.inspection.inspecting import Inspection
from edge_qc.parts import Disposition
from edge_qc_export.figures.exact import Share, share
from edge_qc_export.judging import Advance, Judged, inspect_pixels

PARTS = 60
"""Photographs that are disturbed, half of them good if there are as many."""
REPEATS = 5

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A change that a station makes to a photograph. apply: (pixels, generator) to pixels."""

    name: str
    text: str
    apply: Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True, slots=True)
class Flips:
    """How often a verdict changed sides under one disturbance: good parts that had passed and no
    longer did, and bad parts that had been stopped and passed."""

    name: str
    text: str
    good: Share
    bad: Share


def noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Gaussian noise of 2 % of the range."""
    return _clipped(pixels + rng.normal(0, 0.02 * 255, pixels.shape))


def light(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The whole photograph brighter or darker by up to 10 %."""
    return _clipped(pixels * rng.uniform(0.9, 1.1))


def shift(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The part up to 1 % of the photograph's height and width beside its place."""
    height, width = pixels.shape[:2]
    dx, dy = rng.uniform(-0.01, 0.01, 2) * (width, height)
    warp = np.array([[1, 0, dx], [0, 1, dy]])
    return np.asarray(
        cv2.warpAffine(pixels, warp, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


DISTURBANCES = (
    Disturbance("noise", "sensor noise of 2 % of the range", noise),
    Disturbance("light", "up to 10 % more or less light", light),
    Disturbance("shift", "up to 1 % of the photograph beside its place", shift),
    Disturbance(
        "all", "all three together", lambda pixels, rng: noise(light(shift(pixels, rng), rng), rng)
    ),
)


def disturb(
    inspection: Inspection,
    judged: Sequence[Judged],
    *,
    parts: int = PARTS,
    repeats: int = REPEATS,
    seed: int = 0,
    advance: Advance = lambda _: None,
) -> list[Flips]:
    """How often verdicts flip, for each of ``DISTURBANCES``; on parts that were judged rightly
    before, since a wrong verdict that flips is no loss."""
    rng = np.random.default_rng(seed)
    good, bad = (_some(rightly, parts // 2, rng) for rightly in _judged_rightly(judged))
    flips = []
    for disturbance in DISTURBANCES:
        counted = []
        for chosen, wanted in ((good, True), (bad, False)):
            flipped = 0
            for one in chosen:
                pixels = read_image(one.sample.file)
                pictures = [disturbance.apply(pixels, rng) for _ in range(repeats)]
                for found in inspect_pixels(inspection, pictures, one.sample.die):
                    passed = found.verdict.disposition is Disposition.PASS
                    flipped += passed is not wanted
                advance(1)
            counted.append(share(flipped, len(chosen) * repeats))
        flips.append(Flips(disturbance.name, disturbance.text, *counted))
    return flips


def planned(judged: Sequence[Judged], parts: int = PARTS) -> int:
    """How many photographs ``disturb`` will go through."""
    return len(DISTURBANCES) * sum(
        min(len(rightly), parts // 2) for rightly in _judged_rightly(judged)
    )


def photographed_again(judged: Sequence[Judged]) -> Share:
    """Of the parts that the data shows more than once on one die (one group), how many have
    verdicts on both sides."""
    groups: dict[tuple[str, str], set[bool]] = {}
    sizes: dict[tuple[str, str], int] = {}
    for one in judged:
        if one.sample.group:
            key = one.sample.group, one.sample.die
            groups.setdefault(key, set()).add(one.passed)
            sizes[key] = sizes.get(key, 0) + 1
    several = [key for key, size in sizes.items() if size > 1]
    return share(sum(len(groups[key]) > 1 for key in several), len(several))


def _judged_rightly(judged: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """Good parts that passed, and bad parts that were stopped; not those without a verdict, whose
    photograph may not even be readable."""
    good = [one for one in judged if one.good and one.passed]
    return good, [one for one in judged if not one.good and not one.passed and one.decided]


def _some(judged: Sequence[Judged], count: int, rng: np.random.Generator) -> list[Judged]:
    if len(judged) <= count:
        return list(judged)
    return [judged[i] for i in sorted(rng.choice(len(judged), count, replace=False))]


def _clipped(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
