"""Changes stay within what a line does to a view, and follow from seed, epoch and row alone."""

from __future__ import annotations

import numpy as np

from edge_qc_export.learn.augmentation import augment


def views(count: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(60, 180, (count, 40, 32)).astype(np.uint8)


def test_a_view_changes_the_same_way_whatever_batch_it_is_in() -> None:
    pixels, rows = views(), np.arange(8)
    whole = augment(3, 1)(pixels, rows)
    np.testing.assert_array_equal(augment(3, 1)(pixels[5:6], rows[5:6])[0], whole[5])


def test_epochs_and_seeds_change_it_differently() -> None:
    pixels, rows = views(), np.arange(8)
    first = augment(3, 1)(pixels, rows)
    assert (augment(3, 2)(pixels, rows) != first).mean() > 0.5
    assert (augment(4, 1)(pixels, rows) != first).mean() > 0.5


def test_light_and_place_stay_near_and_nothing_is_mirrored() -> None:
    ramp = np.tile(np.linspace(40, 200, 64).astype(np.uint8), (64, 1))
    changed = augment(0, 1)(np.repeat(ramp[np.newaxis], 50, 0), np.arange(50)).astype(float)
    left, right = changed[:, :, 8:16].mean((1, 2)), changed[:, :, 48:56].mean((1, 2))
    assert (right > left).all(), "a view was mirrored"
    brightness = changed.mean((1, 2)) - ramp.mean()
    assert np.abs(brightness).max() < 0.2 * 255
    assert brightness.std() > 5
