"""The second witness against plain linear algebra in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc_export.drift.embedding import (
    EmbeddingMoments,
    EmbeddingWhitening,
    class_distances,
    fit_embedding,
)

pytestmark = pytest.mark.torch


def embeddings(images: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, E) of three classes that lie apart, with correlated features of different spread."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=torch.Generator().manual_seed(99)) / size**0.5
    labels = torch.arange(images) % 3
    noise = torch.randn(images, size, generator=generator)
    spread = torch.logspace(-1, 1, size)
    return (noise @ (torch.eye(size) + mixing)) * spread + 3.0 * labels[:, None], labels


def fitted(
    images: int, size: int, rank: int, shrinkage: float | None = None
) -> tuple[EmbeddingWhitening, EmbeddingMoments]:
    values, labels = embeddings(images, size, 0)
    moments = EmbeddingMoments(size, 3)
    for start in range(0, images, 16):
        moments.update(values[start : start + 16], labels[start : start + 16])
    return fit_embedding(moments, rank, shrinkage), moments


def unit(values: torch.Tensor) -> NDArray[np.float64]:
    x = values.numpy().astype(np.float64)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float64)


def nearest_of(new: torch.Tensor, whitening: EmbeddingWhitening) -> torch.Tensor:
    return class_distances(new, whitening).amin(dim=0)


def nearest(
    new: torch.Tensor, means: NDArray[np.float64], inverse: NDArray[np.float64]
) -> NDArray[np.float64]:
    differences = unit(new)[:, None] - means
    each = np.einsum("nke,ef,nkf->nk", differences, inverse, differences)
    return np.asarray(each.min(1), np.float64)


def test_distances_are_the_textbooks() -> None:
    whitening, moments = fitted(200, 12, rank=12, shrinkage=0.0)
    values, labels = embeddings(200, 12, 0)
    new, _ = embeddings(9, 12, 1)
    x = unit(values)
    means = np.array([x[labels == k].mean(0) for k in range(3)])
    residuals = x - means[labels]
    covariance = residuals.T @ residuals / (200 - 3)
    np.testing.assert_allclose(moments.covariance().numpy(), covariance, rtol=1e-6, atol=1e-12)
    covariance += np.diag(0.01 * np.diag(covariance).clip(1e-2 * np.diag(covariance).mean()))
    # Correlations are taken against the raised variances, whose diagonal is then one.
    wanted = nearest(new, means, np.linalg.inv(covariance))
    np.testing.assert_allclose(nearest_of(new, whitening).numpy(), wanted, rtol=1e-4)


def inverse_of_leading(
    moments: EmbeddingMoments, kept: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The inverse covariance of ``kept`` directions and one variance for all others, and the
    leading direction, both in the features' own units."""
    covariance = moments.covariance().numpy()
    variance = np.diag(covariance)
    scale = np.sqrt(variance + 0.01 * variance.clip(1e-2 * variance.mean()))
    correlation = covariance / scale[:, None] / scale
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    values[:-kept] = values[:-kept].mean()
    return (vectors / values) @ vectors.T / scale[:, None] / scale, vectors[:, -1] * scale


def test_the_short_form_is_the_inverse_of_leading_directions_and_one_residual_variance() -> None:
    whitening, moments = fitted(300, 40, rank=10, shrinkage=0.0)
    assert whitening.weights.shape == (40, 10)
    new, _ = embeddings(9, 40, 1)
    inverse, _ = inverse_of_leading(moments, 10)
    wanted = nearest(new, moments.means().numpy(), inverse)
    np.testing.assert_allclose(nearest_of(new, whitening).numpy(), wanted, rtol=1e-4)


def test_the_short_form_holds_far_out_on_its_leading_direction() -> None:
    """There a number is left of two that are some thousand times as large."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(300, 1, generator=generator)
    values = shared + 0.1 * torch.randn(300, 40, generator=generator)
    moments = EmbeddingMoments(40, 1)
    moments.update(values, torch.zeros(300, dtype=torch.long))
    inverse, direction = inverse_of_leading(moments, 10)
    far = (moments.means() + 10 * torch.from_numpy(direction)).float()
    wanted = nearest(far, moments.means().numpy(), inverse)
    np.testing.assert_allclose(
        nearest_of(far, fit_embedding(moments, 10, 0.0)).numpy(), wanted, rtol=2e-3
    )


def test_fewer_images_than_features_still_tell_near_from_far() -> None:
    whitening, _ = fitted(30, 64, rank=64)
    near, _ = embeddings(20, 64, 1)
    far = near + 60 * (-1.0) ** torch.arange(64)
    assert float(nearest_of(far, whitening).min()) > float(nearest_of(near, whitening).max())


def test_only_the_direction_of_an_embedding_counts() -> None:
    """A brighter picture of the same part has longer features, and is no odder for it."""
    whitening, _ = fitted(200, 12, rank=12)
    new, _ = embeddings(9, 12, 1)
    torch.testing.assert_close(
        class_distances(new, whitening), class_distances(3 * new, whitening), rtol=1e-3, atol=1e-3
    )


def test_there_is_a_distance_to_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    values = torch.randn(90, 12, generator=generator)
    values += 8 * torch.nn.functional.one_hot(labels, 12)
    moments = EmbeddingMoments(12, 3)
    moments.update(values[:60], labels[:60])
    distances = class_distances(values[60:], fit_embedding(moments, 12))
    assert distances.shape == (3, 30)
    assert float((distances.argmin(dim=0) == labels[60:]).float().mean()) > 0.9


def test_a_class_without_an_image_is_refused() -> None:
    moments = EmbeddingMoments(4, 3)
    moments.update(torch.randn(20, 4), torch.arange(20) % 2)
    with pytest.raises(DataError, match=r"\[2\] have no training image"):
        fit_embedding(moments, 4)


def test_features_that_never_change_are_refused() -> None:
    moments = EmbeddingMoments(4, 2)
    moments.update(torch.ones(20, 4), torch.arange(20) % 2)
    with pytest.raises(DataError, match="same features"):
        fit_embedding(moments, 4)


def test_too_few_images_are_refused_with_the_number() -> None:
    moments = EmbeddingMoments(4, 2)
    moments.update(torch.randn(3, 4), torch.tensor([0, 1, 1]))
    with pytest.raises(DataError, match="wanted at least 4"):
        fit_embedding(moments, 4)
