"""How good predictions are, keyed by class name; pure numpy.

Everything that follows from counts is a function of the confusion matrix, over any leading axes,
so that the bootstrap draws matrices and not images: drawing n images with replacement is the same
as drawing the matrix's cells from a multinomial. Calibration and drift need each image and are in
``rates``, intervals in ``scoring``. Costs come from ``costs``.

PWA (penalty-weighted accuracy) has two definitions in use, both named here:
``pwa_challenge`` = 1 - total / (n max C), the challenge's; ``pwa_report`` = 1 - total / (sum over
images of the cost of each one's worst answer), the report's. Both flatter a constant prediction
where one class prevails. ``pwa_skill`` = 1 - total / total of the best constant prediction on the
same images: 0 for that constant, 1 for perfect, negative below a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.figures.costs import Costs, cost_matrix

Floats = NDArray[np.float64]

FIGURES = (
    "pwa_challenge",
    "pwa_report",
    "pwa_skill",
    "pwa_balanced",
    "escape_rate",
    "overkill_rate",
    "accuracy",
    "macro_f1",
)


def present_labels(truth: Sequence[str], predicted: Sequence[str], costs: Costs) -> tuple[str, ...]:
    """The labels that the figures are about, in the costs' order: all classes of the costs, and
    DRIFT if it is among truth or predictions."""
    seen = {*truth, *predicted}
    unknown = sorted(seen - set(costs))
    if unknown:
        raise DataError(
            f"labels {', '.join(map(repr, unknown))} have no costs; costs name {', '.join(costs)}"
        )
    return tuple(label for label in costs if label != DRIFT or DRIFT in seen)


def confusion_matrix(
    truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> NDArray[np.int64]:
    """(L, L) counts, true by predicted, in the order of ``labels``."""
    if len(truth) != len(predicted) or not truth:
        raise DataError(
            f"{len(truth)} true labels and {len(predicted)} predictions: wanted as many, and some"
        )
    place = {label: index for index, label in enumerate(labels)}
    cells = [place[t] * len(labels) + place[p] for t, p in zip(truth, predicted, strict=True)]
    counts = np.bincount(cells, minlength=len(labels) ** 2)
    return counts.reshape(len(labels), len(labels)).astype(np.int64)


def figures(
    confusion: NDArray[np.generic], costs: Costs, labels: Sequence[str]
) -> dict[str, Floats]:
    """All of ``FIGURES`` and ``mean_cost`` of confusion matrices (..., L, L), each (...).

    Escape: a part that is not GOOD, called GOOD, as a share of those that are not GOOD. Overkill: a
    GOOD part not called so, as a share of the GOOD. pwa_balanced: pwa_report within each true
    class, averaged over the classes that occur. macro_f1: over labels that are true or predicted
    anywhere. NaN if a figure is not defined.
    """
    counts = np.asarray(confusion, np.float64)
    matrix = cost_matrix(costs, labels)
    good = labels.index(GOOD)
    true, said = counts.sum(-1), counts.sum(-2)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    n = true.sum(-1)
    total = (counts * matrix).sum((-2, -1))
    constant = (true @ matrix).min(-1)
    by_class = (counts * matrix).sum(-1)
    worst = matrix.max(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = 2 * right / (true + said)
        return {
            "pwa_challenge": 1 - total / (n * matrix.max()),
            "pwa_report": 1 - total / (true @ worst),
            "pwa_skill": np.where((constant == 0) & (total == 0), 1.0, 1 - total / constant),
            "pwa_balanced": _mean_of_known(1 - by_class / (true * worst)),
            "escape_rate": (said[..., good] - right[..., good]) / (n - true[..., good]),
            "overkill_rate": 1 - right[..., good] / true[..., good],
            "accuracy": right.sum(-1) / n,
            "macro_f1": _mean_of_known(f1),
            "mean_cost": total / n,
        }


def _mean_of_known(values: Floats) -> Floats:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(-1) / known.sum(-1), np.float64)


def best_constant(truth: Sequence[str], costs: Costs) -> str:
    """The label with the least cost as a constant prediction."""
    labels = present_labels(truth, (), costs)
    counts = confusion_matrix(truth, truth, labels).sum(1)
    return labels[int((counts @ cost_matrix(costs, labels)).argmin())]


def least_cost_labels(probabilities: Floats, costs: Costs, classes: Sequence[str]) -> list[str]:
    """The class at least expected cost for each row of probabilities (n, C)."""
    chosen = (probabilities @ cost_matrix(costs, classes)).argmin(1)
    return [classes[index] for index in chosen]


def collapsed(truth: Sequence[str], predicted: Sequence[str]) -> bool:
    """Whether all images get one label although there are several."""
    return len(set(predicted)) == 1 and len(set(truth)) > 1
