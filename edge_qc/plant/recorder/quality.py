"""Cost and PWA of production verdicts against people's labels; pure.

Defined as in the workstation's ``edge_qc_export.figures.metrics``; a test compares the two. People
label mostly rejected parts, so ``weighted`` treats the labelled verdicts of each label as a sample
of all verdicts with that label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_qc.bundle.costs import Costs
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD, NOT_JUDGED
from edge_qc.plant.recorder.exact import interval

FEW = 20
"""Below so many labels a share is given as its interval alone."""

_RATES = ("escape_rate", "overkill_rate", "accuracy")

Confusion = Mapping[tuple[str, str], float]
"""Counts by (true label, said label)."""


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


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of quality. value: of the labelled sample; None if it is not defined, or a share
    of too few. count, of: what it is a share of. low, high: its exact 95 % interval.
    weighted: see ``weighted``."""

    name: str
    value: float | None
    count: int | None = None
    of: int | None = None
    low: float | None = None
    high: float | None = None
    weighted: float | None = None


def assessed(
    confusion: Mapping[tuple[str, str], int],
    said: Mapping[str, int],
    costs: Costs,
    parts: tuple[int, int],
) -> tuple[list[Figure], list[str]]:
    """All figures, and what a reader must know before believing them, in words.

    confusion: of labelled views. said: how often the station gave each label. parts: how many
    labelled bad parts passed, of how many. A true label without costs counts for the rates, not for
    the costs. Raises DataError for a label of the station's without costs, and if nothing is
    labelled.
    """
    judged = {pair: n for pair, n in confusion.items() if n > 0 and pair[1] != NOT_JUDGED}
    costed = {pair: n for pair, n in judged.items() if pair[0] in costs}
    left_out = sum(judged.values()) - sum(costed.values())
    warnings = []
    if left_out:
        names = ", ".join(sorted({true for true, _ in judged} - set(costs)))
        warnings.append(
            f"{left_out} views labelled {names} have no costs, so cost, PWA and accuracy leave "
            "them out"
        )
    sample = figures(costed or judged, costs)
    scaled = figures(weighted(costed, said), costs)
    found = [
        Figure(name, value, weighted=scaled[name])
        for name, value in sample.items()
        if name not in _RATES
    ]
    bad = {pair: n for pair, n in judged.items() if pair[0] != GOOD}
    good = {pair: n for pair, n in judged.items() if pair[0] == GOOD}
    for name, among, counted in (
        ("accuracy", costed, [pair for pair in costed if pair[0] == pair[1]]),
        ("escape_rate", bad, [pair for pair in bad if pair[1] == GOOD]),
        ("overkill_rate", good, [pair for pair in good if pair[1] != GOOD]),
    ):
        weights = weighted(judged, said)
        in_production = _ratio(
            sum(weights[pair] for pair in counted), sum(weights[pair] for pair in among)
        )
        count = sum(among[pair] for pair in counted)
        found.append(_share(name, count, sum(among.values()), in_production))
    found.append(_share("escape_rate_of_parts", *parts, None))
    warnings += [
        f"{one.name}: {one.count} of {one.of} labelled; it may be anything from {one.low:.2g} to "
        f"{one.high:.2g} (95 %). Label more before you rely on it"
        for one in found
        if one.of is not None and 0 < one.of < FEW
    ]
    return found, warnings


def _share(name: str, count: int, of: int, in_production: float | None) -> Figure:
    if of == 0:
        return Figure(name, None, count, of)
    low, high = interval(count, of)
    if of < FEW:
        # A share of three would be read as a share.
        return Figure(name, None, count, of, low, high)
    return Figure(name, count / of, count, of, low, high, in_production)


def _ratio(part: float, whole: float, rest: bool = False) -> float | None:
    if whole == 0:
        return None
    return 1 - part / whole if rest else part / whole
