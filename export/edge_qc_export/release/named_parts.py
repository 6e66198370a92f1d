"""Labelled parts that an export names: those at the threshold, those whose label is doubtful.

The threshold hangs on the bad parts that look most like GOOD, and one of them may cost half of the
yield; a label that is plainly wrong costs as much. Both travel in the bundle's report as pictures,
for a person to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2

from edge_qc.bundle.manifest import Manifest
from edge_qc.parts import Reason
from edge_qc_export.gate.held import Held
from edge_qc_export.learn.run_views import LabelledViews
from edge_qc_export.release.fitting import CrossFitted
from edge_qc_export.release.rule import verdicts_from_answers

DOUBTFUL = 0.2
"""A label that the cross-fitted posterior gives less than this is doubtful."""
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Doubt:
    """A labelled part that the other folds call ``said``; its own label has ``probability``."""

    row: int
    image: str
    die: str
    label: str
    said: str
    probability: float

    def as_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "die": self.die,
            "label": self.label,
            "said": self.said,
            "probability_of_its_label": self.probability,
        }


def doubtful_labels(manifest: Manifest, cross: CrossFitted) -> list[Doubt]:
    """At most ``SHOWN`` parts whose label the cross-fitted scores contradict most, those first."""
    parts = cross.parts
    found = []
    verdicts = verdicts_from_answers(manifest, parts.dies, cross.answers())
    for row, (label, die, verdict) in enumerate(
        zip(parts.labels, parts.dies, verdicts, strict=True)
    ):
        # No part is judged of a die of which no GOOD image could be learned from.
        if verdict.reason is not Reason.DECIDED:
            continue
        probability = verdict.probabilities[label]
        if verdict.label != label and probability < DOUBTFUL:
            found.append(Doubt(row, parts.names[row], die, label, verdict.label, probability))
    return sorted(found, key=lambda doubt: doubt.probability)[:SHOWN]


def pictures_of(
    views: LabelledViews, held: Sequence[Held], doubts: Sequence[Doubt]
) -> dict[str, bytes]:
    """Each part's view as a PNG, by its name in the bundle."""
    named = {f"report/threshold-{place}.png": one.row for place, one in enumerate(held, 1)}
    named |= {f"report/doubtful-{place}.png": one.row for place, one in enumerate(doubts, 1)}
    return {
        name: cv2.imencode(".png", views.pixels[row, 0])[1].tobytes() for name, row in named.items()
    }
