"""The second witness: how far a view's penultimate features lie from the nearest class.

Squared Mahalanobis distance to the nearest class mean with one covariance that the classes share:
Lee, Lee, Lee and Shin (2018), *A Simple Unified Framework for Detecting Out-of-Distribution Samples
and Adversarial Attacks*. Where the features are many, the covariance is the probabilistic
principal components of Tipping and Bishop (1999): the leading directions as they are, one variance
for all others; its exact inverse is short. Moments in one streaming pass; nothing here knows of
networks or thresholds.
"""

from __future__ import annotations

import dataclasses
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
    """What the graph needs; s is an embedding times ``inverse_scale`` (E,).

    Full form, ``residual`` 0: the distance to a class is ||s A - mean||^2 with A = ``weights``
    (E, E). Short form: ``weights`` are k orthonormal directions U (E, k); the distance is
    ||s U / roots - mean||^2 + ||s - s U U^T - residual_mean||^2 / residual.
    means: (classes, E or k). roots: (k,). residual_means: (classes, E). centres: (classes, E), the
    class means times ``inverse_scale``, float64.
    """

    inverse_scale: Tensor
    weights: Tensor
    means: Tensor
    roots: Tensor
    residual_means: Tensor
    centres: Tensor
    residual: float
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
    centres = means / scale
    if size <= rank:
        factor = torch.linalg.cholesky(correlation)
        eye = torch.eye(size, dtype=torch.float64)
        weights = torch.linalg.solve_triangular(factor, eye, upper=False).T
        roots, residual = torch.ones(size), 0.0
    else:
        values, vectors = torch.linalg.eigh(correlation)
        kept = min(rank, freedom)
        weights, roots = vectors[:, -kept:], values[-kept:].sqrt()
        residual = float(values[:-kept].mean())
    return _with_weights(
        EmbeddingWhitening(
            inverse_scale=(1 / scale).float(),
            weights=weights,
            means=centres,
            roots=roots.float(),
            residual_means=centres,
            centres=centres,
            residual=residual,
            shrinkage=shrinkage,
        ),
        weights.float(),
    )


def stored_in_half(whitening: EmbeddingWhitening) -> EmbeddingWhitening:
    """The whitening with weights that half holds. Raises DataError where it cannot hold them."""
    weights = whitening.weights.half().float()
    if not bool(torch.isfinite(weights).all()):
        raise DataError(
            "precision fp16: the whitening of the embedding does not fit into half. Export without "
            "--fp16"
        )
    return _with_weights(whitening, weights)


def _with_weights(whitening: EmbeddingWhitening, weights: Tensor) -> EmbeddingWhitening:
    """The means by the weights as they are stored, so that their rounding acts on e - mean."""
    projected = whitening.centres @ weights.double()
    residual_means = whitening.centres - projected @ weights.double().T
    return dataclasses.replace(
        whitening,
        weights=weights.contiguous(),
        means=(projected / whitening.roots).float(),
        residual_means=residual_means.float(),
    )


def embedding_distances(embeddings: Tensor, whitening: EmbeddingWhitening) -> Tensor:
    """(N,): squared distance of each embedding (N, E) to the nearest class mean."""
    scaled = (embeddings * whitening.inverse_scale)[:, None]
    projected = scaled @ whitening.weights
    white, means = projected / whitening.roots, whitening.means
    if whitening.residual != 0:
        # One long vector of both parts: each operator on so few numbers costs its start alone.
        weight = whitening.residual**-0.5
        rest = (scaled - projected @ whitening.weights.T) * weight
        white = torch.cat([white, rest], dim=2)
        means = torch.cat([means, whitening.residual_means * weight], dim=1)
    difference = white - means
    return (difference * difference).sum(dim=2).amin(dim=1)


def _oracle(correlation: Tensor, freedom: int) -> float:
    """The intensity of Chen et al. (2010), as in ``padim.oracle_shrinkage``."""
    p = correlation.shape[0]
    squares = float((correlation**2).sum())
    denominator = (freedom + 1 - 2 / p) * (squares - p)
    return 1.0 if denominator <= 0 else min(1.0, ((1 - 2 / p) * squares + p**2) / denominator)
