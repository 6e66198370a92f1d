"""Finds the part in its photograph, by the edges that GOOD parts share.

An edge is the picture's gradient, brought to a length near one, so that light and contrast hardly
count. A template holds the mean edge of GOOD parts around the crop: what they all have, such as the
die and its substrate, is long there, and what differs from part to part, such as dirt, is short.
The part is looked for in three steps, each from what the one before found:

1. At every shift and turn in question, on edges averaged over 3 x 3 pixels: a correlation in the
   frequency domain.
2. From the likeliest places down to fractions of a pixel, on edges averaged over 2 x 2: the
   template is moved along its own gradient (Baker and Matthews 2004, inverse compositional).
3. The best of those again on the edges as they are: mostly one, as the starts come to one place.

What is left is the residual: 1 minus the cosine between the template's strongest edges and the
picture's, 0 for a part that looks as GOOD do on average, 1 for nothing in common. OpenCV and small
products only: nothing here starts a thread.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.alignment import Alignment, DieTemplate, Edges
from edge_qc.inspection.edge_points import EdgePoints, Floats, sampled_picture
from edge_qc.parts import Placement

Spectra = NDArray[np.complex64]

MIDDLE, COARSE = 2, 3
"""Pixels of the template that the steps before the last average along an axis."""
_POINTS, _ROUNDS = {1: 1500, MIDDLE: 500}, {1: 2, MIDDLE: 2}
"""How many of a template's strongest edges the fine steps look at, and how often they move it."""
_TURN_STEP = 2.0
"""Degrees between the turns that are tried first."""
_TRIED, _KEPT = 4, 3
"""Places that the second step starts from, and at most those that the last one does."""
_BEHIND = 0.1
"""A cosine that is so far behind the best after the second step is so after the last."""
_APART = 1.0, 1.0, math.radians(2)
"""Pixels and turn between poses that are not one and the same."""
_SEARCHES = 32
"""Reaches whose search is kept."""
_SUM = np.array([[1, 1], [0, 0]], np.float32)
"""Of two channels, into the first."""


def reduced(grey: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """The photograph with ``step`` x ``step`` pixels averaged to one; what is over is left out."""
    rows, columns = grey.shape[0] // step, grey.shape[1] // step
    whole = grey[: rows * step, : columns * step]
    if step % 2 == 0:  # halving first takes half the time, to a grey level
        half = whole.shape[1] // 2, whole.shape[0] // 2
        whole = np.asarray(cv2.resize(whole, half, interpolation=cv2.INTER_AREA), np.uint8)
    made = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(made, np.uint8)


def edges_of(small: NDArray[np.uint8]) -> Floats:
    """(H, W, 2): the gradient to the right and down, of a length below one."""
    right = cv2.Sobel(small, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(small, cv2.CV_32F, 0, 1, ksize=3)
    squares = right * right + down * down
    # A picture without any edge has none of length one either.
    scale = 1 / np.sqrt(squares + np.float32(cv2.mean(squares)[0] + 1.0))
    return np.asarray(cv2.merge([right * scale, down * scale]), np.float32)


def turning(radians: float) -> NDArray[np.float64]:
    """2 x 2, clockwise in pictures, whose second axis points down."""
    cosine, sine = math.cos(radians), math.sin(radians)
    return np.array([[cosine, -sine], [sine, cosine]])


def _averaged(edges: Floats, by: int) -> Floats:
    whole, (over, beside) = edges, (-side % by for side in edges.shape[:2])
    if over or beside:
        filled = cv2.copyMakeBorder(edges, 0, over, 0, beside, cv2.BORDER_CONSTANT, value=0)
        whole = np.asarray(filled, np.float32)
    size = whole.shape[1] // by, whole.shape[0] // by
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """The first step for photographs of one size, in averaged pixels. reach: shifts to either side.
    size: columns and rows that are looked at. spectra: (t + 1, rows, columns), conjugate, of the
    edges (right + i down) at each of the turns and of how much each place counts. down, right: the
    inverse transform at the shifts in question alone."""

    reach: tuple[int, int]
    size: tuple[int, int]
    turns: NDArray[np.float64]
    spectra: Spectra
    down: Spectra
    right: Spectra

    def correlated(self, spectra: Spectra) -> Floats:
        """(n, down, right): the correlation at each shift, of products (n, rows, columns)."""
        return np.ascontiguousarray((self.down @ (spectra @ self.right)).real, np.float32)


class Template:
    """Finds one die, for several threads at a time. What is not found is said in the placement's
    ``fault``. key: the same for the same template."""

    def __init__(self, die: str, facts: DieTemplate, edges: Edges, bounds: Alignment) -> None:
        self.die = die
        self.step = facts.step
        told = f"{facts.model_dump_json()} {bounds.shift} {bounds.turn}"
        self.key = hashlib.sha256(told.encode() + np.ascontiguousarray(edges).tobytes()).hexdigest()
        self._limit = facts.limit
        self._shift, self._turn = bounds.shift, bounds.turn
        self._anchor = np.array(facts.anchor)
        whole = np.moveaxis(edges, 0, -1).astype(np.float32) / np.float32(127)
        self._edges: Floats = np.ascontiguousarray(whole, np.float32)
        self._fine = EdgePoints(self._edges, self._anchor, _POINTS[1])
        middle = (self._anchor + 0.5) / MIDDLE - 0.5
        self._middle = EdgePoints(_averaged(self._edges, MIDDLE), middle, _POINTS[MIDDLE])
        self._searches: dict[tuple[int, int], _Search] = {}

    def find(self, grey: NDArray[np.uint8], centre: tuple[float, float]) -> Placement:
        """Where the part lies in a photograph (H, W); centre: of the crop, (right, down) in pixels,
        were the part to lie where the die table says."""
        height, width = grey.shape
        most = self._shift * width, self._shift * height
        edges = edges_of(reduced(grey, self.step))
        pose, likeness = self.look(edges, centre, most)
        right, down = (float(shift) * self.step for shift in pose[:2])
        turn = -math.degrees(pose[2])
        residual = min(1.0, max(0.0, 1.0 - likeness))
        return Placement(
            right_px=right,
            down_px=down,
            turn_deg=turn,
            residual=residual,
            limit=self._limit,
            fault=self._fault(right, down, turn, residual, most),
        )

    def look(
        self, edges: Floats, centre: tuple[float, float], most: tuple[float, float]
    ) -> tuple[NDArray[np.float64], float]:
        """The likeliest pose (right, down in reduced pixels, radians clockwise) and its cosine.
        edges: of the reduced photograph; most: photograph pixels that the part may lie aside."""
        anchor = np.array(centre) / self.step - 0.5
        starts = self._starts(edges, anchor, most)
        starts[:, :2] /= MIDDLE
        middle = (anchor + 0.5) / MIDDLE - 0.5
        small = sampled_picture(_averaged(edges, MIDDLE))
        poses, likeness = self._middle.refine(small, middle, starts, _ROUNDS[MIDDLE])
        poses = poses[_contenders(poses.tolist(), likeness.tolist())]
        poses[:, :2] *= MIDDLE
        poses, likeness = self._fine.refine(sampled_picture(edges), anchor, poses, _ROUNDS[1])
        best = int(likeness.argmax())
        return poses[best], float(likeness[best])

    def _starts(
        self, edges: Floats, anchor: NDArray[np.float64], most: tuple[float, float]
    ) -> NDArray[np.float64]:
        """(k, 3): the places of the template that correlate best, of neighbours the best alone."""
        unit = COARSE * self.step
        search = self._search_of((math.ceil(most[0] / unit), math.ceil(most[1] / unit)))
        origin = np.floor(anchor - self._anchor + 0.5)
        reach = np.array(search.reach)
        wanted = self._patch(edges, origin.astype(int) - reach * COARSE, search)
        energy = cv2.transform(cv2.multiply(wanted, wanted), _SUM)
        seen, power = _spectrum(wanted), _spectrum(np.asarray(energy, np.float32))
        products = np.empty_like(search.spectra)
        np.multiply(search.spectra[:-1], seen, out=products[:-1])
        np.multiply(search.spectra[-1], power, out=products[-1])
        *scores, counts = search.correlated(products)
        scores = np.stack(scores) / np.sqrt(np.maximum(counts, 1e-3 * counts.max() + 1e-9))
        best = scores.max(0)
        peaks = np.where(best >= cv2.dilate(best, np.ones((3, 3), np.uint8)), best, -np.inf)
        order = np.argsort(-peaks, axis=None)[: min(_TRIED, int(np.isfinite(peaks).sum()))]
        rows, columns = np.divmod(order, peaks.shape[1])
        shifts = (np.stack([columns, rows], axis=1) - reach) * COARSE + origin
        shifts += self._anchor - anchor
        turns = search.turns[scores.argmax(0).ravel()[order]]
        return np.column_stack([shifts, turns])

    def _patch(self, edges: Floats, corner: NDArray[np.intp], search: _Search) -> Floats:
        """The averaged edges from ``corner`` on, of the search's size; 0 beyond the picture."""
        columns, rows = (side * COARSE for side in search.size)
        whole = np.zeros((rows, columns, 2), np.float32)
        left, upper = (int(side) for side in corner)
        shown = edges[max(0, upper) : max(0, upper + rows), max(0, left) : max(0, left + columns)]
        down, right = max(0, -upper), max(0, -left)
        whole[down : down + shown.shape[0], right : right + shown.shape[1]] = shown
        return _averaged(whole, COARSE)

    def _search_of(self, reach: tuple[int, int]) -> _Search:
        """The search of a reach, kept: photographs of one camera have one size."""
        search = self._searches.get(reach)
        if search is None:
            search = self._make_search(reach)
            if len(self._searches) >= _SEARCHES:
                self._searches.clear()
            self._searches[reach] = search
        return search

    def _make_search(self, reach: tuple[int, int]) -> _Search:
        rows, columns = self._edges.shape[:2]
        size = tuple(
            cv2.getOptimalDFTSize(math.ceil(side / COARSE) + 2 * far)
            for side, far in zip((columns, rows), reach, strict=True)
        )
        count = math.ceil(self._turn / _TURN_STEP)
        turns = np.radians(np.arange(-count, count + 1) * _TURN_STEP)

        def spectrum(sheet: Floats) -> Spectra:
            padded = np.zeros((size[1], size[0], 2), np.float32)
            padded[: sheet.shape[0], : sheet.shape[1]] = sheet
            return np.conj(_spectrum(padded))

        spectra = []
        for turn in turns:
            made = _averaged(turned_edges(self._edges, self._anchor, turn), COARSE)
            spectra.append(spectrum(made / np.float32(max(1e-6, float(np.linalg.norm(made))))))
        strength = np.zeros_like(footprint := _averaged(self._edges, COARSE))
        strength[..., 0] = np.hypot(footprint[..., 0], footprint[..., 1])
        whole = np.stack([*spectra, spectrum(strength)])
        right, down = (_inverse(side, 2 * far + 1) for side, far in zip(size, reach, strict=True))
        return _Search(reach, (size[0], size[1]), turns, whole, down, right.T)

    def _fault(
        self, right: float, down: float, turn: float, residual: float, most: tuple[float, float]
    ) -> str:
        allowed = f"{most[0]:.0f} px aside, {most[1]:.0f} px up or down and {self._turn:g}°"
        if residual > self._limit:
            return (
                f"no part like {self.die} was found within {allowed} of its place: what is most "
                f"like it has a residual of {residual:.2f}, wanted at most {self._limit:.2f}. Is "
                "this the die, whole, lit and in focus? Show it with 'edge-qc view'"
            )
        if abs(right) > most[0] or abs(down) > most[1] or abs(turn) > self._turn:
            return (
                f"the part lies {right:+.0f} px to the right, {down:+.0f} px down and "
                f"{turn:+.1f}° counter-clockwise of where {self.die} lies, wanted within "
                f"{allowed}. Check what holds the part and the camera, or train with wider bounds"
            )
        return ""


def _contenders(poses: Sequence[Sequence[float]], likeness: Sequence[float]) -> list[int]:
    """Which poses may win the last step, the likeliest first: most starts come to one place."""
    kept: list[int] = []
    for one in sorted(range(len(poses)), key=lambda place: -likeness[place]):
        if kept and (len(kept) == _KEPT or likeness[one] < likeness[kept[0]] - _BEHIND):
            break
        if all(_differ(poses[one], poses[other]) for other in kept):
            kept.append(one)
    return kept


def _differ(pose: Sequence[float], other: Sequence[float]) -> bool:
    return any(
        abs(here - there) > apart for here, there, apart in zip(pose, other, _APART, strict=True)
    )


def turned_edges(edges: Floats, anchor: NDArray[np.float64], radians: float) -> Floats:
    """The same edges (h, w, 2) on a part that is turned clockwise about ``anchor``."""
    turn = turning(radians)
    back = np.hstack([turn.T, (anchor - turn.T @ anchor)[:, None]])
    size = edges.shape[1], edges.shape[0]
    moved = cv2.warpAffine(edges, back, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(moved @ turn.T.astype(np.float32), np.float32)


def _spectrum(sheet: Floats) -> Spectra:
    """(H, W) of a complex sheet (H, W, 2)."""
    made = np.asarray(cv2.dft(sheet), np.float32)
    return made.view(np.complex64)[..., 0]


def _inverse(length: int, count: int) -> Spectra:
    """(count, length): the inverse discrete Fourier transform at the first ``count`` places."""
    phases = np.outer(np.arange(count), np.arange(length)) * (2j * np.pi / length)
    return np.ascontiguousarray(np.exp(phases) / length, np.complex64)


def templates_of(alignment: Alignment | None, edges: Mapping[str, Edges]) -> dict[str, Template]:
    """By die, what finds it; empty where parts are taken to lie in their place."""
    if alignment is None:
        return {}
    return {
        name: Template(name, facts, edges[name], alignment)
        for name, facts in alignment.dies.items()
    }
