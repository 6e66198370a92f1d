"""What a synthetic data set holds: how many of each class, and each image's die, window and size.

The counts are exact and follow from the sizes asked for; which image is which follows from the
seed. Each image then has a seed of its own, so that it looks the same whoever draws it, whenever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_qc.errors import UsageError
from edge_qc.parts import DRIFT
from edge_qc_export.synthetic.bond import BONDS
from edge_qc_export.synthetic.drift import DRIFTS
from edge_qc_export.synthetic.layout import LARGE, LAYOUTS, SMALL, Resolution
from edge_qc_export.synthetic.photograph import NOT_ASIDE, Aside

Balance = Literal["challenge", "even"]

CHALLENGE_COUNTS: Mapping[str, int] = {
    "GOOD": 1235,
    "Boucle plate": 71,
    "Lift-off blanc": 270,
    "Lift-off noir": 104,
    "Missing": 6472,
    "Short circuit MOS": 126,
}
DRIFT_SHARE = 0.12
"""Of the test images; the challenge's test set holds 1055 drift images."""

FEWEST = 8
"""Images that even the rarest class has, if there are enough to give."""

WINDOWS = (2003, 2005)

_NATIVE_SHARE = {SMALL: 0.88, LARGE: 0.82}
"""How often a die is photographed at the size that its box was made for. With even dies, 53 % of
the images are small, as in the challenge."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image to be made. kind: the class, or the kind of drift; label: what the tables say;
    aside: how far the part may lie from its place."""

    filename: str
    label: str
    kind: str
    die: str
    window: int
    resolution: Resolution
    seed: tuple[int, int, int]
    aside: Aside = NOT_ASIDE


def class_counts(images: int, balance: Balance = "challenge") -> dict[str, int]:
    """How many images of each class, summing to ``images``.

    ``challenge`` keeps the challenge's proportions (78 % Missing, under 1 % Boucle plate), but
    gives each class at least 8 images, or a twelfth of all where that is less, and the largest
    class pays for it. ``even`` shares alike.
    """
    share = CHALLENGE_COUNTS if balance == "challenge" else dict.fromkeys(BONDS, 1)
    total = sum(share.values())
    exact = {name: images * share[name] / total for name in BONDS}
    counts = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(BONDS, key=lambda name: counts[name] - exact[name])
    for name in by_rest[: images - sum(counts.values())]:
        counts[name] += 1
    fewest = min(FEWEST, images // (2 * len(BONDS)))
    for name in BONDS:
        lack = fewest - counts[name]
        if lack > 0:
            counts[name] += lack
            counts[max(counts, key=counts.__getitem__)] -= lack
    return counts


def plan(
    train: int,
    test: int,
    seed: int = 0,
    sizes: Sequence[Resolution] = (SMALL, LARGE),
    balance: Balance = "challenge",
    aside: Aside = NOT_ASIDE,
) -> tuple[list[Item], list[Item]]:
    """The images of the training and of the test part.

    Drift is in the test part alone, a share of ``DRIFT_SHARE``, its kinds alike. Raises UsageError
    for counts below 0, nothing to make, or a negative seed.
    """
    if train < 0 or test < 0 or train + test == 0:
        raise UsageError(
            f"asked for {train} training and {test} test images: wanted counts of 0 or more, "
            "and at least one image"
        )
    if seed < 0:
        raise UsageError(f"seed {seed}: wanted 0 or a positive number")
    drifting = round(test * DRIFT_SHARE)
    kinds = tuple(DRIFTS)
    drift_kinds = {
        kind: drifting // len(kinds) + (place < drifting % len(kinds))
        for place, kind in enumerate(kinds)
    }
    training = _items(class_counts(train, balance), 0, 0, seed, sizes, aside)
    return training, _items(
        {**class_counts(test - drifting, balance), **drift_kinds}, 1, train, seed, sizes, aside
    )


def _items(
    counts: Mapping[str, int],
    part: int,
    first: int,
    seed: int,
    sizes: Sequence[Resolution],
    aside: Aside,
) -> list[Item]:
    rng = np.random.default_rng([seed, part])
    dies = tuple(LAYOUTS)
    made: list[tuple[str, str, int, Resolution]] = []
    for kind, count in counts.items():
        start = int(rng.integers(len(dies)))
        for number in range(count):
            die = dies[(start + number) % len(dies)]
            native = LAYOUTS[die].native
            usual = rng.random() < _NATIVE_SHARE[native]
            resolution = native if usual else (LARGE if native == SMALL else SMALL)
            if resolution not in sizes:
                resolution = sizes[0]
            made.append((kind, die, WINDOWS[int(rng.integers(2))], resolution))
    return [
        Item(
            filename=f"bond_{first + place:06d}.png",
            label=DRIFT.capitalize() if kind in DRIFTS else kind,
            kind=kind,
            die=die,
            window=window,
            resolution=resolution,
            seed=(seed, part, place),
            aside=aside,
        )
        for place, (kind, die, window, resolution) in enumerate(
            made[int(index)] for index in rng.permutation(len(made))
        )
    ]
