"""TensorRT: the bundle's graph as a plan that was built on this device.

Opening takes a plan from the cache or, where that is allowed, builds one; it never deserialises a
plan whose fingerprint does not match. All memory is allocated when the engine opens. How a plan is
built is in ``plan``, stored in ``plan_cache``, CUDA in ``cuda`` and ``cuda_graph``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.manifest import MODEL, Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.engine import (
    BuildStep,
    DeviceOptions,
    checked_count,
    readings_from_outputs,
)
from edge_qc.engine.cuda import Buffer, Gpu, Stream
from edge_qc.engine.cuda_graph import CudaGraph
from edge_qc.engine.plan import RECIPE, build_plan
from edge_qc.engine.plan_cache import PlanCache, PlanKey, Refused, arch
from edge_qc.engine.tensorrt_log import Messages, logger_of
from edge_qc.errors import EngineError
from edge_qc.parts import Reading

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger(__name__)

_Made = TypeVar("_Made")

INPUT = "view"
OLDEST = (10, 3)
"""JetPack 6.1's TensorRT."""

_ABANDONED: list[dict[str, object]] = []


class TensorRTEngine:
    """An execution context of the bundle's plan. Not shared between threads."""

    def __init__(self, bundle: Bundle, threads: int, device: DeviceOptions) -> None:
        trt = _bindings()
        self._manifest = bundle.manifest
        self._timeout_s = device.timeout_s
        self._broken: str | None = None
        self._graph: CudaGraph | None = None
        self._buffers: dict[str, Buffer] = {}
        self._messages = Messages()
        self._logger = logger_of(self._messages)
        self._gpu = Gpu()
        self.name = (
            f"tensorrt {trt.__version__} {self._gpu.name} "
            f"sm_{self._gpu.capability.replace('.', '')} {bundle.manifest.precision}"
        )
        try:
            with self._gpu:
                self._runtime = self._made(lambda: trt.Runtime(self._logger), "runtime")
                self._engine = self._load(bundle, device)
                self._open_buffers(device)
                self._warm_up(device.cuda_graph)
        except BaseException:
            self.close()
            raise

    def infer(self, views: NDArray[np.uint8]) -> tuple[Reading, ...]:
        """See ``Engine.infer``."""
        if self._broken is not None:
            raise EngineError(f"{self._broken}. The engine must be opened again")
        count = checked_count(self._manifest, views)
        host = self._buffers[INPUT].host
        host[:count] = views
        host[count:] = 0
        with self._gpu:
            self._run(self._graph.launch if self._graph is not None else self._enqueue)
        # Copied, because the next answer is written over this one.
        outputs = {name: self._buffers[name].host.copy() for name in self._manifest.outputs}
        return readings_from_outputs(self._manifest, outputs, count)

    def close(self) -> None:
        """Free what the engine holds. On the thread that opened it."""
        if self._broken is not None:
            # Freeing waits for the GPU, which may never answer: the process has to end.
            _ABANDONED.append(dict(self.__dict__))
            return
        with contextlib.suppress(EngineError), self._gpu, self._gpu.errors("closing"):
            if self._graph is not None:
                self._graph.close()
            # In this order: a context needs its engine, an engine its runtime, all of them CUDA.
            for name in ("_context", "_stream", "_engine", "_runtime"):
                self.__dict__.pop(name, None)
            for buffer in self._buffers.values():
                buffer.free()
            self._buffers = {}
        with contextlib.suppress(EngineError), self._gpu.errors("closing"):
            self._gpu.close()

    def _load(self, bundle: Bundle, device: DeviceOptions) -> trt.ICudaEngine:
        """The engine of a plan from the cache, or of one that is built now."""
        trt = _bindings()
        key = PlanKey(
            {
                "onnx": bundle.manifest.files[MODEL].sha256,
                "precision": bundle.manifest.precision,
                "batch": bundle.manifest.input.batch,
                "tensorrt": trt.__version__,
                "gpu": self._gpu.name,
                "capability": self._gpu.capability,
                "multiprocessors": self._gpu.multiprocessors,
                "arch": arch(),
                "workspace_mb": device.workspace_mb,
                "optimization_level": device.optimization_level,
                "recipe": RECIPE,
            }
        )
        cache = PlanCache(device.plans)
        found = (
            cache.find(key) if device.build != "always" else Refused("a new build was requested")
        )
        if isinstance(found, bytes):
            engine = self._deserialise(found)
            if engine is not None:
                log.info("using plan %s from %s", key.name, cache.folder)
                return engine
            cache.drop(key)
            found = Refused(f"the one there does not load: {self._messages.why()}")
        if device.build == "never":
            raise EngineError(
                f"no TensorRT plan for bundle {bundle.id[:12]} on this device: {found.reason}. "
                "Build one with: edge-qc build"
            )
        log.warning("building a TensorRT plan: %s", found.reason)
        engine = self._deserialise(self._build(bundle, key, cache, found.reason, device))
        if engine is None:
            raise EngineError(
                f"the plan that was built just now does not load: {self._messages.why()}"
            )
        return engine

    def _build(
        self, bundle: Bundle, key: PlanKey, cache: PlanCache, reason: str, device: DeviceOptions
    ) -> bytes:
        model = bundle.model.read_bytes()
        # A plan holds the weights once, beside kernels and a timing cache of some megabytes.
        cache.prepare(2 * len(model))
        if device.progress is not None:
            device.progress(BuildStep(0.0, reason))
        with cache.building():
            # Another process may have built it while this one waited for its turn.
            if device.build != "always" and isinstance(found := cache.find(key), bytes):
                return found
            timing = f"{key.facts['tensorrt']} {self._gpu.name} {key.facts['multiprocessors']}"
            with self._gpu.errors("building a plan"):
                built = build_plan(
                    model,
                    self._logger,
                    self._messages,
                    workspace_mb=device.workspace_mb,
                    optimization_level=device.optimization_level,
                    timing=cache.timing(timing),
                    progress=device.progress,
                )
            cache.keep_timing(timing, built.timing)
            file = cache.keep(
                key, built.plan, {"seconds": round(built.seconds), "driver": self._gpu.driver}
            )
        log.info("built %s in %.0f s; it fits only this GPU", file, built.seconds)
        return built.plan

    def _deserialise(self, plan: bytes) -> trt.ICudaEngine | None:
        self._messages.forget()
        engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(plan)
        if engine is not None:
            _check_tensors(engine, self._manifest)
        return engine

    def _made(self, make: Callable[[], _Made | None], what: str) -> _Made:
        """Create a TensorRT object; on failure it returns null, which some bindings raise."""
        try:
            made = make()
        except TypeError as error:
            raise EngineError(f"TensorRT has no {what}: {self._messages.why()}") from error
        if made is None:
            raise EngineError(f"TensorRT has no {what}: {self._messages.why()}")
        return made

    def _open_buffers(self, device: DeviceOptions) -> None:
        memory = device.memory
        if memory == "auto":
            memory = "mapped" if self._gpu.integrated else "copied"
        self._stream = Stream(self._gpu)
        self._context = self._made(self._engine.create_execution_context, "execution context")
        for name, (shape, dtype) in _tensors(self._manifest).items():
            buffer = self._buffers[name] = Buffer(self._gpu, shape, dtype, memory)
            if not self._context.set_tensor_address(name, buffer.address):
                raise EngineError(f"TensorRT refuses memory for {name}: {self._messages.why()}")

    def _warm_up(self, cuda_graph: bool) -> None:
        """One answer, which makes TensorRT load its kernels, and then the recording."""
        self._run(self._enqueue, timeout_s=max(self._timeout_s, 60.0))
        if cuda_graph:
            try:
                with self._gpu.errors("CUDA graph"):
                    self._graph = CudaGraph(self._stream.handle, self._enqueue)
            except EngineError as error:
                log.warning("running without a CUDA graph: %s", error)
        self._messages.forget()

    def _run(self, put: Callable[[], None], timeout_s: float | None = None) -> None:
        try:
            self._stream.finish(put, timeout_s or self._timeout_s, "TensorRT failed")
        except EngineError as error:
            # CUDA's errors are sticky, and after a timeout the buffers are still the GPU's.
            self._broken = str(error)
            raise

    def _enqueue(self) -> None:
        stream = self._stream
        self._buffers[INPUT].upload(stream.stream)
        if not self._context.execute_async_v3(stream.handle):
            raise EngineError(f"TensorRT did not run: {self._messages.why()}")
        for name in self._manifest.outputs:
            self._buffers[name].download(stream.stream)


def _bindings() -> ModuleType:
    """TensorRT's Python package. Raises EngineError if there is none that serves."""
    try:
        import tensorrt as trt
    except (ImportError, OSError) as error:
        raise EngineError(
            f"TensorRT's Python bindings cannot be imported: {error}. On a Jetson they come with "
            "JetPack (apt install python3-libnvinfer) and are seen by an environment that was made "
            "with --system-site-packages; see edge-qc doctor"
        ) from error
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if version < OLDEST:
        raise EngineError(
            f"TensorRT {trt.__version__} is too old, wanted 10.3 or newer: update to JetPack 6.1"
        )
    return trt


def _tensors(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Shape and type of every tensor that the bundle promises, by name."""
    spec = manifest.input
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(manifest.outputs, (spec.batch,))
    shapes |= {
        "logits": (spec.batch, len(manifest.classes)),
        "distances": (spec.batch, *manifest.padim.grid),
    }
    view = {INPUT: ((spec.batch, 1, spec.height, spec.width), np.uint8)}
    return view | {name: (shape, np.float32) for name, shape in shapes.items()}


def _check_tensors(engine: trt.ICudaEngine, manifest: Manifest) -> None:
    """Raises EngineError if the plan's tensors are not those that the bundle promises: their
    addresses are written to without any further check."""
    import tensorrt as trt

    types: dict[type[np.generic], trt.DataType] = {
        np.uint8: trt.DataType.UINT8,
        np.float32: trt.DataType.FLOAT,
    }
    wanted = {
        name: (
            trt.TensorIOMode.INPUT if name == INPUT else trt.TensorIOMode.OUTPUT,
            shape,
            types[dtype],
        )
        for name, (shape, dtype) in _tensors(manifest).items()
    }
    seen = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dims = engine.get_tensor_shape(name)
        shape = tuple(dims[axis] for axis in range(len(dims)))
        seen[name] = (engine.get_tensor_mode(name), shape, engine.get_tensor_dtype(name))
    if seen != wanted:
        raise EngineError(f"the plan's tensors are {seen}, the bundle promises {wanted}")
