"""A stand-in for ``pycuda.driver``: the part of it that the engine calls, on host memory.

It is as strict as a driver: a call without a current context on the calling thread fails, a stream
does nothing until somebody waits for it, and what is not freed is counted. ``fake`` makes it fail.
"""

from __future__ import annotations

import ctypes
import enum
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Error(Exception):
    """Root of pycuda's errors."""


class LogicError(Error):
    """A call that cannot work, such as one without a context."""


class LaunchError(Error):
    """What ran on the device failed; sticky."""


class MemoryError(Error):
    """The device's memory is full."""


class device_attribute(enum.Enum):  # noqa: N801
    MULTIPROCESSOR_COUNT = 16
    INTEGRATED = 18
    CAN_MAP_HOST_MEMORY = 19


class host_alloc_flags(enum.IntEnum):  # noqa: N801
    PORTABLE = 1
    DEVICEMAP = 2
    WRITECOMBINED = 4


class event_flags(enum.IntEnum):  # noqa: N801
    DEFAULT = 0
    BLOCKING_SYNC = 1
    DISABLE_TIMING = 2


class Fake:
    """What the stand-in is, and how it fails. failing: an error by the name of a function. hang:
    the device never finishes. live: what was allocated and not yet freed, by kind."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.name = "Orin (fake)"
        self.capability = (8, 7)
        self.attributes = {
            device_attribute.MULTIPROCESSOR_COUNT: 8,
            device_attribute.INTEGRATED: 1,
            device_attribute.CAN_MAP_HOST_MEMORY: 1,
        }
        self.failing: dict[str, Error] = {}
        self.hang = False
        self.live = {"context": 0, "pinned": 0, "device": 0}
        self.contexts = threading.local()
        self.streams: dict[int, Stream] = {}

    def enter(self, function: str, context: bool = True) -> None:
        if function in self.failing:
            raise self.failing[function]
        if context and not getattr(self.contexts, "stack", []):
            raise LogicError(f"{function} failed: invalid device context")

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        """Puts work into the stream with this handle."""
        self.streams[stream].put(work)


fake = Fake()


def init(flags: int = 0) -> None:
    fake.enter("cuInit", context=False)


def get_driver_version() -> int:
    return 12060


class Context:
    """A primary context."""

    def push(self) -> None:
        fake.enter("cuCtxPushCurrent", context=False)
        if not hasattr(fake.contexts, "stack"):
            fake.contexts.stack = []
        fake.contexts.stack.append(self)

    @staticmethod
    def pop() -> None:
        fake.enter("cuCtxPopCurrent")
        fake.contexts.stack.pop()

    def detach(self) -> None:
        fake.live["context"] -= 1


class Device:
    def __init__(self, ordinal: int) -> None:
        fake.enter("cuDeviceGet", context=False)

    def name(self) -> str:
        return fake.name

    def compute_capability(self) -> tuple[int, int]:
        return fake.capability

    def get_attribute(self, attr: device_attribute) -> int:
        return fake.attributes[attr]

    def retain_primary_context(self) -> Context:
        fake.live["context"] += 1
        return Context()


class _Memory:
    def __init__(self, kind: str, size: int) -> None:
        self._kind = kind
        self._bytes: Any = (ctypes.c_char * max(size, 1))()
        fake.live[kind] += 1

    @property
    def address(self) -> int:
        return ctypes.addressof(self._bytes)

    def free(self) -> None:
        fake.enter("free")
        if self._bytes is None:
            raise LogicError("free failed: invalid argument")
        self._bytes = None
        fake.live[self._kind] -= 1


class PagelockedHostAllocation(_Memory):
    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, mapped: bool) -> None:
        self._mapped = mapped
        kind = np.dtype(dtype)
        super().__init__("pinned", int(np.prod(shape)) * kind.itemsize)
        self.__array_interface__ = {
            "shape": shape,
            "typestr": kind.str,
            "data": (self.address, False),
            "version": 3,
        }

    def get_device_pointer(self) -> int:
        if not self._mapped:
            raise LogicError("cuMemHostGetDevicePointer failed: invalid argument")
        return self.address


class DeviceAllocation(_Memory):
    def __init__(self, size: int) -> None:
        super().__init__("device", size)

    def __int__(self) -> int:
        return self.address


def pagelocked_empty(
    shape: tuple[int, ...], dtype: DTypeLike, order: str = "C", mem_flags: int = 0
) -> NDArray[Any]:
    fake.enter("cuMemHostAlloc")
    mapped = bool(mem_flags & host_alloc_flags.DEVICEMAP)
    array: NDArray[Any] = np.asarray(PagelockedHostAllocation(shape, dtype, mapped))
    array.fill(7)
    return array


def mem_alloc(size: int) -> DeviceAllocation:
    fake.enter("cuMemAlloc")
    return DeviceAllocation(size)


class Stream:
    """Work in order, done when an event behind it is asked."""

    def __init__(self, flags: int = 0) -> None:
        fake.enter("cuStreamCreate")
        self._work: list[Callable[[], None]] = []
        fake.streams[self.handle] = self

    @property
    def handle(self) -> int:
        return id(self)

    def put(self, work: Callable[[], None]) -> None:
        self._work.append(work)

    def run(self) -> None:
        work, self._work = self._work, []
        for step in work:
            step()


class Event:
    def __init__(self, flags: int = 0) -> None:
        fake.enter("cuEventCreate")
        self._stream: Stream | None = None

    def record(self, stream: Stream | None = None) -> Event:
        fake.enter("cuEventRecord")
        self._stream = stream
        return self

    def query(self) -> bool:
        fake.enter("cuEventQuery")
        if fake.hang:
            return False
        if self._stream is not None:
            self._stream.run()
        return True


def memcpy_htod_async(
    dest: DeviceAllocation, src: NDArray[Any], stream: Stream | None = None
) -> None:
    fake.enter("cuMemcpyHtoDAsync")
    assert stream is not None
    stream.put(lambda: _copy(int(dest), src.ctypes.data, src.nbytes))


def memcpy_dtoh_async(
    dest: NDArray[Any], src: DeviceAllocation, stream: Stream | None = None
) -> None:
    fake.enter("cuMemcpyDtoHAsync")
    assert stream is not None
    stream.put(lambda: _copy(dest.ctypes.data, int(src), dest.nbytes))


def _copy(dest: int, src: int, size: int) -> None:
    ctypes.memmove(dest, src, size)
