"""ONNX to plan: TensorRT's builder, and nothing around it.

The network is strongly typed, so that every tensor has the type that the ONNX gives it: precision
is decided at export, FP32 islands included, and no flag here adds to it. TF32 is off, because an
FP32 island means FP32. ``plan_cache`` stores plans, ``tensorrt`` decides when to build one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsInt

from edge_qc.engine import BuildStep
from edge_qc.engine.tensorrt_log import Messages
from edge_qc.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

RECIPE = 1
"""Raised when this file builds differently, so that older plans are built again."""

_TOLD_EVERY_S = 0.2
_NO_KERNEL = re.compile(
    r"Could not find any implementation for node (.+?)"
    # What may follow: a reason, or since 10.13 the place in TensorRT's own source.
    r"(?= due to insufficient workspace|\.?(?: In \S+ at \S+)?\)?\s*$)",
    re.MULTILINE,
)
_WANTS_WORKSPACE = re.compile(r"insufficient workspace|increase the workspace", re.IGNORECASE)
_WITHOUT_A_DRIVER = "cudaError 35"
"""In what TensorRT for RTX adds to every error of its parser on a machine without a driver."""


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """plan: to be deserialised. timing: the timing cache, grown by this build."""

    plan: bytes
    timing: bytes
    seconds: float


def build_plan(
    model: bytes,
    logger: trt.ILogger,
    messages: Messages,
    *,
    workspace_mb: int,
    optimization_level: int,
    timing: bytes = b"",
    progress: Callable[[BuildStep], None] | None = None,
    configure: Callable[[trt.IBuilderConfig], None] | None = None,
) -> BuiltPlan:
    """The plan of an ONNX for the current CUDA device; takes seconds to tens of minutes.

    timing: a timing cache from an earlier build, or nothing. configure: changes the builder's
    configuration last, as where a workstation without a GPU names the one to build for. Raises
    EngineError that names the nodes at fault, and whatever ``progress`` raised, once the builder
    has stopped.
    """
    import tensorrt as trt

    messages.forget()
    began_s = time.monotonic()
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what the bindings raise for a null pointer
        raise EngineError(
            f"TensorRT {trt.__version__} has no builder on this machine: {messages.why()}. Check "
            "that a GPU is there and its driver fits: edge-qc doctor"
        ) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise EngineError(
            f"TensorRT {trt.__version__} cannot read the bundle's ONNX:\n"
            + "\n".join(_parser_errors(parser))
            + "\nExport the bundle again with this edge-qc, or report the operator"
        )
    if network.num_outputs == 0:  # a file of another kind parses as a model that holds nothing
        raise EngineError(
            f"TensorRT {trt.__version__} finds no graph in the bundle's ONNX: {len(model)} bytes "
            f"that begin with {model[:8]!r}. Export the bundle again"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = optimization_level
    if not config.set_timing_cache(config.create_timing_cache(timing), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    watch = _Watch(progress)
    monitor = _monitor(watch)
    config.progress_monitor = monitor
    if configure is not None:
        configure(config)
    # A timing cache that was refused logs errors too; they do not explain a failing build.
    messages.forget()
    serialized = builder.build_serialized_network(network, config)
    if watch.raised is not None:
        raise watch.raised
    if serialized is None:
        raise EngineError(_build_failure(trt.__version__, messages, workspace_mb))
    watch.end()
    return BuiltPlan(
        plan=bytes(memoryview(serialized)),
        timing=bytes(memoryview(config.get_timing_cache().serialize())),
        seconds=time.monotonic() - began_s,
    )


def nodes_without_kernel(errors: Sequence[str]) -> list[str]:
    """The ONNX nodes for which TensorRT found no kernel of the demanded type.

    TensorRT names what it fused: ``a + b``, or ``{ForeignNode[a...b]}`` for all from a to b.
    """
    found: list[str] = []
    for error in errors:
        for layer in _NO_KERNEL.findall(error):
            inner = re.sub(r"^\{?ForeignNode\[|\]\}?$", "", layer)
            found += (node.strip() for node in re.split(r" \+ |\.\.\.", inner))
    return list(dict.fromkeys(node for node in found if node))


def _parser_errors(parser: trt.OnnxParser) -> list[str]:
    import tensorrt as trt

    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        why = _explained(error.desc())
        if error.code() == trt.ErrorCode.MODEL_DESERIALIZE_FAILED:
            lines.append(f"  the file is cut or damaged: {why}")
            continue
        if error.code() == trt.ErrorCode.UNSUPPORTED_NODE and why == "false":
            why = "TensorRT does not have this operator"
        name = error.node_name() or (f"number {error.node()}" if error.node() >= 0 else "")
        operator = error.node_operator() or "no operator"
        lines.append(f"  node {name} ({operator}): {why}" if name else f"  the graph: {why}")
    return lines or ["  the parser gave no reason"]


def _explained(description: str) -> str:
    """A parser's words without the lines that explain nothing, in one line."""
    lines = [line for line in description.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if _WITHOUT_A_DRIVER not in line and not line.startswith("Invalid Node - ")
    ]
    return "; ".join(telling or lines)


def _build_failure(version: str, messages: Messages, workspace_mb: int) -> str:
    why = messages.why()
    if _WANTS_WORKSPACE.search(why):
        return (
            f"TensorRT {version} needs more workspace to build this graph: {why}. Raise "
            f"engine.workspace_mb (now {workspace_mb})"
        )
    if nodes := nodes_without_kernel(messages.errors()):
        flags = " ".join(f"--fp32-node {node}" for node in nodes)
        return (
            f"TensorRT {version} has no kernel of the demanded precision for {', '.join(nodes)}. "
            f"Export the bundle again with: edge-qc export --fp16 {flags}\n({why})"
        )
    if "memory" in why.lower():
        return (
            f"TensorRT {version} ran out of memory while building: {why}. Lower "
            f"engine.workspace_mb (now {workspace_mb}), stop other users of the GPU, or add swap"
        )
    return f"TensorRT {version} cannot build a plan of the bundle's ONNX: {why}"


class _Watch:
    """Turns TensorRT's nested phases into one fraction, and keeps what the listener raised."""

    def __init__(self, progress: Callable[[BuildStep], None] | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        # Per open phase, outermost first: its name, steps done, steps in all.
        self._phases: list[tuple[str, int, int]] = []
        self._fraction = 0.0
        self._told_s = 0.0
        self.raised: BaseException | None = None

    def guard(self, call: Callable[[], None]) -> bool:
        """Runs a call from TensorRT's C++, which can take no exception: what is raised, Ctrl-C
        too, is kept. False asks TensorRT to give up."""
        try:
            call()
        except BaseException as error:
            self.raised = error
        return self.raised is None

    def start(self, phase: str, steps: int) -> None:
        with self._lock:
            self._phases.append((phase, 0, max(steps, 1)))
        self._tell(phase)

    def step(self, phase: str, step: int) -> None:
        with self._lock:
            self._phases = [
                (name, min(step + 1, steps) if name == phase else done, steps)
                for name, done, steps in self._phases
            ]
        self._tell(phase)

    def finish(self, phase: str) -> None:
        with self._lock:
            self._phases = [open_phase for open_phase in self._phases if open_phase[0] != phase]

    def end(self) -> None:
        """Tells that all is done."""
        if self._progress is not None:
            self._progress(BuildStep(1.0, "done"))

    def _tell(self, phase: str) -> None:
        if self._progress is None or self.raised is not None:
            return
        with self._lock:
            share, total = 1.0, 0.0
            for _, done, steps in self._phases:
                total += share * done / steps
                share /= steps
            self._fraction = max(self._fraction, min(total, 0.99))
            now_s = time.monotonic()
            if now_s - self._told_s < _TOLD_EVERY_S:
                return
            self._told_s = now_s
            step = BuildStep(self._fraction, phase)
        self._progress(step)


def _monitor(watch: _Watch) -> trt.IProgressMonitor:
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(
            self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt
        ) -> None:
            watch.guard(lambda: watch.start(phase_name, int(num_steps)))

        def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
            return watch.guard(lambda: watch.step(phase_name, int(step)))

        def phase_finish(self, phase_name: str) -> None:
            watch.guard(lambda: watch.finish(phase_name))

    return Monitor()
