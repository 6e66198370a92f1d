"""Which kept images look alike, from what is kept of them; no network runs here.

A fingerprint joins three things, each of unit length, so that the product of two fingerprints is 1
for the same picture and 0 for nothing in common: what is unusual in the view's pixels (the view
less the typical one of its die), where the model found it unusual (the patches' distances), and
what it took it for (the roots of the probabilities). Brightness, contrast and the size of a
distance do not matter. Views of different dies are never alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc.evidence.store import FRAME, VIEW, Exhibit

ALIKE = 0.75
"""From this likeness on an image may join a group."""
_SIDE = 24
_FEW = 5
"""A die's typical view wants at least so many images."""
_TYPICAL = 0.9
"""How much of it is taken away. Not all: where most images of a die share a defect, it is part of
what is typical, and nothing but noise would be left of them."""

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """likeness: 1 for the same picture, 0 for nothing in common."""

    verdict_id: str
    likeness: float


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What is compared of one image. pixels, heat: flat. shares: the probabilities by class."""

    die: str
    pixels: Vector
    heat: Vector
    shares: Mapping[str, float]


class Likeness:
    """What was read of an image is kept in memory: it never changes on disk. For one thread at a
    time."""

    def __init__(self) -> None:
        self._read: dict[str, _Read | None] = {}

    def groups(self, exhibits: Sequence[Exhibit]) -> list[list[str]]:
        """Groups of at least two, the largest first, as verdict ids in the order given. Each image
        joins the group with whose members it correlates most on average, if by ``ALIKE``."""
        found: list[list[str]] = []
        for ids, prints in self._by_die(exhibits):
            sums: list[Vector] = []
            members: list[list[int]] = []
            for at, one in enumerate(prints):
                means = [
                    float(total @ one) / len(of) for total, of in zip(sums, members, strict=True)
                ]
                best = int(np.argmax(means)) if means else -1
                if best < 0 or means[best] < ALIKE:
                    sums.append(one.copy())
                    members.append([at])
                else:
                    sums[best] += one
                    members[best].append(at)
            found += [[ids[at] for at in of] for of in members if len(of) > 1]
        return sorted(found, key=len, reverse=True)

    def nearest(self, exhibit: Exhibit, among: Iterable[Exhibit], most: int = 4) -> list[Neighbour]:
        """The images most like this one, the most alike first."""
        others = [one for one in among if one.verdict_id != exhibit.verdict_id]
        for ids, prints in self._by_die([exhibit, *others]):
            if exhibit.verdict_id in ids:
                alike = prints @ prints[ids.index(exhibit.verdict_id)]
                order = [at for at in np.argsort(-alike) if ids[at] != exhibit.verdict_id]
                return [Neighbour(ids[at], float(alike[at])) for at in order[:most]]
        return []

    def _by_die(self, exhibits: Sequence[Exhibit]) -> list[tuple[list[str], Vector]]:
        """Of each die the ids and their fingerprints (n, d), rows of unit length."""
        dies: dict[str, dict[str, _Read]] = {}
        for exhibit in exhibits:
            if exhibit.verdict_id not in self._read:
                self._read[exhibit.verdict_id] = _read(exhibit)
            read = self._read[exhibit.verdict_id]
            if read is not None:
                dies.setdefault(read.die, {})[exhibit.verdict_id] = read
        return [(list(of), _prints(list(of.values()))) for of in dies.values()]


def _prints(of: Sequence[_Read]) -> Vector:
    pixels = np.stack([one.pixels for one in of])
    if len(of) >= _FEW:
        pixels -= np.float32(_TYPICAL) * np.median(pixels, axis=0).astype(np.float32)
    heat = np.stack([one.heat for one in of])
    classes = sorted({name for one in of for name in one.shares})
    shares = np.array([[one.shares.get(name, 0) for name in classes] for one in of], np.float32)
    return _units(np.hstack([_units(pixels), _units(heat), _units(np.sqrt(shares))]))


def _read(exhibit: Exhibit) -> _Read | None:
    """None if it has no picture that can be compared."""
    try:
        data = exhibit.file(VIEW) or exhibit.file(FRAME)
        distances = exhibit.distances()
        verdict = exhibit.verdict()
    except DataError:
        return None
    view = None if data is None else cv2.imdecode(np.frombuffer(data, np.uint8), 0)
    if view is None:
        return None
    heat = np.zeros((1, 1), np.float32)
    if distances is not None and distances.ndim == 2 and np.isfinite(distances).all():
        # Its upper half: the rest is noise.
        heat = np.maximum(distances - np.median(distances), 0)
    return _Read(
        str(verdict.get("die")),
        _small(view.astype(np.float32)),
        _small(heat),
        {name: max(0.0, float(share)) for name, share in verdict.get("probabilities", {}).items()},
    )


def _small(picture: NDArray[np.float32]) -> Vector:
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).ravel()
    spread = float(small.std())
    return np.asarray((small - small.mean()) / spread if spread > 0 else small * 0, np.float32)


def _units(rows: Vector) -> Vector:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1), np.float32)
