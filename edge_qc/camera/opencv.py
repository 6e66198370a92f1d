"""Sources that OpenCV's VideoCapture reads: V4L2 and GStreamer. Films and network cameras are
``ffmpeg``'s.

The backend is always named: left to choose, OpenCV ignores timeouts and falls back in silence.
``read()`` may hang forever in a driver (opencv#22677, #24393), which is why these are opened in a
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

from edge_qc.camera.images import JpegError, pixels_from_jpeg
from edge_qc.camera.sources import SOFTWARE, BadImage, Grab, SourceRequest, require_die
from edge_qc.errors import CameraError, SettingsError

_OLDEST_S = 3600.0
"""A buffer's age beyond this means that the driver's clock is not the monotonic one."""


def _capture(request: SourceRequest, target: str, backend: int) -> cv2.VideoCapture:
    try:
        capture = cv2.VideoCapture(target, backend)
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
    if raw.dtype == np.uint8 and raw.ndim == 2 and 1 in raw.shape:
        # A driver's JPEG as it came, see V4l2Source.
        return pixels_from_jpeg(raw.tobytes())
    if raw.ndim == 3 and raw.shape[2] == 1:
        raw = raw[:, :, 0]
    if raw.dtype != np.uint8 or raw.ndim not in (2, 3) or (raw.ndim == 3 and raw.shape[2] != 3):
        raise CameraError(
            f"camera source {request.shown}: gives {raw.dtype} {raw.shape}, wanted uint8 grey or "
            "BGR: choose another pixel format"
        )
    return np.ascontiguousarray(raw, np.uint8)


class _LiveSource:
    live = True

    def __init__(self, request: SourceRequest, capture: cv2.VideoCapture) -> None:
        self._request = request
        self._capture = capture

    def _taken_s(self) -> float:
        return time.monotonic() - (self._request.latency_s or 0.0)

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next frame. The driver's own timeout holds, not ``timeout_s``."""
        ok, raw = self._capture.read()
        if not ok:
            raise CameraError(f"camera source {self._request.shown}: stopped giving frames")
        taken_s = self._taken_s()
        try:
            pixels = _pixels(raw, self._request)
        except JpegError as error:
            return BadImage(f"frame is damaged ({error})", self._request.die, None, None, taken_s)
        age = timedelta(seconds=time.monotonic() - taken_s)
        return Grab(
            pixels,
            self._request.die or "",
            None,
            None,
            datetime.now(timezone.utc) - age,
            taken_s,
        )

    def close(self) -> None:
        """Give the device back."""
        self._capture.release()


def _code(fourcc: str) -> int:
    return cv2.VideoWriter.fourcc(*fourcc)


def _shown(key: str, value: int) -> str:
    if key != "fourcc":
        return str(value)
    return value.to_bytes(4, "little", signed=False).decode("latin-1") if value > 0 else "another"


class V4l2Source(_LiveSource):
    """A Linux camera by its device file; ``/dev/v4l/by-id/…`` names one whatever its socket."""

    def __init__(self, request: SourceRequest) -> None:
        device = request.path
        if not os.path.exists(device):
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
        try:
            self._set_up(parse_qs(urlsplit(request.uri).query))
        except CameraError:
            self._capture.release()
            raise
        if request.fps is not None:
            self._capture.set(cv2.CAP_PROP_FPS, request.fps)

    def _set_up(self, options: dict[str, list[str]]) -> None:
        """Send the options, all before any is read back: OpenCV applies a size once both of its
        sides were set. Raises CameraError for one that the camera refuses."""
        asked: list[tuple[str, int, int]] = []
        if "fourcc" in options:
            asked.append(("fourcc", cv2.CAP_PROP_FOURCC, _code(options["fourcc"][0])))
        for key, prop in (
            ("width", cv2.CAP_PROP_FRAME_WIDTH),
            ("height", cv2.CAP_PROP_FRAME_HEIGHT),
        ):
            if key in options:
                asked.append((key, prop, int(options[key][0])))
        for _, prop, value in asked:
            self._capture.set(prop, value)
        got = {key: int(self._capture.get(prop)) for key, prop, _ in asked}
        refused = [
            f"{key} {_shown(key, value)} was refused, the camera gives {_shown(key, got[key])}"
            for key, _, value in asked
            if got[key] != value
        ]
        if refused:
            raise CameraError(
                f"camera source {self._request.shown}: {'; '.join(refused)}. v4l2-ctl "
                "--list-formats-ext lists what it can give"
            )
        if int(self._capture.get(cv2.CAP_PROP_FOURCC)) in (_code("MJPG"), _code("JPEG")):
            # OpenCV would decode a damaged JPEG without an error: taken as it comes.
            self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse options that are not known or not numbers."""
        require_die(request)
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
        if buffer_s > 0.0 and 0.0 <= now - buffer_s < _OLDEST_S:
            return buffer_s
        if self._request.trigger == SOFTWARE and self._request.latency_s is None:
            raise CameraError(
                f"camera source {self._request.shown}: is asked by a trigger, but its driver does "
                "not tell when it took a frame. State latency_ms, the longest time from exposure "
                "to arrival"
            )
        return super()._taken_s()


class GstSource(_LiveSource):
    """A GStreamer pipeline that ends in an appsink."""

    def __init__(self, request: SourceRequest) -> None:
        super().__init__(request, _capture(request, _pipeline(request), cv2.CAP_GSTREAMER))

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse where OpenCV has no GStreamer, and a pipeline that gives no frames."""
        require_die(request)
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
