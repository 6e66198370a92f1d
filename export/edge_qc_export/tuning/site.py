"""The tuning page: where the sliders begin, what follows from a move, pictures, and saving."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_qc.bundle.calibration import sentences
from edge_qc.engine import Engine
from edge_qc.errors import DataError
from edge_qc.evidence.pictures import heat_picture
from edge_qc.evidence.serving import Document
from edge_qc.parts import GOOD
from edge_qc_export.figures.exact import Share
from edge_qc_export.gate.rule_of_many import Said
from edge_qc_export.recalibration import Begun, write
from edge_qc_export.tuning.moves import (
    KINDS,
    Figures,
    Setting,
    changes,
    figures,
    settled_for,
    usual_costs,
)

SHOWN = 24
"""Of the pictures that change sides, so many are shown; all are counted."""
LEAST, MOST = 1e-4, 0.2
"""Of the share of bad parts that may pass."""
RAREST, MOST_BAD = 1e-4, 0.5
"""Of the line's share that is not GOOD."""
TIMES = 100.0
"""How many times dearer or cheaper a slider makes a mistake at most."""


class Tuner:
    """A ``serving.Site``. Every answer is computed from the parts, and nothing is written before
    ``save``."""

    package = "edge_qc_export.tuning"

    def __init__(
        self, begun: Begun, engine: Engine, out: Path | None = None, sign: Path | None = None
    ) -> None:
        """engine: of the bundle, for heat maps. out: where calibrations are saved; None: beside the
        bundle, under its name and their version. sign: a private key's file."""
        self._begun, self._engine, self._out, self._sign = begun, engine, out, sign
        self._first = len(begun.parts) - len(begun.pixels)
        self._version = begun.bundle.manifest.version
        self._drawing, self._saving = threading.Lock(), threading.Lock()

    @property
    def posts(self) -> Mapping[str, Callable[[Document], Document]]:
        """See ``serving.Site``."""
        return {"move": self.move, "save": self.save}

    def get(self, path: str) -> Document | bytes | None:
        """See ``serving.Site``."""
        if path == "start":
            return self.start()
        row, _, name = path.partition("/")
        if not row.isdecimal() or int(row) >= len(self._begun.pixels):
            return None
        view = self._begun.pixels[int(row), 0]
        if name == "view.png":
            return cv2.imencode(".png", view)[1].tobytes()
        if name == "heat.png":
            with self._drawing:
                (reading,) = self._engine.infer(view[np.newaxis, np.newaxis])
            return cv2.imencode(".png", heat_picture(view, reading.distances))[1].tobytes()
        return None

    def start(self) -> Document:
        """The bundle, the parts, the sliders' ranges and where they stand in the bundle."""
        manifest = self._begun.bundle.manifest
        assert manifest.gate is not None
        labels = self._begun.parts.scored.labels
        wish = self._begun.wish().max_escape
        return {
            "bundle": {"name": manifest.name, "version": manifest.version},
            "source": self._begun.source,
            "given": dict(Counter(labels[self._first :])),
            "held": dict(Counter(labels[: self._first])),
            "weighs_costs": manifest.decision.policy == "expected-cost",
            "ranges": {
                "max_escape": [min(LEAST, wish), max(MOST, wish)],
                "bad": [min(RAREST, 1 - manifest.gate.mix[GOOD]), MOST_BAD],
                "times": TIMES,
            },
            "costs": usual_costs(manifest.costs),
            "own": {"max_escape": wish, "good": manifest.gate.mix[GOOD]},
        }

    def move(self, request: Document) -> Document:
        """What the setting of the request makes of the parts. Raises DataError for one that is
        none."""
        begun = self._begun
        settled = settled_for(begun, _setting(request))
        before, now = begun.before, settled.said
        gate, everything = settled.manifest.gate, np.ones(len(begun.parts), np.bool_)
        assert gate is not None
        moved = changes(begun, settled)
        pictured = [one for one in moved if one.row >= self._first]
        kinds = Counter(one.kind for one in moved)
        parts = begun.parts.scored
        return {
            "says": sentences(gate.bound),
            "met": gate.bound is not None and gate.bound.met,
            "figures": {
                name: {
                    "before": _plain(figures(begun, settled, before, rows)),
                    "now": _plain(figures(begun, settled, now, rows)),
                }
                for name, rows in (("given", begun.now), ("all", everything))
            },
            "classes": self._classes(now),
            "changed": {kind: kinds[kind] for kind in KINDS},
            "pictured": len(pictured),
            "shown": [
                {
                    "row": one.row - self._first,
                    "kind": one.kind,
                    "name": parts.names[one.row],
                    "label": parts.labels[one.row],
                    "die": parts.dies[one.row],
                    "was": before.disposition(one.row).value,
                    "is": now.disposition(one.row).value,
                }
                for one in pictured[:SHOWN]
            ],
        }

    def save(self, request: Document) -> Document:
        """Write the calibration of the setting in the request as a new bundle. Raises EdgeQCError
        if it cannot be had, or another is being written."""
        setting = _setting(request)
        if not self._saving.acquire(blocking=False):
            raise DataError("a calibration is being written; wait for it")
        try:
            settled = settled_for(self._begun, setting)
            # A station takes a later version alone, so that a second saving can follow the first.
            number = self._version + 1
            out = self._next(number)
            written = write(self._begun, settled, out, version=number, sign=self._sign)
            self._version = number
        finally:
            self._saving.release()
        bundle = written.bundle
        return {
            "said": f"{bundle.path} (version {bundle.manifest.version}"
            f"{'' if bundle.signed else ', not signed'}). Install it with a shadow run first: "
            f"edge-qc install {bundle.path} --shadow-parts 200",
            "path": str(bundle.path),
        }

    def _next(self, version: int) -> Path:
        """The first folder that is free: ``out``, ``out-2``, …; without ``out`` the bundle's name
        and the version, beside the bundle."""
        bundle = self._begun.bundle.path.resolve()
        first = self._out or bundle.with_name(f"{bundle.name}-{version}")
        number, folder = 1, first
        while folder.exists():
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
        return folder

    def _classes(self, now: Said) -> list[dict[str, Any]]:
        parts = self._begun.parts.scored
        rows = []
        for name in sorted(set(parts.labels), key=lambda one: (one != GOOD, one)):
            of = parts.is_class(name)
            rows.append(
                {
                    "label": name,
                    "parts": int(of.sum()),
                    "before": int(self._begun.before.passes[of].sum()),
                    "now": int(now.passes[of].sum()),
                }
            )
        return rows


def _setting(request: Document) -> Setting:
    def number(name: str, low: float, high: float) -> float:
        value = request.get(name)
        # A bool is an int in Python.
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DataError(f"{name} {value!r}: wanted a number")
        if not low <= value <= high:
            raise DataError(f"{name} {value:g}: wanted {low:g} to {high:g}")
        return float(value)

    # The page's logarithms may end a hair beyond a range.
    most = TIMES * (1 + 1e-6)
    times = {name: number(name, 1 / most, most) for name in ("escape", "overkill", "confusion")}
    return Setting(
        max_escape=number("max_escape", 1e-6, 0.5), good=number("good", 0.01, 1 - 1e-6), **times
    )


def _plain(found: Figures) -> dict[str, Any]:
    return {
        "overkill": _share(found.overkill),
        "escapes": _share(found.escapes),
        "reviewed": _share(found.reviewed),
        "cost": found.cost if math.isfinite(found.cost) else None,
    }


def _share(found: Share) -> dict[str, Any]:
    interval = [found.low, found.high] if found.of else None
    return {"count": found.count, "of": found.of, "interval": interval}
