"""Runs the TensorRT engine on the real pycuda, and prints what happened as one JSON document.

Called by ``test_pycuda`` in a process of its own, since a CUDA driver and its failures are for
life: ``python on_pycuda.py SCENARIO BUNDLE PLANS``. TensorRT is the stand-in, whose work runs as a
host function in the CUDA stream.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_qc.bundle.verification import Bundle, open_bundle
from edge_qc.engine import DeviceOptions, Engine, open_engine
from edge_qc.engine.acceptance import accept
from edge_qc.errors import EngineError
from edge_qc.inspection import decision

DRIVER = ctypes.CDLL("libcuda.so.1")
KINDS = ("pinned", "device", "streams", "events", "contexts", "graphs")


def live() -> dict[str, int]:
    return {kind: DRIVER.fake_live(number) for number, kind in enumerate(KINDS)}


def opened(
    bundle: Bundle, plans: Path, memory: Literal["mapped", "copied"], graph: bool, **more: Any
) -> Engine:
    device = DeviceOptions(plans=plans, memory=memory, cuda_graph=graph, **more)
    return open_engine(bundle, "tensorrt", device=device)


def answers(bundle: Bundle, plans: Path) -> dict[str, Any]:
    """The same answers as ONNX Runtime's, in every mode, on the opening and another thread."""
    reference = open_engine(bundle)
    golden = bundle.golden().views
    seen: dict[str, Any] = {}
    for memory in ("mapped", "copied"):
        for graph in (False, True):
            engine = opened(bundle, plans, memory, graph)
            before = DRIVER.fake_launches()
            worst = 0.0
            results: list[Any] = []

            def ask(engine: Engine = engine, results: list[Any] = results) -> None:
                for index in range(len(golden)):
                    results.extend(engine.infer(golden[index : index + 1]))

            for run in (ask, None):
                results.clear()
                if run is not None:
                    run()
                else:
                    thread = threading.Thread(target=ask)
                    thread.start()
                    thread.join()
                for index, mine in enumerate(results):
                    (theirs,) = reference.infer(golden[index : index + 1])
                    worst = max(worst, float(np.abs(mine.logits - theirs.logits).max()))
            accept(bundle, engine, decision.label_of)
            held = live()
            engine.close()
            seen[f"{memory} {'graph' if graph else 'calls'}"] = {
                "worst": worst,
                "launches": DRIVER.fake_launches() - before,
                "held": held,
                "left": live(),
            }
    return seen


def endurance(bundle: Bundle, plans: Path) -> dict[str, Any]:
    """A hundred thousand answers: memory, allocations and latencies at the start and the end."""
    engine = opened(bundle, plans, "copied", True)
    views = bundle.golden().views[:1]
    took = np.full(100_000, 1.0)

    def ask(count: int) -> None:
        for index in range(count):
            began = time.perf_counter()
            engine.infer(views)
            took[index] = time.perf_counter() - began

    ask(5_000)
    before, held = resident(), live()
    ask(len(took))
    after = resident()
    document = {
        "grown_bytes": after - before,
        "held_before": held,
        "held_after": live(),
        "p50_us": float(np.percentile(took, 50)) * 1e6,
        "p99_us": float(np.percentile(took, 99)) * 1e6,
    }
    engine.close()
    return {**document, "left": live()}


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def failures(bundle: Bundle, plans: Path) -> dict[str, Any]:
    """Full memory at every allocation, a hang, and an error that stays."""
    views = bundle.golden().views[:1]
    seen: dict[str, Any] = {}
    for allowed in range(10):
        DRIVER.fake_out_of_memory_after(allowed)
        try:
            opened(bundle, plans, "copied", True).close()
        except EngineError as error:
            seen[f"full after {allowed}"] = [str(error), live()]
    DRIVER.fake_out_of_memory_after(-1)
    engine = opened(bundle, plans, "copied", True, timeout_s=0.05)
    DRIVER.fake_hang(1)
    seen["hang"] = said(engine, views)
    DRIVER.fake_hang(0)
    seen["after the hang"] = said(engine, views)
    engine = opened(bundle, plans, "mapped", True)
    DRIVER.fake_fail(719)
    seen["launch failed"] = said(engine, views)
    seen["after the failure"] = said(engine, views)
    engine.close()
    return seen


def said(engine: Engine, views: Any) -> str:
    try:
        engine.infer(views)
    except EngineError as error:
        return str(error)
    return "an answer"


if __name__ == "__main__":
    scenario, bundle_path, plans_path = sys.argv[1:]
    result = globals()[scenario](open_bundle(Path(bundle_path)), Path(plans_path))
    sys.stdout.write(json.dumps(result) + "\n")
