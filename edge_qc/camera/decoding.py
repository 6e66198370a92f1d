"""A film or stream decoded by FFmpeg (PyAV) one packet at a time, so that damage is known by frame.

FFmpeg conceals damage: a frame with a hole looks like a frame. Here its decoder checks everything
it can and fails on an error (``err_detect``). Its log messages belong to the packet being decoded;
frame threads, whose messages belong to no packet, are off. ``damage`` determines which other frames
are affected. The same libjpeg as for image files decodes JPEG pictures.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.logging
import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.damage import Damage
from edge_qc.camera.images import JpegError, pixels_from_jpeg
from edge_qc.camera.sources import SourceRequest
from edge_qc.errors import CameraError

_TIMEOUT_S = 10.0
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
_NETWORK = ("rtsp", "rtp", "udp", "tcp")
"""FFmpeg's parts that tell a lost packet as a warning; of all others only errors count."""

av.logging.set_level(av.logging.INFO)
# Else the same complaint about two packets in a row is logged once.
av.logging.set_skip_repeated(False)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What came of a packet: pixels, or why there are none that may be judged. time_s: as the
    stream counts; arrived_s: of the packet, by ``time.monotonic``."""

    pixels: NDArray[np.uint8] | None
    why: str
    time_s: float
    arrived_s: float


class Decoding:
    """The pictures of one film or network camera, in order. ending: why a connection ended. Raises
    CameraError if it cannot be opened."""

    def __init__(self, request: SourceRequest, target: str, options: dict[str, str]) -> None:
        self._live = bool(options)
        try:
            self._container = av.open(target, options=options, timeout=(_TIMEOUT_S, _TIMEOUT_S))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise CameraError(
                f"camera source {request.shown}: cannot be opened by FFmpeg ({said_by(error)})"
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise CameraError(f"camera source {request.shown}: holds no video")
        self._video = self._container.streams.video[0]
        decoder = self._video.codec_context
        decoder.thread_type = "NONE"
        decoder.thread_count = 1
        decoder.copy_opaque = True
        decoder.options = _STRICT
        self._jpeg = decoder.codec.name == "mjpeg"
        self._packets = self._container.demux(self._video)
        self._damage = Damage()
        self._sent = 0
        # A network camera is joined in the middle: nothing can be decoded before a key frame.
        self._joined = not self._live
        self._ready: deque[Picture] = deque()
        self.ending = ""

    @property
    def promised(self) -> int:
        """How many frames the header says there are, or what its duration makes likely; 0 if it
        says neither."""
        if self._video.frames:
            return self._video.frames
        if self._container.duration is None or not self._video.average_rate:
            return 0
        return int(self._container.duration / av.time_base * float(self._video.average_rate))

    def next(self) -> Picture | None:
        """The next picture; None at the end. Raises FFmpegError if reading fails."""
        while not self._ready:
            with av.logging.Capture(local=False) as said:
                packet = next(self._packets, None)
            if packet is None:
                return None
            if not self._joined:
                self._joined = packet.is_keyframe
                if not self._joined:
                    continue
            complaint = _complaint(said, self._live)
            if packet.size == 0 and self._live:
                # The connection's end, which is no picture's.
                self.ending, complaint = complaint, ""
            self._ready.extend(self._pictures(packet, complaint))
        return self._ready.popleft()

    def _pictures(self, packet: av.Packet[av.VideoStream], on_the_way: str) -> Iterator[Picture]:
        arrived_s = time.monotonic()
        number = self._sent
        self._sent += 1
        if packet.is_corrupt:
            on_the_way = on_the_way or "the packet is marked as corrupt"
        if self._jpeg:
            if on_the_way:
                # What came before this packet never became one; each picture stands for itself.
                yield Picture(None, f"lost on the way ({on_the_way})", 0.0, arrived_s)
            if packet.size:
                yield self._jpeg_picture(packet, arrived_s)
            return
        if on_the_way:
            self._damage.note(number, on_the_way)
        packet.opaque = number
        frames: list[av.VideoFrame] = []
        with av.logging.Capture(local=False) as said:
            try:
                frames = packet.decode()
                failed = ""
            except av.error.FFmpegError as error:
                failed = said_by(error)
        if complaint := _complaint(said, False) or failed:
            self._damage.note(number, complaint)
        for frame in frames:
            # Where a decoder does not say which packet it was, it may be any that was sent.
            of = frame.opaque if isinstance(frame.opaque, int) else number
            for lost in self._damage.lost(of, number):
                yield Picture(None, f"damaged, and could not be decoded ({lost})", 0.0, arrived_s)
            why = self._damage.of(of, frame.key_frame)
            if frame.is_corrupt:
                why = why or "damaged (as FFmpeg marks it)"
            time_s = 0.0 if frame.time is None else frame.time
            yield Picture(None if why else _pixels(frame), why, time_s, arrived_s)
        if packet.size == 0:
            for lost in self._damage.lost(None, number):
                yield Picture(None, f"damaged, and could not be decoded ({lost})", 0.0, arrived_s)

    def _jpeg_picture(self, packet: av.Packet[av.VideoStream], arrived_s: float) -> Picture:
        stamp = packet.pts if packet.pts is not None else packet.dts
        time_s = float(stamp * packet.time_base) if stamp is not None else 0.0
        try:
            return Picture(pixels_from_jpeg(bytes(packet)), "", time_s, arrived_s)
        except JpegError as error:
            return Picture(None, f"damaged ({error})", time_s, arrived_s)

    def close(self) -> None:
        """Close the file or end the connection."""
        self._container.close()


def _pixels(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A view of memory that FFmpeg converted into, which no later frame shares: a copy would cost
    as much as the conversion."""
    grey = frame.format.name.startswith("gray")
    made = frame.reformat(format="gray" if grey else "bgr24")
    plane: Any = made.planes[0]
    line: NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    rows = line[: made.height, : made.width * (1 if grey else 3)]
    return rows if grey else rows.reshape(made.height, made.width, 3)


def _complaint(said: list[tuple[int, str, str]], network: bool) -> str:
    """The first message that tells of damage; "" if there is none."""
    for level, who, text in said:
        if (
            level <= av.logging.ERROR
            # H.264's decoder tells at the level of information that slices were missing.
            or "conceal" in text
            or (network and level <= av.logging.WARNING and who in _NETWORK)
        ):
            return " ".join(text.split())
    return ""


def said_by(error: Exception) -> str:
    """FFmpeg's words: its last message if there is one, without the address, which a message of
    ours names already."""
    log = getattr(error, "log", None)
    said = log[2] if log else getattr(error, "strerror", None) or str(error)
    return " ".join(re.sub(r"'?\brtsps?://\S+", "", str(said)).split())
