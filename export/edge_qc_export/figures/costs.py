"""The cost matrix, keyed by class name: ``{true: {predicted: cost}}``.

The report's matrices stand in alphabetical order, the challenge's table in another; by name there
is no order to mistake. Here are the challenge's pattern for any classes, the report's training
matrix in either order, and the reading of files. What is made of costs lives in ``metrics`` and
``losses``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.data.class_names import label_from_text
from edge_qc_export.data.dataset import CHALLENGE_CLASSES

Costs = Mapping[str, Mapping[str, float]]

_REPORT_ROWS = ((0, 10, 2, 2, 2, 2), (5, 0, 5, 5, 5, 5))
"""The report's matrix (1): a defect's row and GOOD's, GOOD second."""


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


def report_loss_costs(
    order: Sequence[str] = tuple(sorted(CHALLENGE_CLASSES)),
) -> dict[str, dict[str, float]]:
    """The matrix that the report trained with, its rows and columns read in ``order``.

    The matrix is meant in alphabetical order, GOOD second. In the order of the challenge's table
    (``CHALLENGE_CLASSES``) it takes Boucle plate for GOOD: the trap that a study can show.
    """
    size = len(order)
    matrix = np.full((size, size), 2.0)
    matrix[:, 1] = _REPORT_ROWS[0][1]
    matrix[1, :] = _REPORT_ROWS[1][0]
    np.fill_diagonal(matrix, 0.0)
    return {
        true: {predicted: float(matrix[i, j]) for j, predicted in enumerate(order)}
        for i, true in enumerate(order)
    }


def read_costs(file: Path) -> dict[str, dict[str, float]]:
    """The costs in a JSON file. ``Drift`` is read as DRIFT; it may be left out, GOOD not.

    Raises DataError that names every entry that is missing, unknown, negative or not a number.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"costs {file}: cannot be read as JSON ({error})") from error
    if not isinstance(document, dict) or not all(isinstance(r, dict) for r in document.values()):
        raise DataError(f"costs {file}: wanted {{true: {{predicted: cost}}}} by class name")
    costs = {
        # The right answer costs nothing, and need not be said to.
        label_from_text(true): {
            label_from_text(true): 0,
            **{label_from_text(name): cost for name, cost in row.items()},
        }
        for true, row in document.items()
    }
    faults = _faults(costs)
    if faults:
        raise DataError(f"costs {file}: {'; '.join(faults)}")
    return {true: {name: float(cost) for name, cost in row.items()} for true, row in costs.items()}


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


def cost_matrix(costs: Costs, labels: Sequence[str]) -> NDArray[np.float64]:
    """(L, L): cost[true, predicted] in the order of ``labels``."""
    return np.array([[costs[true][name] for name in labels] for true in labels], np.float64)
