"""The one rule for image files: what is taken, how, and what is refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_qc.camera import read_image
from edge_qc.errors import DataError
from tests.rig.cameras import picture

KINDS = ["png", "jpg", "bmp", "tif"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [False, True])
def test_an_image_is_read_as_it_was_written(tmp_path: Path, kind: str, colour: bool) -> None:
    pixels = cv2.GaussianBlur(picture(3), (0, 0), 4)
    if colour:
        pixels = np.dstack([pixels, 255 - pixels, pixels // 2])
    file = tmp_path / f"a.{kind}"
    assert cv2.imwrite(str(file), pixels)
    seen = read_image(file)
    assert seen.shape == pixels.shape
    assert np.abs(seen.astype(int) - pixels).max() <= (25 if kind == "jpg" else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.97, 0.999])
def test_a_truncated_image_is_refused_wherever_it_was_cut(
    tmp_path: Path, kind: str, kept: float
) -> None:
    """No part of it is judged: some versions of OpenCV fill what is missing with grey."""
    file = tmp_path / f"a.{kind}"
    cv2.imwrite(str(file), picture(3, 300, 200))
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=str(file)):
        read_image(file)


@settings(max_examples=50, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_png_with_any_flipped_bit_is_refused(
    tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    """A PNG carries checksums, and they are looked at."""
    file = tmp_path_factory.mktemp("flipped") / "a.png"
    cv2.imwrite(str(file), picture(3))
    data = bytearray(file.read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    file.write_bytes(bytes(data))
    with pytest.raises(DataError):
        read_image(file)


GREY = picture(2)
COLOUR = np.dstack([GREY, 255 - GREY, GREY // 2])


def test_grey_is_grey_however_it_was_saved(tmp_path: Path) -> None:
    """By a tool that writes three equal channels, with an opaque alpha channel, with 16 bits."""
    opaque = np.full_like(GREY, 255)
    for name, pixels in {
        "rgb.png": np.dstack([GREY] * 3),
        "rgba.png": np.dstack([GREY, GREY, GREY, opaque]),
        "deep.png": GREY.astype(np.uint16) * 257,
        "deep.tif": GREY.astype(np.uint16) * 257,
        "deep_rgb.png": np.dstack([GREY.astype(np.uint16) * 257] * 3),
    }.items():
        assert cv2.imwrite(str(tmp_path / name), pixels)
        assert np.array_equal(read_image(tmp_path / name), GREY), name
    Image.fromarray(np.dstack([GREY, opaque]), "LA").save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png"), GREY)
    Image.fromarray(GREY > 120).save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}


def test_colour_stays_colour(tmp_path: Path) -> None:
    """With one pixel of colour it is not grey any more, and a palette is colour too."""
    almost = np.dstack([GREY] * 3)
    almost[5, 7] = 1, 2, 3
    cv2.imwrite(str(tmp_path / "almost.png"), almost)
    assert np.array_equal(read_image(tmp_path / "almost.png"), almost)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([COLOUR, np.full_like(GREY, 255)]))
    assert np.array_equal(read_image(tmp_path / "alpha.png"), COLOUR)
    Image.fromarray(COLOUR[:, :, ::-1]).quantize(8).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == COLOUR.shape


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_full_scale_and_never_by_the_picture(
    tmp_path: Path, kind: str
) -> None:
    """A dark picture stays dark: its brightest pixel sets no scale."""
    deep = np.array([[0, 128, 129, 257], [32_768, 20_000, 65_534, 30_000]], np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{kind}"), deep)
    seen = read_image(tmp_path / f"a.{kind}")
    assert seen.tolist() == [[0, 0, 1, 1], [128, 78, 255, 117]]


def test_a_jpeg_is_decoded_as_opencv_decodes_it(tmp_path: Path) -> None:
    """What a bundle learned from OpenCV's pixels stays true."""
    for name, pixels in {"grey": GREY, "colour": COLOUR}.items():
        for progressive in (0, 1):
            file = tmp_path / f"{name}{progressive}.jpg"
            cv2.imwrite(str(file), pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
            assert np.array_equal(read_image(file), cv2.imread(str(file), -1))


def write_two_pages(file: Path) -> None:
    cv2.imwritemulti(str(file), [GREY, 255 - GREY])


def write_animation(file: Path) -> None:
    Image.fromarray(GREY).save(file, save_all=True, append_images=[Image.fromarray(255 - GREY)])


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("two.tif", write_two_pages, "a TIFF of 2 pages, wanted one"),
        ("moving.png", write_animation, "an animated PNG, wanted one"),
        (
            "glass.png",
            lambda file: cv2.imwrite(str(file), np.dstack([COLOUR, GREY])),
            "partly transparent",
        ),
        (
            "inks.jpg",
            lambda file: Image.fromarray(np.dstack([COLOUR, GREY]), "CMYK").save(file),
            "four inks",
        ),
        (
            "float.tif",
            lambda file: cv2.imwrite(str(file), GREY.astype(np.float32)),
            "float32 values, wanted 8 or 16 bits",
        ),
        (
            "signed.tif",
            lambda file: cv2.imwrite(str(file), GREY.astype(np.int16)),
            "int16 values, wanted 8 or 16 bits",
        ),
        (
            "twelve.png",
            lambda file: cv2.imwrite(str(file), GREY.astype(np.uint16) * 16),
            "no value above 3504: of 4095",
        ),
        ("text.png", lambda file: file.write_text("hello"), "not an image"),
        ("web.png", lambda file: Image.fromarray(GREY).save(file, "GIF"), "not an image of kind"),
        ("empty.png", lambda file: file.write_bytes(b""), "empty"),
        ("none.png", lambda file: None, "No such file"),
        ("folder.png", lambda file: file.mkdir(), "not a regular file"),
        # Read, a device would never end and a pipe would wait for its writer.
        ("device.png", lambda file: file.symlink_to("/dev/zero"), "not a regular file"),
        ("pipe.png", os.mkfifo, "not a regular file"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(
    tmp_path: Path, name: str, write: object, message: str
) -> None:
    write(tmp_path / name)  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_a_damaged_image_that_opencv_fills_is_refused(tmp_path: Path, kind: str) -> None:
    """Whole to its end, with a piece missing from its middle: OpenCV gives a picture."""
    file = tmp_path / f"a.{kind}"
    cv2.imwrite(str(file), cv2.GaussianBlur(picture(3, 300, 200), (0, 0), 2))
    data = file.read_bytes()
    middle = len(data) // 2
    cut = {"jpg": data[:middle] + data[middle + 300 :]}.get(
        kind, data[:middle] + bytes(300) + data[middle + 300 :]
    )
    file.write_bytes(cut)
    assert cv2.imread(str(file), -1) is not None
    with pytest.raises(DataError, match="damaged"):
        read_image(file)


def test_a_header_that_claims_a_huge_picture_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "huge.jpg"
    cv2.imwrite(str(file), GREY)
    data = bytearray(file.read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xdc\xff\xdc"
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match="claims 65500x65500 pixels"):
        read_image(file)
