"""A CUDA graph: what one inference enqueues, recorded once and launched as a whole.

pycuda does not know graphs, so these six functions of the driver are called through ctypes, on the
stream that pycuda made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from edge_qc.errors import EngineError

_LIBRARY = "libcuda.so.1"
_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: another thread's CUDA calls do not spoil the recording."""


class CudaGraph:
    """A recording, ready to be launched into the stream that it was made on."""

    def __init__(self, stream: int, put: Callable[[], None]) -> None:
        """Records what ``put`` enqueues into ``stream`` (a CUstream), without running it.

        Raises EngineError if the driver or something in ``put`` cannot be recorded; nothing is left
        behind then, and the stream can be used as before.
        """
        try:
            self._driver = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise EngineError(f"CUDA graph: {error}") from error
        self._stream = ctypes.c_void_p(stream)
        self._graph = ctypes.c_void_p()
        self._executable = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_THREAD_LOCAL))
        try:
            put()
        finally:
            ended = self._try("cuStreamEndCapture", self._stream, ctypes.byref(self._graph))
        if ended:
            raise EngineError(f"CUDA graph: cuStreamEndCapture failed: {self._reason(ended)}")
        try:
            self._call(
                "cuGraphInstantiateWithFlags",
                ctypes.byref(self._executable),
                self._graph,
                ctypes.c_ulonglong(0),
            )
        except EngineError:
            self.close()
            raise

    def launch(self) -> None:
        """Puts the recording into the stream. Raises EngineError."""
        self._call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Frees the recording."""
        for function, handle in (
            ("cuGraphExecDestroy", self._executable),
            ("cuGraphDestroy", self._graph),
        ):
            if handle.value is not None:
                self._try(function, handle)
                handle.value = None

    def _try(self, function: str, *arguments: object) -> int:
        try:
            return int(getattr(self._driver, function)(*arguments))
        except AttributeError as error:
            raise EngineError(f"CUDA graph: this driver has no {function}") from error

    def _call(self, function: str, *arguments: object) -> None:
        if code := self._try(function, *arguments):
            raise EngineError(f"CUDA graph: {function} failed: {self._reason(code)}")

    def _reason(self, code: int) -> str:
        text = ctypes.c_char_p()
        if self._driver.cuGetErrorString(code, ctypes.byref(text)) or text.value is None:
            return f"code {code}"
        return f"{text.value.decode()} (code {code})"
