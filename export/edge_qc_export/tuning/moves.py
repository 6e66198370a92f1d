"""A setting of the sliders: what it asks of a calibration, and what follows for the parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.manifest import Manifest
from edge_qc.inspection.findings import of_die
from edge_qc.parts import GOOD
from edge_qc_export.figures.costs import cost_matrix
from edge_qc_export.figures.exact import Share, share
from edge_qc_export.gate.rule_of_many import Said
from edge_qc_export.gate.settling import Settled, settle
from edge_qc_export.recalibration import Begun

KINDS = ("escape", "overkill", "stopped", "released")
"""How a part may change sides, the gravest first: a bad part now passes, a good part is now
stopped, a bad part is now stopped, a good part now passes."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the sliders stand. max_escape: the share of bad parts that may pass. good: GOOD's
    share of the line. escape, overkill, confusion: how many times what the bundle says a bad part
    that passes costs, a good part that is stopped, and a bad part under another name."""

    max_escape: float
    good: float
    escape: float = 1.0
    overkill: float = 1.0
    confusion: float = 1.0

    def costs(self, manifest: Manifest) -> dict[str, dict[str, float]]:
        """The bundle's costs by true label and given label, times the setting's."""
        return {
            true: {given: cost * getattr(self, mistake(true, given)) for given, cost in row.items()}
            for true, row in manifest.costs.items()
        }

    def mix(self, manifest: Manifest) -> dict[str, float]:
        """The line's shares by label; those that are not GOOD keep their proportions."""
        assert manifest.gate is not None
        mix = manifest.gate.mix
        times = (1 - self.good) / (1 - mix[GOOD])
        return {name: self.good if name == GOOD else share * times for name, share in mix.items()}


def mistake(true: str, given: str) -> str:
    """Which of a setting's costs it is to give a label for another."""
    if given == GOOD:
        return "escape"
    return "overkill" if true == GOOD else "confusion"


def settled_for(begun: Begun, setting: Setting) -> Settled:
    """The calibration that the setting asks for. Raises DataError as ``settle``."""
    manifest = begun.bundle.manifest
    return settle(
        begun.refitted,
        begun.wish(setting.max_escape),
        setting.mix(manifest),
        setting.costs(manifest),
    )


@dataclass(frozen=True, slots=True)
class Figures:
    """overkill: GOOD parts that do not pass; escapes: bad parts that do; reviewed: parts that a
    person must see. cost: of a part of the line; NaN where no part has a label of the costs."""

    overkill: Share
    escapes: Share
    reviewed: Share
    cost: float


def figures(begun: Begun, settled: Settled, said: Said, chosen: NDArray[np.bool_]) -> Figures:
    """Of the ``chosen`` parts (n,), at the costs and the mix of ``settled``; exact 95 %
    intervals."""
    manifest, parts = settled.manifest, begun.parts.scored
    assert manifest.gate is not None
    names = manifest.labels
    matrix, mix = cost_matrix(manifest.costs, names), manifest.gate.mix
    spent = seen = 0.0
    for index, name in enumerate(names):
        rows = chosen & parts.is_class(name)
        if rows.any():
            spent += mix[name] * float(matrix[index, said.labels[rows]].mean())
            seen += mix[name]
    good, passes = parts.good, said.passes
    return Figures(
        overkill=share(int((chosen & good & ~passes).sum()), int((chosen & good).sum())),
        escapes=share(int((chosen & ~good & passes).sum()), int((chosen & ~good).sum())),
        reviewed=share(int((chosen & said.reviewed).sum()), int(chosen.sum())),
        cost=spent / seen if seen else math.nan,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """A part that changes sides. kind: one of ``KINDS``. far: how far from the gate's threshold it
    lies."""

    row: int
    kind: str
    far: float


def changes(begun: Begun, settled: Settled) -> list[Change]:
    """The parts that change sides, the most telling first: by kind, and of each kind those first
    that lie farthest from the threshold."""
    parts, gate = begun.parts.scored, settled.manifest.gate
    assert gate is not None
    good, before = parts.good, begun.before
    found = []
    for row in np.flatnonzero(before.passes != settled.passes):
        passes = bool(settled.passes[row])
        kind = KINDS[(3 if passes else 1) if good[row] else (0 if passes else 2)]
        limit = of_die(gate.threshold, parts.dies[row])
        found.append(Change(int(row), kind, abs(limit - float(settled.scores[row]))))
    return sorted(found, key=lambda one: (KINDS.index(one.kind), -one.far))


def usual_costs(costs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The median cost of each kind of mistake of a ``Setting``."""
    of: dict[str, list[float]] = {}
    for true, row in costs.items():
        for given, cost in row.items():
            if true != given:
                of.setdefault(mistake(true, given), []).append(cost)
    return {kind: float(np.median(values)) for kind, values in of.items()}
