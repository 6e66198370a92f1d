"""The classifier's last layer, relearned on penultimate features.

Multinomial logistic regression with a small squared penalty, on features brought to zero mean and
unit variance: so the layer that travels in the bundle and those by which each labelled part is
scored come from one procedure, and every labelled part teaches it. Nothing here knows of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PENALTY = 100.0
"""On the squared weights of standardised features, for any number of images: chosen by table."""
_STEPS = 200
_TOLERANCE = 1e-6
"""Of the loss, in nats of all images together: where the search ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """logits = embedding @ weights.T + bias. weights: (C, E) float64; bias: (C,). A class that was
    not learned has a row of zeros and a bias of ``-NEVER``."""

    classes: tuple[str, ...]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, C) of embeddings (n, E)."""
        return np.asarray(embeddings.astype(np.float64) @ self.weights.T + self.bias)


NEVER = 1e4
"""How far the logit of a class that was not learned lies below all others."""


def fit_head(
    embeddings: NDArray[np.floating],
    labels: Sequence[str],
    classes: Sequence[str],
    start: Head | None = None,
) -> Head:
    """The head for ``classes``, from embeddings (n, E) of labelled parts.

    start: a head of the same classes to begin at, so that fewer steps are taken; the minimum is the
    same, since the loss is convex. Classes without a part are never said.
    """
    names = np.asarray(labels)
    learned = [name for name in classes if (names == name).any()]
    size = embeddings.shape[1]
    weights, bias = np.zeros((len(classes), size)), np.full(len(classes), -NEVER)
    places = [list(classes).index(name) for name in learned]
    if len(learned) == 1:
        bias[places] = 0.0
        return Head(tuple(classes), weights, bias)
    mean = embeddings.mean(axis=0, dtype=np.float64)
    variance = embeddings.var(axis=0, dtype=np.float64)
    scale = np.sqrt(variance + 0.01 * max(float(variance.mean()), 1e-12))
    x = torch.from_numpy(((embeddings - mean) / scale).astype(np.float64))
    y = torch.from_numpy((names[:, None] == np.asarray(learned)[None, :]).astype(np.float64))
    w, b = torch.zeros(len(learned), size).double(), torch.zeros(len(learned)).double()
    if start is not None:
        rows = [start.classes.index(name) for name in learned]
        w = torch.from_numpy(start.weights[rows] * scale)
        b = torch.from_numpy(np.maximum(start.bias[rows], -NEVER / 2) + start.weights[rows] @ mean)
    _minimise(x, y, w, b)
    weights[places] = w.numpy() / scale
    bias[places] = b.numpy() - weights[places] @ mean
    return Head(tuple(classes), weights, bias)


def _minimise(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> None:
    """Bring w (C, E) and b (C,) to the least loss of x (n, E) whose classes y (n, C) holds."""
    search = torch.optim.LBFGS(
        [w, b],
        max_iter=_STEPS,
        tolerance_grad=1e-3,
        tolerance_change=_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        logs = torch.log_softmax(x @ w.T + b, dim=1)
        over = logs.exp() - y
        w.grad, b.grad = over.T @ x + _PENALTY * w, over.sum(dim=0)
        return _PENALTY / 2 * (w * w).sum() - (logs * y).sum()

    with torch.no_grad():
        search.step(loss)  # type: ignore[no-untyped-call]
