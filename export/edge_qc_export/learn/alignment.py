"""What each die's part is found by, learned from its GOOD images.

The edges of GOOD parts (``edge_qc.inspection.alignment``) are averaged where the parts lie. Where
they lie is not known at first, so that one part, the most like the others, is the first template,
and each average finds the parts for the next. In the end the template lies where the parts lie on
average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.alignment import MOST_SHIFT, MOST_TURN, Alignment, DieTemplate, Edges
from edge_qc.bundle.dies import Die
from edge_qc.camera.images import read_image
from edge_qc.errors import DataError, UsageError
from edge_qc.inspection.alignment import Template, edges_of, reduced, turning
from edge_qc.inspection.edge_points import Floats
from edge_qc.inspection.view import crop_centre
from edge_qc.parts import GOOD
from edge_qc_export.data.dataset import Sample

FEWEST = 8
"""GOOD images of a die that a template can be learned from."""

_MOST = 160
"""GOOD images of a die that are looked at: more change an average no longer."""
_LONGEST = 140
"""Pixels along the longer side of a reduced photograph."""
_CANDIDATES, _JUDGES = 8, 24
_ROUNDS = 4
_SEEN = 0.25
"""Of the images must show a place that is to count."""
_USUAL = 0.5
"""A part's likeness to the template, as a share of the median GOOD part's: below it nothing is
taken to be the part. GOOD parts reach far more, pictures of something else far less."""
_LEAST_LIKENESS = 0.3
_BEYOND = 2.0
"""While learning, parts are looked for so many times as far apart as bounds allow: two of them may
lie aside to opposite sides."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far parts may lie aside: see ``edge_qc.bundle.alignment.Alignment``. Raises UsageError
    for bounds that are too wide."""

    shift: float = 0.08
    turn: float = 5.0

    def __post_init__(self) -> None:
        for name, value, most in (
            ("shift", self.shift, MOST_SHIFT),
            ("turn", self.turn, MOST_TURN),
        ):
            if not 0 < value <= most:
                raise UsageError(f"--align-{name} {value:g}: wanted above 0 and at most {most:g}")


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One GOOD part: the edges of its reduced photograph, the crop's centre in the photograph."""

    edges: Floats
    centre: tuple[float, float]
    size: tuple[int, int]


def learn_alignment(
    samples: Sequence[Sample],
    dies: Mapping[str, Die],
    bounds: Bounds,
    advance: Callable[[int], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[Alignment, dict[str, Edges]]:
    """A template for each die that the samples show. note: told how far each die's parts lie aside.

    Raises DataError for a die with too few GOOD images, or whose GOOD images have no edges in
    common, or an image that cannot be read.
    """
    facts: dict[str, DieTemplate] = {}
    edges: dict[str, Edges] = {}
    for name in sorted({sample.die for sample in samples}):
        good = [sample for sample in samples if (sample.die, sample.label) == (name, GOOD)]
        if len(good) < FEWEST:
            raise DataError(
                f"alignment: {len(good)} GOOD images show {name}, wanted at least {FEWEST} to "
                "learn what it is found by. Add images of it, leave its rows out, or train without "
                "--align"
            )
        chosen = np.unique(np.linspace(0, len(good) - 1, min(_MOST, len(good))).astype(int))
        pictures = [good[index] for index in chosen]
        facts[name], edges[name] = _learn(name, pictures, dies[name], bounds, note)
        advance(1)
    return Alignment(shift=bounds.shift, turn=bounds.turn, dies=facts), edges


def left_out(samples: Sequence[Sample], placed: NDArray[np.bool_], what: str) -> str:
    """What to say of parts that lie beyond the bounds; "" if there are none."""
    lost = [sample.filename for sample, is_in in zip(samples, placed, strict=True) if not is_in]
    if not lost:
        return ""
    named = ", ".join(lost[:3]) + (" …" if len(lost) > 3 else "")
    return (
        f"alignment: {len(lost)} of {len(samples)} parts were not found within the bounds, as a "
        f"station would not judge them, and are {what}: {named}"
    )


def _learn(
    name: str, samples: Sequence[Sample], die: Die, bounds: Bounds, note: Callable[[str], None]
) -> tuple[DieTemplate, Edges]:
    parts, step = _parts(samples, die)
    canvas = _Canvas(name, parts, step, bounds)
    first = np.linspace(0, len(parts) - 1, min(_CANDIDATES, len(parts))).astype(int)
    judges = parts[:: max(1, len(parts) // _JUDGES)]
    lying = np.zeros((1, 3))
    tried = [canvas.mean([parts[index]], lying) for index in first]
    edges = max(tried, key=lambda one: float(canvas.found(one, judges)[1].mean()))
    for _ in range(_ROUNDS):
        poses, likeness = canvas.found(edges, parts)
        like = likeness >= _USUAL * np.median(likeness)
        middle = poses[like].mean(axis=0)
        kept = [part for part, is_like in zip(parts, like, strict=True) if is_like]
        edges = canvas.mean(kept, _from(middle, poses[like]))
    poses, likeness = canvas.found(edges, parts)
    usual = float(np.median(likeness))
    if usual < _LEAST_LIKENESS:
        raise DataError(
            f"alignment: GOOD images of {name} have too little in common to find it by: a "
            f"likeness of {usual:.2f}, wanted at least {_LEAST_LIKENESS}. Does the die table name "
            "its place, and do they all show this die? If they do, train without --align"
        )
    right, down, turn = np.quantile(np.abs(poses), 0.95, axis=0) * (step, step, 180 / math.pi)
    note(
        f"alignment: 95 % of GOOD parts of {name} lie within {right:.0f} px aside, {down:.0f} px "
        f"up or down and {turn:.1f}°"
    )
    return canvas.facts(1 - _USUAL * usual), edges


def _parts(samples: Sequence[Sample], die: Die) -> tuple[list[_Part], int]:
    """The parts, and the photographs' pixels along an edge of the reduced ones'."""
    with ThreadPoolExecutor() as pool:
        greys = list(pool.map(_grey, samples))
    step = max(1, round(max(max(grey.shape) for grey in greys) / _LONGEST))
    return [
        _Part(
            edges_of(reduced(grey, step)),
            crop_centre(die, grey.shape[1], grey.shape[0]),
            (grey.shape[1], grey.shape[0]),
        )
        for grey in greys
    ], step


def _grey(sample: Sample) -> NDArray[np.uint8]:
    pixels = read_image(sample.file)
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) if pixels.ndim == 3 else pixels
    return np.asarray(grey, np.uint8)


def _from(middle: NDArray[np.float64], poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The poses (k, 3) as seen from where ``middle`` lies."""
    moved = poses - middle
    for pose in moved:
        pose[:2] += middle[:2] - turning(pose[2]) @ middle[:2]
    return moved


class _Canvas:
    """The sheet on which a die's edges are averaged: wide enough for every photograph, the crop's
    centre at ``anchor``."""

    def __init__(self, name: str, parts: Sequence[_Part], step: int, bounds: Bounds) -> None:
        self._name, self._step, self._bounds = name, step, bounds
        centres = np.array([part.centre for part in parts]) / step - 0.5
        ends = np.array([part.edges.shape[1::-1] for part in parts])
        before = np.ceil(centres.max(0)).astype(int)
        after = np.ceil((ends - centres).max(0)).astype(int)
        self._anchor = before
        self._size = tuple(int(side) for side in before + after)

    def facts(self, limit: float) -> DieTemplate:
        """What stands beside the edges."""
        right, down = (float(place) for place in self._anchor)
        return DieTemplate(step=self._step, anchor=(right, down), limit=limit)

    def mean(self, parts: Sequence[_Part], poses: NDArray[np.float64]) -> Edges:
        """The mean edges of parts that lie at ``poses`` (k, 3)."""
        total = np.zeros((self._size[1], self._size[0], 2), np.float32)
        count = np.zeros(total.shape[:2], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for part, pose in zip(parts, poses, strict=True):
            turn = turning(pose[2])
            centre = np.array(part.centre) / self._step - 0.5 + pose[:2]
            there = np.hstack([turn, (centre - turn @ self._anchor)[:, None]])
            seen = cv2.warpAffine(part.edges, there, self._size, flags=flags)
            total += seen @ turn.astype(np.float32)
            shown = np.ones(part.edges.shape[:2], np.float32)
            count += cv2.warpAffine(shown, there, self._size, flags=flags)
        mean = total / np.maximum(count, 1)[..., None]
        mean[count < _SEEN * len(parts)] = 0
        return np.moveaxis(np.round(127 * mean), -1, 0).clip(-127, 127).astype(np.int8)

    def found(
        self, edges: Edges, parts: Sequence[_Part]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The pose of each part and its likeness, (k, 3) and (k,)."""
        far = Alignment(
            shift=min(_BEYOND * self._bounds.shift, MOST_SHIFT),
            turn=min(_BEYOND * self._bounds.turn, MOST_TURN),
            dies={self._name: self.facts(0.5)},
        )
        template = Template(self._name, self.facts(0.5), edges, far)

        def look(part: _Part) -> tuple[NDArray[np.float64], float]:
            width, height = part.size
            return template.look(part.edges, part.centre, (far.shift * width, far.shift * height))

        with ThreadPoolExecutor() as pool:
            looked = list(pool.map(look, parts))
        return np.stack([pose for pose, _ in looked]), np.array([like for _, like in looked])
