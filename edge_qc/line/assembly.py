"""Views joined to parts as they are judged, and what is said of each part.

The joining is ``part``'s; here is which views take part in it, and what goes to the outbox.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone

from edge_qc.camera import Fault
from edge_qc.inspection.part import PartJoiner, worse
from edge_qc.parts import Disposition, Frame, PartVerdict, Verdict
from edge_qc.publisher import Outbox, Severity, part_content


class Assembly:
    """Used from the loop's thread alone. dies: those that a part must show; where there are none,
    views are not joined."""

    def __init__(self, dies: Sequence[str], deadline_s: float, outbox: Outbox) -> None:
        self._dies = frozenset(dies)
        self._joiner = PartJoiner(dies, deadline_s)
        self._outbox = outbox

    def said(self, event: Frame | Fault) -> Disposition | None:
        """What was said of this view's part already: the view is late. None where it is not."""
        if event.part_id is None or event.die not in self._dies:
            return None
        return self._joiner.said(event.part_id)

    def add(self, verdict_id: str, event: Frame | Fault, verdict: Verdict) -> None:
        """Take a view whose verdict is on its way; say what follows for its part."""
        if event.part_id is None or event.die is None or event.die not in self._dies:
            return
        said = self._joiner.said(event.part_id)
        if said is not None:
            if worse(verdict.disposition, said):
                self._tell_late(event, verdict, said)
            return
        whole = self._joiner.add(
            event.part_id, event.die, verdict_id, verdict, time.monotonic(), _now()
        )
        if whole is not None:
            self._tell([whole])

    def close_overdue(self) -> None:
        """Say INCOMPLETE of the parts whose deadline has passed."""
        self._tell(self._joiner.overdue(time.monotonic(), _now()))

    def close_all(self) -> None:
        """The line stops: no further view will come."""
        self._tell(self._joiner.flush(_now()))

    def _tell(self, parts: Sequence[PartVerdict]) -> None:
        for part in parts:
            self._outbox.part(part_content(part))

    def _tell_late(self, event: Frame | Fault, verdict: Verdict, said: Disposition) -> None:
        """A part that was let through may be bad after all: somebody has to fetch it."""
        self._outbox.event(
            "late-view",
            f"part {event.part_id}: {said.value} was said of it before the view of {event.die}, "
            f"which is {verdict.label} ({verdict.disposition.value})",
            severity=Severity.ALARM if said is Disposition.PASS else Severity.WARNING,
            camera=event.camera,
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)
