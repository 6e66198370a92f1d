"""A camera of the station: one thread that keeps one source's process alive and hands on what it
gives.

Every source is read in a process of its own, folders too: one mechanism, a quarter of a second to
start, and neither a driver that hangs nor a file that crashes a decoder reaches the station. A live
camera that the line cannot follow keeps the frames that it has accepted and counts those that it
must drop as overruns; a replay waits instead. Why a source failed is found out in ``child``.
"""

from __future__ import annotations

import select
import threading
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.backoff import Backoff
from edge_qc.camera.events import CameraState, CameraStats, Deliver, Ended, Fault
from edge_qc.camera.link import Link
from edge_qc.camera.sources import EndOfStream, SourceRequest, check_source
from edge_qc.camera.triggers import Trigger, Triggers
from edge_qc.errors import CameraError, SettingsError
from edge_qc.parts import Frame, Reason

if TYPE_CHECKING:
    from edge_qc.settings import CameraTable

_OPEN_S = 15.0
_SILENCE_S = 1.0
"""Added to a triggered camera's timeout: its process says every half second that it lives."""


class _Hung(CameraError):
    """Nothing was heard of the process within its time: it is killed, not asked."""


class Camera:
    """One camera by its settings. Free-run: every frame is delivered. Triggered: each ``trigger``
    is answered by one Frame or one Fault within ``timeout_s``, and idle is health.

    dies: those that can be judged; an image of any other is a Fault. ``deliver`` is called from the
    camera's own thread; while a call blocks, the camera waits.
    """

    def __init__(
        self,
        settings: CameraTable,
        *,
        dies: Collection[str] | None = None,
        triggered: bool = False,
        open_timeout_s: float = _OPEN_S,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = settings.name
        self._die = settings.die
        self._request = SourceRequest(
            settings.source, settings.die, settings.table, settings.loop, settings.fps
        )
        self._timeout_s = settings.timeout_s
        self._open_timeout_s = open_timeout_s
        self._dies = None if dies is None else sorted(dies)
        self._triggered = triggered
        self._backoff = backoff or Backoff()
        self._deliver: Deliver = lambda event: None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._triggers = Triggers()
        self._link: Link | None = None
        self._live = False
        self._items = 0
        self._told_lost = False
        self._state = CameraState.STOPPED
        self._frames = self._faults = self._overruns = self._reopened = 0
        self._last_frame: float | None = None
        self._detail = ""

    @property
    def stats(self) -> CameraStats:
        """A snapshot; may be taken from any thread."""
        link = self._link
        return CameraStats(
            state=self._state,
            frames=self._frames,
            faults=self._faults,
            overruns=self._overruns,
            reopened=self._reopened,
            last_frame_monotonic=self._last_frame,
            detail=self._detail,
            pid=None if link is None else link.pid,
        )

    def start(self, deliver: Deliver) -> None:
        """Open the source and deliver its events until its end or ``stop``.

        Raises SettingsError for what can never work. A device that is merely missing is reported
        as a Fault, and tried again.
        """
        if self._thread is not None:
            raise CameraError(f"camera {self.name}: was started before; make another")
        check_source(self._request)
        if self._request.table is None and self._dies is not None and self._die not in self._dies:
            raise SettingsError(
                f"camera {self.name}: die {self._die!r} is not in the bundle's die table, which "
                f"has {', '.join(self._dies)}"
            )
        self._deliver = deliver
        self._state = CameraState.OPENING
        self._thread = threading.Thread(target=self._run, name=f"camera-{self.name}", daemon=True)
        self._thread.start()

    def trigger(self, trigger_id: str, part_id: str | None = None) -> None:
        """Ask for the next frame; the answer carries ``trigger_id`` and ``part_id``.

        A trigger id that waits already is not asked twice. Raises CameraError where the camera
        free-runs, has ended or was stopped: nobody would answer.
        """
        if not self._triggered or not self._triggers.ask(trigger_id, part_id, self._timeout_s):
            state = self._state.value if self._triggered else "free-running"
            raise CameraError(f"camera {self.name}: takes no trigger, it is {state}")

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the camera; triggers that wait get a Fault. False where ``deliver`` still holds its
        thread after the time. Frames not yet delivered are gone: they were never accepted."""
        thread = self._thread
        if thread is None:
            return True
        self._stopping = True
        self._triggers.ring()
        thread.join(timeout_s)
        return not thread.is_alive()

    # All below runs in the camera's own thread.

    def _run(self) -> None:
        attempt = 0
        state = CameraState.FAILED
        try:
            while not self._stopping:
                started_s = time.monotonic()
                try:
                    self._serve()
                except EndOfStream as end:
                    self._refuse_pending(str(end))
                    self._deliver(Ended(self.name))
                    state = CameraState.ENDED
                    return
                except CameraError as error:
                    self._lose(error)
                    if time.monotonic() - started_s > self._backoff.most_s:
                        attempt = 0
                    self._pause(self._backoff.delay_s(attempt))
                    attempt += 1
            state = CameraState.STOPPED
        finally:
            # Also where deliver raised: then the thread's own report follows.
            self._state = state
            self._triggers.close()
            if state is not CameraState.FAILED:
                self._refuse_pending(f"camera {self.name}: is {state.value}")

    def _serve(self) -> None:
        """One process from its start to its end. Raises CameraError, EndOfStream."""
        start = 0 if self._live else self._items
        link = Link(
            replace(self._request, start=start),
            triggered=self._triggered,
            timeout_s=self._timeout_s,
        )
        kill = False
        self._link = link
        try:
            self._listen(link)
        except _Hung as error:
            kill = True
            raise CameraError(str(error)) from error
        finally:
            self._link = None
            link.close(kill=kill)

    def _listen(self, link: Link) -> None:
        poll = select.poll()
        for fd in (link.channel.fileno(), link.stderr_fd, self._triggers.fileno()):
            poll.register(fd, select.POLLIN)
        opened = False
        heard_s = time.monotonic()
        while not self._stopping:
            if not opened:
                limit_s = self._open_timeout_s
            elif self._triggered:
                limit_s = self._timeout_s + _SILENCE_S
            else:
                limit_s = self._timeout_s + (1.0 / self._request.fps if self._request.fps else 0.0)
            until_s = min(heard_s + limit_s, self._triggers.next_deadline_s())
            wait_s = max(0.0, until_s - time.monotonic())
            ready = {fd for fd, _ in poll.poll(wait_s * 1000.0 + 1.0)}
            if link.stderr_fd in ready and not link.drain_stderr():
                poll.unregister(link.stderr_fd)
            if self._triggers.fileno() in ready:
                for trigger in self._triggers.new():
                    link.trigger(trigger.trigger_id, trigger.monotonic_s)
            self._expire()
            if link.channel.fileno() in ready:
                message = link.receive()
                if message is None:
                    raise CameraError(f"camera {self.name}: its process {link.last_words()}")
                kind = self._take(link, message)
                opened = opened or kind == "open"
                if self._triggered or kind != "idle":
                    heard_s = time.monotonic()
            elif time.monotonic() - heard_s >= limit_s:
                what = "gave no frame" if opened else "was not open"
                raise _Hung(f"camera {self.name}: hangs, {what} within {limit_s:.1f} s")

    def _take(self, link: Link, message: Mapping[str, Any]) -> str:
        """Act on one message; its kind. Raises CameraError, EndOfStream."""
        kind: str = message["kind"]
        for _ in range(message["overruns"]):
            self._overruns += 1
            self._fault(Reason.OVERRUN, "dropped: the line is slower than the camera")
        if kind == "open":
            self._live = message["live"]
            self._state = CameraState.RUNNING
            if self._told_lost:
                self._reopened += 1
        elif kind in ("frame", "bad"):
            pixels = link.pixels(message) if kind == "frame" else None
            self._items += 1
            self._told_lost = False
            trigger = self._triggers.pop(message["trigger"])
            if self._triggered and trigger is None:
                return kind  # Too late: its trigger has had a Fault.
            self._item(message, pixels, trigger)
        elif kind == "end":
            raise EndOfStream(f"camera {self.name}: {message['detail']}")
        elif kind == "error":
            raise CameraError(f"camera {self.name}: {message['detail']}")
        return kind

    def _item(
        self,
        message: Mapping[str, Any],
        pixels: NDArray[np.uint8] | None,
        trigger: Trigger | None,
    ) -> None:
        die, image = message["die"], message["image"]
        if pixels is None:
            self._fault(Reason(message["reason"]), message["detail"], trigger, message)
            return
        if self._dies is not None and die not in self._dies:
            detail = f"die {die!r} is not in the bundle's die table ({', '.join(self._dies)})"
            subject = f"image {image}: " if image else ""
            self._fault(Reason.FRAME, subject + detail, trigger, message)
            return
        frame = Frame(
            pixels=pixels,
            camera=self.name,
            die=die,
            trigger_id=trigger.trigger_id if trigger else uuid.uuid4().hex,
            part_id=trigger.part_id if trigger and trigger.part_id else message["part_id"],
            sequence=self._frames,
            time=datetime.fromisoformat(message["time"]),
            monotonic_s=message["monotonic_s"],
            image=image,
        )
        self._frames += 1
        self._last_frame = frame.monotonic_s
        self._deliver(frame)

    def _fault(
        self,
        reason: Reason,
        detail: str,
        trigger: Trigger | None = None,
        message: Mapping[str, Any] | None = None,
    ) -> None:
        named = message or {}
        self._faults += 1
        self._deliver(
            Fault(
                camera=self.name,
                die=named.get("die") or self._die,
                trigger_id=trigger.trigger_id if trigger else uuid.uuid4().hex,
                part_id=trigger.part_id if trigger and trigger.part_id else named.get("part_id"),
                image=named.get("image"),
                detail=detail,
                reason=reason,
                time=datetime.now(timezone.utc),
            )
        )

    def _lose(self, error: CameraError) -> None:
        self._state = CameraState.LOST
        self._detail = str(error)
        if self._triggered:
            self._refuse_pending(self._detail)
        elif not self._told_lost:
            self._fault(Reason.CAMERA, self._detail)
        self._told_lost = True

    def _pause(self, delay_s: float) -> None:
        """Wait before reopening, refusing triggers meanwhile."""
        poll = select.poll()
        poll.register(self._triggers.fileno(), select.POLLIN)
        until_s = time.monotonic() + delay_s
        while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
            if poll.poll(left_s * 1000.0 + 1.0):
                self._refuse_pending(self._detail)
        if not self._stopping:
            self._state = CameraState.OPENING

    def _expire(self) -> None:
        for trigger in self._triggers.pop_expired():
            detail = f"no frame within {self._timeout_s:.1f} s of the trigger"
            self._fault(Reason.CAMERA, f"camera {self.name}: gave {detail}", trigger)

    def _refuse_pending(self, detail: str) -> None:
        for trigger in self._triggers.pop_all():
            self._fault(Reason.CAMERA, detail, trigger)
