"""One synthetic photograph: package, bond and drift brought together, lit, focused and exposed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import UsageError
from edge_qc_export.synthetic import drift as drifts
from edge_qc_export.synthetic.backdrop import backdrop
from edge_qc_export.synthetic.bond import BONDS
from edge_qc_export.synthetic.layer import REACH, Decal, Layer
from edge_qc_export.synthetic.layout import Geometry, Resolution, geometry
from edge_qc_export.synthetic.metal import Lamp
from edge_qc_export.synthetic.texture import Floats, patch

_NEIGHBOUR_KINDS = 4
_LAMP_DEGREES = -125.0
_ASIDE = 42
"""Seeds where a part lies, so that all else of the part is drawn as if it lay still."""


@dataclass(frozen=True, slots=True)
class Aside:
    """How far parts lie from where a fixture would hold them, beside the usual few pixels: evenly
    up to so much. shift: a share of the photograph's width and height; turn: degrees."""

    shift: float = 0.0
    turn: float = 0.0

    def reach(self, resolution: Resolution) -> int:
        """Pixels beyond the photograph's edge that come into it at the farthest."""
        half = math.hypot(*resolution) / 2
        return math.ceil(self.shift * max(resolution) + half * math.sin(math.radians(self.turn)))

    def drawn(self, resolution: Resolution, rng: np.random.Generator) -> tuple[float, float, float]:
        """Pixels to the right and down, degrees counter-clockwise, of one part."""
        right, down, turn = rng.uniform(-1.0, 1.0, 3)
        width, height = resolution
        return right * self.shift * width, down * self.shift * height, turn * self.turn


NOT_ASIDE = Aside()
_cached_geometry = functools.lru_cache(maxsize=16)(geometry)


def render(
    label: str,
    die: str,
    resolution: Resolution,
    seed: int | Sequence[int],
    aside: Aside = NOT_ASIDE,
) -> NDArray[np.uint8]:
    """A photograph, uint8 (height, width).

    label: one of the six classes, or a kind of drift (``drift.DRIFTS``). resolution: (540, 630)
    or (720, 840), width and height. aside: how far the part may lie from where a fixture holds it.
    The same arguments give the same pixels.
    Raises UsageError for a label, die or resolution that there is not.
    """
    if label not in BONDS and label not in drifts.DRIFTS:
        raise UsageError(
            f"no synthetic class {label!r}: there are {', '.join([*BONDS, *drifts.DRIFTS])}"
        )
    scene = _cached_geometry(die, resolution)
    rng = np.random.default_rng(seed)
    drift = drifts.DRIFTS.get(label)
    if drift is not None:
        label = str(rng.choice(list(BONDS), p=drifts.UNDERLYING))
    lamp = _lamp(scene, rng.normal(_LAMP_DEGREES, 16.0))
    layer = Layer.empty(scene)
    if drift is None or drift.keeps_bond:
        BONDS[label](layer, scene, lamp, rng)
    if drift is not None and drift.draw is not None:
        drift.draw(layer, scene, lamp, rng)
    scale = drift.scale if drift is not None else drifts.USUAL
    reach = REACH + aside.reach(resolution)
    frame = backdrop(scene, reach, rng)
    for place in range(len(scene.layout.neighbours)):
        kind, by = int(rng.integers(_NEIGHBOUR_KINDS)), rng.integers(-8, 9, 2)
        neighbour = _neighbour(die, resolution, place, kind, reach)
        if neighbour is not None:
            neighbour.stick(frame, reach, (int(by[0]), int(by[1])))
    bond = layer.warped(scene, reach=reach)
    if bond is not None:
        bond.stick(frame, reach)
    lies = aside.drawn(resolution, np.random.default_rng([*np.atleast_1d(seed), _ASIDE]))
    return _expose(_place(frame, scene, scale, reach, lies, rng), scale, rng)


@functools.cache
def _neighbour(die: str, resolution: Resolution, place: int, kind: int, reach: int) -> Decal | None:
    """A bond beside the one that is judged, drawn once a process."""
    scene = _cached_geometry(die, resolution)
    rng = np.random.default_rng([2005, place, kind])
    layer = Layer.empty(scene)
    lamp = _lamp(scene, _LAMP_DEGREES)
    BONDS["GOOD" if kind else "Missing"](layer, scene, lamp, rng)
    return layer.warped(scene, scene.layout.neighbours[place], reach)


def _lamp(scene: Geometry, degrees: float) -> Lamp:
    """From the lamp's direction in the photograph, which all dies share, to the band's."""
    angle = math.radians(degrees)
    across, along = scene.to_frame[:, :2].T @ (math.cos(angle), math.sin(angle))
    return float(across), float(along)


def _place(
    frame: Floats,
    scene: Geometry,
    scale: drifts.Scale,
    reach: int,
    lies: tuple[float, float, float],
    rng: np.random.Generator,
) -> Floats:
    """Turn, zoom and shift the part a little, and cut the margin off; lies: pixels and degrees that
    come on top."""
    width, height = scene.resolution
    turn = scale.turn(rng) + lies[2]
    zoom = rng.normal(1.0, 0.012)
    shift = np.add(scale.shift(rng), lies[:2])
    centre = width / 2 + reach, height / 2 + reach
    affine = cv2.getRotationMatrix2D(centre, turn, zoom)
    affine[:, 2] += np.subtract(shift, reach)
    return np.asarray(
        cv2.warpAffine(
            frame, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        ),
        np.float32,
    )


def _expose(frame: Floats, scale: drifts.Scale, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Uneven light, focus, exposure and the sensor's noise."""
    height, width = frame.shape
    light = rng.normal(1.0, 0.05, (4, 3)).astype(np.float32)
    slope = rng.normal(0.0, 0.10, 2)
    light += np.linspace(-slope[0], slope[0], 4, dtype=np.float32)[:, None]
    light += np.linspace(-slope[1], slope[1], 3, dtype=np.float32)[None]
    light *= np.float32(scale.gain(rng))
    cv2.multiply(frame, cv2.resize(light, (width, height), interpolation=cv2.INTER_CUBIC), frame)
    blur = scale.blur(rng)
    if scale.bloom:
        glow = cv2.GaussianBlur(np.clip(frame - 235, 0, None), (0, 0), 9)
        frame += 0.9 * glow
    if blur > 0.35:
        frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), blur), np.float32)
    noise, black = rng.uniform(1.2, 2.6), rng.normal(0.0, 5.0)
    grains = patch("white", (height, width), rng)
    # One pass: add, round and saturate.
    exposed = cv2.addWeighted(frame, 1.0, grains, noise, black, dtype=cv2.CV_8U)
    return np.asarray(exposed, np.uint8)
