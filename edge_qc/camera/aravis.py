"""GigE Vision and USB3 Vision cameras, by Aravis: free-running, asked by software, or fired at an
input of their own.

Aravis and its bindings are Debian's (``python3-gi``, ``gir1.2-aravis-0.8``); pip has none. A
virtual environment without the system's packages finds them all the same, where its Python is of
the system's version: only ``gi`` is taken from there, nothing beside it.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timezone
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.sources import BadImage, Grab, SourceRequest
from edge_qc.errors import CameraError, SettingsError

_BUFFERS = 8
_DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")
_OPTIONS = {
    "exposure_us": float,
    "gain": float,
    "pixel_format": str,
    "width": int,
    "height": int,
    "x": int,
    "y": int,
}
# GenICam names a mosaic by its first row. So do these constants of OpenCV; its older, shorter ones
# name the second row, and would swap red and blue.
_TO_BGR = {
    "BayerGR8": cv2.COLOR_BayerGRBG2BGR,
    "BayerRG8": cv2.COLOR_BayerRGGB2BGR,
    "BayerGB8": cv2.COLOR_BayerGBRG2BGR,
    "BayerBG8": cv2.COLOR_BayerBGGR2BGR,
    "RGB8": cv2.COLOR_RGB2BGR,
    "RGB8Packed": cv2.COLOR_RGB2BGR,
}
_GREY, _BGR = ("Mono8",), ("BGR8", "BGR8Packed")
_FORMATS = (*_GREY, *_BGR, *_TO_BGR)


class AravisSource:
    """A camera by its id, as ``arv-tool-0.8`` lists it, or by its address."""

    live = True

    def __init__(self, request: SourceRequest) -> None:
        self._request = request
        self._owed = False
        self._lost = threading.Event()
        self._aravis = _aravis(request)
        name, options = _parts(request)
        try:
            self._camera = self._aravis.Camera.new(name)
            self._set_up(options)
            self._stream = self._camera.create_stream(None, None)
            if self._stream is None:
                raise CameraError(f"camera source {request.shown}: delivers no stream of pictures")
            payload = self._camera.get_payload()
            for _ in range(_BUFFERS):
                self._stream.push_buffer(self._aravis.Buffer.new_allocate(payload))
            self._camera.get_device().connect("control-lost", lambda _: self._lost.set())
            self._camera.start_acquisition()
        except self._glib_error as error:
            raise self._failed("cannot be opened", error) from error

    @property
    def _glib_error(self) -> Any:
        from gi.repository import GLib

        return GLib.Error

    def _failed(self, what: str, error: Any) -> CameraError:
        return CameraError(f"camera source {self._request.shown}: {what} ({error.message})")

    def _set_up(self, options: dict[str, Any]) -> None:
        """Send the options and the trigger to the camera. Raises GLib.Error, CameraError."""
        camera = self._camera
        wanted = options.get("pixel_format")
        if wanted is not None:
            camera.set_pixel_format_from_string(wanted)
        seen = camera.get_pixel_format_as_string()
        if seen not in _FORMATS:
            raise CameraError(
                f"camera source {self._request.shown}: has pixel format {seen}, wanted one of "
                f"{', '.join(_FORMATS)}: append ?pixel_format=Mono8"
            )
        self._format = seen
        if options.keys() & {"x", "y", "width", "height"}:
            region = camera.get_region()
            asked = tuple(
                options.get(key, getattr(region, key)) for key in ("x", "y", "width", "height")
            )
            camera.set_region(*asked)
            region = camera.get_region()
            got = region.x, region.y, region.width, region.height
            if got != asked:
                raise CameraError(
                    f"camera source {self._request.shown}: the camera refused x, y, width, height "
                    f"{asked} and uses {got}"
                )
        if "exposure_us" in options:
            camera.set_exposure_time(options["exposure_us"])
        if "gain" in options:
            camera.set_gain(options["gain"])
        if camera.is_gv_device():
            # A network that takes no large packets is no reason not to run.
            with suppress(self._glib_error):
                camera.gv_auto_packet_size()
        trigger = self._request.trigger
        if trigger is not None:
            known = camera.dup_available_trigger_sources()
            if trigger not in known:
                raise CameraError(
                    f"camera source {self._request.shown}: has no trigger {trigger!r}, it has "
                    f"{', '.join(known)}"
                )
            camera.set_trigger(trigger)
        else:
            camera.clear_triggers()
            if self._request.fps is not None and camera.is_frame_rate_available():
                camera.set_frame_rate(self._request.fps)
        camera.set_acquisition_mode(self._aravis.AcquisitionMode.CONTINUOUS)

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Refuse unknown options, and a missing Aravis."""
        if request.table is not None or not request.die:
            raise SettingsError(f"camera source {request.shown}: give die, the die that it sees")
        _parts(request)
        _aravis(request)

    def ask(self) -> None:
        """Forget pictures that wait, and take one now."""
        while (buffer := self._stream.try_pop_buffer()) is not None:
            self._stream.push_buffer(buffer)
        self._require_control()
        try:
            self._camera.software_trigger()
        except self._glib_error as error:
            raise self._failed("does not accept a software trigger", error) from error
        self._owed = True

    def _require_control(self) -> None:
        if self._lost.is_set():
            raise CameraError(
                f"camera source {self._request.shown}: control was lost: the camera went away, or "
                "another program took it"
            )

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next picture; None if none came, which without a trigger is no fault."""
        self._require_control()
        if timeout_s > 0:
            buffer = self._stream.timeout_pop_buffer(int(timeout_s * 1e6))
        else:
            buffer = self._stream.try_pop_buffer()
        if buffer is None:
            self._require_control()
            if self._owed and timeout_s > 0:
                # One that comes later would be taken for the next trigger's: open it again.
                raise CameraError(
                    f"camera source {self._request.shown}: delivered no picture within "
                    f"{timeout_s:.1f} s of the trigger"
                )
            return None
        self._owed = False
        try:
            return self._item(buffer)
        finally:
            self._stream.push_buffer(buffer)

    def _item(self, buffer: Any) -> Grab | BadImage:
        status = buffer.get_status()
        if status != self._aravis.BufferStatus.SUCCESS:
            return BadImage(
                f"camera source {self._request.shown}: incomplete picture ({status.value_nick}); "
                "check the network's load and packet size",
                self._request.die,
                None,
                None,
            )
        taken_s = buffer.get_system_timestamp() / 1e9 or time.time()
        age_s = max(0.0, time.time() - taken_s)
        return Grab(
            self._pixels(buffer),
            self._request.die or "",
            None,
            None,
            datetime.fromtimestamp(taken_s, timezone.utc),
            time.monotonic() - age_s,
        )

    def _pixels(self, buffer: Any) -> NDArray[np.uint8]:
        data = np.frombuffer(buffer.get_data(), np.uint8)
        return unpacked(data, self._format, buffer.get_image_height(), buffer.get_image_width())

    def close(self) -> None:
        """Give the camera back; of no effect on one that is gone."""
        if not self._lost.is_set():
            with suppress(self._glib_error):
                self._camera.stop_acquisition()


def unpacked(
    data: NDArray[np.uint8], pixel_format: str, height: int, width: int
) -> NDArray[np.uint8]:
    """The picture in a buffer, uint8, (H, W) grey or (H, W, 3) BGR. data: uint8 bytes, at least as
    many as the picture has. pixel_format: GenICam's name of one that the source takes."""
    channels = 3 if pixel_format.startswith(("RGB", "BGR")) else 1
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = data[: height * width * channels].reshape(shape)
    if pixel_format in _TO_BGR:
        return np.asarray(cv2.cvtColor(pixels, _TO_BGR[pixel_format]), np.uint8)
    return pixels


def _parts(request: SourceRequest) -> tuple[str, dict[str, Any]]:
    """The camera's id, and its options. Raises SettingsError."""
    split = urlsplit(request.uri)
    name = unquote(split.netloc)
    if not name or split.path not in ("", "/"):
        raise SettingsError(
            f"camera source {request.shown}: wanted aravis://ID, with the id or address that "
            "arv-tool-0.8 lists"
        )
    options: dict[str, Any] = {}
    for key, value in parse_qsl(split.query, keep_blank_values=True):
        try:
            options[key] = _OPTIONS[key](value)
        except (KeyError, ValueError):
            raise SettingsError(
                f"camera source {request.shown}: option {key}={value}, wanted "
                f"{', '.join(f'{name}={kind.__name__}' for name, kind in _OPTIONS.items())}"
            ) from None
    return name, options


def _aravis(request: SourceRequest) -> Any:
    """The bindings. Raises SettingsError that says what to install."""
    try:
        gi = _gi()
        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis
    except (ImportError, ValueError) as error:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SettingsError(
            f"camera source {request.shown}: Aravis cannot be loaded ({error}). Install it with: "
            "apt install python3-gi gir1.2-aravis-0.8; this environment must be of the system's "
            f"own Python (it is of {version}), as: /usr/bin/python3 -m venv --system-site-packages"
        ) from error
    return Aravis


def _gi() -> Any:
    """The package ``gi`` of this environment, else of Debian's folder. Raises ImportError."""
    try:
        import gi
    except ModuleNotFoundError:
        home = _DIST_PACKAGES / "gi"
        if not any((home / f"_gi{suffix}").exists() for suffix in EXTENSION_SUFFIXES):
            raise
        spec = importlib.util.spec_from_file_location(
            "gi", home / "__init__.py", submodule_search_locations=[str(home)]
        )
        if spec is None or spec.loader is None:
            raise
        gi = importlib.util.module_from_spec(spec)
        sys.modules["gi"] = gi
        try:
            spec.loader.exec_module(gi)
        except BaseException:
            del sys.modules["gi"]
            raise
    return gi
