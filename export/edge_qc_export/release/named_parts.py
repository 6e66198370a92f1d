"""Labelled parts that an export names: those at the threshold, those whose label is doubtful.

The threshold hangs on the bad parts that look most like GOOD, and one of them may cost half of the
yield; a label that is plainly wrong costs as much. Both travel in the bundle's report as pictures,
for a person to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edge_qc.bundle.manifest import Manifest
from edge_qc.bundle.verification import Bundle
from edge_qc.inspection.decision import Circumstances, judge
from edge_qc_export.gate.held import Held
from edge_qc_export.learn.run_views import LabelledViews
from edge_qc_export.release.fitting import CrossFitted
from edge_qc_export.release.rule import readings_from_answers

DOUBTFUL = 0.2
"""A label that the cross-fitted posterior gives less than this is doubtful."""
SHOWN = 12

_FRESH = Circumstances(frame_age_s=0.0, max_frame_age_s=1.0, accepted=True, running=True)


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
    bundle = Bundle(Path(), "", manifest, signed=False)
    found = []
    readings = readings_from_answers(manifest, cross.answers())
    for row, (label, die, reading) in enumerate(
        zip(parts.labels, parts.dies, readings, strict=True)
    ):
        verdict = judge(bundle, die, reading, _FRESH)
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
