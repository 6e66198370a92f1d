"""Commissioning: accepts a bundle on this machine and writes the acceptance report.

It opens the engine as the station would, which may build a plan, and runs the golden views. The
result, also a refusal, is one JSON document that people can keep and send. ``inspecting`` opens an
engine for work.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_qc import __version__
from edge_qc.bundle.verification import Bundle, open_bundle
from edge_qc.engine import DeviceOptions, open_engine
from edge_qc.engine.acceptance import AcceptanceReport, accept
from edge_qc.errors import AcceptanceError, DataError
from edge_qc.inspection import decision
from edge_qc.system.machine import this_machine

SCHEMA = "edge-qc/acceptance/1"
REPEATS = 50

_LIBRARIES = (
    "numpy",
    "av",
    "opencv-python-headless",
    "onnxruntime",
    "pycuda",
    "cuda-bindings",
)


@dataclass(frozen=True, slots=True)
class Commissioning:
    """document: the report. refusal: why the engine may not judge, or None."""

    document: Mapping[str, Any]
    refusal: AcceptanceError | None

    def keep(self, file: Path) -> None:
        """Write the report. Raises DataError if it cannot be written."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(self.document, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise DataError(f"report {file}: cannot be written: {error}") from error


def commission(
    bundle_path: Path,
    *,
    public_key: Path | None = None,
    engine: str = "onnxruntime",
    threads: int = 2,
    device: DeviceOptions | None = None,
    repeats: int = REPEATS,
) -> Commissioning:
    """Open the engine, run the golden views, and time ``repeats`` further answers.

    A refusal is part of the result. Raises BundleError for an invalid bundle, EngineError if the
    engine cannot be opened or fails.
    """
    bundle = open_bundle(bundle_path, public_key)
    # Measure before the work starts: the load by other programs.
    load = os.getloadavg()[0]
    opened = open_engine(bundle, engine, threads, device)
    try:
        report = accept(bundle, opened, decision.label_of, repeats)
    except AcceptanceError as refusal:
        return Commissioning(_document(bundle, opened.name, refusal, load), refusal)
    finally:
        opened.close()
    return Commissioning(_document(bundle, opened.name, report, load), None)


def _document(
    bundle: Bundle, engine: str, result: AcceptanceReport | AcceptanceError, load: float
) -> dict[str, Any]:
    manifest = bundle.manifest
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "accepted": isinstance(result, AcceptanceReport),
        "engine": engine,
        "bundle": {
            "id": bundle.id,
            "name": manifest.name,
            "version": manifest.version,
            "network": manifest.network,
            "precision": manifest.precision,
            "view": [manifest.input.batch, 1, manifest.input.height, manifest.input.width],
        },
        "machine": dataclasses.asdict(this_machine()),
        "load": round(load, 2),
        "versions": {"edge-qc": __version__} | _versions(),
    }
    if isinstance(result, AcceptanceError):
        return document | {"refusal": str(result)}
    return document | {
        "golden_views": result.views,
        "differences": result.differences,
        "tolerances": result.tolerances,
        "latency_ms": {"p50": result.latency_p50_ms, "p99": result.latency_p99_ms},
        "answers_timed": result.answers_timed,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
