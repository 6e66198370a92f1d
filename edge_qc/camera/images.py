"""One image file as uint8 pixels, or a clear refusal: the one rule for training, ``judge`` and the
station.

- Grey stays grey, also where a tool saved it as three equal channels.
- Colour stays BGR here; ``inspection.view`` turns it to grey by ITU-R BT.601 for everybody.
- 16 bits are divided by 257, so that full scale stays full scale; the picture's own brightest
  pixel never sets a scale.
- An alpha channel is dropped if it is opaque.

All else is refused by name: several pages, transparency, four inks, floating point. Decoders accept
some damaged files without an error (OpenCV's JPEG cut short comes back with a grey lower part), so
ends, checksums and the decoder's warnings are looked at. Folders and tables live in ``files``.
"""

from __future__ import annotations

import io
import time
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.checks import nothing_to_judge
from edge_qc.errors import DataError
from edge_qc.parts import Frame

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_BMP = b"BM"
_MOST_PIXELS = 1 << 28
"""A damaged header may claim any size: memory is taken only up to this one."""
_TWELVE_BITS = 4095


def read_image(file: Path) -> NDArray[np.uint8]:
    """The file's pixels, uint8, (H, W) grey or (H, W, 3) BGR, by the rule at the top of this page.
    It ignores an orientation tag: the pixels stay as the camera stored them.

    Raises DataError that names the file if it is missing, damaged or of a kind that is refused.
    """
    try:
        # A device never ends and a pipe waits for its writer: neither is an image.
        if file.exists() and not file.is_file():
            raise DataError(f"image {file}: is not a regular file. Name an image file")
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"image {file}: {error.strerror or error}") from error
    try:
        return _eight_bit_grey_or_bgr(_decoded(data))
    except _RefusedError as refusal:
        raise DataError(f"image {file}: {refusal}") from refusal.__cause__


class JpegError(Exception):
    """Why JPEG data are not taken."""


class _RefusedError(Exception):
    """Why a file is not taken, without its name."""


def frame_from_image(file: Path, die: str, name: str) -> Frame:
    """The photograph in a file as a frame that was taken now. name: the image's, for verdicts.

    Raises DataError that says why a station would not judge it: it cannot be read, or shows
    nothing.
    """
    pixels = read_image(file)
    if nothing := nothing_to_judge(pixels, name):
        raise DataError(nothing)
    return frame_of(pixels, die, name)


def frame_of(pixels: NDArray[np.uint8], die: str, name: str) -> Frame:
    """A photograph's pixels as a frame that was taken now. name: as for ``frame_from_image``."""
    return Frame(
        pixels=pixels,
        camera="file",
        die=die,
        trigger_id=name,
        part_id=None,
        sequence=0,
        time=datetime.now(timezone.utc),
        monotonic_s=time.monotonic(),
        image=name,
    )


def _decoded(data: bytes) -> NDArray[Any]:
    """The pixels as the file holds them: any depth, any channels."""
    if not data:
        raise _RefusedError("the file is empty. Copy or take it again")
    if data.startswith(_JPEG):
        try:
            return pixels_from_jpeg(data)
        except JpegError as error:
            raise _RefusedError(f"{error}. Take it again, or convert it") from error
    if data.startswith(_PNG):
        _require_whole_png(data)
    elif not data.startswith((*_TIFF, _BMP)):
        raise _RefusedError(f"damaged, or not an image of kind {', '.join(SUFFIXES)}")
    import cv2  # Here, so that what only names the room does not wait for it.

    if data.startswith(_TIFF):
        _require_whole_tiff(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:
        raise _RefusedError(f"cannot be decoded ({getattr(error, 'err', error)})") from error
    if pixels is None:
        raise _RefusedError(f"damaged, or not an image of kind {', '.join(SUFFIXES)}")
    return np.asarray(pixels)


def pixels_from_jpeg(data: bytes) -> NDArray[np.uint8]:
    """uint8, (H, W) or (H, W, 3) BGR, by libjpeg, whose warnings of damaged data are errors here;
    the same pixels as OpenCV's. Raises JpegError."""
    import simplejpeg

    # Cameras pad after the end marker, so it need not be the very last.
    if b"\xff\xd9" not in data[-4096:]:
        raise JpegError("truncated: a JPEG without its end")
    try:
        height, width, kind, _ = simplejpeg.decode_jpeg_header(data)
        if kind in ("CMYK", "YCCK"):
            raise JpegError(f"a JPEG in four inks ({kind}), wanted grey or colour")
        if height * width > _MOST_PIXELS:
            raise JpegError(f"claims {width}x{height} pixels, at most {_MOST_PIXELS} are taken")
        grey = kind == "Gray"
        pixels = simplejpeg.decode_jpeg(data, colorspace="GRAY" if grey else "BGR", strict=True)
    except (ValueError, MemoryError) as error:
        raise JpegError(f"damaged JPEG: {error}") from error
    return np.asarray(pixels[:, :, 0] if grey else pixels, np.uint8)


def _eight_bit_grey_or_bgr(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        full = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
        if (pixels[:, :, 3] != full).any():
            raise _RefusedError(
                "partly transparent: what lies behind is not known. Save it without transparency"
            )
        pixels = pixels[:, :, :3]
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        raise _RefusedError(f"{pixels.shape[2]} channels, wanted grey or colour")
    if pixels.dtype == np.uint16:
        most = int(pixels.max())
        if 0 < most <= _TWELVE_BITS:
            raise _RefusedError(
                f"16 bits per channel, but no value above {most}: of {_TWELVE_BITS} (12 bits) or "
                "of 65535? Save it with 8 bits, or with values up to 65535"
            )
        import cv2

        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    if pixels.dtype != np.uint8:
        raise _RefusedError(
            f"{pixels.dtype} values, wanted 8 or 16 bits per channel without a sign: convert it"
        )
    if pixels.ndim == 3 and (pixels.shape[2] == 1 or _is_grey(pixels)):
        pixels = pixels[:, :, 0]
    return np.ascontiguousarray(pixels, np.uint8)


def _is_grey(bgr: NDArray[Any]) -> bool:
    """Whether the three channels are equal; a few rows settle it for most pictures in colour."""
    return all(
        np.array_equal(rows[:, :, 0], rows[:, :, channel])
        for rows in (bgr[::64], bgr)
        for channel in (1, 2)
    )


def _require_whole_png(data: bytes) -> None:
    at = len(_PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data):
            break
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise _RefusedError(
                f"damaged: the checksum of PNG chunk {kind!r} is wrong. Copy or take it again"
            )
        if kind == b"acTL":
            raise _RefusedError("an animated PNG, wanted one picture")
        if kind == b"IEND":
            return
        at = end
    raise _RefusedError(
        f"truncated: a PNG of {len(data)} bytes without its end. Copy or take it again"
    )


def _require_whole_tiff(data: bytes) -> None:
    """By Pillow, which raises where OpenCV fills what libtiff could not decode."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as picture:
            pages = getattr(picture, "n_frames", 1)
            if pages == 1:
                picture.load()
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise _RefusedError(
            f"damaged, or a TIFF of a kind that is not taken ({error}). Copy or take it again, or "
            "save it as PNG"
        ) from error
    if pages > 1:
        raise _RefusedError(
            f"a TIFF of {pages} pages, wanted one picture: save each page as a file"
        )
