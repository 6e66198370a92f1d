"""The process that reads one source: ``python -m edge_qc.camera.child``, started by ``link``.

The process can be killed without loss when a driver hangs forever or crashes. Messages are JSON
over the socket whose descriptor is the first argument (the request, with its password, comes over
it too, out of sight of ``ps``); pixels go through ``ring``, and the second argument is the pipe of
its free slots. When the socket ends, so does the process, hung or not. Its imports are kept light,
because every reopening waits for them.
"""

from __future__ import annotations

import array
import dataclasses
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.checks import RepeatCheck, nothing_to_judge
from edge_qc.camera.ring import FreeSlots, Ring
from edge_qc.camera.sources import (
    AskedSource,
    BadImage,
    EndOfStream,
    Grab,
    Source,
    SourceRequest,
    open_named,
)
from edge_qc.errors import CameraError, EdgeQCError
from edge_qc.redaction import redacted

MESSAGE_BYTES = 65_536
_HEARTBEAT_S = 0.5
_REPEATS = 3
"""Repeated frames on end after which a camera is taken for frozen and reopened."""


class _Child:
    def __init__(self, channel: socket.socket, uri: str, free: FreeSlots) -> None:
        self._channel = channel
        self._uri = uri
        self._free = free
        self._triggers: queue.Queue[tuple[str, float]] = queue.Queue()
        self._ring: Ring | None = None
        self._overruns = 0
        self._closing = threading.Event()

    def send(self, kind: str, *, fd: int | None = None, wait: bool = True, **fields: Any) -> None:
        """One message to the station; overruns since the last one ride along. Where it may not
        wait and the station has too much unread, it is itself an overrun. A ``detail`` may quote a
        driver: it leaves without the source's secrets."""
        if "detail" in fields:
            fields["detail"] = redacted(fields["detail"], self._uri)
        data = json.dumps({"kind": kind, "overruns": self._overruns, **fields}).encode()
        ancillary = (
            []
            if fd is None
            else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())]
        )
        try:
            self._channel.sendmsg([data], ancillary, 0 if wait else socket.MSG_DONTWAIT)
            self._overruns = 0
        except BlockingIOError:
            self._overruns += 1

    def listen(self) -> None:
        """Take messages from the station until it closes the socket or dies."""
        try:
            while data := self._channel.recv(MESSAGE_BYTES):
                message = json.loads(data)
                self._triggers.put((message["trigger"], message["monotonic_s"]))
        except OSError:
            pass
        self._closing.set()
        time.sleep(0.3)  # A driver that works closes in this time; one that hangs never would.
        os._exit(0)

    def run(self, source: Source, triggered: bool, fps: float | None, timeout_s: float) -> None:
        """Read the source until its end or the station's word. Raises EdgeQCError."""
        repeats = RepeatCheck()
        period_s = 0.0 if fps is None else 1.0 / fps
        due_s: float | None = None
        while not self._closing.is_set():
            trigger = None
            if triggered:
                trigger = self._next_trigger(source)
                if trigger is None:
                    continue
                if isinstance(source, AskedSource):
                    source.ask()
            item = source.read(timeout_s)
            if trigger is not None and item is not None and source.live:
                item = self._fresh(source, item, trigger[1], timeout_s)
            if item is None:
                self.send("idle")
                continue
            if period_s and not triggered:
                now_s = time.monotonic()
                if due_s is None:
                    # The first picture's: reading it may load a decoder, which is no pace.
                    due_s = now_s
                if source.live and now_s < due_s - 0.1 * period_s:
                    continue
                if now_s < due_s:
                    self._closing.wait(due_s - now_s)
                    if isinstance(item, Grab) and not source.live:
                        # Played at its pace, a picture is taken when its turn comes.
                        item = dataclasses.replace(
                            item, time=datetime.now(timezone.utc), monotonic_s=time.monotonic()
                        )
                due_s = max(due_s + period_s, now_s)
            self._pass_on(item, source.live, timeout_s, repeats, trigger[0] if trigger else None)

    def _next_trigger(self, source: Source) -> tuple[str, float] | None:
        """The next trigger. A live camera is read on while none comes, so that its buffers hold
        nothing old when one does; one that is asked is looked after, since it may be lost."""
        asked = isinstance(source, AskedSource)
        beat_s = time.monotonic() + _HEARTBEAT_S
        while time.monotonic() < beat_s and not self._closing.is_set():
            try:
                if asked or not source.live:
                    return self._triggers.get(timeout=_HEARTBEAT_S)
                return self._triggers.get_nowait()
            except queue.Empty:
                if source.live:
                    source.read(0.0 if asked else _HEARTBEAT_S)
        self.send("idle")
        return None

    def _fresh(
        self, source: Source, item: Grab | BadImage, after_s: float, timeout_s: float
    ) -> Grab | BadImage | None:
        """The first item that was taken after the trigger: buffers may hold others."""
        until_s = time.monotonic() + timeout_s
        fresh: Grab | BadImage | None = item
        while fresh and fresh.monotonic_s is not None and fresh.monotonic_s < after_s:
            if time.monotonic() > until_s:
                raise CameraError(
                    f"stale: delivers only frames {after_s - fresh.monotonic_s:.1f} s older than "
                    "the trigger"
                )
            fresh = source.read(timeout_s)
        return fresh

    def _pass_on(
        self,
        item: Grab | BadImage,
        live: bool,
        stale_s: float,
        repeats: RepeatCheck,
        trigger: str | None,
    ) -> None:
        named: dict[str, Any] = {
            "die": item.die,
            "part_id": item.part_id,
            "image": item.image,
            "trigger": trigger,
            "token": item.token,
        }
        wait = not live or trigger is not None
        wrong = self._fault(item, live, stale_s, repeats)
        if wrong is not None:
            self.send("bad", wait=wait, reason=wrong[0], detail=wrong[1], **named)
            return
        assert isinstance(item, Grab)
        slot = self._slot(item.pixels, wait)
        if slot is None:
            self._overruns += 1
            return
        assert self._ring is not None
        self._ring.put(slot, item.pixels)
        self.send(
            "frame",
            slot=slot,
            shape=item.pixels.shape,
            time=item.time.isoformat(),
            monotonic_s=item.monotonic_s,
            **named,
        )

    def _fault(
        self, item: Grab | BadImage, live: bool, stale_s: float, repeats: RepeatCheck
    ) -> tuple[str, str] | None:
        """Why an item cannot be judged: reason and detail; None if it can. Raises CameraError if
        the camera is frozen."""
        if isinstance(item, BadImage):
            return "frame", item.detail
        if detail := nothing_to_judge(item.pixels, item.image):
            return "frame", detail
        if not live:
            return None
        age_s = time.monotonic() - item.monotonic_s
        if age_s > stale_s:
            detail = f"stale: {age_s:.1f} s old when it came, at most {stale_s:.1f} s is fresh"
            return "frame", detail
        if repeats.repeated(item.pixels):
            if repeats.run >= _REPEATS:
                raise CameraError(
                    f"frozen: delivered the same frame {repeats.run + 1} times in a row"
                )
            return "camera", "repeated: every pixel as in the frame before"
        return None

    def _slot(self, pixels: NDArray[np.uint8], wait: bool) -> int | None:
        """A free slot that is large enough; None if there is none and nobody may wait."""
        if self._ring is None or pixels.size > self._ring.slot_bytes:
            if self._ring is not None:
                # The station copies a frame before it frees its slot: when all are free, the old
                # memory is done with.
                self._free.await_all()
                self._ring.close()
            self._ring = Ring.for_frames_of(pixels.size)
            self.send("ring", fd=self._ring.fd, slot_bytes=self._ring.slot_bytes)
            self._free.fill()
        return self._free.take(wait)


def main() -> None:
    """Read the request from the socket, open the source, and serve it to the end."""
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # The station decides when: it still reads our frames.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    request = json.loads(channel.recv(MESSAGE_BYTES))
    fields = request["source"]
    child = _Child(channel, fields["uri"], FreeSlots(int(sys.argv[2])))
    threading.Thread(target=child.listen, daemon=True).start()
    paths = {key: Path(fields[key]) if fields[key] else None for key in ("table", "memory")}
    source: Source | None = None
    try:
        source = open_named(request["class"], SourceRequest(**(fields | paths)))
        child.send("open", live=source.live)
        child.run(source, request["triggered"], fields["fps"], request["timeout_s"])
    except EndOfStream as end:
        child.send("end", detail=str(end))
    except EdgeQCError as error:
        child.send("error", detail=str(error))
    except BrokenPipeError:
        pass
    finally:
        # Behind the reason: a driver that is broken may hang here too.
        if source is not None:
            source.close()


if __name__ == "__main__":
    main()
