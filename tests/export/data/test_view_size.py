"""A view has the shape of its crops unless someone asks for another."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch: pip install ./export")

from edge_qc.bundle.dies import CHALLENGE_DIES, Die
from edge_qc_export.data.view_size import size_of_crops

pytestmark = pytest.mark.torch


def test_the_challenge_s_band_stays_a_band() -> None:
    assert size_of_crops(CHALLENGE_DIES) == (320, 96)


@pytest.mark.parametrize(
    ("crop", "size"),
    [
        ((96, 96), (96, 96)),
        ((160, 560), (320, 96)),
        ((560, 160), (96, 320)),
        ((1920, 1080), (128, 224)),
        ((32, 32), (96, 96)),
    ],
)
def test_height_and_width_follow_the_crop_in_steps_of_32(
    crop: tuple[int, int], size: tuple[int, int]
) -> None:
    assert size_of_crops({"die": Die(angle=30, center=crop)}) == size
    width, height = crop
    assert size_of_crops({"die": Die(angle=0, box=(5, 7, 5 + width, 7 + height))}) == size
