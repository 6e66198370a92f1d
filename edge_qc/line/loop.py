"""The line: runs the rooms, the only loop.

The loop takes what waits in the intake, judges it, completes each trigger with its one verdict, and
hands it to whoever makes something of it: parts, evidence, those who look on. Between two turns it
takes another inspection where one was handed to it. What the rooms are is decided by ``station``;
when to stop, by ``daemon``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait

from edge_qc.camera import Camera, CameraState
from edge_qc.decision import not_judged
from edge_qc.errors import PublishError
from edge_qc.evidence import Evidence
from edge_qc.health import Health
from edge_qc.inspection import Inspected, Inspection
from edge_qc.line.assembly import Assembly
from edge_qc.line.heartbeat import Heartbeat
from edge_qc.line.intake import Intake, Work
from edge_qc.parts import Frame, Reason, Verdict
from edge_qc.publisher import (
    HealthContent,
    Outbox,
    Publisher,
    Severity,
    VerdictContent,
    verdict_content,
)
from edge_qc.settings import LineTable
from edge_qc.state import State, may_judge
from edge_qc.watchdog import LINE, PUBLISHER

log = logging.getLogger(__name__)

_ENGINE_FAILURES = 5
"""Engine errors in a row after which a restart is worth more than another try."""

_TURN_S = 0.5

_OVER = (CameraState.ENDED, CameraState.FAILED)
_AT_REST = (CameraState.ENDED, CameraState.STOPPED)

Observer = Callable[[Frame, Verdict], None]


class Line:
    """One run of the station. turns: how often the loop went round, for the watchdog. failure: why
    the loop gave up, None while it has not."""

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
        self.failure: str | None = None
        self._inspection = inspection
        self._cameras = cameras
        self._outbox = outbox
        self._publisher = publisher
        self._settings = settings
        self._evidence = evidence
        self._intake = Intake(outbox, settings.queue)
        self._health = Health()
        self._heartbeat = Heartbeat(
            cameras, outbox, publisher, self._health, settings.health_every_s, evidence
        )
        self._stopped = threading.Event()
        self._before_stop: list[Callable[[], None]] = []
        self._observers: tuple[Observer, ...] = ()
        self._next: deque[tuple[Inspection, Future[Inspection]]] = deque()
        dies = settings.part_dies
        if dies is None:
            dies = tuple(inspection.bundle.manifest.dies)
        self._assembly = Assembly(dies, settings.part_deadline_s, outbox)
        self._engine_failures = 0
        self._stopping = False

    @property
    def engine_name(self) -> str:
        """Engine, version and device."""
        return self._inspection.engine.name

    @property
    def inspection(self) -> Inspection:
        """What judges at the moment."""
        return self._inspection

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
        """Has ``observer`` called on the loop's thread with each frame, once its verdict is
        recorded; call what is returned to end that. It must be quick; an error of its is logged."""
        self._observers = (*self._observers, observer)

        def end() -> None:
            self._observers = tuple(one for one in self._observers if one is not observer)

        return end

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
        self._inspection.close()

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
            work = self._intake.take(self._inspection.bundle.manifest.input.batch)
            if self.failure is None and self._outbox.fault is not None:
                self.failure = f"outbox: {self._outbox.fault}; only a new start opens it again"
                log.error("%s", self.failure)
            self._heartbeat.beat(
                queue=self._intake.waiting, failure=self.failure, stopping=self._stopping
            )
            try:
                self._judge(work)
                self._assembly.close_overdue()
            except PublishError as error:
                # What was accepted gets its verdict from the next start.
                self.failure = self.failure or str(error)
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
                before, self._inspection = self._inspection, inspection
                self._engine_failures = 0
                self._heartbeat.name_bundle(inspection.bundle)
                answer.set_result(before)

    def _judge(self, work: Sequence[Work]) -> None:
        frames = [item.event for item in work if isinstance(item.event, Frame)]
        inspected = self._inspection.inspect(frames, running=may_judge(self._heartbeat.state))
        self._watch_engine([one.verdict for one in inspected])
        found = iter(inspected)
        for item in work:
            seen: Inspected | None = None
            if isinstance(item.event, Frame):
                seen = next(found)
                verdict = seen.verdict
            else:
                verdict = not_judged(
                    self._inspection.bundle.id, item.event.reason, item.event.detail
                )
            content = self._complete(item, verdict)
            if seen is not None:
                self._keep(item, seen, content)
            if isinstance(item.event, Frame):
                self._show(item.event, verdict)

    def _keep(self, item: Work, seen: Inspected, content: VerdictContent) -> None:
        if self._evidence is None or not isinstance(item.event, Frame):
            return

        def described() -> str:
            return f'{{"verdict_id":"{item.verdict_id}",{content.model_dump_json()[1:]}'

        try:
            self._evidence.offer(
                item.verdict_id, item.event, seen.view, seen.reading, seen.verdict, described
            )
        except Exception:
            log.exception("an image could not be kept; the verdicts stand")

    def _show(self, frame: Frame, verdict: Verdict) -> None:
        for observer in self._observers:
            try:
                observer(frame, verdict)
            except Exception:
                log.exception("what only looks on failed; the verdicts stand")

    def _complete(self, item: Work, verdict: Verdict) -> VerdictContent:
        event = item.event
        bundle = self._inspection.bundle
        content = verdict_content(
            verdict,
            camera=event.camera,
            die=event.die,
            trigger_id=event.trigger_id,
            time=event.time,
            part_id=event.part_id,
            image=event.image,
            bundle_version=bundle.manifest.version,
            engine=self.engine_name,
            late=self._assembly.said(event) is not None,
        )
        self._outbox.verdict(item.verdict_id, content)
        total_ms = 0.0
        if isinstance(event, Frame):
            total_ms = (time.monotonic() - event.monotonic_s) * 1e3
        self._health.count(verdict.label, total_ms)
        log.debug("%s %s %s", event.camera, event.image or event.trigger_id, verdict.label)
        self._assembly.add(item.verdict_id, event, verdict)
        return content

    def _watch_engine(self, verdicts: Sequence[Verdict]) -> None:
        """Counts calls: one that fails takes its whole batch along, and one frame's NaN is not
        the engine's end."""
        asked = [verdict for verdict in verdicts if verdict.reason is not Reason.FRAME]
        if not asked:
            return
        if any(verdict.reason is not Reason.ENGINE for verdict in asked):
            self._engine_failures = 0
            return
        self._engine_failures += 1
        if self._engine_failures == _ENGINE_FAILURES and self.failure is None:
            why = asked[-1].detail
            self.failure = f"the engine failed {_ENGINE_FAILURES} times in a row: {why}"
            log.error("%s", self.failure)

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
