"""The intake: records what cameras deliver, and queues it for the loop.

Every frame and every fault is a trigger, which the outbox records before it is judged. The disk
syncs while it is judged: the outbox commits in order, so that no verdict is durable before its
trigger, and a camera gives its next picture only once this one's trigger is.
"""

from __future__ import annotations

import logging
import queue
import threading
import uuid
from collections import Counter, defaultdict, deque
from concurrent.futures import Future
from dataclasses import dataclass

from edge_qc.camera import Ended, Fault
from edge_qc.errors import PublishError
from edge_qc.line.outgoing import Origin
from edge_qc.parts import Frame, Reason
from edge_qc.publisher import Outbox, TriggerRecord

log = logging.getLogger(__name__)

_TURN_S = 0.1
_UNSYNCED = 64
"""How many overruns of one camera may share one sync. A dropped frame has no further work, and a
sync for each would delay the frames behind it until all are stale."""


@dataclass(frozen=True, slots=True)
class Work:
    """One accepted trigger: the event to judge, the verdict's id, and where it comes from."""

    verdict_id: str
    event: Frame | Fault
    origin: Origin


class Intake:
    """refused: how many triggers were not accepted, because they could not be recorded."""

    def __init__(self, outbox: Outbox, room: int) -> None:
        """room: how many may wait."""
        self.refused = 0
        self._outbox = outbox
        self._queue: queue.Queue[Work] = queue.Queue(room)
        self._expected: dict[tuple[str, str], tuple[str, Origin]] = {}
        self._owed: Counter[str] = Counter()
        self._held: set[str] = set()
        self._unsynced: dict[str, deque[Future[None]]] = defaultdict(deque)
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def expect(self, camera: str, verdict_id: str, origin: Origin) -> None:
        """Announce a trigger that is already recorded, so that its frame is not recorded again."""
        with self._lock:
            self._expected[camera, origin.trigger_id] = verdict_id, origin
            self._owed[camera] += 1

    def owed(self, camera: str) -> int:
        """How many announced triggers the camera has not answered."""
        with self._lock:
            return self._owed[camera]

    def refuse(self, why: str) -> None:
        """Count a trigger that could not be recorded and will have no verdict."""
        self.refused += 1
        if self.refused == 1:
            log.error("triggers are refused: %s", why)

    def holds(self, camera: str) -> bool:
        """Whether the camera's thread waits here for the disk or for room in the queue."""
        return camera in self._held

    def deliver(self, event: Frame | Fault | Ended) -> None:
        """Accept an event on its camera's thread; blocks while the queue is full."""
        self._held.add(event.camera)
        try:
            self._deliver(event)
        finally:
            self._held.discard(event.camera)

    def _deliver(self, event: Frame | Fault | Ended) -> None:
        if isinstance(event, Ended):
            log.info("camera %s has reached the end of its source", event.camera)
            return
        with self._lock:
            expected = self._expected.pop((event.camera, event.trigger_id), None)
            if expected is not None:
                self._owed[event.camera] -= 1
        if expected is not None:
            verdict_id, origin = expected
            self._queue.put(Work(verdict_id, event, origin))
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
            recorded = self._outbox.trigger(verdict_id, record)
            self._queue.put(Work(verdict_id, event, Origin(event.trigger_id)))
            if isinstance(event, Fault) and event.reason is Reason.OVERRUN:
                unsynced = self._unsynced[event.camera]
                unsynced.append(recorded)
                if len(unsynced) > _UNSYNCED:
                    unsynced.popleft().result()
            else:
                recorded.result()
        except PublishError as error:
            self.refuse(str(error))

    def take(self, at_most: int, *, wait: bool = True) -> list[Work]:
        """Take up to this many; empty if none came within a turn or, without ``wait``, if none is
        there."""
        try:
            work = [self._queue.get(wait, _TURN_S)]
        except queue.Empty:
            return []
        while len(work) < at_most:
            try:
                work.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return work
