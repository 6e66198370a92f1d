"""A template's strongest edges, moved to those of a picture: the fine steps of ``alignment``.

Poses are (k, 3): right and down in pixels, radians clockwise, about the anchor of the template.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ROUNDS = 3
_FARTHEST = 2.0
"""Pixels that one round may move the template."""
_FAINT = 0.2
"""Of a template's contrast; less is taken for this much, so that no round leaps on noise."""


class EdgePoints:
    """The ``count`` strongest of a template's edges (h, w, 2), and how they change as it moves."""

    def __init__(self, edges: Floats, anchor: NDArray[np.float64], count: int) -> None:
        strength = np.hypot(edges[..., 0], edges[..., 1])
        count = min(count, max(1, strength.size // 4))
        chosen = np.sort(np.argpartition(-strength.ravel(), count - 1)[:count])
        down, right = np.divmod(chosen, strength.shape[1])
        self._x = (right - anchor[0]).astype(np.float32)
        self._y = (down - anchor[1]).astype(np.float32)

        def at_points(field: NDArray[Any]) -> Floats:
            return np.ascontiguousarray(field.reshape(-1, 2)[chosen].T)

        own = at_points(edges)
        along_x = at_points(cv2.Sobel(edges, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8))
        along_y = at_points(cv2.Sobel(edges, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8))
        # A turn moves each edge about the anchor, and turns it.
        turned = along_y * self._x - along_x * self._y - np.stack([-own[1], own[0]])
        moves = np.stack([along_x.ravel(), along_y.ravel(), turned.ravel()])
        self._edges = own.ravel()
        self._moves = np.ascontiguousarray(moves.T)
        curvature = moves.astype(np.float64) @ moves.T
        # Where all edges run one way nothing says how far the part lies along them.
        curvature += 1e-3 * np.diag([*[curvature[:2, :2].trace() / 2] * 2, curvature[2, 2]])
        curvature += 1e-6 * np.eye(3)
        self._solve = np.linalg.inv(curvature)
        per_point = np.stack([own * own, *(own * moves.reshape(3, 2, -1))])
        self._seen = np.ascontiguousarray(per_point.sum(1).T)

    def refine(
        self, picture: Floats, anchor: NDArray[np.float64], poses: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The best of ``_ROUNDS`` rounds from each of ``poses``, and the cosines there (k,)."""
        poses = poses.copy()
        best, likeness = poses.copy(), np.full(len(poses), -1.0)
        for rounds_left in range(_ROUNDS, -1, -1):
            seen, inside = self._look(picture, anchor, poses)
            product = (seen @ self._edges).astype(np.float64)
            # Edges that lie beyond the photograph say nothing.
            own = (inside @ self._seen).astype(np.float64)
            length = np.sqrt((seen * seen).sum(1, dtype=np.float64) * own[:, 0] + 1e-12)
            now = product / length
            better = now > likeness
            likeness[better], best[better] = now[better], poses[better]
            if not rounds_left:
                break
            contrast = np.maximum(_FAINT, product / np.maximum(own[:, 0], 1e-12))
            misfit = (seen @ self._moves) / contrast[:, None] - own[:, 1:]
            step = misfit @ self._solve
            length = np.hypot(step[:, 0], step[:, 1])
            step *= np.minimum(1.0, _FARTHEST / np.maximum(length, 1e-12))[:, None]
            cosine, sine = np.cos(poses[:, 2]), np.sin(poses[:, 2])
            poses[:, 0] -= cosine * step[:, 0] - sine * step[:, 1]
            poses[:, 1] -= sine * step[:, 0] + cosine * step[:, 1]
            poses[:, 2] -= step[:, 2]
        return best, likeness

    def _look(
        self, picture: Floats, anchor: NDArray[np.float64], poses: NDArray[np.float64]
    ) -> tuple[Floats, Floats]:
        """The picture's edges (k, 2 n) where a pose puts the points, turned back, and which of them
        lie in the picture (k, n)."""
        cosine = np.cos(poses[:, 2:]).astype(np.float32)
        sine = np.sin(poses[:, 2:]).astype(np.float32)
        x = cosine * self._x - sine * self._y + (poses[:, :1] + anchor[0]).astype(np.float32)
        y = sine * self._x + cosine * self._y + (poses[:, 1:2] + anchor[1]).astype(np.float32)
        found = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        right, down = found[..., 0], found[..., 1]
        back = cosine * right + sine * down, cosine * down - sine * right
        rows, columns = picture.shape[:2]
        inside = (x > -0.5) & (x < columns - 0.5) & (y > -0.5) & (y < rows - 0.5)
        return np.concatenate(back, axis=1), inside.astype(np.float32)
