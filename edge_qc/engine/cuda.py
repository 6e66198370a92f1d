"""CUDA through pycuda, or through cuda-bindings where pycuda is not installed.

One device, its primary context, buffers that live as long as the engine. Every call into CUDA
happens with the context pushed (``with gpu:``) on the calling thread, so an engine may be opened on
one thread and asked on another. Nothing here knows TensorRT; the library's errors leave as
EngineError.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge_qc.errors import EngineError

if TYPE_CHECKING:
    import pycuda.driver as cuda

_POLL_S = 50e-6


class Gpu:
    """The first CUDA device. name, capability (``8.7``), multiprocessors, driver: what a plan's
    fingerprint says of it. integrated: it shares the machine's memory, as a Jetson's does."""

    def __init__(self) -> None:
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            try:
                # The same names, over NVIDIA's own wheel.
                from edge_qc.engine import cuda_bindings as cuda  # type: ignore[no-redef]
            except EngineError as neither:
                raise EngineError(
                    f"pycuda cannot be imported: {error}; {neither}. edge-qc doctor says more"
                ) from error
        self.cuda = cuda
        with self.errors("no CUDA device can be used"):
            cuda.init()
            device = cuda.Device(0)
            attribute = device.get_attribute
            self.name: str = device.name()
            self.capability = "{}.{}".format(*device.compute_capability())
            self.multiprocessors = attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT)
            self.integrated = bool(attribute(cuda.device_attribute.INTEGRATED)) and bool(
                attribute(cuda.device_attribute.CAN_MAP_HOST_MEMORY)
            )
            self.driver = cuda.get_driver_version()
            # The primary context is the one that TensorRT's runtime API uses too.
            self._context = device.retain_primary_context()

    def __enter__(self) -> Gpu:
        with self.errors("the CUDA context cannot be made current"):
            self._context.push()
        return self

    def __exit__(self, *_: object) -> None:
        self.cuda.Context.pop()

    @contextlib.contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """pycuda's errors as EngineError; ``doing`` says what failed."""
        try:
            yield
        except self.cuda.MemoryError as error:
            raise EngineError(
                f"{doing}: the GPU's memory is full: {error}. Stop its other users, or restart the "
                "station"
            ) from error
        except self.cuda.Error as error:
            raise EngineError(f"{doing}: {error}") from error

    def close(self) -> None:
        """Gives the context back; buffers and streams must be gone. On the opening thread."""
        self._context.detach()


class Buffer:
    """Page-locked host memory, and the device's address of it or of its copy.

    host: the array that Python reads and writes; it stays. address: for TensorRT.
    """

    host: NDArray[Any]
    _device: cuda.DeviceAllocation | None

    def __init__(
        self,
        gpu: Gpu,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        memory: Literal["mapped", "copied"],
    ) -> None:
        driver = self._cuda = gpu.cuda
        self._device = None
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with gpu.errors(f"{size} bytes for TensorRT cannot be allocated"):
            flags = driver.host_alloc_flags.DEVICEMAP if memory == "mapped" else 0
            self.host = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
            try:
                if memory == "mapped":
                    self.address = int(self._pinned().get_device_pointer())
                else:
                    self._device = driver.mem_alloc(size)
                    self.address = int(self._device)
            except BaseException:
                self._pinned().free()
                raise
        self.host.fill(0)

    def upload(self, stream: cuda.Stream) -> None:
        """Host to device, in the stream's order; nothing to do for mapped memory."""
        if self._device is not None:
            self._cuda.memcpy_htod_async(self._device, self.host, stream)

    def download(self, stream: cuda.Stream) -> None:
        """Device to host, in the stream's order; nothing to do for mapped memory."""
        if self._device is not None:
            self._cuda.memcpy_dtoh_async(self.host, self._device, stream)

    def free(self) -> None:
        """Frees both sides; ``host`` must not be touched afterwards."""
        if self._device is not None:
            self._device.free()
        self._pinned().free()

    def _pinned(self) -> cuda.PagelockedHostAllocation:
        return cast("cuda.PagelockedHostAllocation", self.host.base)


class Stream:
    """One stream, and a bounded wait for what was put into it."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        with gpu.errors("no CUDA stream can be made"):
            self.stream = gpu.cuda.Stream()
            self._done = gpu.cuda.Event(gpu.cuda.event_flags.DISABLE_TIMING)
        self.handle = int(self.stream.handle)

    def finish(self, put: Callable[[], None], timeout_s: float, doing: str) -> None:
        """Runs ``put``, which enqueues, and waits for it. Raises EngineError if CUDA fails or the
        time is up; the buffers are still the GPU's then."""
        with self._gpu.errors(doing):
            put()
            self._done.record(self.stream)
            until_s = time.monotonic() + timeout_s
            # Polled, because synchronize() has no timeout, and a GPU that hangs must not hang us.
            while not self._done.query():
                if time.monotonic() > until_s:
                    raise EngineError(f"{doing}: the GPU gave no answer in {timeout_s:g} s")
                time.sleep(_POLL_S)
