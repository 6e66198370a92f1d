"""What is said, in order: on disk, then to the outputs, then to the broker, which reads the disk.

The outbox's writer hands a verdict to the outputs the moment it is durable, and they accept it at
once; the loop waits for neither.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import dataclass

from edge_qc.output import Outputs, Result, label_number
from edge_qc.parts import Reason
from edge_qc.publisher import Outbox, PartContent, VerdictContent
from edge_qc.settings import PART

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a verdict comes from. triggered_s: when its trigger came (``time.monotonic``), that of
    the frame where nothing triggered it, None if there is neither. lot, serial: of the part, from
    the controller or the message."""

    trigger_id: str
    triggered_s: float | None = None
    lot: str | None = None
    serial: str | None = None


class Outgoing:
    """labels: of the bundle that judges, in its order."""

    def __init__(self, outbox: Outbox, outputs: Outputs | None, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self._outbox, self._outputs = outbox, outputs

    def verdict(self, verdict_id: str, content: VerdictContent, origin: Origin) -> None:
        """Raises PublishError if it cannot be recorded; then no output shows it."""
        done = self._outbox.verdict(verdict_id, content)
        self._show(
            done,
            Result(
                block=content.camera,
                disposition=content.disposition,
                label=content.label,
                number=label_number(content.label, self.labels),
                reason=content.reason,
                trigger_id=content.trigger_id,
                part_id=content.part_id,
                triggered_s=origin.triggered_s,
            ),
        )

    def part(self, content: PartContent, origin: Origin) -> None:
        """As ``verdict``, of a whole part; origin: of the first of its triggers."""
        done = self._outbox.part(content)
        self._show(
            done,
            Result(
                block=PART,
                disposition=content.disposition,
                label=content.label,
                number=label_number(content.label, self.labels),
                reason=Reason.DECIDED,
                trigger_id=origin.trigger_id,
                part_id=content.part_id,
                triggered_s=origin.triggered_s,
            ),
        )

    def _show(self, done: Future[None], result: Result) -> None:
        outputs = self._outputs
        if outputs is None:
            return

        def durable(future: Future[None]) -> None:
            # What is not on disk is shown nowhere: the outputs stay at REJECT.
            if future.exception() is None:
                try:
                    outputs.offer(result)
                except Exception:
                    log.exception("a result could not be shown; its part is rejected")

        done.add_done_callback(durable)
