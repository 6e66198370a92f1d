"""One image file as uint8 pixels, or a clear refusal.

OpenCV decodes some damaged files without a word (a JPEG cut short comes back with a grey lower
part), so the ends and checksums are looked at first. Folders and tables live in ``files``.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def read_image(file: Path) -> NDArray[np.uint8]:
    """The file's pixels, (H, W) grey or (H, W, 3) BGR, as stored: an orientation tag is not obeyed
    and an alpha channel is dropped.

    Raises DataError that names the file where it is missing, damaged, no image, or not of 8 bits.
    """
    import cv2  # Here, so that what only names the room does not wait for it.

    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"image {file}: {error.strerror or error}") from error
    damage = _damage(data)
    if damage:
        raise DataError(f"image {file}: {damage}. Copy or take it again")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"image {file}: cannot be decoded ({error.err})") from error
    if pixels is None:
        raise DataError(f"image {file}: damaged, or not an image of kind {', '.join(SUFFIXES)}")
    if pixels.dtype != np.uint8:
        raise DataError(
            f"image {file}: {pixels.dtype.itemsize * 8} bits per channel, wanted 8: convert it"
        )
    if pixels.ndim == 3:
        channels = pixels.shape[2]
        if channels == 1:
            return np.ascontiguousarray(pixels[:, :, 0])
        if channels == 2:
            raise DataError(f"image {file}: {channels} channels, wanted grey or colour")
        return np.ascontiguousarray(pixels[:, :, :3])
    return np.asarray(pixels, np.uint8)


def _damage(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data.startswith(_PNG):
        return _png_damage(data)
    # Cameras pad after the end marker, so it need not be the very last.
    if data.startswith(_JPEG) and b"\xff\xd9" not in data[-4096:]:
        return "truncated: a JPEG without its end"
    return ""


def _png_damage(data: bytes) -> str:
    at = len(_PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return f"damaged: the checksum of PNG chunk {data[at + 4 : at + 8]!r} is wrong"
        if data[at + 4 : at + 8] == b"IEND":
            return ""
        at = end
    return f"truncated: a PNG of {len(data)} bytes without its end"
