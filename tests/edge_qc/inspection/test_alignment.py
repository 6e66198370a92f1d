"""A part is found where it lies, its view is that of a part in its place, and what lies wrong or is
not there is said to be so."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_qc.bundle.alignment import Alignment, DieTemplate
from edge_qc.bundle.dies import Die
from edge_qc.inspection.alignment import Template, edges_of, reduced
from edge_qc.inspection.view import crop_centre, view
from tests.rig.askew import DIES, HEIGHT, WIDTH, aside, photograph

DIE = Die.model_validate(DIES["Die01"])
STEP = 2
SIZE = (96, 48)


@pytest.fixture(scope="module")
def template() -> Template:
    """What the mean of some GOOD parts that lie in their places is found by."""
    rng = np.random.default_rng(1)
    mean = np.mean([edges_of(reduced(photograph("GOOD", rng), STEP)) for _ in range(12)], axis=0)
    right, down = crop_centre(DIE, WIDTH, HEIGHT)
    facts = DieTemplate(step=STEP, anchor=(right / STEP - 0.5, down / STEP - 0.5), limit=0.5)
    edges = np.moveaxis(np.round(mean * 127), -1, 0).astype(np.int8)
    return Template("Die01", facts, edges, Alignment(shift=0.08, turn=5.0, dies={"Die01": facts}))


def apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean difference in grey levels, without noise."""
    soft = [cv2.GaussianBlur(cut.astype(np.float32), (0, 0), 1.0) for cut in (one[0], other[0])]
    return float(np.abs(soft[0] - soft[1]).mean())


@pytest.mark.parametrize("label", ["GOOD", "Boucle plate", "Missing"])
def test_a_part_is_found_where_it_lies_whatever_its_loop(template: Template, label: str) -> None:
    """The crop's centre is the picture's here, about which the rig turns."""
    rng = np.random.default_rng(2)
    for _ in range(12):
        right, down, turn = aside(rng)
        cut = view(photograph(label, rng, right, down, turn), DIE, SIZE, "area", template)
        found = cut.placement
        assert found is not None
        assert found.fault == ""
        assert math.hypot(found.right_px - right, found.down_px - down) < 1.2
        assert abs(found.turn_deg - turn) < 0.5
        assert 0 <= found.residual < found.limit == 0.5


def test_the_view_of_a_part_askew_is_that_of_a_part_in_its_place(template: Template) -> None:
    for seed in range(8):
        lies = aside(np.random.default_rng(100 + seed))
        still, askew = (
            photograph("GOOD", np.random.default_rng(seed), *where) for where in ((), lies)
        )
        wanted = view(still, DIE, SIZE).pixels
        plain = apart(view(askew, DIE, SIZE).pixels, wanted)
        aligned = apart(view(askew, DIE, SIZE, "area", template).pixels, wanted)
        assert aligned < 4
        assert aligned < plain / 2


def test_the_heat_map_lies_on_the_part(template: Template) -> None:
    """``to_frame`` leads from a point of the aligned view to where the part has it."""
    right, down, turn = 9.0, -11.0, 3.5
    pixels = photograph("GOOD", np.random.default_rng(3), right, down, turn)
    plain = view(pixels, DIE, SIZE).to_frame
    aligned = view(pixels, DIE, SIZE, "area", template).to_frame
    middle = np.array([WIDTH / 2, HEIGHT / 2])
    back = cv2.getRotationMatrix2D((0, 0), turn, 1.0)[:, :2]
    for x, y in ((0, 0), (48, 0), (0, 96), (30, 50)):
        still = plain @ (x, y, 1.0)
        moved = back @ (still - middle) + middle + (right, down)
        assert np.abs(aligned @ (x, y, 1.0) - moved).max() < 1.5


@pytest.mark.parametrize(
    ("lies", "said"),
    [
        ((24, 0, 0), "px to the right"),
        ((0, -27, 0), "px down"),
        ((2, 3, 6.5), "counter-clockwise"),
    ],
)
def test_a_part_beyond_the_bounds_is_not_straightened(
    template: Template, lies: tuple[float, float, float], said: str
) -> None:
    """16 px, 19 px and 5° are allowed; the view is cut as if nothing had been found."""
    pixels = photograph("GOOD", np.random.default_rng(4), *lies)
    cut = view(pixels, DIE, SIZE, "area", template)
    assert cut.placement is not None
    assert said in cut.placement.fault
    assert "wanted within 16 px aside, 19 px up or down and 5°" in cut.placement.fault
    assert np.array_equal(cut.pixels, view(pixels, DIE, SIZE).pixels)
    assert np.array_equal(cut.to_frame, view(pixels, DIE, SIZE).to_frame)


@pytest.mark.parametrize("kind", ["blank", "noise", "elsewhere", "half a turn"])
def test_where_there_is_no_such_part_none_is_found(template: Template, kind: str) -> None:
    rng = np.random.default_rng(5)
    pixels = {
        "blank": np.full((HEIGHT, WIDTH), 90, np.uint8),
        "noise": rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8),
        "elsewhere": photograph("elsewhere", rng),
        "half a turn": photograph("GOOD", rng)[::-1, ::-1].copy(),
    }[kind]
    found = view(pixels, DIE, SIZE, "area", template).placement
    assert found is not None
    assert found.residual > found.limit
    assert "no part like Die01 was found within 16 px aside" in found.fault
    assert f"a residual of {found.residual:.2f}, wanted at most 0.50" in found.fault


def test_light_and_colour_do_not_move_a_part(template: Template) -> None:
    pixels = photograph("GOOD", np.random.default_rng(6), 8, 5, -2)
    dim = cv2.convertScaleAbs(pixels, alpha=0.45, beta=12)
    places = [
        view(np.asarray(shown, np.uint8), DIE, SIZE, "area", template).placement
        for shown in (pixels, dim, cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    ]
    for place in places:
        assert place is not None
        assert abs(place.right_px - 8) < 1
        assert abs(place.down_px - 5) < 1
