"""The intake: records what cameras deliver, and queues it for the loop.

Every frame and every fault is a trigger, which the outbox records before it is judged. The disk
syncs while its view is cut, on the camera's own thread, and judged: the outbox commits in order, so
that no verdict is durable before its trigger. A camera is at most two pictures ahead of the disk.
"""

from __future__ import annotations

import logging
import queue
import threading
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from edge_qc.camera import Ended, Fault
from edge_qc.errors import PublishError
from edge_qc.inspection.inspecting import Prepared
from edge_qc.line.outgoing import Origin
from edge_qc.parts import Frame, Reason
from edge_qc.publisher import Outbox, TriggerRecord

log = logging.getLogger(__name__)

_TURN_S = 0.1
_AHEAD = 2
"""How many triggers of one camera may share one sync: a slow disk delays frames then, and does not
drop them."""
_OVERRUNS_AHEAD = 64
"""How many overruns of one camera may share one sync. A dropped frame has no further work, and a
sync for each would delay the frames behind it until all are stale."""


@dataclass(frozen=True, slots=True)
class Work:
    """One accepted trigger: the event to judge, the verdict's id, and where it comes from.
    prepared: a frame's view; None of a fault."""

    verdict_id: str
    event: Frame | Fault
    origin: Origin
    prepared: Prepared | None = None


class Intake:
    """refused: how many triggers were not accepted, because they could not be recorded."""

    def __init__(
        self,
        outbox: Outbox,
        room: int,
        prepare: Callable[[Frame], Prepared],
        strict: Collection[str] = (),
    ) -> None:
        """room: how many may wait. prepare: cuts a frame's view; must not raise. strict: cameras
        that note what was delivered, so that it must be on disk by then."""
        self.refused = 0
        self._outbox = outbox
        self._prepare, self._strict = prepare, strict
        self._queue: queue.Queue[Work] = queue.Queue(room)
        self._expected: dict[tuple[str, str], tuple[str, Origin]] = {}
        self._owed: Counter[str] = Counter()
        self._preparing: set[str] = set()
        self._held: set[str] = set()
        self._unsynced: dict[str, deque[Future[None]]] = defaultdict(deque)
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many are accepted and not taken, those among them whose view is being cut."""
        return len(self._preparing) + self._queue.qsize()

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
        with self._lock:
            self.refused += 1
            first = self.refused == 1
        if first:
            log.error("triggers are refused: %s", why)

    def holds(self, camera: str) -> bool:
        """Whether the camera's thread waits here for the disk or for room in the queue."""
        return camera in self._held

    def deliver(self, event: Frame | Fault | Ended) -> bool:
        """Accept an event on its camera's thread; blocks while the queue is full. False if it is
        refused, as far as the camera waits for that."""
        if isinstance(event, Ended):
            log.info("camera %s has reached the end of its source", event.camera)
            return True
        with self._lock:
            expected = self._expected.pop((event.camera, event.trigger_id), None)
            if expected is not None:
                self._owed[event.camera] -= 1
        if expected is not None:
            recorded = None
            verdict_id, origin = expected
        else:
            verdict_id, origin = str(uuid.uuid4()), Origin(event.trigger_id)
            try:
                with self._holding(event.camera):
                    recorded = self._record(verdict_id, event)
            except PublishError as error:
                self.refuse(str(error))
                return False
        # A view that takes long is no disk that does: the watchdog looks at it.
        prepared = None
        if isinstance(event, Frame):
            self._preparing.add(event.camera)
            prepared = self._prepare(event)
        with self._holding(event.camera):
            self._queue.put(Work(verdict_id, event, origin, prepared))
            if isinstance(event, Frame):
                self._preparing.discard(event.camera)
            if recorded is not None:
                recorded.add_done_callback(self._refuse_failed)
                return self._await_disk(event, recorded)
        return True

    @contextmanager
    def _holding(self, camera: str) -> Iterator[None]:
        self._held.add(camera)
        try:
            yield
        finally:
            self._held.discard(camera)

    def _record(self, verdict_id: str, event: Frame | Fault) -> Future[None]:
        """Raises PublishError if it cannot be accepted."""
        return self._outbox.trigger(
            verdict_id,
            TriggerRecord(
                camera=event.camera,
                die=event.die,
                trigger_id=event.trigger_id,
                part_id=event.part_id,
                time=event.time,
                image=event.image,
            ),
        )

    def _refuse_failed(self, recorded: Future[None]) -> None:
        if (error := recorded.exception()) is not None:
            self.refuse(str(error))

    def _await_disk(self, event: Frame | Fault, recorded: Future[None]) -> bool:
        ahead = 0 if event.camera in self._strict else _AHEAD
        if isinstance(event, Fault) and event.reason is Reason.OVERRUN:
            ahead = _OVERRUNS_AHEAD
        unsynced = self._unsynced[event.camera]
        unsynced.append(recorded)
        whole = True
        while len(unsynced) > ahead:
            whole = unsynced.popleft().exception() is None and whole
        return whole

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
