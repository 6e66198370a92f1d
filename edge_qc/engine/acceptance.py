"""Acceptance: an engine may judge only when it reproduces the bundle's golden answers.

Run after every build and at every start, on the machine that will judge.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.verification import Bundle
from edge_qc.engine import Engine
from edge_qc.errors import AcceptanceError
from edge_qc.parts import Reading


@dataclass(frozen=True, slots=True)
class AcceptanceReport:
    """What the golden views gave on this engine: the largest differences, the tolerances they
    were held against, and the latency of one call in milliseconds."""

    bundle_id: str
    engine: str
    views: int
    differences: dict[str, float]
    tolerances: dict[str, float]
    latency_p50_ms: float
    latency_p99_ms: float
    answers_timed: int


def accept(
    bundle: Bundle,
    engine: Engine,
    label_of: Callable[[Bundle, str, Reading], str],
    repeats: int = 0,
) -> AcceptanceReport:
    """Run the golden views through the engine and compare.

    label_of: the label that the decision makes of a die's reading under this bundle. repeats: how
    many answers to time beyond those.

    Every verdict's label must equal the one that the reference answers lead to, and logits
    (largest difference), drift and embedding distances (relative to the reference, or to 1 where
    that is smaller) must lie within the bundle's tolerances. Raises AcceptanceError with a table
    of what differed, EngineError where the engine fails.
    """
    golden = bundle.golden()
    batch = bundle.manifest.input.batch
    readings: list[Reading] = []
    latencies: list[float] = []
    # The first answer takes longer, and no part waits for it.
    engine.infer(golden.views[:batch])
    for start in range(0, len(golden.views), batch):
        readings.extend(_timed(engine, golden.views[start : start + batch], latencies))
    differences = {
        "logits": _largest(np.stack([r.logits for r in readings]) - golden.logits),
        "drift": _largest_relative(np.array([r.drift for r in readings]), golden.drift),
        "embedding_distance": _largest_relative(
            np.array([r.embedding_distance for r in readings]), golden.embedding_distance
        ),
    }
    if bundle.manifest.gate is not None:
        differences["good_distance"] = _largest_relative(
            np.array([r.good_distance for r in readings]), golden.good_distance
        )
    allowed = bundle.manifest.tolerances
    tolerances = {
        "logits": allowed.logits,
        "drift": allowed.drift,
        "embedding_distance": allowed.embedding_distance,
        "good_distance": allowed.embedding_distance,
    }
    rows = [
        f"  {name}: largest difference {differences[name]:.3g}, tolerance {tolerances[name]:.3g}"
        for name in differences
        if not differences[name] <= tolerances[name]
    ]
    for index, reading in enumerate(readings):
        reference = golden.reading(index)
        die = golden.dies[index]
        got = label_of(bundle, die, reading)
        wanted = label_of(bundle, die, reference)
        if got != wanted:
            rows.append(f"  golden view {index} ({die}): label {got}, the reference says {wanted}")
    if rows:
        raise AcceptanceError(
            f"engine {engine.name} does not reproduce bundle {bundle.id[:12]}:\n"
            + "\n".join(rows)
            + "\nThe engine is refused. Rebuild it, or return to the previous bundle"
        )
    for _ in range(repeats):
        _timed(engine, golden.views[:batch], latencies)
    return AcceptanceReport(
        bundle_id=bundle.id,
        engine=engine.name,
        views=len(readings),
        differences=differences,
        tolerances={name: tolerances[name] for name in differences},
        latency_p50_ms=float(np.percentile(latencies, 50)),
        latency_p99_ms=float(np.percentile(latencies, 99)),
        answers_timed=len(latencies),
    )


def _timed(engine: Engine, views: NDArray[np.uint8], latencies: list[float]) -> tuple[Reading, ...]:
    began = time.perf_counter()
    readings = engine.infer(views)
    latencies.append((time.perf_counter() - began) * 1e3)
    return readings


def _largest(difference: NDArray[np.floating]) -> float:
    return float(np.abs(difference).max())


def _largest_relative(seen: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    return float((np.abs(seen - reference) / np.maximum(np.abs(reference), 1.0)).max())
