"""NVIDIA's cuda-bindings in the shape of ``pycuda.driver``: the part of it that ``cuda`` calls.

cuda-bindings comes as a wheel where pycuda is built from source, so a board without a compiler can
run the engine. It is taken where pycuda is not installed. Names, signatures and errors are
pycuda's; memory, streams and events are freed as pycuda frees them. Not yet run on a real driver.
"""

from __future__ import annotations

import contextlib
import enum
import math
import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge_qc.errors import EngineError
from edge_qc.extras import how_to_install

try:
    from cuda.bindings import driver
except ImportError as missing:
    raise EngineError(
        f"cuda-bindings cannot be imported: {missing}. Install it with: "
        f"{how_to_install('cuda-bindings')}"
    ) from missing


class Error(Exception):
    """Root of the driver's errors."""


class MemoryError(Error):
    """The device's memory is full."""


class device_attribute(enum.IntEnum):  # noqa: N801
    MULTIPROCESSOR_COUNT = 16
    INTEGRATED = 18
    CAN_MAP_HOST_MEMORY = 19
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76


class host_alloc_flags(enum.IntEnum):  # noqa: N801
    DEVICEMAP = 2


class event_flags(enum.IntEnum):  # noqa: N801
    DISABLE_TIMING = 2


def _call(name: str, *arguments: Any) -> Any:
    """What the driver's function gives besides its code: nothing, or one value. Raises Error."""
    try:
        code, *values = getattr(driver, name)(*arguments)
    except RuntimeError as error:  # no libcuda.so.1, or a driver without this function
        raise Error(f"{name} failed: {error}") from error
    if code != driver.CUresult.CUDA_SUCCESS:
        kind = MemoryError if code == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY else Error
        raise kind(f"{name} failed: {_reason(code)}")
    return values[0] if values else None


def _reason(code: Any) -> str:
    _, text = driver.cuGetErrorString(code)
    return text.decode() if isinstance(text, bytes) else str(code)


def init() -> None:
    _call("cuInit", 0)


def get_driver_version() -> int:
    version: int = _call("cuDriverGetVersion")
    return version


class Device:
    def __init__(self, ordinal: int) -> None:
        self._device = _call("cuDeviceGet", ordinal)

    def name(self) -> str:
        raw: bytes = _call("cuDeviceGetName", 256, self._device)
        return raw.split(b"\0", 1)[0].decode()

    def get_attribute(self, attribute: device_attribute) -> int:
        kind = driver.CUdevice_attribute(int(attribute))
        value: int = _call("cuDeviceGetAttribute", kind, self._device)
        return value

    def compute_capability(self) -> tuple[int, int]:
        return (
            self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MAJOR),
            self.get_attribute(device_attribute.COMPUTE_CAPABILITY_MINOR),
        )

    def total_memory(self) -> int:
        size: int = _call("cuDeviceTotalMem", self._device)
        return size

    def retain_primary_context(self) -> Context:
        return Context(self._device, _call("cuDevicePrimaryCtxRetain", self._device))


class Context:
    def __init__(self, device: Any, handle: Any) -> None:
        self._device, self._handle = device, handle

    def push(self) -> None:
        _call("cuCtxPushCurrent", self._handle)

    @staticmethod
    def pop() -> None:
        _call("cuCtxPopCurrent")

    def detach(self) -> None:
        _call("cuDevicePrimaryCtxRelease", self._device)


class PagelockedHostAllocation:
    """The base of an array from ``pagelocked_empty``."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, flags: int) -> None:
        kind = np.dtype(dtype)
        self._address = int(_call("cuMemHostAlloc", math.prod(shape) * kind.itemsize, flags))
        self.__array_interface__ = {
            "shape": shape,
            "typestr": kind.str,
            "data": (self._address, False),
            "version": 3,
        }

    def get_device_pointer(self) -> int:
        return int(_call("cuMemHostGetDevicePointer", self._address, 0))

    def free(self) -> None:
        _call("cuMemFreeHost", self._address)


def pagelocked_empty(shape: tuple[int, ...], dtype: DTypeLike, mem_flags: int = 0) -> NDArray[Any]:
    return np.asarray(PagelockedHostAllocation(shape, dtype, int(mem_flags)))


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._address = int(_call("cuMemAlloc", size))

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        _call("cuMemFree", self._address)


def mem_alloc(size: int) -> DeviceAllocation:
    return DeviceAllocation(size)


class Stream:
    def __init__(self) -> None:
        self.handle = int(_call("cuStreamCreate", 0))

    def __del__(self) -> None:
        _destroy("cuStreamDestroy", self.__dict__.get("handle"))


class Event:
    def __init__(self, flags: int = 0) -> None:
        self._handle = int(_call("cuEventCreate", int(flags)))

    def record(self, stream: Stream) -> None:
        _call("cuEventRecord", self._handle, stream.handle)

    def query(self) -> bool:
        (code,) = driver.cuEventQuery(self._handle)
        if code == driver.CUresult.CUDA_ERROR_NOT_READY:
            return False
        if code != driver.CUresult.CUDA_SUCCESS:
            raise Error(f"cuEventQuery failed: {_reason(code)}")
        return True

    def __del__(self) -> None:
        _destroy("cuEventDestroy", self.__dict__.get("_handle"))


def _destroy(name: str, handle: int | None) -> None:
    # At the process's end the driver frees all by itself, and may be gone already.
    if handle is not None and not sys.is_finalizing():
        with contextlib.suppress(Error):
            _call(name, handle)


def memcpy_htod_async(dest: DeviceAllocation, src: NDArray[Any], stream: Stream) -> None:
    _call("cuMemcpyHtoDAsync", int(dest), src.ctypes.data, src.nbytes, stream.handle)


def memcpy_dtoh_async(dest: NDArray[Any], src: DeviceAllocation, stream: Stream) -> None:
    _call("cuMemcpyDtoHAsync", dest.ctypes.data, int(src), dest.nbytes, stream.handle)
