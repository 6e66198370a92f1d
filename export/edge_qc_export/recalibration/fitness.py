"""Whether new thresholds suffice, or the network itself no longer fits the parts.

The rule (docs/decision.md): of the verified GOOD parts at least half as many must pass as
of those that the bundle was made with; sooner than that, chance must be ruled out at 95 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.manifest import Manifest
from edge_qc.errors import DataError
from edge_qc.inspection.findings import of_die, p_value
from edge_qc.parts import GOOD
from edge_qc_export.figures.exact import upper_bound
from edge_qc_export.gate.calibration import witness_scores
from edge_qc_export.gate.scored import Scored
from edge_qc_export.gate.settling import Refitted, Settled

LEAST = 0.5
"""Of the share of GOOD that passed before: below, a calibration is refused."""
FAR = 0.01
"""A part whose p-value among the old GOOD parts is smaller lies beyond them."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Fitness:
    """Of ``good`` GOOD parts ``passed`` pass by the new rule; ``before`` is the share of those that
    the bundle was made with that pass by its own."""

    good: int
    passed: int
    before: float

    @property
    def unfit(self) -> bool:
        """Whether so few pass that chance does not explain it."""
        return upper_bound(self.passed, self.good) < LEAST * self.before


def fitness_of(passes_before: NDArray[np.bool_], refitted: Refitted, settled: Settled) -> Fitness:
    """passes_before: (n,), by the bundle's own rule. Judged are the GOOD parts that were added; all
    of them if none was."""
    parts, added = refitted.weighed.parts, refitted.added
    made = parts.good & ~added
    fresh = made & ~parts.seen
    judged = parts.good & added if (parts.good & added).any() else parts.good
    return Fitness(
        good=int(judged.sum()),
        passed=int((judged & settled.passes).sum()),
        before=float(passes_before[fresh if fresh.any() else made].mean()),
    )


def require_fit(
    manifest: Manifest, passes_before: NDArray[np.bool_], refitted: Refitted, settled: Settled
) -> None:
    """Raises DataError that says what does not fit, and to train again. manifest: the bundle's."""
    found = fitness_of(passes_before, refitted, settled)
    if not found.unfit:
        return
    parts, added = refitted.weighed.parts, refitted.added
    which = "verified" if (parts.good & added).any() else "labelled"
    raise DataError(
        f"the network no longer fits these parts, and no threshold helps: {found.passed} of "
        f"{found.good} {which} {GOOD} parts would pass, and {found.before:.1%} did when the bundle "
        f"was made; wanted at least {LEAST:.0%} of that.{_far(manifest, parts, added)}"
        f"{_setters(parts, added, settled)} Nothing was written. Train again with these images "
        "beside the first ones ('edge-qc evidence export', 'edge-qc train', 'edge-qc export')"
    )


def _far(manifest: Manifest, parts: Scored, added: NDArray[np.bool_]) -> str:
    """How many added GOOD parts lie beyond the old ones, by witness."""
    gate = manifest.gate
    assert gate is not None
    rows = np.flatnonzero(parts.good & added)
    if not len(rows):
        return ""
    scores = witness_scores(parts)
    words = {"padim": "patches", "embedding": "embedding", "classifier": "classifier"}
    told = []
    for name, tails in gate.witnesses.items():
        far = sum(
            p_value(of_die(tails, parts.dies[row]), float(scores[name][row])) < FAR for row in rows
        )
        told.append(f"{words[name]} {far}")
    return (
        f" Of {len(rows)} verified {GOOD} parts so many lie where fewer than {FAR:.0%} of the old "
        f"ones do: {', '.join(told)}."
    )


def _setters(parts: Scored, added: NDArray[np.bool_], settled: Settled) -> str:
    """The added bad parts that are most like GOOD, if they set the threshold."""
    steps = () if settled.choice is None else settled.choice.steps
    rows = [step.row for step in steps if added[step.row]][:_NAMED]
    if not rows:
        return ""
    named = ", ".join(f"{parts.names[row]} ({parts.labels[row]})" for row in rows)
    return f" Bad parts that look like {GOOD}, and whose labels are worth a second look: {named}."
