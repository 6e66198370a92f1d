"""Control charts: has a figure moved for good, or does it only scatter?

Exponentially weighted moving averages (Roberts 1959) against a baseline that was learnt while all
was well. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WEIGHT = 0.03
_WIDTH = 6.0
"""Limits in standard deviations: wide, since every false alarm costs trust. With these
none came in 1 000 runs over 5 000 values, normal ones or with heavy tails (t of 3 degrees)."""

_BOUND = 4.0
"""One value moves the average as far as one so many standard deviations off, or twice as many
deviations that matter, and no further."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """mean and spread (standard deviation) of ``count`` single values while all was well."""

    mean: float
    spread: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Baseline:
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return cls(mean, math.sqrt(squares / max(1, len(values) - 1)), len(values))


class Chart:
    """One figure. average: moving, from the baseline's mean on. out: whether it has left its
    limits; it is in again when it has come back half of the way."""

    def __init__(self, baseline: Baseline, least: float) -> None:
        """least: the smallest deviation that matters, however little the figure scatters."""
        self.average = baseline.mean
        self.out = False
        self._mean = baseline.mean
        self._bound = max(_BOUND * baseline.spread, 2 * _BOUND * least)
        # The average scatters, and so does the mean that was learnt of few values.
        scatter = baseline.spread * math.sqrt(WEIGHT / (2 - WEIGHT) + 1 / baseline.count)
        self.limit = max(least, _WIDTH * scatter)

    @property
    def deviation(self) -> float:
        """Of the average from the baseline."""
        return self.average - self._mean

    def add(self, value: float) -> None:
        bounded = min(max(value, self._mean - self._bound), self._mean + self._bound)
        self.average += WEIGHT * (bounded - self.average)
        distance = abs(self.deviation)
        self.out = distance > (self.limit / 2 if self.out else self.limit)
