"""What counts prove about a share: exact binomial intervals, bounds, and how many parts they take.

Clopper and Pearson (1934), *The use of confidence or fiducial limits illustrated in the case of the
binomial*. Their intervals hold for every sample size, also if nothing was counted, at the price of
being wide. Pure functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import betainc, betaincinv

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``of``, with its two-sided exact interval; NaN if ``of`` is 0."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.of if self.of else math.nan


def share(count: int, of: int, confidence: float = CONFIDENCE) -> Share:
    """The share and its two-sided interval. Raises ValueError if count is not in 0 to of."""
    if not 0 <= count <= of:
        raise ValueError(f"{count} of {of}: wanted 0 to {of}")
    if of == 0:
        return Share(0, 0, math.nan, math.nan)
    tail = (1 - confidence) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return Share(count, of, low, high)


def upper_bound(count: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The share that is not exceeded with this confidence (one-sided); 1 where ``of`` is 0."""
    if count >= of:
        return 1.0
    return float(betaincinv(count + 1, of - count, confidence))


def parts_needed(bound: float, count: int = 0, confidence: float = CONFIDENCE) -> int:
    """The least number of parts of which ``count`` may pass and ``upper_bound`` is at most
    ``bound``."""
    if not 0 < bound < 1:
        raise ValueError(f"bound {bound}: wanted between 0 and 1")
    low, high = count, count + 1
    while upper_bound(count, high, confidence) > bound:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle)
            if upper_bound(count, middle, confidence) <= bound
            else (
                middle,
                high,
            )
        )
    return high


def most_by_chance(of: int, bound: float, confidence: float = CONFIDENCE) -> int:
    """The most of ``of`` parts that may pass before it is certain, with this confidence, that more
    than the share ``bound`` of such parts does."""
    count = 0
    # betainc: the chance of so many or more.
    while count < of and betainc(count + 1, of - count, bound) >= 1 - confidence:
        count += 1
    return count
