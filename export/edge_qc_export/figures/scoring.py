"""Truth and predictions to figures, each with its interval.

Shares of images (accuracy, escape, overkill, recall) have Wilson's interval: where nothing went
wrong among n images the bootstrap would answer 0 to 0. All others have the bootstrap's percentile
interval. What the figures are stands in ``metrics`` and ``rates``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.figures import metrics, rates
from edge_qc_export.figures.costs import Costs, cost_matrix

LEVEL = 0.95
_Z = 1.959963984540054
DRAWS = 2000
_IMAGE_DRAWS = 500


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its 95 % interval; NaN if it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: images that are it, and how they were judged."""

    images: int
    recall: Figure
    precision: float
    f1: float
    mean_cost: float


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """All figures of one set of predictions. figures: those of ``metrics.FIGURES``, and
    ``calibration_error``, ``drift_auroc``, ``drift_auprc`` where they were asked for. confusion:
    (L, L) true by predicted in the order of labels. best_constant: the label with the least cost
    as a constant prediction; collapsed: all images get one label."""

    images: int
    labels: tuple[str, ...]
    confusion: NDArray[np.int64]
    figures: Mapping[str, Figure]
    by_class: Mapping[str, ClassFigures]
    mean_cost: float
    best_constant: str
    collapsed: bool

    def as_json(self) -> dict[str, Any]:
        """A JSON document: each figure under its name, its interval under ``intervals``; null if it
        is not defined."""
        return {
            "images": self.images,
            **{name: _plain(figure.value) for name, figure in self.figures.items()},
            "mean_cost": self.mean_cost,
            "collapsed": self.collapsed,
            "best_constant": self.best_constant,
            "intervals": {
                name: [_plain(figure.low), _plain(figure.high)]
                for name, figure in self.figures.items()
            },
            "by_class": {
                label: {
                    "images": row.images,
                    "recall": _plain(row.recall.value),
                    "recall_interval": [_plain(row.recall.low), _plain(row.recall.high)],
                    "precision": _plain(row.precision),
                    "f1": _plain(row.f1),
                    "mean_cost": _plain(row.mean_cost),
                }
                for label, row in self.by_class.items()
            },
            "confusion": {
                true: dict(zip(self.labels, map(int, row), strict=True))
                for true, row in zip(self.labels, self.confusion, strict=True)
            },
        }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def wilson(successes: float, trials: float) -> Figure:
    """A share and its 95 % interval (Wilson 1927)."""
    if trials == 0:
        return Figure(math.nan, math.nan, math.nan)
    share = successes / trials
    spread = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    middle, scale = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    return Figure(share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


def percentile_figure(value: float, draws: NDArray[np.float64]) -> Figure:
    """A value and the bootstrap's percentile interval; undefined draws are left out."""
    known = draws[np.isfinite(draws)]
    if not len(known) or not math.isfinite(value):
        return Figure(float(value), math.nan, math.nan)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Figure(float(value), float(low), float(high))


def score(
    truth: Sequence[str],
    predicted: Sequence[str],
    costs: Costs,
    *,
    confidence: NDArray[np.float64] | None = None,
    drift_scores: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> Scores:
    """The figures of predictions by class name.

    confidence: (n,) probability of each prediction, for ``calibration_error`` over the images
    whose truth is a known class. drift_scores: (n,), for ``drift_auroc`` and ``drift_auprc``, with
    DRIFT as the positives. Raises DataError for labels without costs.
    """
    labels = metrics.present_labels(truth, predicted, costs)
    confusion = metrics.confusion_matrix(truth, predicted, labels)
    rng = np.random.default_rng(seed)
    shares = confusion.ravel() / confusion.sum()
    drawn = rng.multinomial(len(truth), shares, DRAWS).reshape(DRAWS, *confusion.shape)
    values = metrics.figures(confusion, costs, labels)
    draws = metrics.figures(drawn, costs, labels)
    figures = {
        name: percentile_figure(float(values[name]), draws[name]) for name in metrics.FIGURES
    }
    figures |= _shares(confusion, labels)
    known = np.array([label != DRIFT for label in truth])
    if confidence is not None and known.any():
        right = np.array([t == p for t, p in zip(truth, predicted, strict=True)])
        figures["calibration_error"] = _over_images(
            partial(rates.calibration_error, confidence[known], right[known]),
            int(known.sum()),
            rng,
        )
    if drift_scores is not None:
        for name, rate in (("drift_auroc", rates.auroc), ("drift_auprc", rates.auprc)):
            figures[name] = _over_images(partial(rate, drift_scores, ~known), len(truth), rng)
    return Scores(
        images=len(truth),
        labels=labels,
        confusion=confusion,
        figures=figures,
        by_class=_by_class(confusion, costs, labels),
        mean_cost=float(values["mean_cost"]),
        best_constant=metrics.best_constant(truth, costs),
        collapsed=metrics.collapsed(truth, predicted),
    )


def _shares(confusion: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Figure]:
    good = labels.index(GOOD)
    true, right = confusion.sum(1), np.diagonal(confusion)
    bad = int(true.sum() - true[good])
    return {
        "escape_rate": wilson(int(confusion[:, good].sum() - right[good]), bad),
        "overkill_rate": wilson(int(true[good] - right[good]), int(true[good])),
        "accuracy": wilson(int(right.sum()), int(true.sum())),
    }


def _over_images(
    rate: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    count: int,
    rng: np.random.Generator,
) -> Figure:
    drawn = rng.multinomial(count, np.full(count, 1 / count), _IMAGE_DRAWS).astype(np.float64)
    return percentile_figure(float(rate(np.ones((1, count)))[0]), rate(drawn))


def _by_class(
    confusion: NDArray[np.int64], costs: Costs, labels: Sequence[str]
) -> dict[str, ClassFigures]:
    spent = (confusion * cost_matrix(costs, labels)).sum(1)
    rows = {}
    for index, label in enumerate(labels):
        true, said = int(confusion[index].sum()), int(confusion[:, index].sum())
        right = int(confusion[index, index])
        rows[label] = ClassFigures(
            images=true,
            recall=wilson(right, true),
            precision=right / said if said else math.nan,
            f1=2 * right / (true + said) if true + said else math.nan,
            mean_cost=float(spent[index]) / true if true else math.nan,
        )
    return rows
