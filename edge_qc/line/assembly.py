"""Joins judged views to parts and publishes the part verdicts.

``inspection.part`` holds the joining rule; this file selects the views and writes to the outbox.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone

from edge_qc.camera import Fault
from edge_qc.inspection.part import PartJoiner, worse
from edge_qc.line.outgoing import Origin, Outgoing
from edge_qc.parts import Disposition, Frame, PartVerdict, Verdict
from edge_qc.publisher import Outbox, Severity, part_content


class Assembly:
    """For the loop's thread only. dies: those that a complete part shows; if empty, views are not
    joined."""

    def __init__(
        self, dies: Sequence[str], deadline_s: float, outbox: Outbox, outgoing: Outgoing
    ) -> None:
        self._dies = frozenset(dies)
        self._joiner = PartJoiner(dies, deadline_s)
        self._outbox, self._outgoing = outbox, outgoing
        self._first: dict[str, Origin] = {}

    def said(self, event: Frame | Fault) -> Disposition | None:
        """The disposition already published for this view's part, so that the view is late;
        otherwise None."""
        if event.part_id is None or event.die not in self._dies:
            return None
        return self._joiner.said(event.part_id, time.monotonic())

    def add(self, verdict_id: str, event: Frame | Fault, verdict: Verdict, origin: Origin) -> None:
        """Add a view whose verdict is recorded, and publish what follows for its part."""
        if event.part_id is None or event.die is None or event.die not in self._dies:
            return
        now_s = time.monotonic()
        said = self._joiner.said(event.part_id, now_s)
        if said is not None:
            if worse(verdict.disposition, said):
                self._tell_late(event, verdict, said)
            return
        first = self._first.setdefault(event.part_id, origin)
        if origin.triggered_s is not None and (
            first.triggered_s is None or origin.triggered_s < first.triggered_s
        ):
            self._first[event.part_id] = origin
        whole = self._joiner.add(event.part_id, event.die, verdict_id, verdict, now_s, _now())
        if whole is not None:
            self._tell([whole])

    def close_overdue(self) -> None:
        """Publish INCOMPLETE for the parts whose deadline has passed."""
        self._tell(self._joiner.overdue(time.monotonic(), _now()))

    def close_all(self) -> None:
        """Publish all open parts: the line stops, and no further view will come."""
        self._tell(self._joiner.flush(time.monotonic(), _now()))

    def _tell(self, parts: Sequence[PartVerdict]) -> None:
        for part in parts:
            origin = self._first.pop(part.part_id, Origin(""))
            self._outgoing.part(part_content(part, lot=origin.lot, serial=origin.serial), origin)

    def _tell_late(self, event: Frame | Fault, verdict: Verdict, said: Disposition) -> None:
        """Warn that a part that passed may be bad after all, so that somebody can fetch it."""
        self._outbox.event(
            "late-view",
            f"part {event.part_id} was published as {said.value} before the view of {event.die} "
            f"arrived, which is {verdict.label} ({verdict.disposition.value})",
            severity=Severity.ALARM if said is Disposition.PASS else Severity.WARNING,
            camera=event.camera,
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)
