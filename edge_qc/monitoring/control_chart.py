"""Control charts: they tell a lasting change of a figure from its scatter.

Exponentially weighted moving averages (Roberts 1959) against a baseline from a normal period. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WEIGHT = 0.03
_WIDTH = 6.0
"""Limits in standard deviations; wide, because every false alarm costs trust. In 1 000 runs of 5
000 values, normal or heavy-tailed (t with 3 degrees of freedom), no alarm came."""

_BOUND = 4.0
"""A single value counts at most as one this many standard deviations off, or as twice the smallest
relevant change."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """mean and spread (standard deviation) of ``count`` single values in a normal period."""

    mean: float
    spread: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Baseline:
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return cls(mean, math.sqrt(squares / max(1, len(values) - 1)), len(values))


class Chart:
    """The chart of one figure. average: the moving average, starting at the baseline's mean. out:
    whether it is outside its limits; it is inside again after it has returned half of the way."""

    def __init__(self, baseline: Baseline, least: float) -> None:
        """least: the smallest relevant deviation, however little the figure scatters."""
        self.average = baseline.mean
        self.out = False
        self._mean = baseline.mean
        self._bound = max(_BOUND * baseline.spread, 2 * _BOUND * least)
        # Both the average and the mean of few baseline values scatter.
        scatter = baseline.spread * math.sqrt(WEIGHT / (2 - WEIGHT) + 1 / baseline.count)
        self.limit = max(least, _WIDTH * scatter)

    @property
    def deviation(self) -> float:
        """The average's deviation from the baseline."""
        return self.average - self._mean

    def add(self, value: float) -> None:
        bounded = min(max(value, self._mean - self._bound), self._mean + self._bound)
        self.average += WEIGHT * (bounded - self.average)
        distance = abs(self.deviation)
        self.out = distance > (self.limit / 2 if self.out else self.limit)
