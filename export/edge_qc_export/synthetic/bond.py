"""The six classes: which metal lies in the band.

A flat loop differs from a GOOD one by its height alone, and the heights of the two overlap a
little, as do faint tool marks on bare pads and the scars of a lift-off. How metal looks lives in
``metal``, what lies below it in ``backdrop``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edge_qc_export.synthetic.layer import Layer
from edge_qc_export.synthetic.layout import Geometry
from edge_qc_export.synthetic.metal import (
    Lamp,
    Loop,
    Rng,
    draw_blot,
    draw_foot,
    draw_scar,
    draw_splash,
    draw_wire,
)
from edge_qc_export.synthetic.texture import patch


def _loop(scene: Geometry, height: float, rng: Rng) -> Loop:
    """A wire on both its pads; height as a share of its span."""
    upper, lower = sorted((scene.chip_foot, scene.lead_foot), key=lambda foot: foot[1])
    span = lower[1] - upper[1]
    aside = rng.normal(0.0, 3.5)
    return Loop(
        start=(upper[0] + aside + rng.normal(0, 2.5), upper[1] + rng.normal(0, 6.0)),
        end=(lower[0] + aside + rng.normal(0, 2.5), lower[1] + rng.normal(0, 6.0)),
        height=height * span,
        start_lift=0.0,
        end_lift=0.0,
        bend=float(rng.normal(0.0, 2.5)),
        skew=float(rng.uniform(0.42, 0.58)),
        tone=float(rng.normal(168, 12)),
        radius=float(scene.layout.wire * rng.uniform(0.93, 1.07)),
    )


def arched(scene: Geometry, rng: Rng) -> Loop:
    """A loop as it should be. A few are low."""
    return _loop(scene, float(np.clip(rng.normal(0.32, 0.04), 0.21, 0.42)), rng)


def flat(scene: Geometry, rng: Rng) -> Loop:
    """A loop that lies flat. A few are nearly as high as the lowest good ones."""
    return _loop(scene, float(0.02 + 0.16 * rng.beta(1.2, 2.4)), rng)


def _bonded(layer: Layer, scene: Geometry, loop: Loop, lamp: Lamp, rng: Rng) -> None:
    draw_foot(layer, loop.start, loop, lamp, rng)
    draw_foot(layer, loop.end, loop, lamp, rng)
    draw_wire(layer, scene, loop, lamp, rng)


def _good(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    _bonded(layer, scene, arched(scene, rng), lamp, rng)


def _flat(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    _bonded(layer, scene, flat(scene, rng), lamp, rng)


def _missing(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    """Bare pads; now and then the faint touch of a tool that left no wire."""
    for x, y in (scene.chip_foot, scene.lead_foot):
        if rng.random() < 0.22:
            at = x + rng.normal(0, 5), y + rng.normal(0, 9)
            half = (
                scene.layout.wire * rng.uniform(1.0, 1.6),
                scene.layout.wire * rng.uniform(0.7, 1),
            )
            window, field, cover = draw_blot(layer, at, half, (0.0, 1.0), rng, ragged=0.1)
            tone = rng.choice([110.0, 205.0])
            grey = tone + 14 * patch("grain", field.shape, rng)
            layer.cover(window, grey, (cover * rng.uniform(0.1, 0.4)).astype(np.float32))


def _lifted(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng, bright: bool) -> None:
    """One foot has come off: its scar, and the wire hanging from the other foot, or gone."""
    loop = arched(scene, rng) if rng.random() < 0.7 else flat(scene, rng)
    low, high = scene.visible
    start_shown = low < loop.start[1] < high
    end_shown = low < loop.end[1] < high
    start_lifts = start_shown and (not end_shown or rng.random() < 0.5)
    foot = loop.start if start_lifts else loop.end
    draw_scar(layer, foot, bright, loop.radius, rng)
    fate = rng.random()
    if fate < 0.2:
        other = loop.end if start_lifts else loop.start
        if rng.random() < 0.6:
            draw_scar(layer, other, bright, loop.radius, rng)
        else:
            draw_foot(layer, other, loop, lamp, rng)
        return
    span = loop.end[1] - loop.start[1]
    back = rng.uniform(0.06, 0.42) * span
    aside = rng.normal(0.0, 20.0)
    lift = rng.uniform(0.05, 0.28) * span
    x, y = foot
    free = x + aside, y + (back if start_lifts else -back)
    hanging = replace(
        loop,
        start=free if start_lifts else loop.start,
        end=loop.end if start_lifts else free,
        height=loop.height * rng.uniform(0.3, 0.9),
        start_lift=lift if start_lifts else 0.0,
        end_lift=0.0 if start_lifts else lift,
    )
    draw_foot(layer, loop.end if start_lifts else loop.start, loop, lamp, rng)
    draw_wire(layer, scene, hanging, lamp, rng)
    full = 0.31 * span
    seen = free[0] + scene.layout.tilt * lift / full, free[1]
    draw_foot(layer, seen, hanging, lamp, rng, lift)


def _lifted_bright(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    _lifted(layer, scene, lamp, rng, bright=True)


def _lifted_dark(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    _lifted(layer, scene, lamp, rng, bright=False)


def _short(layer: Layer, scene: Geometry, lamp: Lamp, rng: Rng) -> None:
    """A good wire, and beside it metal from pad to track."""
    loop = arched(scene, rng)
    side = rng.choice([-1.0, 1.0])
    x = scene.chip_foot[0] + side * loop.radius * rng.uniform(1.4, 2.5)
    draw_splash(layer, scene, float(x), lamp, rng)
    _bonded(layer, scene, loop, lamp, rng)


Draw = Callable[[Layer, Geometry, Lamp, Rng], None]

BONDS: Mapping[str, Draw] = {
    "GOOD": _good,
    "Boucle plate": _flat,
    "Lift-off blanc": _lifted_bright,
    "Lift-off noir": _lifted_dark,
    "Missing": _missing,
    "Short circuit MOS": _short,
}
"""The challenge's classes in the order of its CSV, and how each is drawn."""
