"""What it costs to know of damage: undamaged films read by the station's source, against the same
FFmpeg (PyAV) without a look at its messages, and against OpenCV's VideoCapture."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from timing import paired

from edge_qc.camera.decoding import _pixels
from edge_qc.camera.ffmpeg import VideoSource
from edge_qc.camera.sources import EndOfStream, SourceRequest

FRAMES, WIDTH, HEIGHT = 60, 840, 720
CODECS = {"mpeg4": "yuv420p", "libx264": "yuv420p"}


def figures() -> Iterator[dict[str, Any]]:
    """damage_CODEC: 60 frames of 840x720 decoded to BGR, one thread each side but OpenCV's."""
    with tempfile.TemporaryDirectory() as scratch:
        for codec, pixel_format in CODECS.items():
            if codec not in av.codecs_available:
                continue
            film = Path(scratch) / f"{codec}.mp4"
            _write(film, codec, pixel_format)
            request = SourceRequest(f"file://{film}", "Die01")
            what = f"{codec}, {FRAMES} undamaged frames of {WIDTH}x{HEIGHT}"
            yield paired(
                f"damage_{codec}",
                lambda request=request: _watched(request),
                lambda film=film: _plain(film),
                runs=15,
                ratio="ours/theirs",
                goal="<= 1.05",
                note=f"{what}: with all checks and messages, against the same FFmpeg without",
            )
            yield paired(
                f"damage_{codec}_opencv",
                lambda request=request: _watched(request),
                lambda film=film: _opencv(film),
                runs=15,
                ratio="ours/theirs",
                note=f"{what}: against OpenCV's VideoCapture with its frame threads, which tells "
                "of no damage",
            )


def _write(film: Path, codec: str, pixel_format: str) -> None:
    draw = np.random.default_rng(0)
    scene = cv2.GaussianBlur(draw.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8), (0, 0), 3)
    with av.open(str(film), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        for number in range(FRAMES):
            noisy = np.roll(scene, 3 * number, 1) + draw.normal(0, 3, scene.shape)
            pixels = np.clip(noisy, 0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        out.mux(stream.encode(None))


def _watched(request: SourceRequest) -> None:
    source = VideoSource(request)
    try:
        while True:
            source.read(1.0)
    except EndOfStream:
        source.close()


def _plain(film: Path) -> None:
    with av.open(str(film)) as container:
        decoder = container.streams.video[0].codec_context
        decoder.thread_type, decoder.thread_count = "NONE", 1
        for frame in container.decode(video=0):
            kept = _pixels(frame)  # Until the next one is there, as whoever judges it does.
        del kept


def _opencv(film: Path) -> None:
    capture = cv2.VideoCapture(str(film), cv2.CAP_FFMPEG)
    while capture.read()[0]:
        pass
    capture.release()
