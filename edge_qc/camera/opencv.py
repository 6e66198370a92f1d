"""Sources that OpenCV's VideoCapture reads: video files, V4L2, RTSP and GStreamer.

The backend is always named: left to choose, OpenCV ignores timeouts and falls back in silence.
``read()`` may hang for ever in a driver (opencv#22677, #24393), which is why these are opened in a
process that can be killed (``child``). Works with OpenCV 4.8 and later, and with 5.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.sources import BadImage, EndOfStream, Grab, SourceRequest
from edge_qc.errors import CameraError, SettingsError

_OPEN_TIMEOUT_MS = 10_000
_BACKLOG_S = 2.0
_OLDEST_S = 3600.0
"""A buffer's age beyond this means that the driver's clock is not the monotonic one."""


def _capture(request: SourceRequest, target: str, backend: int) -> cv2.VideoCapture:
    parameters: list[int] = []
    if backend == cv2.CAP_FFMPEG:
        parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS]
    try:
        capture = cv2.VideoCapture(target, backend, parameters)
    except cv2.error as error:
        raise CameraError(f"camera source {request.shown}: {error.err}") from error
    if not capture.isOpened():
        capture.release()
        raise CameraError(
            f"camera source {request.shown}: cannot be opened by OpenCV "
            f"{cv2.__version__} ({cv2.videoio_registry.getBackendName(backend)})"
        )
    return capture


def _pixels(raw: NDArray[np.generic], request: SourceRequest) -> NDArray[np.uint8]:
    if raw.ndim == 3 and raw.shape[2] == 1:
        raw = raw[:, :, 0]
    if raw.dtype != np.uint8 or raw.ndim not in (2, 3) or (raw.ndim == 3 and raw.shape[2] != 3):
        raise CameraError(
            f"camera source {request.shown}: gives {raw.dtype} {raw.shape}, wanted uint8 grey or "
            "BGR: choose another pixel format"
        )
    return np.ascontiguousarray(raw, np.uint8)


def _require_die(request: SourceRequest) -> None:
    if request.table is not None:
        raise SettingsError(
            f"camera source {request.shown}: a table names the images of a folder; give die instead"
        )
    if not request.die:
        raise SettingsError(f"camera source {request.shown}: give die, the die that it sees")


class VideoSource:
    """A recorded video, frame after frame, once or round and round with ``loop``."""

    live = False

    def __init__(self, request: SourceRequest) -> None:
        self._request = request
        self._file = request.path
        self._capture = _capture(request, str(self._file), cv2.CAP_FFMPEG)
        self._promised = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._read = 0
        self._told_short = False
        skip = request.start % self._promised if request.loop and self._promised else request.start
        for _ in range(skip):
            self._capture.grab()
            self._read += 1

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse a file that is not there."""
        _require_die(request)
        if not request.path.exists():
            raise SettingsError(
                f"camera source {request.shown}: there is no file or folder {request.path}. "
                "Correct the path"
            )

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next frame; ``timeout_s`` is of no account here."""
        ok, raw = self._capture.read()
        if not ok:
            # Header counts are estimates in some containers, a few percent is no cut.
            if self._read < 0.95 * self._promised and not self._told_short:
                self._told_short = True
                return BadImage(
                    f"video {self._file.name}: truncated or damaged after {self._read} of "
                    f"{self._promised} frames",
                    self._request.die,
                    None,
                    self._file.name,
                )
            if not self._request.loop or self._read == 0:
                raise EndOfStream(f"camera video {self._file}: all {self._read} frames read")
            self._capture.release()
            # Opened anew: seeking to frame 0 fails with some codecs.
            self._capture = _capture(self._request, str(self._file), cv2.CAP_FFMPEG)
            self._read = 0
            return self.read(timeout_s)
        self._read += 1
        return Grab(
            _pixels(raw, self._request),
            self._request.die or "",
            None,
            None,
            datetime.now(timezone.utc),
            time.monotonic(),
        )

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class _LiveSource:
    live = True

    def __init__(self, request: SourceRequest, capture: cv2.VideoCapture) -> None:
        self._request = request
        self._capture = capture

    def _taken_s(self) -> float:
        return time.monotonic()

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next frame. The driver's own timeout holds, not ``timeout_s``."""
        ok, raw = self._capture.read()
        if not ok:
            raise CameraError(f"camera source {self._request.shown}: stopped giving frames")
        taken_s = self._taken_s()
        age = timedelta(seconds=time.monotonic() - taken_s)
        return Grab(
            _pixels(raw, self._request),
            self._request.die or "",
            None,
            None,
            datetime.now(timezone.utc) - age,
            taken_s,
        )

    def close(self) -> None:
        """Give the device back."""
        self._capture.release()


class V4l2Source(_LiveSource):
    """A Linux camera by its device file; ``/dev/v4l/by-id/…`` names one whatever its socket."""

    def __init__(self, request: SourceRequest) -> None:
        device = request.path
        if not device.exists():
            seen = sorted(str(p) for p in (*Path("/dev/v4l/by-id").glob("*"),)) or sorted(
                str(p) for p in Path("/dev").glob("video*")
            )
            raise CameraError(
                f"camera source {request.shown}: there is no device {device}; seen "
                f"{', '.join(seen) or 'none'}. Plug it in, or correct the path"
            )
        if not os.access(device, os.R_OK | os.W_OK):
            raise CameraError(
                f"camera source {request.shown}: no permission for {device}. Add the station's "
                "user to the group 'video'"
            )
        # OpenCV's V4L2 wants the device file that a by-id link points at in some versions.
        super().__init__(request, _capture(request, str(device.resolve()), cv2.CAP_V4L2))
        options = parse_qs(urlsplit(request.uri).query)
        if "fourcc" in options:
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options["fourcc"][0]))
        for key, prop in (
            ("width", cv2.CAP_PROP_FRAME_WIDTH),
            ("height", cv2.CAP_PROP_FRAME_HEIGHT),
        ):
            if key in options:
                wanted = int(options[key][0])
                self._capture.set(prop, wanted)
                seen_value = int(self._capture.get(prop))
                if seen_value != wanted:
                    self._capture.release()
                    raise CameraError(
                        f"camera source {request.shown}: {key} {wanted} was refused, the camera "
                        f"gives {seen_value}"
                    )
        if request.fps is not None:
            self._capture.set(cv2.CAP_PROP_FPS, request.fps)

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse options that are not known or not numbers."""
        _require_die(request)
        _ = request.path
        for key, values in parse_qs(urlsplit(request.uri).query).items():
            value = values[0]
            right = {
                "width": value.isdigit(),
                "height": value.isdigit(),
                "fourcc": len(value) == 4,
            }.get(key, False)
            if not right:
                raise SettingsError(
                    f"camera source {request.shown}: option {key}={value}, wanted width=NUMBER, "
                    "height=NUMBER or fourcc=FOUR LETTERS"
                )

    def _taken_s(self) -> float:
        now = time.monotonic()
        buffer_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        return buffer_s if 0.0 <= now - buffer_s < _OLDEST_S else now


class RtspSource(_LiveSource):
    """A network camera, by FFmpeg. When it took a frame it does not say: the time is that of
    arrival."""

    def __init__(self, request: SourceRequest) -> None:
        super().__init__(request, _capture(request, request.uri, cv2.CAP_FFMPEG))
        self._pass_over_backlog()

    def _pass_over_backlog(self) -> None:
        """FFmpeg gathers half a second of frames to learn what they are, and then gives them all
        at once: leave them out, until a frame takes as long to come as it took to happen."""
        until_s = time.monotonic() + _BACKLOG_S
        last: tuple[float, float] | None = None
        while time.monotonic() < until_s and self._capture.grab():
            now = time.monotonic(), self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
            if last is not None and now[1] - last[1] < 2.0 * (now[0] - last[0]):
                break
            last = now

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse a URI without a host."""
        _require_die(request)
        address = urlsplit(request.uri)
        _ = address.port  # ValueError, where a password has cut the address.
        if not address.hostname:
            raise SettingsError(
                f"camera source {request.shown}: wanted rtsp://[user:password@]host[:port]/path"
            )


class GstSource(_LiveSource):
    """A GStreamer pipeline that ends in an appsink."""

    def __init__(self, request: SourceRequest) -> None:
        super().__init__(request, _capture(request, _pipeline(request), cv2.CAP_GSTREAMER))

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse where OpenCV has no GStreamer, and a pipeline that gives no frames."""
        _require_die(request)
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise SettingsError(
                f"camera source {request.shown}: OpenCV {cv2.__version__} at "
                f"{Path(cv2.__file__).parent} is built without GStreamer, as pip's is. Use apt's: "
                "apt install python3-opencv, a venv made with --system-site-packages, pip "
                "uninstall opencv-python-headless, numpy<2"
            )
        if "appsink" not in _pipeline(request):
            raise SettingsError(
                f"camera source {request.shown}: the pipeline has no appsink, so no frame leaves "
                "it. Append: ! appsink drop=true max-buffers=1 sync=false"
            )


def _pipeline(request: SourceRequest) -> str:
    return request.uri.partition(":")[2].strip()
