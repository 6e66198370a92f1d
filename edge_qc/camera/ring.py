"""Frames between two processes: a few slots of memory that both have mapped.

The memory is a memfd without a name, so that nothing is left behind whoever is killed. The messages
of ``link`` and ``child`` assign the slots, not the memory.
"""

from __future__ import annotations

import math
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import CameraError

SLOTS = 8
"""Frames that may wait between the process that grabs and the one that judges. A slot takes memory
from its first use on, and the one freed last is used first: most are never touched."""


class Ring:
    """``SLOTS`` slots of ``slot_bytes`` each in the memory behind the descriptor ``fd``."""

    def __init__(self, fd: int, slot_bytes: int) -> None:
        self.fd = fd
        self.slot_bytes = slot_bytes
        self._bytes = np.frombuffer(mmap.mmap(fd, SLOTS * slot_bytes), np.uint8)

    @classmethod
    def for_frames_of(cls, frame_bytes: int) -> Ring:
        """New memory for frames up to this size."""
        fd = os.memfd_create("edge-qc-camera", os.MFD_CLOEXEC)
        slot_bytes = -(-frame_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        os.ftruncate(fd, SLOTS * slot_bytes)
        return cls(fd, slot_bytes)

    def put(self, slot: int, pixels: NDArray[np.uint8]) -> None:
        """Copy a frame into a slot."""
        start = slot * self.slot_bytes
        np.copyto(self._bytes[start : start + pixels.size].reshape(pixels.shape), pixels)

    def take(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A copy of a slot's frame. Raises CameraError for a shape that no slot holds."""
        size = math.prod(shape)
        if not 0 <= slot < SLOTS or not 0 < size <= self.slot_bytes:
            raise CameraError(f"camera process named slot {slot} and shape {shape}, out of range")
        start = slot * self.slot_bytes
        pixels: NDArray[np.uint8] = self._bytes[start : start + size].reshape(shape).copy()
        return pixels

    def close(self) -> None:
        """Close the descriptor; the mapping goes with the last array."""
        os.close(self.fd)
