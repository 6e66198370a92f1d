"""What a bundle's rule says of many answers: labels, drift scores, and both policies compared.

The rule itself is the station's (``edge_qc.inspection.decision``); here it is only applied, before
there is a bundle on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.manifest import Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.inspection.decision import Circumstances, judge, label_of
from edge_qc.inspection.findings import find_drift
from edge_qc.parts import DRIFT, Reading, Verdict
from edge_qc_export.figures.metrics import confusion_matrix, figures, present_labels
from edge_qc_export.figures.rates import auroc
from edge_qc_export.release.fitting import Answers

POLICIES = ("expected-cost", "threshold")

_FRESH = Circumstances(frame_age_s=0.0, max_frame_age_s=1.0, accepted=True, running=True)


def readings_from_answers(manifest: Manifest, answers: Answers) -> list[Reading]:
    """Readings for the rule, which looks at no patch: their distances are zeros."""
    patches = np.zeros(manifest.padim.grid, np.float32)
    return [
        Reading(logits, patches, float(drift), float(embedding), float(good))
        for logits, drift, embedding, good in zip(
            answers.logits,
            answers.drift,
            answers.embedding_distance,
            answers.good_distance,
            strict=True,
        )
    ]


def labels_from_answers(
    manifest: Manifest, dies: Sequence[str], answers: Answers, policy: str | None = None
) -> list[str]:
    """The label that the manifest's rule gives each view. policy: in place of the manifest's."""
    if policy is not None:
        decision = manifest.decision.model_copy(update={"policy": policy})
        manifest = manifest.model_copy(update={"decision": decision})
    bundle = Bundle(Path(), "", manifest, signed=False)
    readings = readings_from_answers(manifest, answers)
    return [label_of(bundle, die, reading) for die, reading in zip(dies, readings, strict=True)]


def verdicts_from_answers(
    manifest: Manifest, dies: Sequence[str], answers: Answers
) -> list[Verdict]:
    """The station's verdict on each view, were its frame fresh; NOT_JUDGED on a die that the
    manifest does not know."""
    bundle = Bundle(Path(), "", manifest, signed=False)
    readings = readings_from_answers(manifest, answers)
    return [judge(bundle, die, one, _FRESH) for die, one in zip(dies, readings, strict=True)]


def drift_scores(
    manifest: Manifest, dies: Sequence[str], answers: Answers
) -> dict[str, NDArray[np.float64]]:
    """(n,) of each: -ln p of ``padim`` and ``embedding``, and their calibrated combination."""
    findings = [
        find_drift(manifest.drift, die, reading)
        for die, reading in zip(dies, readings_from_answers(manifest, answers), strict=True)
    ]
    return {
        "padim": -np.log([finding.witnesses["padim"] for finding in findings]),
        "embedding": -np.log([finding.witnesses["embedding"] for finding in findings]),
        "combined": -np.log([finding.p_value for finding in findings]),
    }


def drift_auroc(
    manifest: Manifest, truth: Sequence[str], dies: Sequence[str], answers: Answers
) -> dict[str, float] | None:
    """AUROC of drift against known parts for each witness and both; None if truth has only one of
    the two."""
    odd = np.array([label == DRIFT for label in truth])
    if odd.all() or not odd.any():
        return None
    scores = drift_scores(manifest, dies, answers)
    once = np.ones((1, len(odd)))
    return {name: float(auroc(score, odd, once)[0]) for name, score in scores.items()}


def compare_policies(
    manifest: Manifest, truth: Sequence[str], dies: Sequence[str], answers: Answers
) -> dict[str, Any]:
    """Figures of both policies on labelled views, by policy name."""
    return {
        policy: _figures(manifest, truth, labels_from_answers(manifest, dies, answers, policy))
        for policy in POLICIES
    }


def _figures(manifest: Manifest, truth: Sequence[str], said: Sequence[str]) -> dict[str, Any]:
    labels = present_labels(truth, said, manifest.costs)
    counts = confusion_matrix(truth, said, labels)
    values = figures(counts, manifest.costs, labels)
    known = [label != DRIFT for label in truth]
    return {
        **{name: None if np.isnan(value) else float(value) for name, value in values.items()},
        "known_called_drift": sum(s == DRIFT for s, k in zip(said, known, strict=True) if k),
        "drift_missed": sum(s != DRIFT for s, k in zip(said, known, strict=True) if not k),
        "labels": list(labels),
        "confusion": counts.tolist(),
    }
