"""The pre-flight: NVIDIA's own compiler reads and builds a graph before any station gets it.

The compiler is TensorRT for RTX, TensorRT's sibling, which builds for GPUs that are not here. It
runs nothing, so it says nothing of numbers and speed, and it does not build for a Jetson's GPU: the
acceptance on the device stays what decides. Nothing of it goes into a bundle but what it said.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import util
from typing import TYPE_CHECKING, Any

from edge_qc.errors import EdgeQCError, UsageError
from edge_qc_export.preflight.tensor_types import FLOAT, HALF, count_casts, node_types

if TYPE_CHECKING:
    import onnx

__all__ = [
    "ARCHITECTURES",
    "PreflightReport",
    "check_types",
    "preflight",
    "report_of",
    "require_compiler",
]

ARCHITECTURES = ("SM86", "SM89", "SM120")
"""Ampere, as an Orin's SM87 is too; Ada; Blackwell."""

_TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """What the compiler made of a graph. compiler: with its version. layers: how many give half and
    how many FP32. casts: between the two, paid for by every answer."""

    compiler: str
    architectures: tuple[str, ...]
    layers: dict[str, int]
    casts: int

    @property
    def sentence(self) -> str:
        """What to tell whoever exports."""
        return (
            f"{self.compiler} read this graph and built it for {', '.join(self.architectures)}: "
            f"{self.layers[HALF]} layers in half, {self.layers[FLOAT]} in FP32, {self.casts} casts "
            "between them. It ran nothing"
        )


def require_compiler() -> None:
    """Raise UsageError where TensorRT for RTX is not installed."""
    if util.find_spec("tensorrt_rtx_bindings") is None:
        here = f"{sys.platform} on {platform.machine()}"
        raise UsageError(
            "--preflight wants NVIDIA's compiler TensorRT for RTX, which is not installed: pip "
            f"install 'edge-qc-export[preflight]' (for Linux on x86-64; this is {here})"
        )


def preflight(
    model: onnx.ModelProto, architectures: tuple[str, ...] = ARCHITECTURES
) -> PreflightReport:
    """Have the compiler read the graph and build it for each architecture; takes seconds.

    Raises EdgeQCError if the compiler refuses the graph or fails, or where what it read has other
    types than the graph declares.
    """
    answer = _ask(model.SerializeToString(deterministic=True), architectures)
    compiler = f"TensorRT for RTX {answer['version']}"
    if answer["refusal"] is not None:
        raise EdgeQCError(
            f"pre-flight: NVIDIA's compiler refuses this graph for {answer['building']}, so no "
            f"bundle is written. {answer['refusal']}"
        )
    layers = answer["layers"]
    check_types(model, layers, compiler)
    kinds = [layer["outputs"][0] for layer in layers if not layer["constant"]]
    return PreflightReport(
        compiler=compiler,
        architectures=architectures,
        layers={kind: kinds.count(kind) for kind in (HALF, FLOAT)},
        casts=_casts(layers),
    )


def check_types(
    model: onnx.ModelProto, layers: list[dict[str, Any]], compiler: str = "the compiler"
) -> None:
    """Raise EdgeQCError where a layer's type is not what the graph declares, or if there are more
    casts than the graph has. layers: as ``compiler`` tells them."""
    declared = node_types(model)
    wrong = [
        f"{layer['name']} is {layer['outputs'][0]}, wanted {declared[layer['name']]}"
        for layer in layers
        if layer["name"] in declared and layer["outputs"][0] != declared[layer["name"]]
    ]
    planned, seen = count_casts(model), _casts(layers)
    if seen > planned:
        wrong.append(f"{seen} casts between half and FP32, wanted {planned}")
    if wrong:
        raise EdgeQCError(
            f"pre-flight: {compiler} reads other types than this graph declares: "
            f"{'; '.join(wrong[:5])}. Report this with the bundle's report"
        )


def _casts(layers: list[dict[str, Any]]) -> int:
    return sum(
        layer["kind"] == "CAST"
        and not layer["constant"]
        and {*layer["inputs"], *layer["outputs"]} == {HALF, FLOAT}
        for layer in layers
    )


def _ask(model: bytes, architectures: tuple[str, ...]) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model)
        file.flush()
        command = [sys.executable, "-m", f"{__name__}.compiler", file.name, *architectures]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EdgeQCError(
                f"pre-flight: TensorRT for RTX did not end within {_TIMEOUT_S} s. Export without "
                "--preflight"
            ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise EdgeQCError(
            f"pre-flight: TensorRT for RTX failed (status {done.returncode}): "
            f"{said[-1] if said else 'it did not say why'}. Export without --preflight, and report "
            "this"
        )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def report_of(model: onnx.ModelProto, asked: PreflightReport | None) -> dict[str, Any]:
    """What the bundle's report says of its graph, as JSON holds it. asked: None if no compiler
    was."""
    return {
        "nodes": len(model.graph.node),
        "casts": count_casts(model),
        "preflight": None
        if asked is None
        else {
            "compiler": f"NVIDIA {asked.compiler}",
            "read_and_built_for": list(asked.architectures),
            "layers": {"fp16": asked.layers[HALF], "fp32": asked.layers[FLOAT]},
            "casts": asked.casts,
            "ran": False,
        },
    }
