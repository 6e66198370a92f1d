"""The mistakes that cost most, as pictures: each die's upright band, as a person would look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.images import read_image
from edge_qc.inspection.view import view
from edge_qc.parts import DRIFT
from edge_qc_export.data.dataset import Sample
from edge_qc_export.evaluation import Evaluation
from edge_qc_export.figures.costs import Costs
from edge_qc_export.learn.checkpoints import Run

SHOWN = 12
_TALLEST = 320


@dataclass(frozen=True, slots=True, eq=False)
class Mistake:
    """One picture judged wrongly. confidence: the probability of what was said; band: (H, W)
    uint8."""

    filename: str
    die: str
    true: str
    said: str
    cost: float
    confidence: float
    band: NDArray[np.uint8]


def costliest(
    run: Run,
    samples: Sequence[Sample],
    evaluation: Evaluation,
    costs: Costs,
    shown: int = SHOWN,
) -> tuple[list[Mistake], int]:
    """At most ``shown`` mistakes, the costliest first, among equals the surest first, and how many
    there are in all. Drift counts where the evaluation can say it. Raises DataError for a picture
    that cannot be read any more."""
    order = [*evaluation.classes, DRIFT][: evaluation.probabilities.shape[1]]
    rows = []
    for row, (true, said) in enumerate(zip(evaluation.labels, evaluation.predicted, strict=True)):
        if true == said or true not in order:
            continue
        confidence = float(evaluation.probabilities[row, order.index(said)])
        rows.append((costs[true][said], confidence, row))
    rows.sort(key=lambda found: (-found[0], -found[1], found[2]))
    mistakes = []
    templates = run.templates()
    for cost, confidence, row in rows[:shown]:
        sample = samples[row]
        pixels = read_image(sample.file)
        template = templates.get(sample.die)
        band = view(pixels, run.dies[sample.die], None, template=template).pixels[0]
        mistakes.append(
            Mistake(
                filename=sample.filename,
                die=sample.die,
                true=evaluation.labels[row],
                said=evaluation.predicted[row],
                cost=cost,
                confidence=confidence,
                band=_shrunk(band),
            )
        )
    return mistakes, len(rows)


def _shrunk(band: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Not taller than ``_TALLEST``, for a page that stays small."""
    rows, columns = band.shape
    if rows <= _TALLEST:
        return band
    width = max(1, round(columns * _TALLEST / rows))
    return np.asarray(cv2.resize(band, (width, _TALLEST), interpolation=cv2.INTER_AREA), np.uint8)
