"""Thresholds and figures of parts that are scored already: no network, no image, no torch.

``refit`` sets the tails from parts, once. ``settle`` then answers within milliseconds for each wish
for a bound, mix of the line and costs: what a calibration writes, and a page with sliders shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.manifest import Manifest
from edge_qc_export.figures.calibration import calibrate_drift
from edge_qc_export.figures.exact import Share, share
from edge_qc_export.gate.bound import bound_of
from edge_qc_export.gate.calibration import (
    below,
    evidence_of,
    fit_tails,
    scores_by,
    set_threshold,
)
from edge_qc_export.gate.rule_of_many import Said, Weighed, said_of, weigh
from edge_qc_export.gate.scored import Scored
from edge_qc_export.gate.threshold import Choice, Wish


@dataclass(frozen=True, slots=True, eq=False)
class Refitted:
    """Parts and a manifest whose tails were set from them; its thresholds are still to be settled.
    added: (n,), the parts that were verified since the bundle was made."""

    manifest: Manifest
    weighed: Weighed
    added: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A manifest as it would be written, and what it makes of the parts.

    scores: (n,), the gate's, and open: (n,), whether it lets each pass. said: what the whole rule
    makes of each, which takes the costs too. choice: how the threshold came about; None without a
    bad part. overkill, escapes: of all parts,
    with exact two-sided 95 % intervals; what bounds escapes is the manifest's ``gate.bound``.
    """

    manifest: Manifest
    scores: NDArray[np.float64]
    open: NDArray[np.bool_]
    said: Said
    choice: Choice | None
    overkill: Share
    escapes: Share

    @property
    def passes(self) -> NDArray[np.bool_]:
        """(n,): which parts the line would let pass."""
        return self.said.passes


def refit(manifest: Manifest, parts: Scored, added: NDArray[np.bool_]) -> Refitted:
    """Tails of GOOD by witness and die, evidence and tails of drift, all from ``parts``.

    manifest: of the bundle whose network scored them; its temperature and shares of the learned
    stay, since no network learned anything. Raises DataError where the parts do not suffice.
    """
    gate, drift = manifest.gate, manifest.drift
    assert gate is not None
    tails = fit_tails(parts, told_apart="classifier" in gate.witnesses)
    scores = scores_by(tails, parts, gate.weights)
    bad = ~parts.good
    evidence = evidence_of(parts, scores, np.ones(len(parts), np.bool_)) if bad.any() else None
    learned = np.flatnonzero([label in manifest.classes for label in parts.labels])
    known = parts.chosen(learned)
    fresh = manifest.model_copy(
        update={
            "gate": gate.model_copy(update={"witnesses": tails, "evidence": evidence}),
            "drift": calibrate_drift(
                known.padim,
                known.embedding_distance,
                known.dies,
                combine=drift.combine,
                alpha=drift.alpha,
                prior=drift.prior,
                assumed_auroc=drift.assumed_auroc,
            ),
        }
    )
    return Refitted(fresh, weigh(fresh, parts), added)


def settle(
    refitted: Refitted,
    wish: Wish,
    mix: Mapping[str, float] | None = None,
    costs: Mapping[str, Mapping[str, float]] | None = None,
) -> Settled:
    """Thresholds for a wish, and what they do.

    mix: every label's share of the line; costs: by true, then said label; None for those of the
    manifest. Of the bad parts that were added no more pass than chance explains under the wish,
    however many others there are.
    """
    weighed, added = refitted.weighed, refitted.added
    parts = weighed.parts
    gate = refitted.manifest.gate
    assert gate is not None
    everything = np.ones(len(parts), np.bool_)
    threshold, choice = set_threshold(parts, weighed.gate, wish, everything, added)
    gate = gate.model_copy(
        update={"threshold": threshold, "mix": dict(gate.mix if mix is None else mix)}
    )
    changes = {"gate": gate} | ({} if costs is None else {"costs": costs})
    manifest = refitted.manifest.model_copy(update=changes)
    said = said_of(manifest, weighed)
    passes = said.passes
    good = parts.good
    fresh = good & ~parts.seen
    open_ = below(threshold, parts.dies, weighed.gate)
    bound = bound_of(
        parts,
        open_,
        {},
        wish,
        good_passed=float(passes[fresh if fresh.any() else good].mean()),
        added=added,
    )
    return Settled(
        manifest=manifest.model_copy(update={"gate": gate.model_copy(update={"bound": bound})}),
        scores=weighed.gate,
        open=open_,
        said=said,
        choice=choice,
        overkill=share(int((good & ~passes).sum()), int(good.sum())),
        escapes=share(int((~good & passes).sum()), int((~good).sum())),
    )
