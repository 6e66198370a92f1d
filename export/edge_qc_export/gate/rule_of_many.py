"""The station's decision on many parts at once, for figures that follow a slider.

The same rule as ``edge_qc.inspection.decision``, which alone judges: a test holds the two together.
What does not change while bound, mix and costs do is worked out once (``Weighed``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.manifest import Manifest
from edge_qc.inspection.decision import bayes_factor, disposition_of
from edge_qc.inspection.findings import combined_score, of_die, p_value, threshold_at
from edge_qc.parts import DRIFT, GOOD, Disposition
from edge_qc_export.gate.calibration import below, scores_by
from edge_qc_export.gate.scored import Scored

_LARGEST_LOG_ODDS = 700.0
_SMALLEST_P = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Parts with what a manifest's tails say of each. gate: (n,) the gate's score; drift: (n,) the
    likelihood of drift over that of a known part; odd: (n,), whether drift is over its threshold;
    defects: (n, D) weights of the defects among themselves."""

    parts: Scored
    gate: NDArray[np.float64]
    drift: NDArray[np.float64]
    odd: NDArray[np.bool_]
    defects: NDArray[np.float64]


def weigh(manifest: Manifest, parts: Scored) -> Weighed:
    """By the tails, temperature and AUROC of ``manifest``, which is of schema 2."""
    assert manifest.gate is not None
    drift = manifest.drift
    factors, odd = np.empty(len(parts)), np.empty(len(parts), np.bool_)
    for row, die in enumerate(parts.dies):
        padim = p_value(of_die(drift.padim, die), float(parts.padim[row]))
        embedding = p_value(of_die(drift.embedding, die), float(parts.embedding_distance[row]))
        score = combined_score(drift.combine, padim, embedding)
        tail = of_die(drift.combined, die)
        factors[row] = bayes_factor(p_value(tail, score), drift.assumed_auroc)
        odd[row] = score >= threshold_at(tail, drift.alpha)
    places = _defects(manifest)
    logits = parts.logits[:, places] / manifest.temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True)) if places else logits
    scores = scores_by(manifest.gate.witnesses, parts, manifest.gate.weights)
    return Weighed(parts, scores, factors, odd, weights)


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a rule makes of n parts. labels: (n,) places in the manifest's; passes, reviewed: (n,)
    bool, which the line lets pass, and which wait for a person; it rejects the others."""

    labels: NDArray[np.intp]
    passes: NDArray[np.bool_]
    reviewed: NDArray[np.bool_]

    def disposition(self, row: int) -> Disposition:
        """What the line does with one part."""
        if self.passes[row]:
            return Disposition.PASS
        return Disposition.REVIEW if self.reviewed[row] else Disposition.REJECT


def said_of(manifest: Manifest, weighed: Weighed) -> Said:
    """What the rule of the manifest makes of the parts.

    The manifest may differ from that of ``weigh`` in thresholds, evidence, mix, costs and policy.
    """
    gate = manifest.gate
    assert gate is not None
    good, places = manifest.classes.index(GOOD), _defects(manifest)
    shut = ~below(gate.threshold, weighed.parts.dies, weighed.gate)
    shares = np.zeros((len(shut), len(manifest.labels)))
    bad = _bad(manifest, weighed.gate)
    shares[:, good] = 1 - bad
    prior = gate.mix[DRIFT] / (1 - gate.mix[GOOD])
    if not places:
        odd = np.ones(len(bad))
    elif prior < 1:
        odds = prior / (1 - prior) * weighed.drift
        odd = odds / (1 + odds)
    else:
        odd = np.ones(len(bad))
    shares[:, -1] = bad * odd
    if places:
        names = [manifest.classes[place] for place in places]
        weights = weighed.defects * np.array([gate.mix[n] / gate.learned[n] for n in names])
        none = ~(weights.sum(axis=1) > 0)
        weights[none] = np.array([gate.mix[name] for name in names]) + 1e-12
        weights /= weights.sum(axis=1, keepdims=True)
        shares[:, places] = (bad * (1 - odd))[:, None] * weights
    costs = shares @ np.array(manifest.cost_rows)
    ranks = -shares[:, :-1] if manifest.decision.policy == "threshold" else costs.copy()
    ranks[shut, good] = np.inf
    found = np.asarray(ranks.argmin(axis=1), np.intp)
    if manifest.decision.policy == "threshold":
        stopped = weighed.odd | (shut & (len(manifest.classes) == 1))
        found = np.where(shut, np.where(stopped, len(manifest.labels) - 1, found), good)
    dispositions = [
        disposition_of(manifest, manifest.labels[label], row)
        for label, row in zip(found, costs.tolist(), strict=True)
    ]
    return Said(
        labels=found,
        passes=np.array([one is Disposition.PASS for one in dispositions], np.bool_),
        reviewed=np.array([one is Disposition.REVIEW for one in dispositions], np.bool_),
    )


def _defects(manifest: Manifest) -> list[int]:
    return [place for place, name in enumerate(manifest.classes) if name != GOOD]


def _bad(manifest: Manifest, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,): the probability that a part with such a score of the gate is not GOOD."""
    gate = manifest.gate
    assert gate is not None
    share = gate.mix[GOOD]
    prior = np.log((1 - share) / share)
    if gate.evidence is not None:
        against = prior + gate.evidence.offset + gate.evidence.slope * scores
    else:
        p = np.maximum(_SMALLEST_P, np.exp(-np.minimum(scores, _LARGEST_LOG_ODDS)))
        xi = 1.0 / manifest.drift.assumed_auroc - 1.0
        against = prior + np.log(xi) + (xi - 1.0) * np.log(p)
    clipped = np.clip(against, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)
    return np.asarray(1 / (1 + np.exp(-clipped)))
