"""Labelled parts with the witnesses' scores of each: all that the gate is set from. No torch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.parts import GOOD


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """n labelled parts, in one order. labels: classes, GOOD among them; seen: (n,) bool, whether
    the network's trunk learned from the part."""

    labels: tuple[str, ...]
    dies: tuple[str, ...]
    names: tuple[str, ...]
    seen: NDArray[np.bool_]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def good(self) -> NDArray[np.bool_]:
        """(n,): which are GOOD."""
        return self.is_class(GOOD)

    def is_class(self, name: str) -> NDArray[np.bool_]:
        """(n,): which are of a class."""
        return np.array([label == name for label in self.labels], np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Scored(Parts):
    """Parts scored by what had not learned from them. padim: (n,) image scores; logits: (n, C);
    good_distance: (n,) to GOOD; embedding_distance: (n,) to the nearest class; all float64."""

    padim: NDArray[np.float64]
    logits: NDArray[np.float64]
    good_distance: NDArray[np.float64]
    embedding_distance: NDArray[np.float64]

    def chosen(self, rows: NDArray[np.intp]) -> Scored:
        """Those of ``rows``, in that order."""
        changes: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "classes":
                changes[field.name] = (
                    value[rows]
                    if isinstance(value, np.ndarray)
                    else tuple(value[row] for row in rows)
                )
        return replace(self, **changes)


def both(one: Scored, other: Scored) -> Scored:
    """The parts of one, then those of the other, which knows the same classes."""
    changes: dict[str, Any] = {}
    for field in fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        if field.name != "classes":
            changes[field.name] = (
                np.concatenate([first, second])
                if isinstance(first, np.ndarray)
                else (*first, *second)
            )
    return replace(one, **changes)
