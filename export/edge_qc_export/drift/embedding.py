"""The second witness: how far a view's penultimate features lie from the nearest class.

Squared Mahalanobis distance to the nearest class mean with one covariance that the classes share:
Lee, Lee, Lee and Shin (2018), *A Simple Unified Framework for Detecting Out-of-Distribution Samples
and Adversarial Attacks*. Where the features are many, the covariance is the probabilistic
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
    """First and second moments of the embeddings, by class."""

    def __init__(self, size: int, classes: int) -> None:
        self.counts = torch.zeros(classes, dtype=torch.float64)
        self.sums = torch.zeros(classes, size, dtype=torch.float64)
        self.products = torch.zeros(size, size, dtype=torch.float64)
        self._shift: Tensor | None = None

    @staticmethod
    def memory_bytes(size: int, classes: int) -> int:
        """What the moments and the fit from them take at most."""
        return 8 * size * (5 * size + 2 * classes)

    def update(self, embeddings: Tensor, labels: Tensor) -> None:
        """Add images. embeddings: (N, E); labels: (N,) of class."""
        if self._shift is None:
            self._shift = embeddings.mean(dim=0).double()
        centred = embeddings.double() - self._shift
        one_hot = torch.nn.functional.one_hot(labels, len(self.counts)).double()
        self.counts += one_hot.sum(dim=0)
        self.sums += one_hot.T @ centred
        self.products += centred.T @ centred

    def means(self) -> Tensor:
        """(classes, E)."""
        assert self._shift is not None
        return self.sums / self.counts[:, None] + self._shift

    def covariance(self) -> Tensor:
        """(E, E): within the classes, unbiased."""
        between = self.sums.T @ (self.sums / self.counts[:, None])
        return (self.products - between) / (self.counts.sum() - len(self.counts))


@dataclass(frozen=True, slots=True)
class EmbeddingWhitening:
    """What the graph needs; s is an embedding times ``inverse_scale`` (E,), d is s - centre.

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
    if not float(variance.mean()) > 0:
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
        values, vectors = torch.linalg.eigh(correlation)
        kept = min(rank, freedom)
        residual = float(values[:-kept].mean())
        inverse_scale = inverse_scale * residual**-0.5
        weights = vectors[:, -kept:] * (1 - residual / values[-kept:]).sqrt()
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


def embedding_distances(embeddings: Tensor, whitening: EmbeddingWhitening) -> Tensor:
    """(N,): squared distance of each embedding (N, E) to the nearest class mean."""
    scaled = embeddings * whitening.inverse_scale
    projected = scaled @ whitening.weights - whitening.means[:, None]
    squares = (projected * projected).sum(dim=2)
    if whitening.centres is not None:
        difference = scaled - whitening.centres[:, None]
        squares = (difference * difference).sum(dim=2) - squares
    return squares.amin(dim=0)


def _oracle(correlation: Tensor, freedom: int) -> float:
    """The intensity of Chen et al. (2010), as in ``padim.oracle_shrinkage``."""
    p = correlation.shape[0]
    squares = float((correlation**2).sum())
    denominator = (freedom + 1 - 2 / p) * (squares - p)
    return 1.0 if denominator <= 0 else min(1.0, ((1 - 2 / p) * squares + p**2) / denominator)
