"""Engines: uint8 views in, readings out.

An engine runs the bundle's graph and says what it said, with no threshold of its own. ``ENGINES``
is the table of them; each is imported when it is opened. Acceptance lives in ``acceptance``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle import OUTPUTS, Bundle, Manifest
from edge_qc.errors import EngineError
from edge_qc.parts import Reading

__all__ = ["ENGINES", "Engine", "open_engine", "readings_from_outputs"]


class Engine(Protocol):
    """What runs a bundle's graph."""

    @property
    def name(self) -> str:
        """Engine, version and device, as a verdict reports it."""

    def infer(self, views: NDArray[np.uint8]) -> tuple[Reading, ...]:
        """Readings of ``views``, uint8 (n, 1, H, W) with 1 <= n <= the bundle's batch.

        Raises EngineError where the engine fails or its outputs have the wrong shape or are not
        finite.
        """

    def close(self) -> None:
        """Free what the engine holds."""


ENGINES: dict[str, str] = {"onnxruntime": "edge_qc.engine.onnxruntime:OnnxRuntimeEngine"}
"""Engines by name, as ``module:class``."""


def open_engine(bundle: Bundle, kind: str = "onnxruntime", threads: int = 2) -> Engine:
    """The engine ``kind`` with the bundle's graph loaded. Raises EngineError."""
    if kind not in ENGINES:
        raise EngineError(f"engine {kind!r}: unknown, wanted one of {', '.join(ENGINES)}")
    module, _, name = ENGINES[kind].partition(":")
    opener: Callable[[Bundle, int], Engine] = getattr(importlib.import_module(module), name)
    return opener(bundle, threads)


def readings_from_outputs(
    manifest: Manifest, outputs: dict[str, NDArray[np.float32]], count: int
) -> tuple[Reading, ...]:
    """The first ``count`` readings of a batch of raw outputs by name.

    Raises EngineError where a shape or a value is not what the bundle promises.
    """
    batch = manifest.input.batch
    wanted = {
        "logits": (batch, len(manifest.classes)),
        "distances": (batch, *manifest.padim.grid),
        "drift": (batch,),
        "embedding_distance": (batch,),
    }
    for name in OUTPUTS:
        seen = outputs[name].shape
        if seen != wanted[name]:
            raise EngineError(f"engine output {name} has shape {seen}, wanted {wanted[name]}")
        if not np.isfinite(outputs[name][:count]).all():
            raise EngineError(f"engine output {name} holds values that are not finite")
    return tuple(
        Reading(
            logits=outputs["logits"][i],
            distances=outputs["distances"][i],
            drift=float(outputs["drift"][i]),
            embedding_distance=float(outputs["embedding_distance"][i]),
        )
        for i in range(count)
    )


def padded(manifest: Manifest, views: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``views`` filled up to the graph's fixed batch. Raises EngineError for a wrong shape."""
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
    if count == spec.batch:
        return np.ascontiguousarray(views)
    full = np.zeros((spec.batch, *views.shape[1:]), np.uint8)
    full[:count] = views
    return full
