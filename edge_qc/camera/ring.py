"""Frames between two processes: a few slots of memory that both have mapped.

The memory is a memfd without a name, so that nothing is left behind whoever is killed. A message
says which slot holds a frame, and a byte in a pipe which is free again: the process looks there
when it needs one.
"""

from __future__ import annotations

import math
import mmap
import os
import select
from contextlib import suppress

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


class FreeSlots:
    """The slots that are free, in the process that grabs. fd: the pipe from which it reads their
    numbers, non-blocking; at its end the station is gone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._free: list[int] = []

    def fill(self) -> None:
        """All slots are free, as in new memory."""
        self._free = [*reversed(range(SLOTS))]

    def take(self, wait: bool) -> int | None:
        """The one that was freed last; None if there is none and nobody may wait. Raises
        BrokenPipeError if the station is gone."""
        self._look()
        while wait and not self._free:
            self._wait()
        return self._free.pop() if self._free else None

    def await_all(self) -> None:
        """Wait until every slot is free. Raises BrokenPipeError if the station is gone."""
        while len(self._free) < SLOTS:
            self._wait()

    def _wait(self) -> None:
        select.select([self._fd], [], [])
        self._look()

    def _look(self) -> None:
        with suppress(BlockingIOError):
            freed = os.read(self._fd, SLOTS)
            if not freed:
                raise BrokenPipeError("the station is gone")
            self._free += freed
