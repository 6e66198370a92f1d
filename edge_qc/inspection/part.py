"""Views of one part joined to one part verdict; pure.

A part is complete when every die has a judged view. A view missing at the deadline makes it
INCOMPLETE, which is never good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from edge_qc.parts import GOOD, NOT_JUDGED, Disposition, PartVerdict, Verdict

INCOMPLETE = "INCOMPLETE"

_SEVERITY = {Disposition.PASS: 0, Disposition.REVIEW: 1, Disposition.REJECT: 2}
_REMEMBERED = 10_000
_LATE_DEADLINES, _LATE_S = 10.0, 60.0
"""How long after a part was closed a view of its id is late, and not another part's: so many of its
deadlines, and so many seconds at least."""


@dataclass(slots=True)
class _Open:
    opened_s: float
    views: dict[str, tuple[str, Verdict]] = field(default_factory=dict)


class PartJoiner:
    """Collects the verdicts of each part's dies. dies: those that a part must show."""

    def __init__(self, dies: Sequence[str], deadline_s: float) -> None:
        self._dies = tuple(sorted(set(dies)))
        self._deadline_s = deadline_s
        self._open: dict[str, _Open] = {}
        self._closed: dict[str, tuple[float, Disposition]] = {}

    def add(
        self,
        part_id: str,
        die: str,
        verdict_id: str,
        verdict: Verdict,
        now_s: float,
        time: datetime,
    ) -> PartVerdict | None:
        """Add one view's verdict. Returns the part verdict once the part is complete. A view that
        comes after its part was closed changes nothing (see ``said``); of two views of one die the
        worse counts."""
        if self.said(part_id, now_s) is not None:
            return None
        part = self._open.setdefault(part_id, _Open(opened_s=now_s))
        before = part.views.get(die)
        if before is None or worse(verdict.disposition, before[1].disposition):
            part.views[die] = (verdict_id, verdict)
        if set(part.views) >= set(self._dies):
            return self._close(part_id, now_s, time)
        return None

    def said(self, part_id: str, now_s: float) -> Disposition | None:
        """The disposition of a part that was closed a short time ago, so that a view is late; None
        of any other."""
        self._forget(now_s)
        return self._closed[part_id][1] if part_id in self._closed else None

    def overdue(self, now_s: float, time: datetime) -> list[PartVerdict]:
        """The parts whose deadline has passed, closed as INCOMPLETE."""
        late = [
            part_id
            for part_id, part in self._open.items()
            if now_s - part.opened_s >= self._deadline_s
        ]
        return [self._close(part_id, now_s, time) for part_id in late]

    def flush(self, now_s: float, time: datetime) -> list[PartVerdict]:
        """All open parts, closed: the line stops and no further view will come."""
        return [self._close(part_id, now_s, time) for part_id in list(self._open)]

    def _close(self, part_id: str, now_s: float, time: datetime) -> PartVerdict:
        part = self._open.pop(part_id)
        joined = join(part_id, self._dies, part.views, time)
        self._closed[part_id] = now_s, joined.disposition
        if len(self._closed) > _REMEMBERED:
            del self._closed[next(iter(self._closed))]
        return joined

    def _forget(self, now_s: float) -> None:
        """Those closed long ago: their ids may be given to other parts."""
        before_s = now_s - max(_LATE_DEADLINES * self._deadline_s, _LATE_S)
        while self._closed:
            oldest = next(iter(self._closed))
            if self._closed[oldest][0] > before_s:
                return
            del self._closed[oldest]


def join(
    part_id: str,
    dies: Sequence[str],
    views: dict[str, tuple[str, Verdict]],
    time: datetime,
) -> PartVerdict:
    """The verdict on a part: its worst view, REVIEW at least where a die is missing or was not
    judged. views: by die, the verdict's id and the verdict."""
    missing = tuple(die for die in dies if die not in views)
    judged = all(verdict.label != NOT_JUDGED for _, verdict in views.values())
    complete = not missing and judged
    worst = max(
        (verdict for _, verdict in views.values()),
        key=lambda verdict: (_SEVERITY[verdict.disposition], verdict.label != GOOD),
        default=None,
    )
    disposition = worst.disposition if worst is not None else Disposition.REVIEW
    if not complete and disposition is Disposition.PASS:
        disposition = Disposition.REVIEW
    label = worst.label if worst is not None else INCOMPLETE
    if not complete and disposition is not Disposition.REJECT:
        label = INCOMPLETE
    return PartVerdict(
        part_id=part_id,
        label=label,
        disposition=disposition,
        complete=complete,
        labels={die: verdict.label for die, (_, verdict) in sorted(views.items())},
        missing=missing,
        verdict_ids=tuple(verdict_id for _, (verdict_id, _) in sorted(views.items())),
        time=time,
    )


def worse(disposition: Disposition, than: Disposition) -> bool:
    """PASS, REVIEW, REJECT: each is worse than those before it."""
    return _SEVERITY[disposition] > _SEVERITY[than]
