"""Sources of frames by URI, and the types that they give.

    file:///folder                 images in order of name; a table may name each one's die and part
    file:///video.mp4              a recorded video
    v4l2:///dev/video0             a Linux camera (?width=…&height=…&fourcc=…)
    rtsp://user:password@host/…    a network camera (also rtsps)
    gst:<pipeline> ! appsink       GStreamer, with apt's OpenCV
    aravis://Basler-21714655       a GigE Vision or USB3 Vision camera by its id, with apt's Aravis

``SCHEMES`` is the table of them as ``module:class``; each is imported when it is opened. A class
takes a ``SourceRequest``, and its static ``check`` refuses, without opening anything, what can
never work. ``reader`` decides which process reads a source.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import parse_qs, unquote

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import CameraError, EdgeQCError, SettingsError
from edge_qc.redaction import redacted, redacted_uri

if TYPE_CHECKING:
    from edge_qc.settings import CameraTable


class EndOfStream(CameraError):
    """A folder or video came to its end: not a failure, and nothing to reopen."""


@dataclass(frozen=True, slots=True, eq=False)
class Grab:
    """One photograph as a source gives it: uint8 pixels, (H, W) grey or (H, W, 3) BGR.

    time (UTC) and monotonic_s: when it was taken, as near as the source knows. image: the file's
    name if there is one.
    """

    pixels: NDArray[np.uint8]
    die: str
    part_id: str | None
    image: str | None
    time: datetime
    monotonic_s: float
    token: str | None = None


@dataclass(frozen=True, slots=True)
class BadImage:
    """A source's item that cannot be judged; the source goes on after it. monotonic_s: when it was
    taken, where the source knows."""

    detail: str
    die: str | None
    part_id: str | None
    image: str | None
    monotonic_s: float | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What a source is opened with. uri: with its secrets; people see ``shown``. start: items to
    leave out, those seen before a reopening. trigger: ``Software`` where the station asks for each
    picture, the name of the camera's own input where that does; None if it runs freely. A source
    that cannot be asked is read on. latency_s: how much later than its exposure a frame may come,
    of a source that does not tell when that was; None if nobody has said. watch: a folder is
    watched for new images; memory: the file that remembers which of them were delivered."""

    uri: str = field(repr=False)
    die: str | None = None
    table: Path | None = None
    loop: bool = False
    fps: float | None = None
    start: int = 0
    trigger: str | None = None
    latency_s: float | None = None
    watch: bool = False
    memory: Path | None = None

    @property
    def shown(self) -> str:
        """The URI for people: without its secrets."""
        return redacted_uri(self.uri)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Width and height that the URI asks a device for; None if it leaves them open."""
        scheme, _, rest = self.uri.partition(":")
        if scheme.lower() not in ("v4l2", "aravis"):
            return None
        options = parse_qs(rest.partition("?")[2])
        sides = [options.get(side, [""])[0] for side in ("width", "height")]
        return (int(sides[0]), int(sides[1])) if all(map(str.isdigit, sides)) else None

    @property
    def path(self) -> Path:
        """The path of a ``file://`` or ``v4l2://`` URI. Raises SettingsError."""
        scheme, _, rest = self.uri.partition(":")
        # A file's name may hold a question mark; only a device takes options.
        path = unquote(rest if scheme.lower() == "file" else rest.partition("?")[0])
        if not path.startswith("///"):
            raise SettingsError(
                f"camera source {self.shown}: wanted an absolute path after three slashes, such "
                "as file:///data/images or v4l2:///dev/video0"
            )
        return Path(path[2:])


class Source(Protocol):
    """An open source of frames."""

    @property
    def live(self) -> bool:
        """Frames come whether they are asked for or not; a replay waits instead."""

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next item, or None if none came within the time (idle, no fault).

        Raises EndOfStream at the end, CameraError if the source failed. A driver may exceed the
        timeout, or never return.
        """

    def close(self) -> None:
        """Give the device back."""


@runtime_checkable
class AskedSource(Source, Protocol):
    """A source that takes a picture when it is asked to, where its request's trigger is
    ``SOFTWARE``."""

    def ask(self) -> None:
        """Forget pictures that wait, and take one now; ``read`` gives it. Raises CameraError."""


SOFTWARE = "Software"
"""GenICam's name of a trigger that is asked for."""

SCHEMES: dict[str, str] = {
    "folder": "edge_qc.camera.files:FolderSource",
    "watched": "edge_qc.camera.watched:WatchedFolderSource",
    "video": "edge_qc.camera.ffmpeg:VideoSource",
    "v4l2": "edge_qc.camera.opencv:V4l2Source",
    "rtsp": "edge_qc.camera.ffmpeg:RtspSource",
    "rtsps": "edge_qc.camera.ffmpeg:RtspSource",
    "gst": "edge_qc.camera.opencv:GstSource",
    "aravis": "edge_qc.camera.aravis:AravisSource",
}
"""Sources by kind, as ``module:class``. The kind is the URI's scheme; ``file`` is a folder where
the path is one or ends in a slash, and a video otherwise."""


def request_of(settings: CameraTable, asked: bool | None = None) -> SourceRequest:
    """What a camera's source is opened with. asked: whether the station triggers it, where that is
    not as the settings say."""
    if asked is None:
        asked = settings.triggering.asked
    return SourceRequest(
        settings.source.uri,
        settings.die,
        settings.table,
        settings.loop,
        settings.fps,
        trigger=SOFTWARE if asked else settings.triggering.line,
        latency_s=None if settings.latency_ms is None else settings.latency_ms / 1e3,
        watch=settings.watch,
    )


def source_class(request: SourceRequest) -> str:
    """The request's entry in ``SCHEMES``. Raises SettingsError for a scheme that is not there."""
    scheme, colon, _ = request.uri.partition(":")
    kind = scheme.lower()
    if kind == "file" and colon:
        # One that cannot be looked at is no folder here; its class then says why.
        folder = request.uri.endswith("/") or os.path.isdir(request.path)
        kind = "folder" if folder else "video"
        if request.watch:
            kind = "watched"
    if not colon or kind not in SCHEMES:
        raise SettingsError(
            f"camera source {request.shown}: unknown scheme {scheme!r}, wanted one of file:///…, "
            "v4l2:///dev/…, rtsp://…, gst:…, aravis://…"
        )
    return SCHEMES[kind]


def _loaded(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def check_source(request: SourceRequest) -> None:
    """Refuse what can never work, without opening a device. Raises SettingsError."""
    with _without_secrets(request):
        name = source_class(request)
        if request.watch and name != SCHEMES["watched"]:
            raise SettingsError(
                f"camera source {request.shown}: watch = true is for a folder, file:///…/"
            )
        if request.trigger not in (None, SOFTWARE) and name != SCHEMES["aravis"]:
            raise SettingsError(
                f"camera source {request.shown}: trigger 'line:{request.trigger}' is an input of a "
                "camera's own, which only an aravis:// source has. Wanted free, mqtt or gpio:…"
            )
        _check_latency(name, request)
        _loaded(name).check(request)


_BUFFERED = ("rtsp", "rtsps", "gst")
"""Kinds that do not tell when a frame was exposed, only when it came."""


def _check_latency(name: str, request: SourceRequest) -> None:
    buffered = name in {SCHEMES[kind] for kind in _BUFFERED}
    if buffered and request.trigger == SOFTWARE and request.latency_s is None:
        raise SettingsError(
            f"camera source {request.shown}: is asked by a trigger, but does not tell when it "
            "exposed a frame, and one that comes after the trigger may show the part before. State "
            "latency_ms, the longest time from exposure to arrival, or take a camera that tells: "
            "aravis:// or v4l2://"
        )
    if request.latency_s is not None and not buffered and name != SCHEMES["v4l2"]:
        raise SettingsError(
            f"camera source {request.shown}: latency_ms is for rtsp://, gst: and v4l2:// sources; "
            "this one knows when a picture was taken. Remove it"
        )


def require_die(request: SourceRequest) -> None:
    """Raises SettingsError if the die is not given, or a table instead."""
    if request.table is not None:
        raise SettingsError(
            f"camera source {request.shown}: a table names the images of a folder; give die instead"
        )
    if not request.die:
        raise SettingsError(f"camera source {request.shown}: give die, the die that it sees")


def open_named(name: str, request: SourceRequest) -> Source:
    """The source of class ``name`` (``module:class``), open. Raises as ``open_source`` does."""
    with _without_secrets(request):
        opener = _loaded(name)
        opener.check(request)
        source: Source = opener(request)
    return source


@contextmanager
def _without_secrets(request: SourceRequest) -> Iterator[None]:
    """Drivers, and parsers of addresses, name what they were given in their errors."""
    try:
        yield
    except EdgeQCError as error:
        said = redacted(str(error), request.uri)
        if said == str(error):
            raise
        # Nor may a traceback show the driver's own.
        raise type(error)(said) from None
    except ValueError as error:
        said = redacted(str(error), request.uri)
        raise SettingsError(
            f"camera source {request.shown}: is no address ({said}). Write a /, @, :, ?, # or % in "
            "a user's name or password as %2F, %40, %3A, %3F, %23 or %25"
        ) from None


def open_source(
    uri: str,
    *,
    die: str | None = None,
    table: Path | None = None,
    loop: bool = False,
    fps: float | None = None,
) -> Source:
    """The source, open, read in this very process: a driver that hangs, hangs the caller.

    fps: requested from a camera that supports it; ``Camera`` does the pacing. Raises SettingsError
    for what can never work, CameraError for what may work later.
    """
    request = SourceRequest(uri, die, table, loop, fps)
    return open_named(source_class(request), request)
