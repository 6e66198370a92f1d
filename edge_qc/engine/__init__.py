"""Engines: uint8 views in, readings out.

An engine runs the bundle's graph and returns its outputs, with no threshold of its own. ``ENGINES``
lists them; each is imported when it is opened. ``acceptance`` decides whether one may judge.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.manifest import Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.errors import EdgeQCError, EngineError
from edge_qc.parts import Reading
from edge_qc.settings import EngineTable

__all__ = [
    "ENGINES",
    "BuildStep",
    "DeviceOptions",
    "Engine",
    "default_plans",
    "open_engine",
    "readings_from_outputs",
]


class Engine(Protocol):
    """What runs a bundle's graph."""

    @property
    def name(self) -> str:
        """Engine, version and device, as a verdict reports it."""

    def infer(self, views: NDArray[np.uint8]) -> tuple[Reading, ...]:
        """Readings of ``views``, uint8 (n, 1, H, W) with 1 <= n <= the bundle's batch.

        Raises EngineError if the engine fails, or its outputs have the wrong shape or are not
        finite.
        """

    def close(self) -> None:
        """Free what the engine holds."""


ENGINES: dict[str, str] = {
    "onnxruntime": "edge_qc.engine.onnxruntime:OnnxRuntimeEngine",
    "tensorrt": "edge_qc.engine.tensorrt:TensorRTEngine",
}
"""Engines by name, as ``module:class``; opened with (bundle, threads, device options)."""


@dataclass(frozen=True, slots=True)
class BuildStep:
    """How far a plan's build has come. fraction: 0 to 1, never falling; doing: in words."""

    fraction: float
    doing: str


def default_plans() -> Path:
    """Where plans are kept outside a station: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(cache) if cache else Path.home() / ".cache"
    except RuntimeError:  # an account without a home folder
        folder = Path("/var/cache")
    return folder / "edge-qc" / "plans"


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """The options of an engine on a device; ONNX Runtime needs none of them.

    plans: the folder of plans. workspace_mb: the most device memory that a build may try tactics
    with. optimization_level: TensorRT's, 0 (quick to build) to 5 (slow to build). build: ``never``,
    ``if-needed`` (no plan in the folder serves) or ``always``. memory: ``mapped`` (zero-copy, for
    a GPU that shares the machine's memory), ``copied``, or ``auto``. timeout_s: how long one
    answer may take. progress: called from any thread while a plan is built.
    """

    plans: Path = field(default_factory=default_plans)
    workspace_mb: int = 1024
    optimization_level: int = 3
    build: Literal["never", "if-needed", "always"] = "if-needed"
    cuda_graph: bool = True
    memory: Literal["auto", "mapped", "copied"] = "auto"
    timeout_s: float = 2.0
    progress: Callable[[BuildStep], None] | None = None

    @classmethod
    def of_station(
        cls,
        table: EngineTable,
        state_dir: Path,
        progress: Callable[[BuildStep], None] | None = None,
    ) -> DeviceOptions:
        """The options that a station's settings ask for; plans lie in ``state_dir/plans``."""
        return cls(
            plans=state_dir / "plans",
            workspace_mb=table.workspace_mb,
            optimization_level=table.optimization_level,
            build="if-needed" if table.build_at_start else "never",
            cuda_graph=table.cuda_graph,
            memory=table.memory,
            timeout_s=table.timeout_s,
            progress=progress,
        )


def open_engine(
    bundle: Bundle,
    kind: str = "onnxruntime",
    threads: int = 2,
    device: DeviceOptions | None = None,
) -> Engine:
    """The engine ``kind`` with the bundle's graph loaded. Raises EngineError.

    threads: of ONNX Runtime. device: for engines that run on a device; may take minutes where it
    lets a plan be built.
    """
    if kind not in ENGINES:
        raise EngineError(f"engine {kind!r}: unknown, wanted one of {', '.join(ENGINES)}")
    module, _, name = ENGINES[kind].partition(":")
    opener: Callable[[Bundle, int, DeviceOptions], Engine]
    opener = getattr(importlib.import_module(module), name)
    return opener(bundle, threads, device if device is not None else DeviceOptions())


def readings_from_outputs(
    manifest: Manifest, outputs: dict[str, NDArray[np.float32]], count: int
) -> tuple[Reading, ...]:
    """The first ``count`` readings of a batch of raw outputs by name.

    Raises EngineError if a shape or a value is not what the bundle promises.
    """
    batch = manifest.input.batch
    wanted = {
        "logits": (batch, len(manifest.classes)),
        "distances": (batch, *manifest.padim.grid),
        "drift": (batch,),
        "embedding_distance": (batch,),
        "good_distance": (batch,),
    }
    for name in manifest.outputs:
        seen = outputs[name].shape
        if seen != wanted[name]:
            raise EngineError(f"engine output {name} has shape {seen}, wanted {wanted[name]}")
    try:
        return tuple(
            Reading(
                logits=outputs["logits"][i],
                distances=outputs["distances"][i],
                drift=float(outputs["drift"][i]),
                embedding_distance=float(outputs["embedding_distance"][i]),
                good_distance=float(outputs["good_distance"][i]) if manifest.gate else None,
            )
            for i in range(count)
        )
    except EdgeQCError as error:
        odd = [name for name in manifest.outputs if not np.isfinite(outputs[name][:count]).all()]
        raise EngineError(
            f"engine output {', '.join(odd)} holds values that are not finite"
        ) from error


def padded(manifest: Manifest, views: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``views`` filled up to the graph's fixed batch. Raises EngineError for a wrong shape."""
    count = checked_count(manifest, views)
    batch = manifest.input.batch
    if count == batch:
        return np.ascontiguousarray(views)
    full = np.zeros((batch, *views.shape[1:]), np.uint8)
    full[:count] = views
    return full


def checked_count(manifest: Manifest, views: NDArray[np.uint8]) -> int:
    """How many views there are. Raises EngineError if the graph does not take them."""
    spec = manifest.input
    count = views.shape[0] if views.ndim == 4 else 0
    if (
        views.dtype != np.uint8
        or not 1 <= count <= spec.batch
        or views.shape[1:] != (1, spec.height, spec.width)
    ):
        raise EngineError(
            f"engine takes uint8 views (1 to {spec.batch}, 1, {spec.height}, {spec.width}), "
            f"got {views.dtype} {views.shape}"
        )
    return count
