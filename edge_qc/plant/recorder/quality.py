"""Cost and PWA of production verdicts against people's labels; pure.

Defined as in the workstation's ``edge_qc_export.figures.metrics``; a test compares the two. People
label mostly rejected parts, so ``weighted`` treats the labelled verdicts of each label as a sample
of all verdicts with that label.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD, NOT_JUDGED

Confusion = Mapping[tuple[str, str], float]
"""Counts by (true label, said label)."""

Costs = Mapping[str, Mapping[str, float]]
"""By true label, then said label."""


def read_costs(document: object) -> Costs:
    """A cost matrix out of JSON: the matrix itself, or a bundle's manifest. Raises DataError."""
    if isinstance(document, dict) and isinstance(document.get("costs"), dict):
        document = document["costs"]
    try:
        assert isinstance(document, dict)
        costs = {
            _drift(true): {_drift(said): float(cost) for said, cost in row.items()}
            for true, row in document.items()
        }
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise DataError(
            'costs: wanted {"true label": {"said label": cost, …}, …}, or a bundle\'s manifest'
        ) from error
    lacking = [true for true, row in costs.items() if set(row) != set(costs)]
    if lacking or GOOD not in costs:
        raise DataError(f"costs: every label, GOOD among them, needs a cost for each: {lacking}")
    return costs


def weighted(confusion: Confusion, said: Mapping[str, int]) -> dict[tuple[str, str], float]:
    """Scale counts so that each label given by the station has its weight in production. Labels
    without any labelled verdict are left out."""
    seen: dict[str, float] = {}
    for (_, label), count in confusion.items():
        seen[label] = seen.get(label, 0) + count
    return {
        (true, label): count * said.get(label, 0) / seen[label]
        for (true, label), count in confusion.items()
    }


def figures(confusion: Confusion, costs: Costs) -> dict[str, float | None]:
    """Cost, both PWA definitions, escape and overkill rate of judged views. None if a figure is not
    defined. Raises DataError for a label without costs."""
    judged = {pair: n for pair, n in confusion.items() if n > 0 and pair[1] != NOT_JUDGED}
    unknown = {label for pair in judged for label in pair} - set(costs)
    if unknown:
        raise DataError(f"labels {', '.join(sorted(unknown))} have no costs")
    if not judged:
        raise DataError("none of these verdicts is labelled. Add labels with edge-qc label")
    seen = {label for pair in judged for label in pair}
    labels = [label for label in costs if label != DRIFT or DRIFT in seen]
    place = {label: at for at, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)))
    for (true, said), n in judged.items():
        counts[place[true], place[said]] = n
    matrix = np.array([[costs[true][said] for said in labels] for true in labels])
    good, n = place[GOOD], counts.sum()
    true, right = counts.sum(1), np.diagonal(counts)
    total = (counts * matrix).sum()
    constant = (true @ matrix).min()
    bad = n - true[good]
    found = {
        "verdicts": n,
        "total_cost": total,
        "mean_cost": total / n,
        "pwa_challenge": _ratio(total, n * matrix.max(), True),
        "pwa_report": _ratio(total, true @ matrix.max(1), True),
        "pwa_skill": 1.0 if total == 0 else _ratio(total, constant, True),
        "escape_rate": _ratio(counts[:, good].sum() - right[good], bad),
        "overkill_rate": _ratio(true[good] - right[good], true[good]),
        "accuracy": right.sum() / n,
    }
    return {name: None if value is None else float(value) for name, value in found.items()}


def _ratio(part: float, whole: float, rest: bool = False) -> float | None:
    if whole == 0:
        return None
    return 1 - part / whole if rest else part / whole


def _drift(label: str) -> str:
    return DRIFT if label.upper() == DRIFT else label
