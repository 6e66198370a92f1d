"""The bad parts most like GOOD, which set the threshold: named, so that a person looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_qc_export.gate.scored import Parts
from edge_qc_export.gate.threshold import Choice


@dataclass(frozen=True, slots=True)
class Held:
    """A bad part that looks like GOOD. passes: whether the gate lets it. With the threshold at this
    part, ``yield_`` of GOOD parts score below, and escapes are bounded by ``at_most``."""

    row: int
    image: str
    die: str
    label: str
    passes: bool
    yield_: float
    at_most: float

    def as_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "die": self.die,
            "label": self.label,
            "passes": self.passes,
            "good_passed_with_the_threshold_here": self.yield_,
            "escapes_at_most": self.at_most,
        }


def parts_at_the_threshold(parts: Parts, choice: Choice | None) -> list[Held]:
    """The bad parts most like GOOD, in that order; none if there was no defect."""
    if choice is None:
        return []
    return [
        Held(
            row=step.row,
            image=parts.names[step.row],
            die=parts.dies[step.row],
            label=parts.labels[step.row],
            passes=step.score < choice.threshold,
            yield_=step.yield_,
            at_most=step.at_most,
        )
        for step in choice.steps
    ]
