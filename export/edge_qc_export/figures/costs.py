"""Costs as figures and losses take them: the report's training matrix, and a matrix of numbers.

The report's matrices stand in alphabetical order, the challenge's table in another.
``edge_qc.bundle.costs`` reads files, and holds the challenge's pattern for any classes. What is
made of costs lives in ``metrics`` and ``losses``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.costs import Costs, challenge_costs, costs_for, read_costs
from edge_qc_export.data.dataset import CHALLENGE_CLASSES

__all__ = [
    "Costs",
    "challenge_costs",
    "cost_matrix",
    "costs_for",
    "read_costs",
    "report_loss_costs",
]

_REPORT_ROWS = ((0, 10, 2, 2, 2, 2), (5, 0, 5, 5, 5, 5))
"""The report's matrix (1): a defect's row and GOOD's, GOOD second."""


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


def cost_matrix(costs: Costs, labels: Sequence[str]) -> NDArray[np.float64]:
    """(L, L): cost[true, predicted] in the order of ``labels``."""
    return np.array([[costs[true][name] for name in labels] for true in labels], np.float64)
