"""Exact binomial intervals of a share (Clopper and Pearson, 1934): what a few labels can prove.

As the workstation's ``edge_qc_export.figures.exact``, with which a test compares it, but without
SciPy, which no server of a plant has.
"""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
_HALVINGS = 60


def interval(count: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The two-sided interval of a share of which ``count`` of ``of`` were seen; (0, 1) of none."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else _crossing(lambda p: 1 - _at_most(count - 1, of, p), tail)
    high = 1.0 if count == of else 1 - _crossing(lambda p: _at_most(count, of, 1 - p), tail)
    return low, high


def _at_most(count: int, of: int, share: float) -> float:
    """The probability of seeing at most ``count`` of ``of``."""
    if share <= 0.0 or share >= 1.0:
        return 1.0 if share <= 0.0 or count >= of else 0.0
    whole = math.lgamma(of + 1)
    log_p, log_q = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(
            whole - math.lgamma(n + 1) - math.lgamma(of - n + 1) + n * log_p + (of - n) * log_q
        )
        for n in range(count + 1)
    )


def _crossing(rising: Callable[[float], float], level: float) -> float:
    """Where a function that rises from 0 at 0 reaches a level, by halving."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if rising(middle) < level:
            low = middle
        else:
            high = middle
    return (low + high) / 2
