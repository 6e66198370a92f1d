"""The view against PIL's rotate and crop, the benchmark's own way, and against itself."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edge_qc.bundle.dies import CHALLENGE_DIES, Die
from edge_qc.inspection.view import crop_box, view

RESOLUTIONS = [(540, 630), (720, 840)]
DIES = list(CHALLENGE_DIES)


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """The hardest picture to agree on: every pixel differs from its neighbours."""
    return np.random.default_rng(seed).integers(1, 256, (height, width), dtype=np.uint8)


def photograph(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise that a lens has softened, with edges, as a photograph has them."""
    soft = cv2.GaussianBlur(noise(width, height, seed), (0, 0), 1.5)
    soft = cv2.normalize(soft, None, 40, 160, cv2.NORM_MINMAX)
    for x in range(30, width, 60):
        cv2.line(soft, (x, 0), (width - x, height), 230, 5, cv2.LINE_AA)
    return np.asarray(soft, np.uint8)


def pil_crop(
    pixels: NDArray[np.uint8], die: Die, resample: Image.Resampling = Image.Resampling.NEAREST
) -> Image.Image:
    turned = Image.fromarray(pixels).rotate(die.angle, resample=resample, expand=True)
    if die.box is not None:
        return turned.crop(die.box)
    assert die.center is not None
    width, height = die.center
    left, upper = (turned.width - width) // 2, (turned.height - height) // 2
    return turned.crop((left, upper, left + width, upper + height))


@pytest.mark.parametrize(("width", "height"), RESOLUTIONS)
@pytest.mark.parametrize("name", DIES)
@pytest.mark.parametrize("picture", [noise, photograph])
def test_nearest_gives_the_benchmarks_own_pixels(picture, name, width, height):
    """At least 99 % of pixels equal PIL's rotate and crop; the rest are ties between two."""
    pixels, die = picture(width, height), CHALLENGE_DIES[name]
    reference = np.asarray(pil_crop(pixels, die))
    seen = view(pixels, die, None, "nearest").pixels[0]
    assert seen.shape == reference.shape
    assert (seen == reference).mean() >= 0.99


@pytest.mark.parametrize(("width", "height"), RESOLUTIONS)
@pytest.mark.parametrize("name", DIES)
def test_nearest_takes_the_pixel_that_to_frame_points_at(name, width, height):
    """At the network's size too, where rotation, crop and resize are one warp."""
    pixels = noise(width, height)
    seen = view(pixels, CHALLENGE_DIES[name], (224, 224), "nearest")
    x, y = np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5)
    across, down = np.floor(np.tensordot(seen.to_frame, [x, y, np.ones_like(x)], axes=1))
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    wanted = np.zeros((224, 224), np.uint8)
    wanted[inside] = pixels[down[inside].astype(int), across[inside].astype(int)]
    assert (seen.pixels[0] == wanted).mean() >= 0.99


@pytest.mark.parametrize(("width", "height"), RESOLUTIONS)
@pytest.mark.parametrize("angle", [0.0, 12.5, 55, -44, 134, 270])
@pytest.mark.parametrize("center", [(160, 300), (161, 299), (900, 1200)])
def test_the_center_form_crops_about_the_canvas_centre(angle, center, width, height):
    """As with a box, and for any size of image, larger crops than the picture included."""
    pixels, die = noise(width, height), Die(angle=angle, center=center)
    reference = np.asarray(pil_crop(pixels, die))
    seen = view(pixels, die, None, "nearest").pixels[0]
    assert seen.shape == reference.shape
    assert (seen == reference).mean() >= 0.99


def test_the_center_form_and_the_box_that_it_means_see_the_same():
    pixels = noise(540, 630)
    by_center = Die(angle=35, center=(160, 400))
    by_box = Die(angle=35, box=crop_box(by_center, 540, 630))
    for size in (None, (224, 224)):
        assert np.array_equal(
            view(pixels, by_center, size).pixels, view(pixels, by_box, size).pixels
        )


@pytest.mark.parametrize(("name", "share"), [("Die02", 0.39), ("Die03", 0.35)])
def test_outside_the_picture_is_black_as_pil_fills_it(name, share):
    """On the small resolution these boxes leave the canvas for over a third of their area."""
    white = np.full((630, 540), 255, np.uint8)
    reference = np.asarray(pil_crop(white, CHALLENGE_DIES[name])) == 0
    seen = view(white, CHALLENGE_DIES[name], None, "nearest").pixels[0] == 0
    assert (seen == reference).mean() >= 0.999
    assert seen.mean() == pytest.approx(share, abs=0.01)


def averaged(pixels: NDArray[np.uint8], die: Die, size: tuple[int, int]) -> NDArray[np.int64]:
    """The crop by PIL at four times the resolution, then the mean over each pixel of the view."""
    assert die.box is not None
    image = Image.fromarray(pixels)
    small = image.rotate(die.angle, expand=True)
    large = image.resize((4 * image.width, 4 * image.height), Image.Resampling.BILINEAR)
    large = large.rotate(die.angle, expand=True)
    shifts = ((large.width - 4 * small.width) / 2, (large.height - 4 * small.height) / 2) * 2
    box = tuple(round(4 * edge + shift) for edge, shift in zip(die.box, shifts, strict=True))
    return np.asarray(large.crop(box).resize(size[::-1], Image.Resampling.BOX)).astype(np.int64)


@pytest.mark.parametrize(("width", "height"), RESOLUTIONS)
@pytest.mark.parametrize("name", DIES)
@pytest.mark.parametrize("size", [(224, 224), (96, 96), (720, 160)])
def test_area_agrees_with_an_anti_aliased_reference(size, name, width, height):
    """Within 1.5 grey levels in the mean and 40 on edges; nearest is off by twice that."""
    pixels, die = photograph(width, height), CHALLENGE_DIES[name]
    reference = averaged(pixels, die, size)
    apart = np.abs(view(pixels, die, size).pixels[0] - reference)
    assert apart.mean() < 1.5
    assert apart.max() <= 40
    aliased = np.abs(view(pixels, die, size, "nearest").pixels[0] - reference)
    assert aliased.mean() > 2 * apart.mean()


def test_area_does_not_alias_fine_stripes():
    """Stripes of three pixels, four to a view's pixel, become even grey, where nearest invents a
    pattern."""
    stripes = np.tile(np.repeat([0, 255], 3).astype(np.uint8), (1200, 200))
    die = Die(angle=30, center=(500, 500))
    assert view(stripes, die, (40, 40)).pixels.std() < 12
    assert view(stripes, die, (40, 40), "nearest").pixels.std() > 100


@settings(max_examples=60, deadline=None)
@given(
    angle=st.floats(-360, 360),
    width=st.integers(200, 500),
    height=st.integers(200, 500),
    rows=st.integers(60, 260),
    columns=st.integers(60, 260),
    u=st.floats(0.2, 0.8),
    v=st.floats(0.2, 0.8),
)
def test_to_frame_leads_back_to_the_pixels_that_were_seen(
    angle, width, height, rows, columns, u, v
):
    """A spot painted in the frame where ``to_frame`` says is seen where it was asked for."""
    die = Die(angle=angle, center=(120, 120))
    blank = np.zeros((height, width), np.uint8)
    x, y = u * columns, v * rows
    across, down = view(blank, die, (rows, columns)).to_frame @ (x, y, 1.0)
    assert 0 < across < width
    assert 0 < down < height
    columns_of, rows_of = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spot = np.exp(-((columns_of - across) ** 2 + (rows_of - down) ** 2) / (2 * 3.0**2)) * 255
    seen = view(spot.astype(np.uint8), die, (rows, columns)).pixels[0].astype(float)
    weights = seen / seen.sum()
    seen_x = float((weights * (np.arange(columns) + 0.5)).sum())
    seen_y = float((weights * (np.arange(rows) + 0.5)[:, None]).sum())
    # Half a pixel of the frame, in pixels of the view.
    assert math.isclose(seen_x, x, abs_tol=0.25 * columns / 120 + 0.1)
    assert math.isclose(seen_y, y, abs_tol=0.25 * rows / 120 + 0.1)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    turns=st.integers(-4, 7),
    interpolation=st.sampled_from(["area", "nearest"]),
)
def test_right_angles_lose_nothing(width, height, turns, interpolation):
    """The whole canvas of a quarter turn holds each pixel of the picture, once, in its place."""
    pixels = noise(width, height, seed=width * 71 + height)
    turned = np.rot90(pixels, turns)
    die = Die(angle=90.0 * turns, box=(0, 0, turned.shape[1], turned.shape[0]))
    assert np.array_equal(view(pixels, die, None, interpolation).pixels[0], turned)


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-720, 720),
    left=st.integers(-900, 900),
    upper=st.integers(-900, 900),
    columns=st.integers(1, 700),
    rows=st.integers(1, 700),
    size=st.one_of(st.none(), st.tuples(st.integers(1, 300), st.integers(1, 300))),
    interpolation=st.sampled_from(["area", "nearest"]),
)
def test_any_box_gives_a_view_of_the_size_asked_for(
    angle, left, upper, columns, rows, size, interpolation
):
    """Far outside the picture too, and however thin."""
    die = Die(angle=angle, box=(left, upper, left + columns, upper + rows))
    seen = view(noise(90, 60), die, size, interpolation)
    assert seen.pixels.shape == (1, *(size or (rows, columns)))
    assert seen.pixels.dtype == np.uint8
    assert not seen.pixels.flags.writeable


@pytest.mark.parametrize("size", [None, (224, 224)])
def test_a_colour_frame_is_seen_as_its_grey_picture(size):
    rng = np.random.default_rng(4)
    colour = rng.integers(0, 256, (630, 540, 3), dtype=np.uint8)
    grey = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    die = CHALLENGE_DIES["Die01"]
    assert np.array_equal(view(colour, die, size).pixels, view(grey, die, size).pixels)


def test_a_grey_camera_that_speaks_colour_changes_nothing():
    """V4L2 and video files give grey pictures as three equal channels."""
    grey = noise(540, 630)
    die = CHALLENGE_DIES["Die04"]
    tripled = np.dstack([grey] * 3)
    assert np.array_equal(view(tripled, die, (224, 224)).pixels, view(grey, die, (224, 224)).pixels)


def test_a_frames_pixels_may_be_read_only_and_strided():
    whole = noise(1080, 1260)
    part = whole[::2, ::2]
    part.flags.writeable = False
    die = CHALLENGE_DIES["Die02"]
    assert np.array_equal(
        view(part, die, (224, 224)).pixels, view(part.copy(), die, (224, 224)).pixels
    )
