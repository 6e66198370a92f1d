"""The classifier's last layer, relearned on penultimate features.

Multinomial logistic regression with a small squared penalty, on features brought to zero mean and
unit variance: so the layer that travels in the bundle and those by which each labelled part is
scored come from one procedure, and every labelled part teaches it. Nothing here knows of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

_PENALTY = 100.0
"""On the squared weights of standardised features, for any number of images: chosen by table."""
_STEPS = 200


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
    x = ((embeddings - mean) / scale).astype(np.float64)
    y = names[:, None] == np.asarray(learned)[None, :]
    shape = len(learned), size

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, b = flat[: -len(learned)].reshape(shape), flat[-len(learned) :]
        logits = x @ w.T + b
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        over = np.exp(logs) - y
        gradient = np.concatenate([(over.T @ x + _PENALTY * w).ravel(), over.sum(axis=0)])
        return float(_PENALTY / 2 * (w**2).sum() - logs[y].sum()), gradient

    first = np.zeros(len(learned) * (size + 1))
    if start is not None:
        w = start.weights[[start.classes.index(name) for name in learned]]
        b = start.bias[[start.classes.index(name) for name in learned]]
        first = np.concatenate([(w * scale).ravel(), np.maximum(b, -NEVER / 2) + w @ mean])
    found = minimize(
        loss, first, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": 1e-7}
    ).x
    w, b = found[: -len(learned)].reshape(shape) / scale, found[-len(learned) :]
    weights[places], bias[places] = w, b - w @ mean
    return Head(tuple(classes), weights, bias)
