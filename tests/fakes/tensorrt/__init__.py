"""A stand-in for TensorRT's Python bindings: the part of them that the engine calls.

A plan of it is the ONNX behind a header; running it is ONNX Runtime, put into a CUDA stream. What
the real bindings answer with null, this answers with None, after writing to the logger. ``fake``
makes it fail. Its signatures are checked against the real ones by ``tests/conformance``.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, SupportsInt, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Buffer

__version__ = "10.3.0"

_Kind = TypeVar("_Kind")
_MAGIC = b"FAKEPLAN\n"


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    UINT8 = 5


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 7


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0


class ErrorCode(enum.Enum):
    """The parser's."""

    MODEL_DESERIALIZE_FAILED = 3
    INVALID_NODE = 6
    UNSUPPORTED_NODE = 8


class Fake:
    """How the stand-in fails. parser_errors: (node, operator, text), beside what is no ONNX.
    build_errors: what the logger
    hears when a build fails. refuses: why no plan loads. poison: changes the outputs by name before
    they are written. on_step: called at every step of a build."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.parser_errors: list[tuple[str, str, str]] = []
        self.build_errors: list[str] = []
        self.no_builder = False
        self.refuses: str | None = None
        self.runs = True
        self.poison: Callable[[dict[str, Any]], None] | None = None
        self.on_step: Callable[[int], None] | None = None
        self.extra_output = False
        self.cancelled = False
        self.built: list[dict[str, Any]] = []
        self.loaded: list[bytes] = []
        self.enqueued = 0


fake = Fake()


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        self._initialised = True

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        self._initialised = True

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: SupportsInt) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class IHostMemory:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self._content)

    @property
    def nbytes(self) -> int:
        return len(self._content)


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> IHostMemory:
        return _host_memory(self.content)


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self.given_flags = flags
        self.model = b""
        self.num_outputs = 0


class ParserError:
    def __init__(
        self,
        index: int,
        node: str,
        operator: str,
        text: str,
        code: ErrorCode = ErrorCode.INVALID_NODE,
    ) -> None:
        self._index, self._node, self._operator, self._text = index, node, operator, text
        self._code = code

    def code(self) -> ErrorCode:
        return self._code

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node

    def node_operator(self) -> str:
        return self._operator

    def desc(self) -> str:
        return self._text


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []

    def parse(self, model: Buffer, path: str | None = None) -> bool:
        content = self._network.model = bytes(model)
        self._errors = [
            ParserError(index, node, operator, text, _code_of(text))
            for index, (node, operator, text) in enumerate(fake.parser_errors)
        ]
        if self._errors or not content.startswith(_IR_VERSION):
            # A file of another kind is a model that holds nothing, as NVIDIA's parser reads it.
            return not self._errors
        outputs = _outputs_of(content)
        if outputs is None:
            code = ErrorCode.MODEL_DESERIALIZE_FAILED
            self._errors = [ParserError(-1, "", "", "Failed to parse the ONNX model.", code)]
            return False
        self._network.num_outputs = outputs
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: SupportsInt) -> ParserError:
        return self._errors[int(index)]


_IR_VERSION = b"\x08"
"""How a serialised ModelProto begins: the tag of its first field."""


def _code_of(text: str) -> ErrorCode:
    """An operator that the parser does not have fails an assertion that reads "false"."""
    return ErrorCode.UNSUPPORTED_NODE if text == "false" else ErrorCode.INVALID_NODE


def _outputs_of(model: bytes) -> int | None:
    """How many outputs the graph has; None where the file is cut."""
    import onnxruntime as ort

    try:
        return len(_session(model).get_outputs())
    except ort.capi.onnxruntime_pybind11_state.InvalidProtobuf:
        return None


def _session(model: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class IBuilderConfig:
    progress_monitor: IProgressMonitor

    def __init__(self) -> None:
        self.flags_set = {BuilderFlag.TF32}
        self.pools: dict[MemoryPoolType, int] = {}
        self._level = 3
        self._cache = ITimingCache(b"")

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, arg1: SupportsInt) -> None:
        self._level = int(arg1)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: SupportsInt) -> None:
        self.pools[pool] = int(pool_size)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags_set.discard(flag)

    def create_timing_cache(self, serialized_timing_cache: Buffer) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache.content and not cache.content.startswith(__version__.encode()):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache:
        return self._cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        if fake.no_builder:
            logger.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 100")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def create_network(self, flags: SupportsInt = 0) -> INetworkDefinition:
        return INetworkDefinition(int(flags))

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory:
        monitor = config.progress_monitor
        whole = "Building engine"
        # The outermost phase has no parent; the real stubs do not own up to it.
        monitor.phase_start(whole, cast(str, None), 2)
        going = all(self._try_tactics(monitor, whole, outer) for outer in range(2))
        monitor.phase_finish(whole)
        if not going:
            fake.cancelled = True
            self._logger.log(ILogger.Severity.ERROR, "Build canceled by user")
            return _null(IHostMemory)
        if config.pools.get(MemoryPoolType.WORKSPACE) == 0:
            text = "Please increase the workspace memory provided to the builder."
            self._logger.log(ILogger.Severity.ERROR, text)
            return _null(IHostMemory)
        for text in fake.build_errors:
            self._logger.log(ILogger.Severity.ERROR, text)
        if fake.build_errors:
            return _null(IHostMemory)
        timing = config.get_timing_cache()
        fake.built.append(
            {
                "flags": network.given_flags,
                "tf32": BuilderFlag.TF32 in config.flags_set,
                "workspace": config.pools.get(MemoryPoolType.WORKSPACE),
                "level": config.builder_optimization_level,
                "timing": timing.content,
            }
        )
        timing.content = __version__.encode() + b" tactics"
        header = json.dumps({"version": __version__}).encode()
        return _host_memory(_MAGIC + header + b"\n" + network.model)

    @staticmethod
    def _try_tactics(monitor: IProgressMonitor, parent: str, outer: int) -> bool:
        """One inner phase; False where the listener gave up. What began is finished all the
        same."""
        phase, going = "Trying tactics", True
        monitor.phase_start(phase, parent, 4)
        for step in range(4):
            if fake.on_step is not None:
                fake.on_step(step)
            going = monitor.step_complete(phase, step)
            if not going:
                break
        monitor.phase_finish(phase)
        return going and monitor.step_complete(parent, outer)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Buffer) -> ICudaEngine:
        content = bytes(serialized_engine)
        fake.loaded.append(content)
        header, _, model = content.removeprefix(_MAGIC).partition(b"\n")
        why = fake.refuses
        if not content.startswith(_MAGIC):
            why = "Magic tag does not match"
        elif json.loads(header)["version"] != __version__:
            why = "The engine plan file is not compatible with this version of TensorRT"
        if why is not None:
            self._logger.log(ILogger.Severity.ERROR, why)
            return _null(ICudaEngine)
        return ICudaEngine(model)


class ICudaEngine:
    def __init__(self, model: bytes) -> None:
        self.session = _session(model)
        self._tensors = [
            *((tensor, TensorIOMode.INPUT) for tensor in self.session.get_inputs()),
            *((tensor, TensorIOMode.OUTPUT) for tensor in self.session.get_outputs()),
        ]
        if fake.extra_output:
            self._tensors.append(self._tensors[-1])

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: SupportsInt) -> str:
        name: str = self._tensors[int(index)][0].name
        return name + "_2" if int(index) and self._tensors[int(index) - 1][0].name == name else name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._find(name)[1]

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self._find(name)[0].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        kind = self._find(name)[0].type
        return DataType.UINT8 if "uint8" in kind else DataType.FLOAT

    def create_execution_context(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
    ) -> IExecutionContext:
        return IExecutionContext(self)

    def _find(self, name: str) -> tuple[Any, TensorIOMode]:
        return next(entry for entry in self._tensors if name.startswith(entry[0].name))


class Dims:
    """A shape: a sequence, and no tuple."""

    def __init__(self, shape: Sequence[int] = ()) -> None:
        self._shape = list(shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, arg0: SupportsInt) -> int:
        return self._shape[int(arg0)]


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: SupportsInt) -> bool:
        self._addresses[name] = int(memory)
        return bool(int(memory))

    def execute_async_v3(self, stream_handle: SupportsInt) -> bool:
        if not fake.runs:
            return False
        fake.enqueued += 1
        _enqueue(int(stream_handle), self._infer)
        return True

    def _infer(self) -> None:
        session = self._engine.session
        (taken,) = session.get_inputs()
        view = _array(self._addresses[taken.name], taken.shape, np.uint8)
        names = [output.name for output in session.get_outputs()]
        answers = dict(zip(names, session.run(names, {taken.name: view}), strict=True))
        if fake.poison is not None:
            fake.poison(answers)
        for name, answer in answers.items():
            _array(self._addresses[name], answer.shape, np.float32)[...] = answer


def _array(address: int, shape: Any, dtype: Any) -> Any:
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    raw = (ctypes.c_char * size).from_address(address)
    return np.frombuffer(raw, kind).reshape(shape)


def _enqueue(stream: int, work: Callable[[], None]) -> None:
    # Where the engine runs on cuda-bindings, there is no pycuda.
    cuda = sys.modules.get("pycuda.driver")
    if hasattr(cuda, "fake"):
        cuda.fake.enqueue(stream, work)
        return
    # A real library under the engine: let the driver call back, in the stream's order.
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: work())
    _KEPT.append(callback)
    code = ctypes.CDLL("libcuda.so.1").cuLaunchHostFunc(ctypes.c_void_p(stream), callback, None)
    assert code == 0, code


_KEPT: list[Any] = []


def _null(kind: type[_Kind]) -> _Kind:
    """What a null pointer becomes; the real stubs do not own up to it either."""
    return cast(_Kind, None)


def _host_memory(content: bytes) -> IHostMemory:
    # Before 3.12, memoryview() does not ask a class written in Python for __buffer__.
    return IHostMemory(content) if sys.version_info >= (3, 12) else cast(IHostMemory, content)
