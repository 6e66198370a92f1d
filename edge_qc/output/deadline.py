"""Whether a result may be shown as PASS, and how long results take; pure.

A PASS that does not arrive within its deadline is a REJECT: the part has passed the ejector by
then, and another one lies there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from edge_qc.output.block import Fault
from edge_qc.output.result import INCOMPLETE, Result
from edge_qc.parts import NOT_JUDGED, Disposition

_WINDOW = 3000


@dataclass(frozen=True, slots=True)
class Moment:
    """When a result is shown. now_s: ``time.monotonic``. ahead_s: how long showing it takes, as far
    as is known. limit_s: by when it must have arrived; None if nobody knows. open: the station may
    let parts pass."""

    now_s: float
    ahead_s: float
    limit_s: float | None
    open: bool


def doubts(result: Result, moment: Moment) -> Fault:
    """Why this result is not shown as PASS, or what else there is to say of it."""
    found = Fault.NONE
    if result.label == NOT_JUDGED:
        found |= Fault.NOT_JUDGED
    if result.label == INCOMPLETE:
        found |= Fault.INCOMPLETE
    if result.disposition is Disposition.REVIEW:
        found |= Fault.REVIEW
    if moment.limit_s is not None and moment.now_s + moment.ahead_s > moment.limit_s:
        found |= Fault.LATE
    if result.passes and not moment.open:
        found |= Fault.WITHHELD
    return found


def passes(result: Result, found: Fault, moment: Moment) -> bool:
    """The one door to PASS at an output."""
    return (
        result.passes
        and moment.open
        and moment.limit_s is not None
        and not found & (Fault.LATE | Fault.WITHHELD | Fault.NOT_JUDGED | Fault.INCOMPLETE)
    )


class Times:
    """How long results took from trigger to coil, and how many came late in a row."""

    def __init__(self) -> None:
        self.late = 0
        self.in_a_row = 0
        self.worst_ms: float | None = None
        self._recent: deque[float] = deque(maxlen=_WINDOW)

    def add(self, took_ms: float, *, late: bool) -> None:
        self._recent.append(took_ms)
        self.worst_ms = max(took_ms, self.worst_ms or 0.0)
        self.late += late
        self.in_a_row = self.in_a_row + 1 if late else 0

    def latency_ms(self) -> dict[str, float]:
        """p50 and p99 of the last results, worst since the start; empty before the first."""
        if self.worst_ms is None:
            return {}
        p50, p99 = np.percentile(list(self._recent), [50, 99])
        return {"p50": float(p50), "p99": float(p99), "worst": self.worst_ms}
