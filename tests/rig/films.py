"""Films for tests, made by PyAV with the encoders that it has, and damaged where their data lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

SIDE, RATE = 160, 25


def picture_of(number: int) -> NDArray[np.uint8]:
    """(160, 160) grey: a soft scene that moves, with a sensor's noise."""
    draw = np.random.default_rng(0)
    scene = cv2.GaussianBlur(draw.integers(20, 235, (SIDE, SIDE), dtype=np.uint8), (0, 0), 3)
    noise = np.random.default_rng(number).normal(0, 3, scene.shape)
    return np.asarray(np.clip(np.roll(scene, 2 * number, 1) + noise, 0, 255), np.uint8)


def write_film(
    file: Path,
    codec: str,
    frames: int = 48,
    *,
    every: int = 12,
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
) -> list[tuple[int, int]]:
    """A film with a key frame ``every`` so many; where each packet lies (offset, size), in the
    order of decoding."""
    if codec not in av.codecs_available:
        pytest.skip(f"needs PyAV with the encoder {codec}")
    with av.open(str(file), "w") as out:
        stream = out.add_stream(codec, rate=RATE, options=dict(options or {}))
        stream.width = stream.height = SIDE
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = every
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture_of(number), format="gray")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(str(file)) as made:
        return [(packet.pos, packet.size) for packet in made.demux(video=0) if packet.size]


def damage(file: Path, span: tuple[int, int], start: float = 0.3, count: int = 40) -> None:
    """Overwrite some of a packet's bytes."""
    offset, size = span
    at = offset + int(start * size)
    data = bytearray(file.read_bytes())
    for place in range(at, min(at + count, offset + size)):
        data[place] ^= 0xA5
    file.write_bytes(data)
