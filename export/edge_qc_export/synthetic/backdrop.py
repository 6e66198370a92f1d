"""What lies under and around the bond: lead post, groove, paddle, solder, chip, pads and tracks.

Drawn with the chip below its edge and then turned by quarters, so that the package lies square in
the photograph and the bond crosses it at the die's angle. The bond itself lives in ``bond``.
"""

from __future__ import annotations

import numpy as np

from edge_qc_export.synthetic.layout import INSET, Geometry
from edge_qc_export.synthetic.texture import Floats, Surface, roughen

RUNNER = 0.13, 0.20
"""The gate runner: depth inside the chip's edge from and to, as a share of ``Geometry.run``."""
PAD = 0.245
"""Where the source pad begins, likewise."""


def _profile(depths: Floats, points: list[tuple[float, float]]) -> Floats:
    xs, ys = zip(*points, strict=True)
    return np.asarray(np.interp(depths, xs, ys), np.float32)


def _steps(edges: list[tuple[float, float]], first: float) -> list[tuple[float, float]]:
    """Points of a step profile: from each depth on, its tone; edges 2 pixels soft."""
    points = [(-4000.0, first)]
    tone = first
    for depth, following in edges:
        points += [(depth - 1.0, tone), (depth + 1.0, following)]
        tone = following
    return [*points, (4000.0, tone)]


def backdrop(scene: Geometry, margin: int, rng: np.random.Generator) -> Floats:
    """Grey levels, float32 (H + 2 margin, W + 2 margin), of the package without its bond."""
    layout, run = scene.layout, scene.run
    width, height = (side + 2 * margin for side in scene.resolution)
    foot_x, foot_y = (value + margin for value in scene.frame_point(*scene.chip_foot))
    turns = layout.quarter_turns
    if turns in {0, 2}:
        shape = height, width
        foot_row, foot_column = (
            (foot_y, foot_x) if turns == 0 else (height - foot_y, width - foot_x)
        )
    else:
        shape = width, height
        foot_row, foot_column = (
            (width - foot_x, foot_y) if turns == -1 else (foot_x, height - foot_y)
        )
    rows = shape[0]
    slack = float(rng.normal(0.0, 0.012)) * run
    edge = foot_row - INSET * run + slack
    depths = (np.arange(rows, dtype=np.float32) + 0.5 - edge).astype(np.float32)

    def tone(nominal: float, spread: float = 7.0) -> float:
        return float(nominal + rng.normal(0.0, spread))

    post, paddle = tone(layout.post), tone(layout.paddle)
    groove = tone(34, 4)
    outside = _steps(
        [(-0.385 * run, groove), (-0.225 * run, paddle), (-0.05 * run, paddle * 0.72)], post
    )
    base = np.empty(shape, np.float32)
    base[:] = _profile(depths, outside)[:, None]
    groove_from, groove_to = (
        int(np.clip(edge + share * run, 0, rows)) for share in (-0.385, -0.225)
    )
    surface: Surface = "brushed" if layout.brushed else "mottled"
    roughen(base[:groove_from], surface, 7.5, rng)
    roughen(base[groove_from:groove_to], "grain", 3.5, rng)
    roughen(base[groove_to:], surface, 7.0, rng)
    roughen(base[groove_to:], "grain", 4.0, rng)
    # Rounded lips where the groove begins and ends.
    lips = _profile(
        depths,
        [
            (-0.42 * run, 0), (-0.395 * run, 26), (-0.38 * run, 0),
            (-0.235 * run, 0), (-0.22 * run, 20), (-0.19 * run, 0),
        ],
    )  # fmt: skip
    base += lips[:, None]
    _split_post(base, edge - 0.385 * run, foot_column, groove, run, rng)
    _draw_chip(base, scene, depths, edge, foot_column, rng)
    return np.ascontiguousarray(np.rot90(base, turns))


def _split_post(
    base: Floats, end: float, foot: float, groove: float, run: float, rng: np.random.Generator
) -> None:
    """Grooves that part the lead posts from each other."""
    last = max(0, int(end) + 1)
    for side in (-1, 1):
        # Far enough to leave the band's own post whole, wherever the band crosses it.
        at = int(foot + side * (run * rng.uniform(1.75, 1.95)))
        half = int(rng.integers(9, 15))
        if half < at < base.shape[1] - half:
            base[:last, at - half : at + half] = groove
            base[:last, at - half - 3 : at - half] += 22
            base[:last, at + half : at + half + 3] += 12


def _draw_chip(
    base: Floats,
    scene: Geometry,
    depths: Floats,
    edge: float,
    foot: float,
    rng: np.random.Generator,
) -> None:
    layout, run = scene.layout, scene.run
    first = max(0, round(edge))
    if first >= base.shape[0]:
        return
    left = max(0, int(foot - run * rng.uniform(0.95, 1.1)))
    right = min(base.shape[1], int(foot + run * rng.uniform(1.25, 1.45)))
    passivation = float(layout.passivation + rng.normal(0, 5))
    pad = float(layout.pad + rng.normal(0, 8))
    runner = pad * 0.9
    gap = passivation * 0.55
    steps = [
        (0.022 * run, passivation), (0.05 * run, pad * 0.8), (0.075 * run, passivation),
        (RUNNER[0] * run, runner), (RUNNER[1] * run, gap), (PAD * run, pad),
        (0.80 * run, gap), (0.84 * run, runner if layout.second_runner else passivation),
        (0.92 * run, gap), (0.955 * run, pad * 0.94),
    ]  # fmt: skip
    inner = depths[first:]
    chip = base[first:, left:right]
    chip[:] = _profile(inner, _steps(steps, 58.0))[:, None]
    shape = chip.shape[0], chip.shape[1]
    roughen(chip, "grain", 5.0, rng)
    roughen(chip, "mottled", 4.5, rng)
    on_pad = np.flatnonzero(inner > PAD * run + 3)
    if on_pad.size:
        start = int(on_pad[0])
        if layout.pad_stripes:
            columns = np.arange(shape[1], dtype=np.float32)
            phase = rng.uniform(0, layout.pad_stripes)
            wave = np.cos((columns + phase) * (2 * np.pi / layout.pad_stripes)) ** 8
            chip[start:] -= (13.0 * wave).astype(np.float32)[None]
        else:
            chip[start:] += (3.5 * np.cos(inner[start:] * 1.05))[:, None]
        for side in (-1, 1):
            at = int(foot - left + side * run * rng.uniform(0.62, 0.68))
            if 6 < at < shape[1] - 6:
                chip[start:, at - 5 : at + 5] = gap
    # The sawn flanks of the chip, one in the light and one in shadow.
    chip[:, :3] += 40
    chip[:, -4:] *= 0.5
    chip[:2] += 45
    if left > 6:
        base[first:, left - 6 : left] *= 0.62
    if right < base.shape[1] - 8:
        base[first:, right : right + 8] *= 0.5
