"""A template's strongest edges, moved to those of a picture: the fine steps of ``alignment``.

Poses are (k, 3): right and down in pixels, radians clockwise, about the anchor of the template.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_FARTHEST = 2.0
"""Pixels that one round may move the template."""
_FAINT = 0.2
"""Of a template's contrast; less is taken for this much, so that no round leaps on noise."""
_INSIDE = np.float32(1 / 1024)
"""Says that a place lies in the picture, and hardly counts among the sum of the edges' squares."""


def sampled_picture(edges: Floats) -> Floats:
    """(H, W, 4): a picture's edges (H, W, 2) and ``_INSIDE``, which beyond the rim is 0; four
    channels, since OpenCV samples those faster than three."""
    return np.asarray(cv2.merge([edges, _rest(*edges.shape[:2])]), np.float32)


@functools.lru_cache(maxsize=64)
def _rest(rows: int, columns: int) -> Floats:
    rest = np.zeros((rows, columns, 2), np.float32)
    rest[..., 0] = _INSIDE
    return rest


class EdgePoints:
    """The ``count`` strongest of a template's edges (h, w, 2), and how they change as it moves."""

    def __init__(self, edges: Floats, anchor: NDArray[np.float64], count: int) -> None:
        strength = np.hypot(edges[..., 0], edges[..., 1])
        count = min(count, max(1, strength.size // 4))
        chosen = np.sort(np.argpartition(-strength.ravel(), count - 1)[:count])
        down, right = np.divmod(chosen, strength.shape[1])
        x, y = right - anchor[0], down - anchor[1]
        self._places = np.stack([x, y, np.ones(count)]).astype(np.float32)

        def at_points(field: NDArray[Any]) -> NDArray[np.float64]:
            return field.reshape(-1, 2)[chosen].astype(np.float64)

        own = at_points(edges)
        along_x = at_points(cv2.Sobel(edges, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8))
        along_y = at_points(cv2.Sobel(edges, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8))
        # A turn moves each edge about the anchor, and turns it.
        turned = along_y * x[:, None] - along_x * y[:, None] - _quarter(own)
        moves = np.stack([along_x, along_y, turned])
        curvature = np.einsum("inc,jnc->ij", moves, moves)
        # Where all edges run one way nothing says how far the part lies along them.
        curvature += 1e-3 * np.diag([*[curvature[:2, :2].trace() / 2] * 2, curvature[2, 2]])
        curvature += 1e-6 * np.eye(3)
        self._solve = np.linalg.inv(curvature)
        # All sums over the points in one product: of the edges with the template and its moves, as
        # they are and turned by a quarter, from which every turn follows; and the template's own of
        # what lies inside.
        weights = np.zeros((count, 4, 12))
        for column, field in enumerate([own, *moves]):
            weights[:, :2, column] = field
            weights[:, :2, 4 + column] = _quarter(field)
            weights[:, 2, 8 + column] = (own * field).sum(1) / _INSIDE
        self._weights = weights.reshape(4 * count, 12).astype(np.float32)

    def refine(
        self,
        picture: Floats,
        anchor: NDArray[np.float64],
        poses: NDArray[np.float64],
        rounds: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The best of so many rounds from each of ``poses``, and the cosines there (k,). picture:
        ``sampled_picture``."""
        # Shifts as complex numbers, right + i down: a turn is a product.
        shift, turn = poses[:, 0] + 1j * poses[:, 1], poses[:, 2].copy()
        best, likeness = poses.copy(), np.full(len(poses), -1.0)
        centre = complex(*anchor)
        for rounds_left in range(rounds, -1, -1):
            turned = np.exp(1j * turn)
            seen, own, squares = self._look(picture, shift + centre, turned)
            inside = own[:, 0] + 1e-12
            now = seen[:, 0] / np.sqrt(squares * inside + 1e-12)
            better = now > likeness
            likeness[better] = now[better]
            best[better] = np.column_stack([shift.real, shift.imag, turn])[better]
            if not rounds_left:
                break
            contrast = np.maximum(_FAINT, seen[:, 0] / inside)
            step = (seen[:, 1:] / contrast[:, None] - own[:, 1:]) @ self._solve
            along = step[:, 0] + 1j * step[:, 1]
            share = np.minimum(1.0, _FARTHEST / np.maximum(np.abs(along), 1e-12))
            shift -= turned * along * share
            turn -= step[:, 2] * share
        return best, likeness

    def _look(
        self, picture: Floats, centres: NDArray[np.complex128], turned: NDArray[np.complex128]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Where a pose puts the points: the picture's edges there, turned back, with the template
        and its moves (k, 4); the template's own with those, of what lies inside (k, 4); and the
        sum of the picture's squares (k,)."""
        count = len(centres)
        lines = np.empty((2, count, 3), np.float32)
        lines[0, :, 0] = lines[1, :, 1] = turned.real
        lines[1, :, 0] = turned.imag
        lines[0, :, 1] = -turned.imag
        lines[0, :, 2], lines[1, :, 2] = centres.real, centres.imag
        x, y = lines @ self._places
        sampled = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        found = sampled.reshape(count, -1)
        sums = (found @ self._weights).astype(np.float64)
        squares = np.einsum("kn,kn->k", found, found).astype(np.float64)
        seen = turned.real[:, None] * sums[:, :4] + turned.imag[:, None] * sums[:, 4:8]
        return seen, sums[:, 8:], squares


def _quarter(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2): turned clockwise by a quarter."""
    return np.stack([-edges[:, 1], edges[:, 0]], axis=1)
