"""The station's end of one camera process: starts it, talks to it, kills it.

A link lives as long as its process; ``reader`` decides when to open one.
"""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edge_qc
from edge_qc.camera.ring import Ring
from edge_qc.camera.sources import SourceRequest, source_class
from edge_qc.camera.triggers import Trigger
from edge_qc.errors import CameraError
from edge_qc.redaction import redacted

_MESSAGE_BYTES = 65_536
_STDERR_BYTES = 4096
_FAREWELL_S = 0.5
_PROCESS = {
    # glibc gives memory of a picture's size back at once, and takes it page by page for the next
    # picture: half of the time that reading an uncompressed one takes.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
    # A second thread for one picture costs the line more than it gives the camera.
    "OPENCV_FOR_THREADS_NUM": "1",
}
"""Environment of a camera's process, where the station's does not say otherwise."""


class Link:
    """A camera process and the socket to it. Raises CameraError if none can be started."""

    def __init__(self, request: SourceRequest, *, triggered: bool, timeout_s: float) -> None:
        name = source_class(request)
        self._ring: Ring | None = None
        self._uri = request.uri
        self._stderr = bytearray()
        environment = _PROCESS | dict(os.environ)
        # Where this package was found, however: a checkout's working folder is on no path.
        home = str(Path(edge_qc.__file__).parents[1])
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{home}{os.pathsep}{inherited}" if inherited else home
        try:
            with ExitStack() as ours, ExitStack() as theirs:
                self.channel, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ours.enter_context(self.channel)
                theirs.enter_context(end)
                free, self._freed = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                ours.callback(os.close, self._freed)
                theirs.callback(os.close, free)
                # Its own session: a Ctrl-C in the terminal is for the station to answer.
                self._process = subprocess.Popen(
                    [
                        sys.executable, "-m", "edge_qc.camera.child",
                        str(end.fileno()), str(free),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[end.fileno(), free],
                    env=environment,
                    start_new_session=True,
                )  # fmt: skip
                self._ours = ours.pop_all()
        except OSError as error:
            raise CameraError(f"camera process: cannot be started ({error})") from error
        assert self._process.stderr is not None
        self.stderr_fd = self._process.stderr.fileno()
        os.set_blocking(self.stderr_fd, False)
        source = asdict(request)
        for key in ("table", "memory"):
            source[key] = source[key] and str(source[key])
        self._send(
            {"class": name, "source": source, "triggered": triggered, "timeout_s": timeout_s}
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def _send(self, message: Mapping[str, Any]) -> None:
        # Never waits, and never has to: one trigger at a time is less than any socket holds. Where
        # the process is gone, the end of its own messages says so.
        with suppress(OSError):
            self.channel.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)

    def trigger(self, trigger: Trigger) -> None:
        """Ask for one frame taken after the trigger; only when the one before is answered."""
        self._send({"trigger": trigger.trigger_id, "monotonic_s": trigger.monotonic_s})

    def receive(self) -> dict[str, Any] | None:
        """The next message, None if the process is gone; waits for it."""
        try:
            try:
                received = self.channel.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4))
            except ConnectionResetError:
                # Raised once if the process ended without reading all of our messages; what it had
                # sent before is still there.
                received = self.channel.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4))
        except OSError:
            return None
        data, ancillary, _, _ = received
        if not data:
            return None
        message: dict[str, Any] = json.loads(data)
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                if self._ring is not None:
                    self._ring.close()
                self._ring = Ring(array.array("i", raw)[0], message["slot_bytes"])
        return message

    def pixels(self, message: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The pixels of a message of kind ``frame``, ours to keep; its slot is free again."""
        if self._ring is None:
            raise CameraError("camera process gave a frame before its memory")
        pixels = self._ring.take(message["slot"], tuple(message["shape"]))
        with suppress(OSError):  # the process is gone: the end of its messages says so
            os.write(self._freed, bytes([message["slot"]]))
        return pixels

    def drain_stderr(self) -> bool:
        """Take what the process wrote on standard error, so that it never waits for us. False at
        its end."""
        try:
            data = os.read(self.stderr_fd, 65_536)
        except BlockingIOError:
            return True
        self._stderr += data
        if len(self._stderr) > _STDERR_BYTES:
            del self._stderr[:-_STDERR_BYTES]
            # Half a line may hold half a secret, which nobody could recognise.
            del self._stderr[: self._stderr.find(b"\n") + 1 or None]
        return bool(data)

    def ending(self) -> str:
        """How the process ended; for one that is gone."""
        try:
            status = self._process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            return "closed its socket and lives on"
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"

    def last_lines(self) -> str:
        """`` (…)`` with the last lines that the process, FFmpeg or GStreamer wrote on standard
        error; empty if there are none."""
        self.drain_stderr()
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        return f" ({redacted(' | '.join(lines[-3:]), self._uri)[:600]})" if lines else ""

    def close(self) -> None:
        """End the process: by closing the socket, and by SIGKILL where that is not enough."""
        self._ours.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_FAREWELL_S)
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        if self._ring is not None:
            self._ring.close()
            self._ring = None
