"""A picture of many synthetic photographs side by side, for people to look at."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.dies import CHALLENGE_DIES
from edge_qc.inspection.view import view
from edge_qc_export.synthetic.bond import BONDS
from edge_qc_export.synthetic.drift import DRIFTS
from edge_qc_export.synthetic.layout import LAYOUTS
from edge_qc_export.synthetic.photograph import render

_PHOTO = 150, 175
_VIEW = 50, 175
_GAP = 4
_TITLE = 22
_STEP = 9

Pixels = NDArray[np.uint8]


def contact_sheet(seed: int = 0) -> Pixels:
    """uint8 (H, W): classes on the left, kinds of drift on the right, a row for each, and in it for
    each die the photograph and, beside it, its upright band."""
    classes, drifts = _column(tuple(BONDS), seed), _column(tuple(DRIFTS), seed)
    gap = np.zeros((classes.shape[0], 3 * _GAP), np.uint8)
    sheet = np.hstack([classes, gap, drifts])
    # Noise that nobody sees at this size would make up most of the file.
    return np.asarray(sheet // _STEP * _STEP, np.uint8)


def _column(kinds: tuple[str, ...], seed: int) -> Pixels:
    rows = [_titles()]
    for place, kind in enumerate(kinds):
        cells = []
        for column, die in enumerate(LAYOUTS):
            photo = render(kind, die, LAYOUTS[die].native, [seed, place, column])
            band = view(photo, CHALLENGE_DIES[die], None).pixels[0]
            cells += [_cell(photo, _PHOTO), _cell(np.asarray(band, np.uint8), _VIEW)]
        title = f"Drift: {kind}" if kind in DRIFTS else kind
        rows += [_line(title, rows[0].shape[1]), np.hstack(cells)]
    return np.vstack(rows)


def _cell(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.pad(np.asarray(small, np.uint8), ((0, _GAP), (0, _GAP)))


def _titles() -> Pixels:
    step = _PHOTO[0] + _VIEW[0] + 2 * _GAP
    strip = np.zeros((_TITLE, step * len(LAYOUTS)), np.uint8)
    for place, (die, layout) in enumerate(LAYOUTS.items()):
        width, height = layout.native
        _write(strip, f"{die}  {width} x {height}", place * step)
    return strip


def _line(text: str, width: int) -> Pixels:
    strip = np.zeros((_TITLE, width), np.uint8)
    _write(strip, text, 0)
    return strip


def _write(strip: Pixels, text: str, x: int) -> None:
    cv2.putText(strip, text, (x + 3, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 235, 1, cv2.LINE_AA)
