"""The line's loop, the only one that judges.

Each turn takes work from the intake, has it judged (``judging``), publishes the heartbeat and
closes overdue parts. Where another inspection is waiting, it finishes what it has begun and takes
that one.
``station.opening`` composes the rooms; ``station.daemon`` decides when to stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait

from edge_qc.camera import Camera, CameraState
from edge_qc.errors import PublishError
from edge_qc.evidence import Evidence
from edge_qc.inspection.inspecting import Inspection
from edge_qc.line.assembly import Assembly
from edge_qc.line.health import Health
from edge_qc.line.heartbeat import Heartbeat
from edge_qc.line.intake import Intake
from edge_qc.line.judging import Judging, Observer
from edge_qc.line.outgoing import Outgoing
from edge_qc.output import Outputs
from edge_qc.publisher import HealthContent, Outbox, Publisher, Severity
from edge_qc.settings import LineTable
from edge_qc.system.priority import FIRST, niceness
from edge_qc.system.state import State, may_judge
from edge_qc.system.watchdog import LINE, PUBLISHER

log = logging.getLogger(__name__)

_TURN_S = 0.5
_BEGUN = 2
"""How many turns' work may be begun: one that the engine reads, and one that is ready for it."""

_BEHIND = 8
"""Frames that wait: for the last of them some milliseconds more of the disk are little."""

_OVER = (CameraState.ENDED, CameraState.FAILED)
_AT_REST = (CameraState.ENDED, CameraState.STOPPED)


class Line:
    """One run of the station. turns: how many turns the loop has made, for the watchdog."""

    def __init__(
        self,
        *,
        inspection: Inspection,
        cameras: Sequence[Camera],
        outbox: Outbox,
        publisher: Publisher,
        settings: LineTable,
        evidence: Evidence | None = None,
        outputs: Outputs | None = None,
    ) -> None:
        self.turns = 0
        self._failure: str | None = None
        self._cameras = cameras
        self._outbox, self._outputs = outbox, outputs
        self._publisher = publisher
        self._settings = settings
        health = Health()
        self._heartbeat = Heartbeat(
            cameras, outbox, publisher, health, settings.health_every_s, evidence, outputs
        )
        self._stopped = threading.Event()
        self._before_stop: list[Callable[[], None]] = []
        self._next: deque[tuple[Inspection, Future[Inspection]]] = deque()
        dies = settings.part_dies
        if dies is None:
            dies = tuple(inspection.bundle.manifest.dies)
        outgoing = Outgoing(outbox, outputs, inspection.bundle.manifest.labels)
        self._assembly = Assembly(dies, settings.part_deadline_s, outbox, outgoing)
        self._judging = Judging(inspection, outgoing, self._assembly, health, evidence)
        strict = {camera.name for camera in cameras if camera.remembers}
        self._intake = Intake(outbox, settings.queue, self._judging.prepare, strict)
        self._stopping = False

    @property
    def engine_name(self) -> str:
        """The engine's name, version and device."""
        return self._judging.inspection.engine.name

    @property
    def inspection(self) -> Inspection:
        """The inspection that judges now."""
        return self._judging.inspection

    @property
    def failure(self) -> str | None:
        """Why the loop gave up, or None."""
        return self._failure or self._judging.failure

    @property
    def state(self) -> State:
        """The station's state."""
        return self._heartbeat.state

    @property
    def why(self) -> str:
        """The reason for the state, in words."""
        return self._heartbeat.why

    @property
    def troubles(self) -> dict[str, str]:
        """By name, what makes the station DEGRADED while it is listed here."""
        return self._heartbeat.troubles

    def trouble(self, name: str, why: str | None) -> None:
        """Set or, with None, clear one of ``troubles``."""
        if why is None:
            self.troubles.pop(name, None)
        else:
            self.troubles[name] = why

    @property
    def intake(self) -> Intake:
        """The intake, to which triggers recorded elsewhere are announced."""
        return self._intake

    def before_stop(self, call: Callable[[], None]) -> None:
        """Call ``call`` before the cameras stop, for example to refuse further triggers."""
        self._before_stop.append(call)

    def show_pictures(self, picture_of: Callable[[str], Mapping[str, float]]) -> None:
        """Include these figures of a camera's pictures in its health."""
        self._heartbeat.picture_of = picture_of

    def tell_figures(self, tell: Callable[[HealthContent], None]) -> None:
        """Pass each heartbeat's figures to ``tell`` as well, which must return at once."""
        self._heartbeat.tell = tell

    def observe(self, observer: Observer) -> Callable[[], None]:
        """As ``Judging.observe``."""
        return self._judging.observe(observer)

    def exchange(self, inspection: Inspection, timeout_s: float = 30.0) -> Inspection | None:
        """From another thread: have the loop judge with ``inspection`` once it has finished what it
        has begun. Returns the previous inspection, which the caller closes. Returns None if the
        loop did not switch in time; then it never will."""
        answer: Future[Inspection] = Future()
        self._next.append((inspection, answer))
        wait([answer], timeout_s)
        return None if answer.cancel() else answer.result()

    def loops(self) -> dict[str, int | None]:
        """By name, how many turns each thread that verdicts depend on has made. None for one
        that may rest: a camera at the end of its source, or one that waits for the loop or the
        outbox."""
        loops: dict[str, int | None] = {
            LINE: self.turns,
            PUBLISHER: self._publisher.turns,
            "outbox": self._outbox.turns,
        }
        loops |= self._outputs.loops() if self._outputs is not None else {}
        for camera in self._cameras:
            rests = camera.stats.state in _AT_REST or self._intake.holds(camera.name)
            loops[f"camera {camera.name}"] = None if rests else camera.turns
        return loops

    def close(self) -> None:
        """Close the inspection; call it after ``run``."""
        self._judging.close()

    def run(self, stop: threading.Event, until_end: bool = False) -> None:
        """Judge until ``stop`` is set or, with ``until_end``, every camera has ended. Then judge
        what was triggered before, and wait up to ``drain_s`` until the outbox is empty."""
        try:
            for camera in self._cameras:
                camera.start(self._intake.deliver)
        except BaseException:
            self._stop_cameras()
            raise
        log.info("running: %d cameras, %s", len(self._cameras), self.engine_name)
        # After the cameras' threads, which would inherit it.
        with niceness(FIRST):
            self._go_round(stop, until_end)
        if self._outbox.fault is None:
            self._drain()

    def _go_round(self, stop: threading.Event, until_end: bool) -> None:
        while True:
            self.turns += 1
            self._begin()
            if self._judging.begun:
                self._judging.await_engine()
            self._outbox.line_behind(self._intake.waiting >= _BEHIND)
            # As late as can be: what is seen here decides whether the verdict may be a GOOD.
            self._watch_outbox()
            self._heartbeat.beat(
                queue=self._intake.waiting, failure=self.failure, stopping=self._stopping
            )
            try:
                if self._judging.begun:
                    self._judging.finish(running=may_judge(self._heartbeat.state))
                self._assembly.close_overdue()
            except PublishError as error:
                # The next start gives every accepted trigger its verdict.
                self._watch_outbox()
                self._failure = self.failure or str(error)
            done = until_end and all(camera.stats.state in _OVER for camera in self._cameras)
            if not self._stopping and (stop.is_set() or done or self.failure is not None):
                self._stopping = True
                # On its own thread: a camera that stops may be waiting for room in the queue.
                threading.Thread(target=self._stop_cameras, name="stop", daemon=True).start()
            if self._stopping and self._stopped.is_set() and self._idle:
                break

    def _watch_outbox(self) -> None:
        if self.failure is None and self._outbox.fault is not None:
            self._failure = f"outbox: {self._outbox.fault}; restart the station to open it again"
            log.error("%s", self._failure)

    @property
    def _idle(self) -> bool:
        return self._intake.waiting == 0 and not self._judging.begun

    def _begin(self) -> None:
        """Have the engine work: on this turn's work and, while that is finished, on the next."""
        if not self._judging.begun:
            self._change_over()
        batch = self.inspection.bundle.manifest.input.batch
        while self._judging.begun < _BEGUN and not self._next:
            ahead = self._judging.begun > 0
            if ahead and self._intake.waiting < batch:
                return  # what comes while the engine works may still join the batch
            work = self._intake.take(batch, wait=not ahead)
            if not work:
                return
            self._judging.begin(work)

    def _change_over(self) -> None:
        while self._next:
            inspection, answer = self._next.popleft()
            if answer.set_running_or_notify_cancel():
                before = self._judging.replace(inspection)
                self._heartbeat.name_bundle(inspection.bundle)
                answer.set_result(before)

    def _stop_cameras(self) -> None:
        for call in self._before_stop:
            call()
        for camera in self._cameras:
            camera.stop()
        self._stopped.set()

    def _drain(self) -> None:
        self._assembly.close_all()
        refused = self._intake.refused
        if refused:
            self._outbox.event(
                "triggers-refused",
                f"{refused} triggers were refused because they could not be recorded",
                severity=Severity.ALARM,
            )
        until_s = time.monotonic() + self._settings.drain_s
        delivered = self._outbox.wait_delivered(0)
        while not delivered and (left_s := until_s - time.monotonic()) > 0:
            # In slices, so that the watchdog does not mistake a stop for a hang.
            delivered = self._outbox.wait_delivered(min(_TURN_S, left_s))
            self.turns += 1
        if not delivered:
            waiting = self._outbox.status().waiting
            log.warning(
                "%d messages remain in the outbox; the next start sends them",
                waiting,
            )
