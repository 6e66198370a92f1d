"""The intake: what cameras deliver, made durable and then queued for the loop.

Every frame and every fault is a trigger. It is recorded in the outbox before it waits here, so that
it has a verdict whatever happens next. What becomes of the work is ``line``'s.
"""

from __future__ import annotations

import logging
import queue
import uuid
from dataclasses import dataclass

from edge_qc.camera import Ended, Fault
from edge_qc.errors import PublishError
from edge_qc.parts import Frame
from edge_qc.publisher import Outbox, TriggerRecord

log = logging.getLogger(__name__)

_TURN_S = 0.1


@dataclass(frozen=True, slots=True)
class Work:
    """One accepted trigger: what there is to judge, and the verdict's id."""

    verdict_id: str
    event: Frame | Fault


class Intake:
    """refused: how many triggers could not be recorded, and so were not accepted."""

    def __init__(self, outbox: Outbox, room: int) -> None:
        """room: how many may wait."""
        self.refused = 0
        self._outbox = outbox
        self._queue: queue.Queue[Work] = queue.Queue(room)

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def deliver(self, event: Frame | Fault | Ended) -> None:
        """Called from the cameras' threads; blocks while the queue is full."""
        if isinstance(event, Ended):
            log.info("camera %s has come to its end", event.camera)
            return
        verdict_id = str(uuid.uuid4())
        record = TriggerRecord(
            camera=event.camera,
            die=event.die,
            trigger_id=event.trigger_id,
            part_id=event.part_id,
            time=event.time,
            image=event.image,
        )
        try:
            self._outbox.trigger(verdict_id, record).result()
        except PublishError as error:
            # Not accepted, so nobody waits for its verdict; the state says FAULT.
            self.refused += 1
            if self.refused == 1:
                log.error("triggers are refused: %s", error)
            return
        self._queue.put(Work(verdict_id, event))

    def take(self, at_most: int) -> list[Work]:
        """What waits; empty after a turn without any."""
        try:
            work = [self._queue.get(timeout=_TURN_S)]
        except queue.Empty:
            return []
        while len(work) < at_most:
            try:
                work.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return work
