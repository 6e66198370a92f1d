"""Frame to view: one affine warp composed of the die's rotation, canvas, crop and resize.

Training, export, acceptance and the station all call ``view``. Where a template is given, the part
is found first (``alignment``) and the crop moves and turns with it. Coordinates are continuous:
pixel (i, j) covers [j, j + 1) x [i, i + 1), so that its centre is (j + 0.5, i + 0.5), as in PIL;
the canvas of a turned picture is PIL's ``rotate(angle, expand=True)``. Nothing here reads a file.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.dies import Die
from edge_qc.inspection.alignment import Template, turning
from edge_qc.parts import Placement, View

Interpolation = Literal["area", "nearest"]

_REACH = 2.0
"""Pixels that one linear sample covers along an axis: samples further apart skip pixels, and a
view much smaller than its crop would alias."""


def _rotation(width: int, height: int, angle: float) -> tuple[NDArray[np.float64], int, int]:
    """Canvas to picture, 3 x 3, and the canvas's width and height, as PIL has them."""
    radians = -math.radians(angle % 360.0)
    # PIL rounds so that right angles are exact; the canvas's size hangs on it.
    cosine, sine = round(math.cos(radians), 15), round(math.sin(radians), 15)
    turn = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    to_centre, back = np.eye(3), np.eye(3)
    to_centre[:2, 2] = -width / 2.0, -height / 2.0
    back[:2, 2] = width / 2.0, height / 2.0
    matrix = back @ turn @ to_centre
    # At right angles PIL transposes, where its formula would round the canvas up by a pixel.
    if angle % 180 == 0:
        canvas_width, canvas_height = width, height
    elif angle % 180 == 90:
        canvas_width, canvas_height = height, width
    else:
        canvas_width, canvas_height = _canvas(matrix, width, height)
    shift = np.eye(3)
    shift[:2, 2] = -(canvas_width - width) / 2.0, -(canvas_height - height) / 2.0
    return matrix @ shift, canvas_width, canvas_height


def _canvas(matrix: NDArray[np.float64], width: int, height: int) -> tuple[int, int]:
    """Width and height of what holds the turned picture whole."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], float).T
    xs, ys, _ = matrix @ corners
    return (
        math.ceil(xs.max()) - math.floor(xs.min()),
        math.ceil(ys.max()) - math.floor(ys.min()),
    )


def crop_box(die: Die, width: int, height: int) -> tuple[int, int, int, int]:
    """The die's box (left, upper, right, lower) in the turned canvas of a picture of this size."""
    if die.box is not None:
        return die.box
    assert die.center is not None
    _, canvas_width, canvas_height = _rotation(width, height, die.angle)
    crop_width, crop_height = die.center
    left, upper = (canvas_width - crop_width) // 2, (canvas_height - crop_height) // 2
    return left, upper, left + crop_width, upper + crop_height


@functools.lru_cache(maxsize=256)
def _affine(die: Die, width: int, height: int, columns: int, rows: int) -> NDArray[np.float64]:
    """View to picture, 3 x 3, continuous coordinates."""
    to_picture, _, _ = _rotation(width, height, die.angle)
    left, upper, right, lower = crop_box(die, width, height)
    to_canvas = np.array(
        [[(right - left) / columns, 0.0, left], [0.0, (lower - upper) / rows, upper], [0, 0, 1.0]]
    )
    return np.asarray(to_picture @ to_canvas, np.float64)


def crop_centre(die: Die, width: int, height: int) -> tuple[float, float]:
    """(right, down): where the middle of the die's crop lies in a picture of this size."""
    right, down, _ = _affine(die, width, height, 1, 1) @ (0.5, 0.5, 1.0)
    return float(right), float(down)


@functools.lru_cache(maxsize=256)
def _plan(
    die: Die, width: int, height: int, size: tuple[int, int] | None, interpolation: Interpolation
) -> tuple[NDArray[np.float64], tuple[int, int], tuple[int, int], NDArray[np.float64]]:
    """The warp's affine to the frame and the size it makes, the view's size (both width, height)
    and its affine to the frame; 3 x 3, for a part that lies in its place."""
    left, upper, right, lower = crop_box(die, width, height)
    rows, columns = size if size is not None else (lower - upper, right - left)
    reduce_x = reduce_y = 1
    if interpolation == "area":
        reduce_x = max(1, math.ceil((right - left) / columns / _REACH))
        reduce_y = max(1, math.ceil((lower - upper) / rows / _REACH))
    warp_size = columns * reduce_x, rows * reduce_y
    return (
        _affine(die, width, height, *warp_size),
        warp_size,
        (columns, rows),
        _affine(die, width, height, columns, rows),
    )


def _moved(placement: Placement, centre: tuple[float, float]) -> NDArray[np.float64]:
    """3 x 3: where a point of the frame lies once the part is moved from its place."""
    matrix = np.eye(3)
    matrix[:2, :2] = turning(-math.radians(placement.turn_deg))
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre
    matrix[:2, 2] += placement.right_px, placement.down_px
    return matrix


def view(
    pixels: NDArray[np.uint8],
    die: Die,
    size: tuple[int, int] | None,
    interpolation: Interpolation = "area",
    template: Template | None = None,
) -> View:
    """The upright band of one die.

    pixels: uint8, (H, W) or (H, W, 3) BGR (turned to grey first). size: (rows, columns) of the
    view, None for the crop as it is. ``nearest`` gives the benchmark's own pixels; ``area`` takes
    linear samples and averages them where the view is smaller than the crop. Where the box leaves
    the picture the view is 0, as PIL fills it. template: finds the part first; the caller looks at
    the placement's ``fault`` before it judges the view.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) if pixels.ndim == 3 else pixels
    height, width = grey.shape
    to_picture, warp_size, view_size, to_frame = _plan(die, width, height, size, interpolation)
    placement = None
    if template is not None:
        centre = crop_centre(die, width, height)
        placement = template.find(np.asarray(grey, np.uint8), centre)
        if not placement.fault:
            moved = _moved(placement, centre)
            to_picture, to_frame = moved @ to_picture, moved @ to_frame
    # OpenCV's coordinates lie between pixel centres.
    affine = to_picture[:2].copy()
    affine[:, 2] += to_picture[:2, :2] @ (0.5, 0.5) - 0.5
    flags = cv2.INTER_NEAREST if interpolation == "nearest" else cv2.INTER_LINEAR
    warped = cv2.warpAffine(
        grey,
        affine,
        warp_size,
        flags=flags | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    if warp_size == (view_size[0], 2 * view_size[1]):
        # The usual case, a band twice as long as the view: half the time of resize, same pixels.
        warped = cv2.addWeighted(warped[0::2], 0.5, warped[1::2], 0.5, 0.0)
    elif warp_size != view_size:
        warped = cv2.resize(warped, view_size, interpolation=cv2.INTER_AREA)
    seen = np.asarray(warped, np.uint8)[np.newaxis]
    return View(pixels=seen, to_frame=to_frame[:2].copy(), placement=placement)
