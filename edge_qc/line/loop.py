"""The line: runs the rooms, the only loop.

The loop has what waits in the intake judged (``judging``), beats the heart, and closes parts whose
time is over. Between two turns it takes another inspection where one was handed to it. What the
rooms are is decided by ``station``; when to stop, by ``daemon``.
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
from edge_qc.publisher import HealthContent, Outbox, Publisher, Severity
from edge_qc.settings import LineTable
from edge_qc.system.state import State, may_judge
from edge_qc.system.watchdog import LINE, PUBLISHER

log = logging.getLogger(__name__)

_TURN_S = 0.5

_OVER = (CameraState.ENDED, CameraState.FAILED)
_AT_REST = (CameraState.ENDED, CameraState.STOPPED)


class Line:
    """One run of the station. turns: how often the loop went round, for the watchdog."""

    def __init__(
        self,
        *,
        inspection: Inspection,
        cameras: Sequence[Camera],
        outbox: Outbox,
        publisher: Publisher,
        settings: LineTable,
        evidence: Evidence | None = None,
    ) -> None:
        self.turns = 0
        self._failure: str | None = None
        self._cameras = cameras
        self._outbox = outbox
        self._publisher = publisher
        self._settings = settings
        self._intake = Intake(outbox, settings.queue)
        health = Health()
        self._heartbeat = Heartbeat(
            cameras, outbox, publisher, health, settings.health_every_s, evidence
        )
        self._stopped = threading.Event()
        self._before_stop: list[Callable[[], None]] = []
        self._next: deque[tuple[Inspection, Future[Inspection]]] = deque()
        dies = settings.part_dies
        if dies is None:
            dies = tuple(inspection.bundle.manifest.dies)
        self._assembly = Assembly(dies, settings.part_deadline_s, outbox)
        self._judging = Judging(inspection, outbox, self._assembly, health, evidence)
        self._stopping = False

    @property
    def engine_name(self) -> str:
        """Engine, version and device."""
        return self._judging.inspection.engine.name

    @property
    def inspection(self) -> Inspection:
        """What judges at the moment."""
        return self._judging.inspection

    @property
    def failure(self) -> str | None:
        """Why the loop gave up, None while it has not."""
        return self._failure or self._judging.failure

    @property
    def state(self) -> State:
        """What the station is doing."""
        return self._heartbeat.state

    @property
    def troubles(self) -> dict[str, str]:
        """By name, what makes the station DEGRADED for as long as it stays here."""
        return self._heartbeat.troubles

    @property
    def intake(self) -> Intake:
        """Where triggers that were recorded elsewhere are announced."""
        return self._intake

    def before_stop(self, call: Callable[[], None]) -> None:
        """Has ``call`` called before the cameras are stopped: to accept no more triggers, say."""
        self._before_stop.append(call)

    def show_pictures(self, picture_of: Callable[[str], Mapping[str, float]]) -> None:
        """Has a camera's health tell these figures of its pictures."""
        self._heartbeat.picture_of = picture_of

    def tell_figures(self, tell: Callable[[HealthContent], None]) -> None:
        """Has each heartbeat's figures told to one more; ``tell`` must return at once."""
        self._heartbeat.tell = tell

    def observe(self, observer: Observer) -> Callable[[], None]:
        """As ``Judging.observe``."""
        return self._judging.observe(observer)

    def exchange(self, inspection: Inspection, timeout_s: float = 30.0) -> Inspection | None:
        """From any other thread: have the loop judge with ``inspection`` from its next turn on.
        The one before, which judges no more and is the caller's to close; None where the loop did
        not come to it in time, and then it never will."""
        answer: Future[Inspection] = Future()
        self._next.append((inspection, answer))
        wait([answer], timeout_s)
        return None if answer.cancel() else answer.result()

    def loops(self) -> dict[str, int | None]:
        """How often each thread that verdicts depend on went round, by name; None for one that may
        rest: a camera at its end, or one that waits for the loop or the outbox."""
        loops: dict[str, int | None] = {
            LINE: self.turns,
            PUBLISHER: self._publisher.turns,
            "outbox": self._outbox.turns,
        }
        for camera in self._cameras:
            rests = camera.stats.state in _AT_REST or self._intake.holds(camera.name)
            loops[f"camera {camera.name}"] = None if rests else camera.turns
        return loops

    def close(self) -> None:
        """Free what judges; call it when ``run`` is over."""
        self._judging.inspection.close()

    def run(self, stop: threading.Event, until_end: bool = False) -> None:
        """Judge until ``stop`` is set or, with ``until_end``, every camera has ended; then judge
        what was already triggered, and wait for the broker as long as the settings say."""
        try:
            for camera in self._cameras:
                camera.start(self._intake.deliver)
        except BaseException:
            self._stop_cameras()
            raise
        log.info("running: %d cameras, %s", len(self._cameras), self.engine_name)
        while True:
            self.turns += 1
            self._change_over()
            work = self._intake.take(self.inspection.bundle.manifest.input.batch)
            if self.failure is None and self._outbox.fault is not None:
                self._failure = f"outbox: {self._outbox.fault}; only a new start opens it again"
                log.error("%s", self._failure)
            self._heartbeat.beat(
                queue=self._intake.waiting, failure=self.failure, stopping=self._stopping
            )
            try:
                self._judging.judge(work, running=may_judge(self._heartbeat.state))
                self._assembly.close_overdue()
            except PublishError as error:
                # What was accepted gets its verdict from the next start.
                self._failure = self.failure or str(error)
            done = until_end and all(camera.stats.state in _OVER for camera in self._cameras)
            if not self._stopping and (stop.is_set() or done or self.failure is not None):
                self._stopping = True
                # Its own thread: a camera that is stopped may be waiting for room in the queue.
                threading.Thread(target=self._stop_cameras, name="stop", daemon=True).start()
            if self._stopping and self._stopped.is_set() and self._intake.waiting == 0:
                break
        if self._outbox.fault is None:
            self._drain()

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
                f"{refused} triggers were refused while nothing could be recorded",
                severity=Severity.ALARM,
            )
        until_s = time.monotonic() + self._settings.drain_s
        delivered = self._outbox.wait_delivered(0)
        while not delivered and (left_s := until_s - time.monotonic()) > 0:
            # In slices: the watchdog must not take a stop for a hang.
            delivered = self._outbox.wait_delivered(min(_TURN_S, left_s))
            self.turns += 1
        if not delivered:
            waiting = self._outbox.status().waiting
            log.warning(
                "%d messages wait in the outbox for the broker; they leave after the next start",
                waiting,
            )
