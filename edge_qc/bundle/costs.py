"""What a mistake costs, by class name, ``{true: {predicted: cost}}``, and how a file is read.

By name there is no order of rows to mistake. The workstation trains and weighs with these costs,
the bundle carries them, the plant counts with them: all read a file in this one way.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD

Costs = Mapping[str, Mapping[str, float]]
"""By true label, then said label."""

_SPELLINGS_OF_GOOD = frozenset({GOOD.casefold(), "ok"})


def label_from_text(text: str) -> str:
    """The class that a table, a folder or a file of costs means: ``Drift`` in any case is DRIFT,
    ``good`` and ``ok`` in any case are GOOD; others in the Unicode form NFC, in which a letter with
    its accent is one character whatever system wrote it."""
    label = unicodedata.normalize("NFC", text).strip()
    folded = label.casefold()
    if folded == DRIFT.casefold():
        return DRIFT
    return GOOD if folded in _SPELLINGS_OF_GOOD else label


def challenge_costs(classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """The challenge's costs for any classes: a defect called GOOD and a GOOD part called drift
    cost 10 000, a GOOD part called a defect 100, one defect for another 1, a defect called drift
    or drift called a defect 1 000."""
    costs: dict[str, dict[str, float]] = {}
    for true in (*classes, DRIFT):
        row = {}
        for predicted in (*classes, DRIFT):
            if true == predicted:
                cost = 0.0
            elif predicted == GOOD or (true == GOOD and predicted == DRIFT):
                cost = 10000.0
            elif true == GOOD:
                cost = 100.0
            elif DRIFT in (true, predicted):
                cost = 1000.0
            else:
                cost = 1.0
            row[predicted] = cost
        costs[true] = row
    return costs


def read_costs(file: Path) -> dict[str, dict[str, float]]:
    """The costs in a JSON file, which may be a bundle's manifest, or a bundle. ``Drift`` is read as
    DRIFT; it may be left out, GOOD not.

    Raises DataError that names every entry that is missing, unknown, said twice, negative or not a
    number.
    """
    place = file / "manifest.json" if file.is_dir() else file
    try:
        document = json.loads(place.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"costs {place}: cannot be read as JSON ({error})") from error
    if isinstance(document, dict) and "schema_version" in document:
        document = document.get("costs")
    return costs_from_document(document, f"costs {place}")


def costs_from_document(document: object, source: str = "costs") -> dict[str, dict[str, float]]:
    """The costs out of JSON. source: what to call them. Raises DataError as ``read_costs``."""
    if not isinstance(document, dict) or not all(isinstance(r, dict) for r in document.values()):
        raise DataError(f"{source}: wanted {{true: {{predicted: cost}}}} by class name")
    faults = _said_twice("rows", document)
    costs = {}
    for true, row in document.items():
        label = label_from_text(true)
        faults += _said_twice(f"costs of {true}", row)
        # The right answer costs nothing, and need not be said to.
        costs[label] = {label: 0, **{label_from_text(name): cost for name, cost in row.items()}}
    faults = faults or _faults(costs)
    if faults:
        raise DataError(f"{source}: {'; '.join(faults)}")
    return {true: {name: float(cost) for name, cost in row.items()} for true, row in costs.items()}


def _said_twice(what: str, names: Mapping[str, object]) -> list[str]:
    """Names that mean one class: one of them would silently take the other's place."""
    written: dict[str, list[str]] = {}
    for name in names:
        written.setdefault(label_from_text(name), []).append(name)
    return [
        f"{what}: {' and '.join(map(repr, same))} are one class, {label}; write one"
        for label, same in written.items()
        if len(same) > 1
    ]


def _faults(costs: Mapping[str, Mapping[str, object]]) -> list[str]:
    faults = [] if GOOD in costs else [f"no row {GOOD}"]
    for true, row in costs.items():
        faults += [f"{true}: no cost for {name}" for name in costs if name not in row]
        faults += [f"{true}: {name} has no row of its own" for name in row if name not in costs]
        for name, cost in row.items():
            number = isinstance(cost, (int, float)) and not isinstance(cost, bool)
            if not number or not math.isfinite(cost) or cost < 0:  # type: ignore[arg-type, operator]
                faults.append(f"{true}: {name} costs {cost!r}, wanted a number of at least 0")
            elif true == name and cost != 0:
                faults.append(f"{true}: the right answer costs {cost!r}, wanted 0")
    return faults


def costs_for(costs: Costs | None, classes: Sequence[str], source: str = "costs") -> Costs:
    """The costs over these classes and DRIFT, in their order; None: the challenge's pattern.

    Classes beyond these are left out. Where the costs do not name DRIFT, its row and column follow
    the challenge's pattern. Raises DataError if a class is not named.
    """
    pattern = challenge_costs(classes)
    if costs is None:
        return pattern
    missing = [name for name in classes if name not in costs]
    if missing:
        raise DataError(
            f"{source}: no costs for {', '.join(missing)}; they name {', '.join(costs)}. "
            "Add a row and a column for each class of the data"
        )
    given = costs if DRIFT in costs else {}
    labels = (*classes, DRIFT)
    return {
        true: {
            name: (costs if DRIFT not in (true, name) else given or pattern)[true][name]
            for name in labels
        }
        for true in labels
    }
