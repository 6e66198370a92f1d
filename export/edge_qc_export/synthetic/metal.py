"""Metal in band coordinates: wires, pressed feet, scars, splashes.

From a wire's height over the package follow how far the slanted camera sees it aside, where its
shadow falls and how bright its slopes are. Which of these make up a class lives in ``bond``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge_qc_export.synthetic.backdrop import PAD, RUNNER
from edge_qc_export.synthetic.layer import Layer
from edge_qc_export.synthetic.layout import Geometry
from edge_qc_export.synthetic.texture import Floats, patch

Rng = np.random.Generator
Lamp = tuple[float, float]
"""Where the light comes from: unit vector in band coordinates."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A wire. start, end: (x, y) of its ends in the band, start the upper. height: pixels at the
    apex. start_lift, end_lift: pixels by which the ends hang over their pads. bend: pixels aside
    in the middle. skew: where the apex is, 0.5 the middle. tone: grey level of the metal."""

    start: tuple[float, float]
    end: tuple[float, float]
    height: float
    start_lift: float
    end_lift: float
    bend: float
    skew: float
    tone: float
    radius: float


def _smooth(values: Floats) -> Floats:
    values = np.clip(values, 0.0, 1.0)
    return values * values * (3.0 - 2.0 * values)


def draw_wire(layer: Layer, scene: Geometry, loop: Loop, lamp: Lamp, rng: Rng) -> None:
    """The loop with its shadow, without its feet."""
    (x0, y0), (x1, y1) = loop.start, loop.end
    middle, half_length = (y0 + y1) / 2, (y1 - y0) / 2
    window = layer.window(scene.box[0] / 2, middle, scene.box[0], half_length)
    xs, ys = layer.grid(window)
    t = np.clip((ys - y0) / (y1 - y0), 0.0, 1.0)
    # A parabola whose apex is moved by bending the parameter; its ends are rounded into the feet.
    bent = t ** np.float32(np.log(0.5) / np.log(loop.skew))
    arch = 4.0 * bent * (1.0 - bent)
    arch = arch * _smooth(np.minimum(t, 1.0 - t) * 9.0)
    height = loop.height * arch + loop.start_lift * (1 - t) ** 2 + loop.end_lift * t**2
    slope = np.gradient(height[:, 0]).astype(np.float32)[:, None]
    full = 0.31 * 2 * half_length
    centre = x0 + (x1 - x0) * t + 4.0 * loop.bend * t * (1 - t)
    centre = centre + scene.layout.tilt * height / full
    radius = loop.radius * (1.0 + 0.13 * height / full)

    # Shadow: away from the lamp by the height, softer the higher.
    cast = 0.30 * height
    soft = 3.0 + 0.10 * height
    off = np.abs(xs - (centre - lamp[0] * cast - lamp[0] * 4.0))
    shadow = np.clip((radius + soft * 0.5 - off) / soft, 0, 1) * (0.62 - 0.30 * height / full)
    layer.darken(window, np.clip(shadow, 0, 0.8))

    across = (xs - centre) / radius
    up = np.sqrt(np.clip(1.0 - across * across, 0.0, 1.0))
    facing = 1.0 / np.sqrt(1.0 + slope * slope)
    toward = -slope * lamp[1] * facing
    grey = loop.tone * (0.24 + 0.62 * up * facing * facing + 0.16 * lamp[0] * across)
    grey += loop.tone * 0.30 * np.clip(toward, -0.6, 1.0) * up
    gloss = np.exp(-(((across - 0.28 * lamp[0]) / 0.30) ** 2)) * np.exp(-((slope / 0.42) ** 2))
    grey += (92.0 + 9.0 * patch("mottled", across.shape, rng)) * gloss
    grey *= 1.0 + 0.075 * patch("drawn", across.shape, rng)
    cover = np.clip((1.0 - np.abs(across)) * radius + 0.5, 0.0, 1.0)
    # The wire rises out of its pressed ends.
    cover = cover * _smooth(np.minimum(ys - y0, y1 - ys) / loop.radius)
    layer.cover(window, grey.astype(np.float32), cover.astype(np.float32))


def draw_foot(
    layer: Layer, at: tuple[float, float], loop: Loop, lamp: Lamp, rng: Rng, lift: float = 0.0
) -> None:
    """The wedge-bonded end of a wire: pressed flat, ribbed by the tool. lift: pixels by which it
    hangs over its pad, its shadow far and its face turned out of the light."""
    half_x = loop.radius * rng.uniform(1.30, 1.50)
    half_y = loop.radius * rng.uniform(1.75, 2.1)
    x, y = at
    room = 10 + 0.3 * lift
    window = layer.window(x, y, half_x + room, half_y + room)
    xs, ys = layer.grid(window)
    dx, dy = (xs - x) / half_x, (ys - y) / half_y
    shape = dy.shape[0], dx.shape[1]
    ragged = 0.05 * patch("mottled", shape, rng)
    inside = 1.0 - (np.abs(dx) ** 3.0 + np.abs(dy) ** 4.0) + ragged
    cast = 5.0 + 0.30 * lift
    shadow = 1.0 - (
        np.abs(dx + lamp[0] * cast / half_x) ** 3.0 + np.abs(dy + lamp[1] * cast / half_y) ** 4.0
    )
    layer.darken(window, (0.5 * np.clip(shadow * 3 + 0.6, 0, 1)).astype(np.float32))
    plateau = _smooth(inside * 2.2)
    rim = plateau * (1 - plateau) * 4
    light = lamp[0] * np.sign(dx) * np.abs(dx) ** 2 + lamp[1] * np.sign(dy) * np.abs(dy) ** 3
    ribs = np.cos(ys * (2 * np.pi / rng.uniform(6.5, 8.5)) + rng.uniform(0, 6)) * 9.0
    grey = loop.tone * 0.62 + 58.0 * plateau + 55.0 * rim * light + ribs * plateau
    grey = grey * (1.0 - min(0.4, lift / 250.0)) + 6.0 * patch("grain", shape, rng)
    layer.cover(window, grey.astype(np.float32), np.clip(inside * 7, 0, 1).astype(np.float32))


def draw_blot(
    layer: Layer,
    at: tuple[float, float],
    half: tuple[float, float],
    axis: tuple[float, float],
    rng: Rng,
    *,
    ragged: float,
) -> tuple[tuple[slice, slice], Floats, Floats]:
    """The outline of an irregular blot: its window, a field above 0 inside, and its cover.

    half: half its length along ``axis`` (unit vector, band coordinates) and across it, pixels.
    """
    reach = max(half) * 1.5 + 4
    window = layer.window(*at, reach, reach)
    xs, ys = layer.grid(window)
    dx, dy = xs - at[0], ys - at[1]
    along = (dx * axis[0] + dy * axis[1]) / half[0]
    across = (dy * axis[0] - dx * axis[1]) / half[1]
    noise = patch("cloud", along.shape, rng) * 0.7 + patch("mottled", along.shape, rng) * 0.3
    field = (1.0 - np.sqrt(along**2 + across**2) + ragged * noise).astype(np.float32)
    return window, field, np.clip(field * min(half) * 0.7, 0.0, 1.0)


def draw_scar(layer: Layer, at: tuple[float, float], bright: bool, radius: float, rng: Rng) -> None:
    """What a lifted foot leaves on its pad: torn metal, bright if it is fresh, dark where the metal
    came away with the foot."""
    half = radius * rng.uniform(1.5, 2.1), radius * rng.uniform(1.0, 1.35)
    lean = rng.normal(0, 0.12)
    axis = float(np.sin(lean)), float(np.cos(lean))
    window, field, cover = draw_blot(layer, at, half, axis, rng, ragged=0.13)
    rough = patch("mottled", field.shape, rng)
    grain = patch("grain", field.shape, rng)
    rim = np.exp(-(((field - 0.06) / 0.07) ** 2))
    if bright:
        level = rng.uniform(205, 250)
        grey = level + 20.0 * rough + 12.0 * grain - 45.0 * rim
    else:
        level = rng.uniform(22, 68)
        grey = level + 12.0 * rough + 8.0 * grain + 55.0 * rim * (rough > -0.3)
    layer.cover(window, grey.astype(np.float32), (cover * rng.uniform(0.8, 1.0)).astype(np.float32))


def draw_splash(layer: Layer, scene: Geometry, x: float, lamp: Lamp, rng: Rng) -> None:
    """Metal over the gap between source pad and gate runner, ``x`` pixels across the band."""
    first, last = RUNNER[0] * scene.run, PAD * scene.run
    reach = (last - first) * rng.uniform(0.9, 1.35)
    depth = (first + last) / 2 + reach * rng.uniform(-0.05, 0.3)
    half = reach, scene.layout.wire * rng.uniform(0.75, 1.5)
    at = x, scene.along(x, depth)
    window, field, cover = draw_blot(layer, at, half, scene.inward, rng, ragged=0.2)
    # Molten metal stands round and smooth, so its normals come from the outline's distance.
    dome = cv2.GaussianBlur(np.sqrt(np.clip(field, 0, 0.8)), (0, 0), 3.0)
    rows, columns = np.gradient(dome * half[1])
    bump = lamp[0] * columns + lamp[1] * rows
    steep = np.hypot(rows, columns)
    grey = rng.normal(176, 12) - 95.0 * np.clip(steep, 0, 1.2) - 75.0 * bump
    grey += 75.0 * np.exp(-(((bump + 0.25) / 0.3) ** 2))
    grey += 7.0 * patch("mottled", field.shape, rng)
    layer.darken(window, 0.35 * np.clip(field * 6 + 0.9, 0, 1))
    layer.cover(window, np.clip(grey, 20, 255).astype(np.float32), cover)
