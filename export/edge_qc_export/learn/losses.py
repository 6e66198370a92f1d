"""What training makes small: functions of logits [N, C] and targets [N] to a mean over N."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_qc.errors import UsageError
from edge_qc_export.figures.costs import Costs, cost_matrix

LOSSES = ("cross-entropy", "class-weighted", "focal", "cost")
FOCUS = 2.0
"""Gamma of the focal loss."""

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(name: str, classes: Sequence[str], counts: Mapping[str, int], costs: Costs) -> Loss:
    """A loss by name.

    ``cross-entropy``. ``class-weighted``: each image's cross-entropy times n / (C n_c), so that
    every class weighs the same. ``focal``: (1 - p)^2 times the cross-entropy (Lin et al. 2017).
    ``cost``: the report's expected cost, sum over j of costs[y, j] softmax_j; it is known to
    collapse to one class. Raises UsageError for another name.
    """
    if name == "cross-entropy":
        return functional.cross_entropy
    if name == "class-weighted":
        total = sum(counts[label] for label in classes)
        weights = torch.tensor([total / (len(classes) * counts[label]) for label in classes])

        def class_weighted(logits: Tensor, targets: Tensor) -> Tensor:
            # Not torch's own weighted mean: it divides by the batch's weights, which differ between
            # processes and batches.
            entropy = functional.cross_entropy(logits, targets, reduction="none")
            return (weights.to(logits.device)[targets] * entropy).mean()

        return class_weighted
    if name == "focal":
        return focal
    if name == "cost":
        matrix = torch.from_numpy(cost_matrix(costs, classes).astype(np.float32))

        def expected_cost(logits: Tensor, targets: Tensor) -> Tensor:
            rows = matrix.to(logits.device)[targets]
            return (rows * functional.softmax(logits, 1)).sum(1).mean()

        return expected_cost
    raise UsageError(f"loss {name!r} is not known; wanted one of {', '.join(LOSSES)}")


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """The focal loss with gamma 2."""
    entropy = functional.cross_entropy(logits, targets, reduction="none")
    return ((1 - torch.exp(-entropy)) ** FOCUS * entropy).mean()
