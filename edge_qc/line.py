"""The line: runs the rooms, the only loop.

Cameras deliver frames and faults from their own threads. Each is a trigger, made durable in the
outbox before it waits in a bounded queue; the loop takes what waits, judges it, completes each
trigger with its one verdict, and joins views to parts. What the rooms are is decided by
``station``; when to stop, by ``daemon``.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from edge_qc.camera import Camera, CameraState, CameraStats, Ended, Fault
from edge_qc.decision import not_judged
from edge_qc.errors import PublishError
from edge_qc.health import Health
from edge_qc.inspection import Inspection
from edge_qc.part import PartJoiner
from edge_qc.parts import Frame, PartVerdict, Reason, Verdict
from edge_qc.publisher import (
    CameraHealth,
    HealthContent,
    Outbox,
    OutboxHealth,
    Publisher,
    Severity,
    Space,
    TriggerRecord,
    part_content,
    verdict_content,
)
from edge_qc.settings import LineTable
from edge_qc.state import Situation, State, may_judge, next_state

log = logging.getLogger(__name__)

_TURN_S = 0.1
_ENGINE_FAILURES = 5
"""Engine errors in a row after which a restart is worth more than another try."""


_LOST = (CameraState.LOST, CameraState.FAILED)
_OVER = (CameraState.ENDED, CameraState.FAILED)


@dataclass(frozen=True, slots=True)
class _Work:
    verdict_id: str
    event: Frame | Fault


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
    ) -> None:
        self.turns = 0
        self.failure: str | None = None
        self._inspection = inspection
        self._cameras = cameras
        self._outbox = outbox
        self._publisher = publisher
        self._settings = settings
        self._queue: queue.Queue[_Work] = queue.Queue(settings.queue)
        self._stopped = threading.Event()
        self._health = Health()
        dies = settings.part_dies
        if dies is None:
            dies = tuple(inspection.bundle.manifest.dies)
        self._joiner = PartJoiner(dies, settings.part_deadline_s) if dies else None
        self._joined_dies = frozenset(dies)
        self._engine_failures = 0
        self._beat_s = 0.0
        self._state, self._why = State.READY, ""
        self._stopping = False
        self._refused = 0

    @property
    def engine_name(self) -> str:
        """Engine, version and device."""
        return self._inspection.engine.name

    def run(self, stop: threading.Event, until_end: bool = False) -> None:
        """Judge until ``stop`` is set or, with ``until_end``, every camera has ended; then judge
        what was already triggered, and wait for the broker as long as the settings say."""
        try:
            for camera in self._cameras:
                camera.start(self._deliver)
        except BaseException:
            self._stop_cameras()
            raise
        log.info("running: %d cameras, %s", len(self._cameras), self.engine_name)
        while True:
            self.turns += 1
            work = self._take()
            self._beat()
            self._judge(work)
            self._close_late_parts()
            done = until_end and all(camera.stats.state in _OVER for camera in self._cameras)
            if not self._stopping and (stop.is_set() or done or self.failure is not None):
                self._stopping = True
                # Its own thread: a camera that is stopped may be waiting for room in the queue.
                threading.Thread(target=self._stop_cameras, name="stop", daemon=True).start()
            if self._stopping and self._stopped.is_set() and self._queue.empty():
                break
        self._drain()

    def _deliver(self, event: Frame | Fault | Ended) -> None:
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
            self._refused += 1
            if self._refused == 1:
                log.error("triggers are refused: %s", error)
            return
        self._queue.put(_Work(verdict_id, event))

    def _take(self) -> list[_Work]:
        """What waits, up to one batch; empty after a turn without any."""
        try:
            work = [self._queue.get(timeout=_TURN_S)]
        except queue.Empty:
            return []
        while len(work) < self._inspection.bundle.manifest.input.batch:
            try:
                work.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return work

    def _judge(self, work: Sequence[_Work]) -> None:
        frames = [item.event for item in work if isinstance(item.event, Frame)]
        verdicts = iter(self._inspection.judge(frames, running=may_judge(self._state)))
        for item in work:
            if isinstance(item.event, Frame):
                verdict = next(verdicts)
                self._watch_engine(verdict)
            else:
                verdict = not_judged(
                    self._inspection.bundle.id, item.event.reason, item.event.detail
                )
            self._complete(item, verdict)

    def _complete(self, item: _Work, verdict: Verdict) -> None:
        event = item.event
        bundle = self._inspection.bundle
        self._outbox.verdict(
            item.verdict_id,
            verdict_content(
                verdict,
                camera=event.camera,
                die=event.die,
                trigger_id=event.trigger_id,
                time=event.time,
                part_id=event.part_id,
                image=event.image,
                bundle_version=bundle.manifest.version,
                engine=self.engine_name,
            ),
        )
        total_ms = 0.0
        if isinstance(event, Frame):
            total_ms = (time.monotonic() - event.monotonic_s) * 1e3
        self._health.count(verdict.label, total_ms)
        log.debug("%s %s %s %s", event.camera, event.image or event.trigger_id, verdict.label, "")
        if (
            self._joiner is not None
            and event.part_id is not None
            and event.die in self._joined_dies
        ):
            assert event.die is not None
            self._publish_part(
                self._joiner.add(
                    event.part_id, event.die, item.verdict_id, verdict, time.monotonic(), _now()
                )
            )

    def _watch_engine(self, verdict: Verdict) -> None:
        if verdict.reason is not Reason.ENGINE:
            self._engine_failures = 0
            return
        self._engine_failures += 1
        if self._engine_failures == _ENGINE_FAILURES and self.failure is None:
            self.failure = f"the engine failed {_ENGINE_FAILURES} times in a row: {verdict.detail}"
            log.error("%s", self.failure)

    def _close_late_parts(self) -> None:
        if self._joiner is not None:
            for part in self._joiner.overdue(time.monotonic(), _now()):
                self._publish_part(part)

    def _publish_part(self, part: PartVerdict | None) -> None:
        if part is not None:
            self._outbox.part(part_content(part))

    def _beat(self) -> None:
        before = self._state, self._why
        self._state, self._why = next_state(self._state, self._situation())
        if (self._state, self._why) != before:
            self._publisher.state(self._state, self._why)
            log.info("%s: %s", self._state.value, self._why)
        now = time.monotonic()
        if now - self._beat_s < self._settings.health_every_s:
            return
        self._beat_s = now
        figures = self._health.snapshot()
        status = self._outbox.status()
        self._publisher.health(
            HealthContent.model_validate(
                {
                    **figures,
                    "time": _now(),
                    "state": self._state,
                    "queue": self._queue.qsize(),
                    "cameras": {
                        camera.name: _camera_health(camera.stats, now) for camera in self._cameras
                    },
                    "outbox": OutboxHealth(
                        waiting=status.waiting,
                        open_triggers=status.open_triggers,
                        free_bytes=status.free_bytes,
                        space=status.space.value,
                    ),
                }
            )
        )

    def _situation(self) -> Situation:
        status = self._outbox.status()
        faults = []
        if self.failure is not None:
            faults.append(self.failure)
        if status.fault is not None:
            faults.append(f"outbox: {status.fault}")
        if status.space is Space.FULL:
            faults.append("the disk is full, triggers are refused")
        troubles = []
        lost = [camera.name for camera in self._cameras if camera.stats.state in _LOST]
        if lost:
            troubles.append(f"without a picture: {', '.join(lost)}")
        if status.space is Space.LOW:
            troubles.append("the disk is nearly full")
        if self._publisher.connected and self._publisher.trouble is not None:
            troubles.append(self._publisher.trouble)
        return Situation(
            accepted=True,
            running=True,
            stopping=self._stopping,
            faults=tuple(faults),
            troubles=tuple(troubles),
        )

    def _stop_cameras(self) -> None:
        for camera in self._cameras:
            camera.stop()
        self._stopped.set()

    def _drain(self) -> None:
        if self._joiner is not None:
            for part in self._joiner.flush(_now()):
                self._publish_part(part)
        if self._refused:
            self._outbox.event(
                "triggers-refused",
                f"{self._refused} triggers were refused while nothing could be recorded",
                severity=Severity.ALARM,
            )
        if not self._outbox.wait_delivered(self._settings.drain_s):
            waiting = self._outbox.status().waiting
            log.warning(
                "%d messages wait in the outbox for the broker; they leave after the next start",
                waiting,
            )


def _camera_health(stats: CameraStats, now_s: float) -> CameraHealth:
    last_s = stats.last_frame_monotonic
    return CameraHealth(
        state=stats.state.value,
        frames=stats.frames,
        faults=stats.faults,
        last_frame_age_s=None if last_s is None else now_s - last_s,
    )


def _now() -> datetime:
    return datetime.now(timezone.utc)
