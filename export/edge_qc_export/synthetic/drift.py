"""What no training image shows: six kinds of drift, and what is usual in their stead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from edge_qc_export.synthetic.layer import MARGIN, Layer
from edge_qc_export.synthetic.layout import Geometry
from edge_qc_export.synthetic.metal import Lamp, Rng, draw_blot
from edge_qc_export.synthetic.texture import patch

UNDERLYING = (0.45, 0.05, 0.1, 0.05, 0.3, 0.05)
"""How often each class, in the challenge's order, lies under a drift."""

Draw = Callable[[Layer, Geometry, Lamp, Rng], None]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a part is placed and photographed. turn: degrees. shift: pixels. blur: the focus's
    Gaussian spread, pixels. gain: of the exposure."""

    turn: Callable[[Rng], float]
    shift: Callable[[Rng], tuple[float, float]]
    blur: Callable[[Rng], float]
    gain: Callable[[Rng], float]
    bloom: bool = False


def _usual_turn(rng: Rng) -> float:
    return float(rng.normal(0.0, 1.0))


def _usual_shift(rng: Rng) -> tuple[float, float]:
    return float(rng.normal(0.0, 3.5)), float(rng.normal(0.0, 3.5))


def _usual_blur(rng: Rng) -> float:
    return float(rng.gamma(4.0, 0.22))


def _usual_gain(rng: Rng) -> float:
    return float(np.clip(rng.normal(1.0, 0.09), 0.75, 1.25))


USUAL = Scale(_usual_turn, _usual_shift, _usual_blur, _usual_gain)


def _far_blur(rng: Rng) -> float:
    return float(rng.uniform(5.0, 12.0))


def _high_gain(rng: Rng) -> float:
    return float(rng.uniform(1.75, 2.9))


def _far_turn(rng: Rng) -> float:
    return float(rng.choice([-1.0, 1.0]) * rng.uniform(9.0, 40.0))


def _far_shift(rng: Rng) -> tuple[float, float]:
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(35.0, 110.0)
    return float(np.cos(angle) * reach), float(np.sin(angle) * reach)


@dataclass(frozen=True, slots=True)
class Drift:
    """One kind. draw: what it adds to the band. keeps_bond: whether a bond lies under it."""

    draw: Draw | None = None
    scale: Scale = USUAL
    keeps_bond: bool = True


def _place_in_band(scene: Geometry, rng: Rng, aside: float) -> tuple[float, float]:
    """Somewhere in the visible part of the band, away from its ends."""
    low, high = scene.visible
    inset = 0.14 * (high - low)
    x = scene.box[0] / 2 + rng.uniform(-aside, aside)
    return float(x), float(rng.uniform(low + inset, high - inset))


def _polyline(layer: Layer, points: np.ndarray, thickness: int) -> np.ndarray:
    mask = np.zeros(layer.colour.shape, np.uint8)
    fixed = np.round((points + MARGIN) * 16).astype(np.int32)
    cv2.polylines(mask, [fixed], False, 255, thickness, cv2.LINE_AA, 4)
    return mask


def _particle(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    """A flake or a fibre that lies on the part."""
    if rng.random() < 0.45:
        x, y = _place_in_band(scene, rng, 35)
        heading = rng.uniform(0, np.pi)
        turns = np.cumsum(rng.normal(0, 0.16, 40)) + heading + rng.normal(0, 0.04)
        steps = rng.uniform(3.5, 7.0) * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        points = np.cumsum(steps, axis=0)
        points += np.array([x, y]) - points.mean(axis=0)
        thickness = int(rng.integers(4, 8))
        whole = (slice(None), slice(None))
        shadow = _polyline(layer, points - np.array(lamp) * 5, thickness + 2)
        layer.darken(whole, cv2.blur(shadow, (7, 7)) * np.float32(0.45 / 255))
        fibre = _polyline(layer, points, thickness)
        level = rng.choice([45.0, 205.0]) + rng.normal(0, 12)
        ridge = cv2.blur(fibre, (5, 5)).astype(np.float32) * np.float32(0.12)
        layer.cover(whole, level + ridge, fibre * np.float32(1 / 255))
        return
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(16, 42)
        lean = rng.uniform(0, np.pi)
        axis = float(np.cos(lean)), float(np.sin(lean))
        half = size, size * rng.uniform(0.5, 0.9)
        at = _place_in_band(scene, rng, 40)
        window, field, cover = draw_blot(layer, at, half, axis, rng, ragged=0.28)
        rows, columns = np.gradient(field)
        level = rng.choice([50.0, 95.0, 215.0])
        grey = level - 700.0 * (lamp[0] * columns + lamp[1] * rows)
        grey += 16.0 * patch("mottled", field.shape, rng) + 9.0 * patch("grain", field.shape, rng)
        layer.darken(window, 0.45 * np.clip(field * 4 + 0.9, 0, 1))
        layer.cover(window, np.clip(grey, 8, 255).astype(np.float32), cover)


def _scratch(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    """Lines drawn across the part by something hard."""
    whole = (slice(None), slice(None))
    heading = rng.uniform(0.15, np.pi - 0.15)
    for _ in range(int(rng.integers(1, 5))):
        x, y = _place_in_band(scene, rng, 30)
        lean = heading + rng.normal(0, 0.08)
        reach = rng.uniform(90, 300)
        t = np.linspace(-1, 1, 24)
        bow = rng.normal(0, 14) * t**2
        points = np.stack(
            [
                x + reach * t * np.cos(lean) - bow * np.sin(lean),
                y + reach * t * np.sin(lean) + bow * np.cos(lean),
            ],
            axis=1,
        ) + rng.normal(0, 0.5, (24, 2))
        thickness = int(rng.integers(3, 7))
        groove = _polyline(layer, points - np.array(lamp) * 2.0, thickness)
        ridge = _polyline(layer, points, thickness)
        layer.cover(whole, 30.0, groove * np.float32(0.75 / 255))
        layer.cover(whole, float(rng.uniform(205, 250)), ridge * np.float32(0.85 / 255))


def _component(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    """A chip resistor or capacitor where the bond should be."""
    low, high = scene.visible
    half_x, half_y = rng.uniform(38, 58), min(rng.uniform(85, 130), (high - low) * 0.36)
    x, y = scene.box[0] / 2 + rng.normal(0, 9), (low + high) / 2 + rng.normal(0, 14)
    lean = rng.normal(0, 0.09)
    window = layer.window(x, y, half_x + half_y, half_y + half_x)
    xs, ys = layer.grid(window)
    dx = (xs - x) * np.cos(lean) + (ys - y) * np.sin(lean)
    dy = (ys - y) * np.cos(lean) - (xs - x) * np.sin(lean)

    def rectangle(off: float) -> np.ndarray:
        edge = np.minimum(half_x - np.abs(dx + off * lamp[0]), half_y - np.abs(dy + off * lamp[1]))
        return np.asarray(np.clip(edge + 0.5, 0, 1), np.float32)

    layer.darken(window, 0.55 * np.asarray(cv2.blur(rectangle(11.0), (9, 9)), np.float32))
    resistor = rng.random() < 0.5
    body = float(rng.normal(38 if resistor else 118, 8))
    grey = np.full(dx.shape, body, np.float32)
    if resistor:
        word = "".join(rng.choice(list("0123456789"), 3))
        ink = np.zeros((56, 110), np.uint8)
        cv2.putText(ink, word, (4, 44), cv2.FONT_HERSHEY_SIMPLEX, 1.55, 255, 4, cv2.LINE_AA)
        text = cv2.rotate(ink, cv2.ROTATE_90_CLOCKWISE)
        map_x = (dx + 28).astype(np.float32)
        map_y = (dy + 55).astype(np.float32)
        grey += 0.62 * cv2.remap(text, map_x, map_y, cv2.INTER_LINEAR, borderValue=0)
    ends = np.clip((np.abs(dy) - half_y * rng.uniform(0.68, 0.78)) * 0.7, 0, 1)
    solder = 178 + 34 * np.cos(dx / half_x * 1.9) - 60 * np.clip(np.abs(dy) / half_y - 0.9, 0, 1)
    grey = grey * (1 - ends) + solder * ends
    grey = grey + 6 * patch("grain", grey.shape, rng) + 4 * patch("mottled", grey.shape, rng)
    grey = grey + 30 * np.clip(3 - (half_x - np.abs(dx)), 0, 3) / 3 * np.sign(lamp[0] * dx)
    layer.cover(window, grey.astype(np.float32), rectangle(0.0))


DRIFTS: Mapping[str, Drift] = {
    "defocus": Drift(scale=Scale(_usual_turn, _usual_shift, _far_blur, _usual_gain)),
    "over-exposure": Drift(
        scale=Scale(_usual_turn, _usual_shift, _usual_blur, _high_gain, bloom=True)
    ),
    "particle": Drift(draw=_particle),
    "scratch": Drift(draw=_scratch),
    "shifted": Drift(scale=Scale(_far_turn, _far_shift, _usual_blur, _usual_gain)),
    "component": Drift(draw=_component, keeps_bond=False),
}
"""Kinds of drift by name."""
