"""Films and network cameras as sources; FFmpeg decodes them, see ``decoding``."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import av

from edge_qc.camera.access import require_readable
from edge_qc.camera.decoding import Decoding, Picture, said_by
from edge_qc.camera.sources import BadImage, EndOfStream, Grab, SourceRequest, require_die
from edge_qc.errors import CameraError, SettingsError

_BACKLOG_S = 2.0
_NETWORK = {"rtsp_transport": "tcp", "reorder_queue_size": "2"}
"""A server short of bandwidth leaves packets out over TCP too. FFmpeg looks at their numbers
only where it may reorder them."""


class VideoSource:
    """A recorded video, frame after frame, once or round and round with ``loop``."""

    live = False

    def __init__(self, request: SourceRequest) -> None:
        self._request = request
        self._file = request.path
        self._stream = Decoding(request, str(self._file), {})
        self._promised = self._stream.promised
        self._read = 0
        self._told_short = False
        skip = request.start % self._promised if request.loop and self._promised else request.start
        for _ in range(skip):
            self._next()

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse a file that is not there, or that this user may not read."""
        require_die(request)
        require_readable(request.path, request.shown)
        if not request.path.exists():
            raise SettingsError(
                f"camera source {request.shown}: there is no file or folder {request.path}. "
                "Correct the path"
            )

    def _next(self) -> Picture | None:
        try:
            picture = self._stream.next()
        except av.error.FFmpegError:
            return None
        self._read += picture is not None
        return picture

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next frame; ``timeout_s`` is of no account here."""
        picture = self._next()
        if picture is None:
            # Header counts are estimates in some containers, a few percent is no cut.
            if self._read < 0.95 * self._promised and not self._told_short:
                self._told_short = True
                return self._bad(f"truncated or damaged after {self._read} of {self._promised}")
            if not self._request.loop or self._read == 0:
                raise EndOfStream(f"camera video {self._file}: all {self._read} frames read")
            self._stream.close()
            self._stream = Decoding(self._request, str(self._file), {})
            self._read = 0
            return self.read(timeout_s)
        if picture.pixels is None:
            return self._bad(f"frame {self._read} is {picture.why}")
        return Grab(
            picture.pixels,
            self._request.die or "",
            None,
            None,
            datetime.now(timezone.utc),
            time.monotonic(),
        )

    def _bad(self, what: str) -> BadImage:
        return BadImage(
            f"video {self._file.name}: {what}", self._request.die, None, self._file.name
        )

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


class RtspSource:
    """A network camera over TCP. It does not say when it exposed a frame: that is the time of
    arrival, less the latency that the settings state."""

    live = True

    def __init__(self, request: SourceRequest) -> None:
        self._request = request
        self._stream = Decoding(request, request.uri, _NETWORK)
        self._pass_over_backlog()

    def _pass_over_backlog(self) -> None:
        """FFmpeg gathers half a second of frames to learn what they are, and then gives them all
        at once: leave them out, until a frame takes as long to come as it took to happen."""
        until_s = time.monotonic() + _BACKLOG_S
        last: Picture | None = None
        while time.monotonic() < until_s:
            picture = self._next()
            if picture.pixels is None:
                continue
            if last is not None and (
                picture.time_s - last.time_s < 2.0 * (picture.arrived_s - last.arrived_s)
            ):
                break
            last = picture

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse a URI without a host."""
        require_die(request)
        address = urlsplit(request.uri)
        _ = address.port  # ValueError, where a password has cut the address.
        if not address.hostname:
            raise SettingsError(
                f"camera source {request.shown}: wanted rtsp://[user:password@]host[:port]/path"
            )

    def _next(self) -> Picture:
        try:
            picture, why = self._stream.next(), self._stream.ending
        except (av.error.FFmpegError, OSError) as error:
            picture, why = None, said_by(error)
        if picture is None:
            raise CameraError(
                f"camera source {self._request.shown}: stopped giving frames ({why or 'its end'})"
            )
        return picture

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next frame. FFmpeg's own timeout holds, not ``timeout_s``."""
        picture = self._next()
        taken_s = picture.arrived_s - (self._request.latency_s or 0.0)
        if picture.pixels is None:
            return BadImage(f"frame is {picture.why}", self._request.die, None, None, taken_s)
        age = timedelta(seconds=time.monotonic() - taken_s)
        return Grab(
            picture.pixels,
            self._request.die or "",
            None,
            None,
            datetime.now(timezone.utc) - age,
            taken_s,
        )

    def close(self) -> None:
        """End the connection."""
        self._stream.close()
