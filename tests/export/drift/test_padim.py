"""PaDiM against a plain float64 reference, and what it refuses."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_qc.errors import DataError, UsageError
from edge_qc_export.drift import whitening as whitening_module
from edge_qc_export.drift.moments import Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import Layout, choose_channels, plan_layout, stage_features
from edge_qc_export.drift.whitening import (
    Whitening,
    patch_distances,
    stored_in_half,
)

pytestmark = pytest.mark.torch

SIZES = ((16, 16), (8, 8), (4, 4))
AVAILABLE = (8, 16, 32)


def levels(images: int, seed: int) -> list[Tensor]:
    """Features of three levels that depend on each other, (N, c, h, w), finest first."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(images, *shape, generator=generator)

    coarse = noise(32, 4, 4)
    middle = coarse[:, :16].repeat_interleave(2, 2).repeat_interleave(2, 3) + noise(16, 8, 8)
    fine = middle[:, :8].repeat_interleave(2, 2).repeat_interleave(2, 3) + noise(8, 16, 16) + 5
    return [fine, middle, coarse]


def fitted(
    features: Sequence[Tensor],
    layout: Layout,
    regularisation: Regularisation,
    batch: int = 16,
) -> Whitening:
    moments = Moments(layout)
    for start in range(0, len(features[0]), batch):
        part = slice(start, start + batch)
        moments.update(stage_features([level[part] for level in features], layout))
    return fit(moments, regularisation)


def distances(whitening: Whitening, features: Sequence[Tensor]) -> Tensor:
    patches = stage_features(features, whitening.layout)
    if whitening.scales:
        patches = [x * scale for x, scale in zip(patches, whitening.scales, strict=True)]
    return patch_distances(patches, whitening.layout, whitening.weights, whitening.means)


def on_grid(level: Tensor, grid: int) -> NDArray[np.float64]:
    """(N, c, grid, grid) in float64: the mean over each patch's area, or the nearest value."""
    values = level.numpy().astype(np.float64)
    size = values.shape[2]
    if size <= grid:
        at = np.arange(grid) * size // grid
        return values[:, :, at][:, :, :, at]
    edges = np.arange(grid + 1) * size / grid
    weights = np.array(
        [
            [max(0.0, min(high, s + 1) - max(low, s)) / (high - low) for s in range(size)]
            for low, high in itertools.pairwise(edges)
        ]
    )
    return np.asarray(np.einsum("ai,ncij,bj->ncab", weights, values, weights))


def reference(
    train: Sequence[Tensor],
    new: Sequence[Tensor],
    channels: Sequence[Sequence[int]],
    grid: int,
    shrinkage: float,
    absolute: float,
) -> NDArray[np.float64]:
    """The textbook's way: at each patch the whole covariance, solved in float64."""

    def patches(features: Sequence[Tensor]) -> NDArray[np.float64]:
        chosen = [
            on_grid(level[:, list(c)], grid) for level, c in zip(features, channels, strict=True)
        ]
        return np.concatenate(chosen, axis=1)

    x, y = patches(train), patches(new)
    answer = np.empty((len(y), grid, grid))
    for row in range(grid):
        for column in range(grid):
            here = x[:, :, row, column]
            centred = here - here.mean(0)
            covariance = centred.T @ centred / (len(here) - 1)
            diagonal = np.diag(np.diag(covariance))
            covariance = (1 - shrinkage) * covariance + shrinkage * diagonal
            covariance += absolute * np.eye(len(covariance))
            difference = y[:, :, row, column] - here.mean(0)
            solved = np.linalg.solve(covariance, difference.T).T
            answer[:, row, column] = (difference * solved).sum(1)
    return answer


@pytest.fixture(
    params=[(0, 64), (16, 64), (0, 5)],
    ids=["each patch by itself", "narrow stages at once", "wide stages in blocks"],
)
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ways in which a stage's own product is taken."""
    narrow, wide = request.param
    monkeypatch.setattr(whitening_module, "NARROW", narrow)
    monkeypatch.setattr(whitening_module, "WIDE", wide)


@pytest.mark.usefixtures("product")
@pytest.mark.parametrize(
    ("grid", "stages"),
    [(16, [(4, 4), (8, 8), (16, 16)]), (8, [(4, 4), (8, 8)]), (4, [(4, 4)]), (10, [(10, 10)])],
)
def test_distances_are_the_textbooks_on_every_grid(
    grid: int, stages: list[tuple[int, int]]
) -> None:
    channels = choose_channels(AVAILABLE, 20, seed=0)
    layout = plan_layout(SIZES, channels, None if grid == 16 else grid)
    assert [stage.grid for stage in layout.stages] == stages
    train, new = levels(90, 0), levels(7, 1)
    whitening = fitted(train, layout, Regularisation(0.1, 0.0, 0.01))
    wanted = reference(train, new, channels, grid, 0.1, 0.01)
    np.testing.assert_allclose(distances(whitening, new).numpy(), wanted, rtol=1e-5)
    alone = distances(whitening, [level[2:3] for level in new])
    np.testing.assert_allclose(alone.numpy(), wanted[2:3], rtol=1e-5)


def test_the_nested_form_keeps_shared_rows_once() -> None:
    channels = choose_channels((256, 512, 1024), 100, seed=0)
    layout = plan_layout(((56, 56), (28, 28), (14, 14)), channels, None)
    nested = sum(
        4 * stage.patches * stage.width * (layout.before(i) + stage.width)
        for i, stage in enumerate(layout.stages)
    )
    full = 4 * 56 * 56 * 100 * 100
    assert [stage.width for stage in layout.stages] == [57, 29, 14]
    assert nested < 28e6
    assert full > 125e6


def test_the_images_may_come_in_batches_of_any_size() -> None:
    layout = plan_layout(SIZES, choose_channels(AVAILABLE, 20, 0), None)
    train, new = levels(60, 0), levels(3, 1)
    one = fitted(train, layout, Regularisation(), batch=60)
    many = fitted(train, layout, Regularisation(), batch=7)
    torch.testing.assert_close(distances(one, new), distances(many, new), rtol=1e-4, atol=1e-4)


def test_an_images_distances_do_not_depend_on_its_neighbours() -> None:
    layout = plan_layout(SIZES, choose_channels(AVAILABLE, 20, 0), None)
    whitening = fitted(levels(60, 0), layout, Regularisation())
    new = levels(5, 1)
    together = distances(whitening, new)
    new[0][1:] *= 100
    other = distances(whitening, new)
    torch.testing.assert_close(together[0], other[0])
    alone = distances(whitening, [level[:1] for level in new])
    torch.testing.assert_close(alone[0], other[0], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("product")
def test_half_holds_the_weights_and_the_distances_hardly_change() -> None:
    layout = plan_layout(SIZES, choose_channels(AVAILABLE, 20, 0), None)
    train = levels(60, 0)
    for level in train:
        level[:, 1] *= 1e-4
    new = levels(9, 1)
    for level in new:
        level[:, 1] *= 1e-4
    whole = fitted(train, layout, Regularisation())
    half = stored_in_half(whole)
    for weight in itertools.chain.from_iterable(half.weights):
        assert torch.equal(weight, weight.half().float())
        assert float(weight.abs().max()) <= 2
    torch.testing.assert_close(distances(half, new), distances(whole, new), rtol=2e-3, atol=0)


def test_the_choice_of_channels_is_fixed_and_in_proportion() -> None:
    one, again, other = (choose_channels((256, 512, 1024), 100, seed) for seed in (0, 0, 1))
    assert one == again != other
    assert [len(level) for level in one] == [14, 29, 57]
    assert all(list(level) == sorted(set(level)) for level in one)


@pytest.mark.parametrize("count", [0, 57])
def test_more_channels_than_there_are_is_refused_with_their_number(count: int) -> None:
    with pytest.raises(UsageError, match="between 1 and 56"):
        choose_channels(AVAILABLE, count, 0)


def test_a_grid_finer_than_the_network_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 16"):
        plan_layout(SIZES, choose_channels(AVAILABLE, 20, 0), 17)


def test_channels_that_leave_none_for_the_finest_level_are_refused() -> None:
    with pytest.raises(UsageError, match=r"1 channels leave none .* Give more --channels"):
        plan_layout(SIZES, choose_channels(AVAILABLE, 1, 0), None)


def test_a_grid_of_one_row_has_a_column_on_a_tall_view_too() -> None:
    tall = ((56, 16), (28, 8), (14, 4))
    assert plan_layout(tall, choose_channels(AVAILABLE, 20, 0), 1).grid == (1, 1)


def test_too_few_images_for_a_variance_are_refused_with_the_number() -> None:
    layout = plan_layout(SIZES, choose_channels(AVAILABLE, 20, 0), 4)
    with pytest.raises(DataError, match=r"2 GOOD images to learn from, wanted at least 3"):
        fitted(levels(2, 0), layout, Regularisation())


def test_fewer_images_than_channels_still_tell_what_is_strange() -> None:
    layout = plan_layout(SIZES, choose_channels(AVAILABLE, 20, 0), 4)
    few = levels(12, 0)
    whitening = fitted(few, layout, Regularisation())
    usual, strange = levels(8, 1), [level + 3.0 for level in levels(8, 1)]
    distances = [
        patch_distances(stage_features(views, layout), layout, whitening.weights, whitening.means)
        for views in (usual, strange)
    ]
    assert torch.isfinite(distances[0]).all()
    assert distances[1].mean() > 2 * distances[0].mean()


def test_images_that_are_all_the_same_are_refused() -> None:
    layout = plan_layout(SIZES, choose_channels(AVAILABLE, 20, 0), 4)
    same = [level.expand(40, -1, -1, -1).clone() for level in levels(1, 0)]
    with pytest.raises(DataError, match="the same in every"):
        fitted(same, layout, Regularisation())


def test_a_channel_that_was_silent_does_not_shout_at_its_first_murmur() -> None:
    layout = plan_layout(SIZES, choose_channels(AVAILABLE, 56, 0), 4)
    train = levels(90, 0)
    train[2][:, 3] = 0
    whitening = fitted(train, layout, Regularisation())
    quiet, murmur = levels(5, 1), levels(5, 1)
    quiet[2][:, 3], murmur[2][:, 3] = 0, 0.01
    torch.testing.assert_close(
        distances(whitening, quiet), distances(whitening, murmur), rtol=0.05, atol=2.0
    )


def test_the_memory_that_is_stated_is_not_exceeded() -> None:
    """The peak of a fit in a process of its own, over the same process without it.

    The allocator gives freed blocks back at once here, so that the arithmetic is what is measured:
    how much it keeps otherwise differs by 50 MB from run to run.
    """
    code = """
import torch
from edge_qc_export.drift.moments import ALLOCATOR, Moments
from edge_qc_export.drift.padim import Regularisation, fit
from edge_qc_export.drift.patches import choose_channels, plan_layout
torch.set_num_threads(1)
layout = plan_layout(((28, 28), (14, 14), (7, 7)), choose_channels((64, 128, 256), 200, 0), None)
torch.linalg.cholesky(torch.eye(3))
features = [torch.randn(s.patches, 210, s.width) for s in layout.stages]
def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if key in line)
before = kilobytes("VmRSS")
moments = Moments(layout)
for start in range(0, 210, 15):
    part = slice(start, start + 15)
    moments.update([x[:, part] for x in features])
fit(moments, Regularisation())
taken = 1024 * (kilobytes("VmHWM") - before)
print(taken, Moments.memory_bytes(layout) - ALLOCATOR)
"""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    taken, stated = map(int, ran.stdout.split())
    assert stated / 2 < taken <= stated
