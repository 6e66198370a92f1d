"""A camera of the station: one thread that keeps one source's process and hands on what it gives.

Every source is read in a process of its own, folders too: one mechanism, a quarter of a second to
start, and neither a driver that hangs nor a file that crashes a decoder reaches the station. A live
camera that the line cannot follow keeps the frames that it has accepted and counts those that it
must drop as overruns; a replay waits instead, and after a failure goes on if it was. ``child``
determines why a source failed.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_qc.camera.backoff import Backoff
from edge_qc.camera.delivery import Delivery
from edge_qc.camera.events import CameraState, CameraStats, Deliver, Ended
from edge_qc.camera.link import Link
from edge_qc.camera.sources import EndOfStream, check_source, request_of
from edge_qc.camera.triggers import Trigger, Triggers
from edge_qc.camera.watched import Memory, forget_attempt
from edge_qc.errors import CameraError
from edge_qc.parts import Reason

if TYPE_CHECKING:
    from edge_qc.settings import CameraTable

_OPEN_S = 15.0
_TURN_S = 5.0
_SILENCE_S = 1.0
"""Added to a triggered camera's timeout: its process says every half second that it lives."""

log = logging.getLogger(__name__)


class _Died(CameraError):
    """The process ended without a message."""


class Camera:
    """One camera by its settings. Free-run: every frame is delivered. Triggered by the station:
    each ``trigger`` is answered by one Frame or Fault within ``timeout_s``. Triggered at its own
    input: every frame is delivered. With either trigger, idle is health.

    turns: how often its thread went round. remembers: whether it never gives again what it has
    delivered. triggered: by the station, whatever the settings say. dies: those that can be judged;
    an image of any other is a Fault. memory: where a watched folder remembers what was delivered.
    ``deliver`` is called from the camera's own thread; while a call blocks, the camera waits, and
    an error that it raises ends the camera (state FAILED).
    """

    def __init__(
        self,
        settings: CameraTable,
        *,
        dies: Collection[str] | None = None,
        triggered: bool = False,
        memory: Path | None = None,
        open_timeout_s: float = _OPEN_S,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = settings.name
        self.turns, self.remembers = 0, settings.watch and memory is not None
        asked = triggered or settings.triggering.asked
        kept = memory if settings.watch else None
        self._request = replace(request_of(settings, asked), memory=kept)
        self._timeout_s, self._open_timeout_s = settings.timeout_s, open_timeout_s
        self._dies = None if dies is None else sorted(dies)
        self._triggered = asked
        self._idle_is_health = asked or settings.triggering.idle_is_health or settings.watch
        self._triggers = Triggers()
        self._backoff = backoff or Backoff()
        self._delivery = Delivery(self.name, settings.die, self._dies, lambda _: None)
        self._thread: threading.Thread | None = None
        self._link: Link | None = None
        self._asked: Trigger | None = None
        self._state, self._detail = CameraState.STOPPED, ""
        self._reopened = self._items = 0
        self._stopping = self._opened = self._live = self._told_lost = False
        self._served_s = 0.0

    @property
    def stats(self) -> CameraStats:
        """A snapshot; safe from any thread."""
        link, delivery = self._link, self._delivery
        return CameraStats(
            state=self._state,
            frames=delivery.frames,
            faults=delivery.faults,
            overruns=delivery.overruns,
            reopened=self._reopened,
            last_frame_monotonic=delivery.last_frame_s,
            detail=self._detail,
            pid=None if link is None else link.pid,
        )

    def start(self, deliver: Deliver) -> None:
        """Open the source and deliver its events until its end or ``stop``.

        Raises SettingsError for what can never work. A device that is merely missing is reported
        as a Fault, and tried again.
        """
        if self._thread is not None:
            raise CameraError(f"camera {self.name} was already started; create another")
        request = self._request
        with suppress(CameraError):  # It may pass: the thread reports it and tries again.
            check_source(request)
        memory = Memory(request.path, request.memory) if request.memory else None
        self._delivery = Delivery(self.name, request.die, self._dies, deliver, memory)
        if request.table is None:
            self._delivery.check_die()
        self._state = CameraState.OPENING
        self._thread = threading.Thread(
            target=self._run, args=(deliver,), name=f"camera-{self.name}", daemon=True
        )
        self._thread.start()

    def trigger(self, trigger_id: str, part_id: str | None = None) -> None:
        """Ask for the next frame; the answer carries ``trigger_id`` and ``part_id``.

        A trigger id that waits already is not asked twice. Raises CameraError if the camera
        free-runs, has ended or was stopped: nobody would answer.
        """
        if (
            not self._triggered
            or self._thread is None
            or not self._triggers.ask(trigger_id, part_id, self._timeout_s)
        ):
            state = self._state.value if self._triggered else "free-running"
            raise CameraError(f"camera {self.name}: cannot take a trigger, it is {state}")

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the camera; triggers that wait get a Fault. False if ``deliver`` still holds its
        thread after the time. Frames not yet delivered are gone: they were never accepted."""
        self._stopping = True
        if self._thread is None:
            self._triggers.close()
            return True
        self._triggers.ring()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # All below runs in the camera's own thread.

    def _run(self, deliver: Deliver) -> None:
        attempt, delay_s, state = 0, 0.0, CameraState.FAILED
        try:
            while not self._stopping:
                try:
                    self._serve()
                except EndOfStream as end:
                    self._refuse_triggers(str(end))
                    deliver(Ended(self.name))
                    state = CameraState.ENDED
                    return
                except CameraError as error:
                    self._lose(error)
                    if self._served_s > delay_s:
                        attempt = 0
                    delay_s = self._backoff.delay_s(attempt)
                    attempt += 1
                    self._pause(delay_s)
            state = CameraState.STOPPED
        finally:
            # Also where deliver raised: then the thread's own report follows.
            self._state = state
            self._triggers.close()
            if state is not CameraState.FAILED:
                self._refuse_triggers(f"camera {self.name}: is {state.value}")

    def _serve(self) -> None:
        """One process from its start to its end. Raises CameraError, EndOfStream."""
        self._opened, self._served_s, self._asked = False, 0.0, None
        link = Link(
            replace(self._request, start=0 if self._live else self._items),
            triggered=self._triggered,
            timeout_s=self._timeout_s,
        )
        self._link = link
        try:
            self._listen(link)
        finally:
            self._link = None
            link.close()
            if self._stopping:
                forget_attempt(self._request)

    def _listen(self, link: Link) -> None:
        poll = select.poll()
        for fd in (link.channel.fileno(), link.stderr_fd, self._triggers.fileno()):
            poll.register(fd, select.POLLIN)
        opened_s, heard_s = 0.0, time.monotonic()
        while not self._stopping:
            self.turns += 1
            self._ask(link)
            limit_s = self._open_timeout_s if not self._opened else self._patience_s()
            until_s = min(
                heard_s + limit_s, self._triggers.next_deadline_s(), time.monotonic() + _TURN_S
            )
            ready = {fd for fd, _ in poll.poll(max(0.0, until_s - time.monotonic()) * 1e3 + 1.0)}
            if link.stderr_fd in ready and not link.drain_stderr():
                poll.unregister(link.stderr_fd)
            if link.channel.fileno() in ready:
                message = link.receive()
                if message is None:
                    how = f"its process {link.ending()}{link.last_lines()}"
                    raise _Died(f"camera {self.name}: {how}")
                self._take(link, message)
                if message["kind"] == "open":
                    opened_s = time.monotonic()
                elif message["kind"] in ("frame", "bad"):
                    self._served_s = time.monotonic() - opened_s
                if self._idle_is_health or message["kind"] != "idle":
                    heard_s = time.monotonic()
            elif time.monotonic() - heard_s >= limit_s:
                what = "gave no frame" if self._opened else "was not open"
                raise CameraError(f"camera {self.name}: hangs, {what} within {limit_s:.1f} s")
            for trigger in self._triggers.pop_expired():
                what = f"gave no frame within {self._timeout_s:.1f} s of the trigger"
                self._delivery.fault(Reason.CAMERA, f"camera {self.name}: {what}", trigger)

    def _ask(self, link: Link) -> None:
        """Pass the oldest trigger on, one at a time: the process takes them up in order anyway."""
        self._triggers.take_in()
        trigger = self._triggers.oldest()
        if trigger is not None and trigger is not self._asked:
            self._asked = trigger
            link.trigger(trigger)

    def _patience_s(self) -> float:
        """How long an open source may stay silent."""
        if self._idle_is_health:
            return self._timeout_s + _SILENCE_S
        return self._timeout_s + (1.0 / self._request.fps if self._request.fps else 0.0)

    def _take(self, link: Link, message: Mapping[str, Any]) -> None:
        """Act on one message. Raises CameraError, EndOfStream."""
        kind = message["kind"]
        for _ in range(message["overruns"]):
            self._delivery.overrun()
        if kind == "open":
            self._opened = True
            self._live = message["live"]
            self._state = CameraState.RUNNING
            if self._told_lost:
                self._reopened += 1
                log.info("camera %s: open again", self.name)
        elif kind in ("frame", "bad"):
            pixels = link.pixels(message) if kind == "frame" else None
            self._items += 1
            self._told_lost = False
            trigger = self._triggers.pop(message["trigger"])
            # Without its trigger it comes too late: that has had its Fault.
            if trigger is not None or not self._triggered:
                self._delivery.item(message, pixels, trigger)
        elif kind == "end":
            raise EndOfStream(f"camera {self.name}: {message['detail']}")
        elif kind == "error":
            raise CameraError(f"camera {self.name}: {message['detail']}{link.last_lines()}")

    def _lose(self, error: CameraError) -> None:
        self._state = CameraState.LOST
        self._detail = str(error)
        first, self._told_lost = not self._told_lost, True
        # A live camera gives other pictures, and a watched folder counts its own crashes.
        others = self._live or self._request.watch
        stuck = not first and self._opened and isinstance(error, _Died) and not others
        if first:
            log.warning("%s", self._detail)
        if self._triggered:
            self._refuse_triggers(self._detail)
        elif first:
            self._delivery.fault(Reason.CAMERA, self._detail)
        elif stuck:
            what = f"item {self._items + 1} of {self._request.shown} crashed its reader twice"
            self._delivery.fault(Reason.FRAME, f"camera {self.name}: {what}; it is left out")
        if stuck:
            # A file that crashes its decoder would do so forever.
            self._items += 1

    def _pause(self, delay_s: float) -> None:
        """Wait before reopening, refusing triggers meanwhile."""
        poll = select.poll()
        poll.register(self._triggers.fileno(), select.POLLIN)
        until_s = time.monotonic() + delay_s
        while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
            self.turns += 1
            if poll.poll(left_s * 1e3 + 1.0):
                self._refuse_triggers(self._detail)

    def _refuse_triggers(self, detail: str) -> None:
        for trigger in self._triggers.pop_all():
            self._delivery.fault(Reason.CAMERA, detail, trigger)
