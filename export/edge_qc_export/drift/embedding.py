"""The second witness: how far a view's penultimate features lie from each class.

Squared Mahalanobis distance to the class means with one covariance that the classes share: Lee,
Lee, Lee and Shin (2018), *A Simple Unified Framework for Detecting Out-of-Distribution Samples and
Adversarial Attacks*; of features brought to length one: Mueller and Hein (2025), *Mahalanobis++*.
The distance to GOOD is the gate's, that to the nearest class is drift's.

Where the features are many, the covariance is the probabilistic
principal components of Tipping and Bishop (1999): the leading directions as they are, one variance
for all others; its exact inverse is short. Moments in one streaming pass; nothing here knows of
networks or thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edge_qc.errors import DataError


class EmbeddingMoments:
    """First and second moments of embeddings of length one, by class."""

    def __init__(self, size: int, classes: int) -> None:
        self.counts = torch.zeros(classes, dtype=torch.float64)
        self.sums = torch.zeros(classes, size, dtype=torch.float64)
        self.products = torch.zeros(size, size, dtype=torch.float64)

    @staticmethod
    def memory_bytes(size: int, classes: int) -> int:
        """What the moments and the fit from them take at most."""
        return 8 * size * (5 * size + 2 * classes)

    def update(self, embeddings: Tensor, labels: Tensor) -> None:
        """Add images. embeddings: (N, E); labels: (N,) of class."""
        # Of length one, none is far from nought: sums in float64 lose no digits that matter.
        unit = of_length_one(embeddings.double())
        one_hot = torch.nn.functional.one_hot(labels, len(self.counts)).double()
        self.counts += one_hot.sum(dim=0)
        self.sums += one_hot.T @ unit
        self.products += unit.T @ unit

    def means(self) -> Tensor:
        """(classes, E)."""
        return self.sums / self.counts[:, None]

    def covariance(self) -> Tensor:
        """(E, E): within the classes, unbiased."""
        between = self.sums.T @ (self.sums / self.counts[:, None])
        return (self.products - between) / (self.counts.sum() - len(self.counts))


@dataclass(frozen=True, slots=True)
class EmbeddingWhitening:
    """What the graph needs; s is an embedding of length one times ``inverse_scale`` (E,), d is
    s - centre.

    The distance to a class is ||d A||^2 with A = ``weights`` (E, E) in the full form, and
    ||d||^2 - ||d A||^2 with A (E, k) in the short one: by what each leading direction's own
    variance makes it less than the one variance of all others would.
    means: (classes, E or k), the centres times A. centres: (classes, E); none in the full form.
    """

    inverse_scale: Tensor
    weights: Tensor
    means: Tensor
    centres: Tensor | None
    shrinkage: float


def fit_embedding(
    moments: EmbeddingMoments, rank: int, shrinkage: float | None = None
) -> EmbeddingWhitening:
    """The whitening of the embeddings, float32, computed in float64.

    rank: the most directions kept as they are; up to so many features the form is full. Raises
    DataError where a class has no image, there are too few images, or nothing varies.
    """
    size = moments.products.shape[0]
    images, classes = int(moments.counts.sum()), len(moments.counts)
    if bool((moments.counts == 0).any()):
        empty = [i for i, count in enumerate(moments.counts.tolist()) if count == 0]
        raise DataError(f"embedding: classes {empty} have no training image, wanted one each")
    freedom = images - classes
    if freedom < 2:
        raise DataError(
            f"embedding: {images} training images of {classes} classes, wanted at least "
            f"{classes + 2}"
        )
    covariance, means = moments.covariance(), moments.means()
    variance = torch.diagonal(covariance).clone()
    # Of length one: a feature's mean square is 1 / size.
    if not float(variance.mean()) > 1e-9 / size:
        raise DataError(
            "embedding: the network gives every training image the same features. "
            "Train it longer, or with other settings"
        )
    # A feature that is silent in training must not make its first murmur an infinite distance.
    variance += 0.01 * variance.clamp_min(1e-2 * float(variance.mean()))
    scale = variance.sqrt()
    correlation = covariance / scale[:, None] / scale[None, :]
    if shrinkage is None:
        shrinkage = _oracle(correlation, freedom)
    correlation *= 1 - shrinkage
    torch.diagonal(correlation).fill_(1.0)
    inverse_scale = 1 / scale
    if size <= rank:
        factor = torch.linalg.cholesky(correlation)
        eye = torch.eye(size, dtype=torch.float64)
        weights = torch.linalg.solve_triangular(factor, eye, upper=False).T
    else:
        kept = min(rank, freedom)
        values, vectors = _leading(correlation, kept)
        residual = float((size - values.sum()) / (size - kept))
        inverse_scale = inverse_scale * residual**-0.5
        weights = vectors * (1 - residual / values).sqrt()
    weights = weights.float().contiguous()
    centres = means * inverse_scale
    return EmbeddingWhitening(
        inverse_scale=inverse_scale.float(),
        weights=weights,
        # By the weights as they are stored, so that their rounding acts on d, not on s.
        means=(centres @ weights.double()).float(),
        centres=None if size <= rank else centres.float(),
        shrinkage=shrinkage,
    )


def of_length_one(embeddings: Tensor) -> Tensor:
    """(N, E): each embedding over its Euclidean length."""
    return embeddings / ((embeddings * embeddings).sum(dim=1, keepdim=True) + 1e-12).sqrt()


def class_distances(embeddings: Tensor, whitening: EmbeddingWhitening) -> Tensor:
    """(classes, N): squared distance of each embedding (N, E) to each class mean."""
    scaled = of_length_one(embeddings) * whitening.inverse_scale
    projected = scaled @ whitening.weights - whitening.means[:, None]
    squares = (projected * projected).sum(dim=2)
    if whitening.centres is not None:
        difference = scaled - whitening.centres[:, None]
        squares = (difference * difference).sum(dim=2) - squares
    return squares


def _leading(correlation: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues, ascending, and their eigenvectors in columns."""
    # In float32, as the weights are stored: half the time, and a fit wants one for every fold.
    values, vectors = torch.linalg.eigh(correlation.float())
    return values[-count:].double(), vectors[:, -count:].double()


def _oracle(correlation: Tensor, freedom: int) -> float:
    """The intensity of Chen et al. (2010), as in ``padim.oracle_shrinkage``."""
    p = correlation.shape[0]
    squares = float((correlation**2).sum())
    denominator = (freedom + 1 - 2 / p) * (squares - p)
    return 1.0 if denominator <= 0 else min(1.0, ((1 - 2 / p) * squares + p**2) / denominator)
