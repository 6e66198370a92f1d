"""PaDiM: a Gaussian for every patch position, and the squared Mahalanobis distance to it.

Defard, Setkov, Loesch and Audigier (2020), *PaDiM: a Patch Distribution Modeling Framework for
Anomaly Detection and Localization*. ``fit`` turns the moments of a
streaming pass over GOOD parts (``moments``) into a ``Whitening`` W with ||W (x - mean)||^2, by
Cholesky.

The nested form: channels are ordered from the coarsest level to the finest. Patches that share a
coarse feature share its rows of the Cholesky factor, so those are computed and kept once for the
group; the distances are those of the full form. How they are applied lives in ``whitening``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_qc.errors import DataError
from edge_qc_export.drift.moments import CHUNK, Moments
from edge_qc_export.drift.patches import Layout, spread
from edge_qc_export.drift.whitening import Whitening, arranged, whitened_centres


@dataclass(frozen=True, slots=True)
class Regularisation:
    """What makes a covariance invertible and its estimate steadier.

    shrinkage: how far the correlations go towards none, in [0, 1]; None takes the oracle
    approximating intensity of Chen, Wiesel, Eldar and Hero (2010), one for all positions so that
    the nested form stays exact. relative: added to each variance, as a share of the channel's mean
    variance over the positions. absolute: added to each variance as it is.
    """

    shrinkage: float | None = None
    relative: float = 0.01
    absolute: float = 0.0


def fit(moments: Moments, regularisation: Regularisation) -> Whitening:
    """The whitening of every position, float32, computed in float64.

    Raises DataError if there are fewer than three images, or the features do not vary.
    """
    layout, images = moments.layout, moments.count
    # Fewer images than channels leave directions without variance: the shrinkage, which then is
    # large, gives them one.
    if images < 3:
        raise DataError(f"PaDiM: {images} GOOD images to learn from, wanted at least 3. Add images")
    rows = moments.scatter()
    shrinkage = regularisation.shrinkage
    if shrinkage is None:
        shrinkage = oracle_shrinkage(rows, layout, images - 1)
    _regularise(rows, layout, shrinkage, regularisation)
    weights = arranged(_cholesky(rows, layout), layout)
    rows.clear()
    centres = tuple(moments.means())
    return Whitening(
        layout=layout,
        weights=weights,
        means=whitened_centres(centres, layout, weights),
        centres=centres,
        shrinkage=shrinkage,
    )


def oracle_shrinkage(rows: Sequence[Tensor], layout: Layout, freedom: int) -> float:
    """The intensity of Chen et al. (2010, eq. 23) for the correlations, over all positions."""
    p = layout.width
    squares = 0.0
    variances = _variances(rows, layout)
    for i, stage in enumerate(layout.stages):
        known = torch.cat(
            [spread(variances[j], layout.stages[j].grid, stage.grid) for j in range(i + 1)], dim=1
        )
        floor = 1e-12 * float(known.mean()) + 1e-300
        squared = rows[i] / variances[i].clamp_min(floor).sqrt()[:, :, None]
        squared /= known.clamp_min(floor).sqrt()[:, None, :]
        squared.square_()
        before = layout.before(i)
        cross, own = squared[:, :, :before].sum(), squared[:, :, before:].sum()
        squares += float(2 * cross + own) / stage.patches
    numerator = (1 - 2 / p) * squares + p**2
    denominator = (freedom + 1 - 2 / p) * (squares - p)
    return 1.0 if denominator <= 0 else min(1.0, numerator / denominator)


def _variances(rows: Sequence[Tensor], layout: Layout) -> list[Tensor]:
    return [
        torch.diagonal(stage[:, :, layout.before(i) :], dim1=1, dim2=2)
        for i, stage in enumerate(rows)
    ]


def _regularise(
    rows: list[Tensor], layout: Layout, shrinkage: float, regularisation: Regularisation
) -> None:
    """In place: correlations shrunk, variances raised by what is the same at every position."""
    for i, variance in enumerate(_variances(rows, layout)):
        channel = variance.mean(dim=0)
        overall = float(channel.mean())
        if not overall > 0 and regularisation.absolute == 0:
            raise DataError(
                f"PaDiM: the features of stage {layout.stages[i].grid} are the same in every "
                "training image. Train the network, or give images that differ"
            )
        # A channel that is silent everywhere must not make its first murmur an infinite distance.
        raised = regularisation.relative * channel.clamp_min(1e-2 * overall)
        wanted = variance + raised + regularisation.absolute
        rows[i] *= 1 - shrinkage
        torch.diagonal(rows[i][:, :, layout.before(i) :], dim1=1, dim2=2).copy_(wanted)


def _cholesky(rows: list[Tensor], layout: Layout) -> list[Tensor]:
    """The rows of the inverse factor, in place of the covariance's."""
    for i, stage in enumerate(layout.stages):
        before = layout.before(i)
        for start in range(0, stage.patches, CHUNK):
            part = slice(start, start + CHUNK)
            own = rows[i][part, :, before:]
            if before:
                known = _known_inverse(rows, layout, i, part)
                lower = rows[i][part, :, :before] @ known.transpose(1, 2)
                own = own - lower @ lower.transpose(1, 2)
            factor, info = torch.linalg.cholesky_ex(own)
            if bool((info != 0).any()):
                raise DataError(
                    f"PaDiM: the covariance of stage {stage.grid} is not positive definite. Give a "
                    "larger shrinkage, or fewer channels"
                )
            eye = torch.eye(stage.width, dtype=own.dtype).expand_as(own)
            own_inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
            rows[i][part, :, before:] = own_inverse
            if before:
                rows[i][part, :, :before] = -own_inverse @ (lower @ known)
    return rows


def _known_inverse(inverse: Sequence[Tensor], layout: Layout, index: int, part: slice) -> Tensor:
    """(patches of ``part``, known, known): the inverse factor of the coarser stages, lower
    triangular, at these patches of stage ``index``."""
    stage = layout.stages[index]
    patches = torch.arange(stage.patches)[part]
    width = layout.before(index)
    known = torch.zeros(len(patches), width, width, dtype=torch.float64)
    for j in range(index):
        coarse = layout.stages[j].grid
        row = patches // stage.grid[1] * coarse[0] // stage.grid[0]
        column = patches % stage.grid[1] * coarse[1] // stage.grid[1]
        first, last = layout.before(j), layout.before(j + 1)
        known[:, first:last, :last] = inverse[j][row * coarse[1] + column]
    return known
