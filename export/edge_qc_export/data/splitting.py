"""Training pictures divided into those to learn from and those held out.

Stratified by label, die and window; near-duplicates and named groups stay on one side; the same
seed gives the same split, which ``split_file`` keeps. Whole sessions are held out by ``sessions``;
which pictures there are is ``dataset``'s business.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc_export.data.dataset import Sample
from edge_qc_export.data.sessions import several_sessions, split_sessions
from edge_qc_export.data.tables import Fault, raise_faults

TRAIN, HELD_OUT = "train", "held-out"
HELD_OUT_SHARE = 0.2

NEAR_BITS = 20
"""Views whose perceptual hashes differ in at most so many of 256 bits are near-duplicates. The same
photograph with sensor noise, other light, a little blur, JPEG or a shift of one pixel differs in
up to 18 (measured on synthetic views)."""


SPANNING_SHARE = 0.5
"""Near-duplicates that are more than this share of the set, or of a class of at least
``SPANNED_CLASS`` images, are no duplicates: the parts lie in a fixture and look alike."""
SPANNED_CLASS = 20

_ROWS = 1024
"""Rows compared with all others at a time."""

Say = Callable[[str], None]


def split_of(
    samples: Sequence[Sample], hashes: NDArray[np.bool_], seed: int, say: Say
) -> NDArray[np.bool_]:
    """Which samples are held out, (n,) bool: those that the set itself holds out, else whole
    sessions if there are several, else a share that ``split`` draws. say: receives how many were
    kept together, and what was not.

    Raises DataError if a class cannot be on both sides.
    """
    own = np.array([sample.held_out for sample in samples], np.bool_)
    if own.any():
        require_both_sides(samples, own, _root_of(samples))
        return own
    if several_sessions(samples):
        whole = split_sessions(samples, seed, HELD_OUT_SHARE, say)
        if whole is not None:
            return whole
    groups = near_groups(samples, hashes, say)
    together = Counter(groups.tolist())
    if (count := sum(size for size in together.values() if size > 1)) > 0:
        say(f"{count} images are near-duplicates or grouped: each kept on one side")
    return split(samples, groups, seed)


def _root_of(samples: Sequence[Sample]) -> Path:
    return Path(os.path.commonpath([sample.file.parent for sample in samples]))


def near_groups(
    samples: Sequence[Sample], hashes: NDArray[np.bool_], say: Say = lambda _: None
) -> NDArray[np.intp]:
    """A number for each sample, the same for all that must not straddle a split: samples of one
    named group, and near-duplicates (also of a near-duplicate). Near-duplicates that span the set
    or a class are left out, and said."""
    near = _near_duplicates(hashes)
    near, spanning = _without_spanning(samples, near)
    if spanning:
        say(
            f"{spanning} of {len(samples)} images look alike, as parts in a fixture do: their "
            "near-duplicates are not kept on one side. If several images show the same part, name "
            "them in groups.csv"
        )
    groups = _Groups(len(samples))
    for index, leader in enumerate(near.tolist()):
        groups.join(index, leader)
    named: dict[str, int] = {}
    for index, sample in enumerate(samples):
        if sample.group is not None:
            groups.join(named.setdefault(sample.group, index), index)
    return groups.leaders()


class _Groups:
    """Disjoint sets of indices; the least index of a set leads it."""

    def __init__(self, count: int) -> None:
        self._leaders = list(range(count))

    def leader(self, index: int) -> int:
        leaders = self._leaders
        while leaders[index] != index:
            leaders[index] = leaders[leaders[index]]
            index = leaders[index]
        return index

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.leader(one), self.leader(other)))
        self._leaders[second] = first

    def leaders(self) -> NDArray[np.intp]:
        return np.array([self.leader(index) for index in range(len(self._leaders))], np.intp)


def _without_spanning(
    samples: Sequence[Sample], near: NDArray[np.intp]
) -> tuple[NDArray[np.intp], int]:
    """The groups without those that span the set or a class, and how many samples these held."""
    labels = np.array([str(sample.label) for sample in samples])
    kept, spanning = near.copy(), 0
    for group, size in Counter(near.tolist()).items():
        rows = np.flatnonzero(near == group)
        inside = Counter(labels[rows].tolist())
        spans = size > max(SPANNED_CLASS, SPANNING_SHARE * len(samples)) or any(
            count > SPANNING_SHARE * (whole := int((labels == label).sum()))
            and whole >= SPANNED_CLASS
            for label, count in inside.items()
        )
        if size > 1 and spans:
            kept[rows] = rows
            spanning += size
    return kept, spanning


def _near_duplicates(hashes: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(n,): the leader of each view's near-duplicates."""
    groups = _Groups(len(hashes))

    signs = np.where(hashes, np.float32(1), np.float32(-1))
    near = np.float32(hashes.shape[1] - 2 * NEAR_BITS)
    for start in range(0, len(hashes), _ROWS):
        rows, columns = np.nonzero(signs[start : start + _ROWS] @ signs.T >= near)
        for row, column in zip(rows + start, columns, strict=True):
            if row < column:
                groups.join(int(row), int(column))
    return groups.leaders()


def split(
    samples: Sequence[Sample],
    groups: NDArray[np.intp],
    seed: int,
    share: float = HELD_OUT_SHARE,
) -> NDArray[np.bool_]:
    """Which samples are held out, (n,) bool.

    Groups are walked in the order of their rarest label, die and window, at random within; each
    label carries what it still owes the held-out part, and a group is held out where that brings
    the labels nearer to their share (error diffusion). So each label, and within it each die and
    window, comes within a picture or a group of its share. Raises DataError if a class cannot be on
    both sides.
    """
    labels = sorted({str(sample.label) for sample in samples})
    position = {label: index for index, label in enumerate(labels)}
    totals = np.bincount([position[str(s.label)] for s in samples], minlength=len(labels))
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[int(group)].append(index)
    order = list(members)
    np.random.default_rng(seed).shuffle(order)

    def stratum(group: int) -> tuple[int, str, str, str]:
        rows = (samples[index] for index in members[group])
        rarest = min(rows, key=lambda sample: totals[position[str(sample.label)]])
        label = str(rarest.label)
        return int(totals[position[label]]), label, rarest.die, rarest.window

    order.sort(key=stratum)
    counts = {
        group: np.bincount(
            [position[str(samples[index].label)] for index in indices], minlength=len(labels)
        ).astype(np.float64)
        for group, indices in members.items()
    }
    owed = np.zeros(len(labels))
    held_out = np.zeros(len(samples), np.bool_)
    for group in order:
        owed += share * counts[group]
        if np.sum(counts[group] * (2 * owed - counts[group]) / totals) > 0:
            owed -= counts[group]
            held_out[members[group]] = True
    _both_sides(samples, members, held_out)
    return held_out


def require_both_sides(samples: Sequence[Sample], held_out: NDArray[np.bool_], file: Path) -> None:
    """Raises DataError if a split leaves a class without an image to learn or to hold out. A class
    of one session, if there are several, need not be held out."""
    faults = []
    whole = several_sessions(samples)
    for label in sorted({str(sample.label) for sample in samples}):
        rows = [row for row, sample in enumerate(samples) if sample.label == label]
        sides = {bool(held_out[row]) for row in rows}
        alone = whole and len({samples[row].session for row in rows}) == 1
        if len(sides) == 1 and not (alone and sides == {False}):
            lacking = "learn from" if sides == {True} else "hold out"
            faults.append(Fault(file, 0, f"leaves no image of the class {label!r} to {lacking}"))
    if faults:
        raise_faults(file, faults)


def _both_sides(
    samples: Sequence[Sample], members: dict[int, list[int]], held_out: NDArray[np.bool_]
) -> None:
    """Move groups of each class that is on one side alone; DataError where that cannot help."""
    groups_of: dict[str, list[int]] = defaultdict(list)
    for group, rows in members.items():
        for label in {str(samples[index].label) for index in rows}:
            groups_of[label].append(group)

    def one_sided() -> list[str]:
        sides = {n: {bool(held_out[members[g][0]]) for g in own} for n, own in groups_of.items()}
        return sorted(label for label, found in sides.items() if len(found) == 1)

    def harm(group: int) -> tuple[int, int, int]:
        """How many classes would be on one side alone were this group moved."""
        rows = members[group]
        held_out[rows] = ~held_out[rows]
        count = len(one_sided())
        held_out[rows] = ~held_out[rows]
        return count, len(rows), rows[0]

    for _ in range(2 * len(groups_of)):
        lacking = [label for label in one_sided() if len(groups_of[label]) > 1]
        if not lacking:
            break
        rows = members[min(groups_of[lacking[0]], key=harm)]
        held_out[rows] = ~held_out[rows]
    faults = []
    for label in one_sided():
        sample = next(sample for sample in samples if sample.label == label)
        text = (
            f"all images of the class {label!r} are near-duplicates, or of too few groups, such as "
            f"that of {sample.filename}: it cannot be in both the training and the held-out part; "
            "add images"
        )
        faults.append(Fault(sample.table, sample.line, text))
    if faults:
        raise_faults(samples[0].table.parent, faults)
