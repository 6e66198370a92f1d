"""The folder of exhibits: one folder for each kept image, below one for each label.

    GOOD/20261122T170000.123Z-0731-<verdict id>/
        frame.png         the photograph as the camera gave it
        view.png          what the network saw
        distances.npy     squared Mahalanobis distance of each patch, float32 (rows, columns)
        verdict.json      the verdict as it was published, without its number

Time, doubt (in thousandths) and id stand in the name, so that thousands are listed without opening
one. An exhibit appears whole or not at all, and is never changed. ``keeper`` and ``quota`` decide
what to keep.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError

FRAME, VIEW, DISTANCES, VERDICT = "frame.png", "view.png", "distances.npy", "verdict.json"
_NAME = re.compile(r"(\d{8}T\d{6}\.\d{3})Z-(\d{4})-([0-9a-f-]{36})")
_TIME = "%Y%m%dT%H%M%S.%f"
_FAST_PNG = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    # One filter for all rows, instead of all five tried on each; OpenCV before 4.12 has no say.
    *(
        [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
        if hasattr(cv2, "IMWRITE_PNG_FILTER")
        else []
    ),
]
"""About half of the time that compression 1 alone takes, and no larger."""
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One kept image. label: the station's. doubt: 0 (sure) to 1. size_bytes: of its files."""

    folder: Path
    verdict_id: str
    label: str
    time: datetime
    doubt: float
    size_bytes: int

    def verdict(self) -> dict[str, Any]:
        """The verdict as it was published. Raises DataError."""
        try:
            document = json.loads((self.folder / VERDICT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"evidence {self.folder}: {VERDICT}: {error}") from error
        if not isinstance(document, dict):
            raise DataError(f"evidence {self.folder}: {VERDICT} is no verdict")
        return document

    def file(self, name: str) -> bytes | None:
        """One of its files; None if there is none with that name. Raises DataError for one that
        cannot be read, or is empty: a power cut leaves such."""
        try:
            data = (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"evidence {self.folder}: {name}: {error}") from error
        if not data:
            raise DataError(f"evidence {self.folder}: {name} is empty")
        return data

    def distances(self) -> NDArray[np.float32] | None:
        """The distance of each patch; None if the image was not judged. Raises DataError."""
        data = self.file(DISTANCES)
        if data is None:
            return None
        try:
            found = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"evidence {self.folder}: {DISTANCES}: {error}") from error
        return np.asarray(found, np.float32)


class Store:
    """The exhibits below ``folder``, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exhibits(self) -> Iterator[Exhibit]:
        """All complete images, by label and then by time. Raises DataError for a folder that cannot
        be read."""
        try:
            for shelf in _folders(self.folder):
                if shelf.name.startswith("."):
                    continue
                for folder in _folders(shelf):
                    found = _exhibit(folder, unquote(shelf.name))
                    if found is not None:
                        yield found
        except OSError as error:
            raise DataError(
                f"evidence {error.filename or self.folder}: {error.strerror}. Let this user read it"
            ) from error

    def find(self, verdict_id: str) -> Exhibit | None:
        """The image of one verdict; None if it was not kept, or was deleted."""
        if not re.fullmatch(r"[0-9a-f-]{36}", verdict_id):
            return None
        for folder in self.folder.glob(f"[!.]*/*-{verdict_id}"):
            return _exhibit(folder, unquote(folder.parent.name))
        return None

    def add(
        self,
        verdict_id: str,
        label: str,
        time: datetime,
        doubt: float,
        *,
        frame: NDArray[np.uint8],
        verdict: Mapping[str, Any] | str,
        view: NDArray[np.uint8] | None = None,
        distances: NDArray[np.float32] | None = None,
    ) -> Exhibit:
        """Keep an image. frame: (H, W) or (H, W, 3) BGR. verdict: as published, or its JSON. view:
        (H, W). Raises OSError if the disk fails."""
        stamp = time.astimezone(timezone.utc).strftime(_TIME)[:-3]
        name = f"{stamp}Z-{round(999 * doubt):04d}-{verdict_id}"
        shelf = self.folder / _shelf(label)
        making = self.folder / f"{_UNFINISHED}{verdict_id}"
        making.mkdir(parents=True)
        try:
            _write(making / FRAME, png_bytes(frame))
            if view is not None:
                _write(making / VIEW, png_bytes(view))
            if distances is not None:
                array = io.BytesIO()
                np.save(array, distances, allow_pickle=False)
                _write(making / DISTANCES, array.getvalue())
            text = verdict if isinstance(verdict, str) else json.dumps(verdict)
            _write(making / VERDICT, text.encode())
            shelf.mkdir(exist_ok=True)
            os.rename(making, shelf / name)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        kept = _exhibit(shelf / name, label)
        if kept is None:
            raise FileNotFoundError(f"{shelf / name} went away")
        return kept

    def remove(self, exhibit: Exhibit) -> None:
        """Delete an image. Raises OSError if the disk fails."""
        # Rename it first, so that nobody finds an incomplete one.
        gone = self.folder / f"{_UNFINISHED}{exhibit.verdict_id}"
        with suppress(FileNotFoundError):
            os.rename(exhibit.folder, gone)
            shutil.rmtree(gone)

    def sweep(self) -> None:
        """Remove images that a power cut left incomplete."""
        for folder in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _shelf(label: str) -> str:
    """The folder of a label; a label may hold anything."""
    name = quote(label, safe=" ()+,=@_-")
    return name.replace(".", "%2E")


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []


def _exhibit(folder: Path, label: str) -> Exhibit | None:
    match = _NAME.fullmatch(folder.name)
    if match is None:
        return None
    try:
        with os.scandir(folder) as files:
            size = sum(file.stat().st_size for file in files)
    except FileNotFoundError:
        return None
    time = datetime.strptime(match[1], _TIME).replace(tzinfo=timezone.utc)
    return Exhibit(folder, match[3], label, time, int(match[2]) / 999, size)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (H, W), or (H, W, 3) BGR, as PNG. Raises OSError for one that is none."""
    done, data = cv2.imencode(".png", pixels, _FAST_PNG)
    if not done:
        raise OSError(f"an image of shape {pixels.shape} cannot be written as PNG")
    return bytes(data)


def decoded(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels of a PNG, as ``png_bytes`` had them; None of what is damaged. Never from a file by
    its name: OpenCV crashes at one that is not UTF-8."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _write(file: Path, data: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(data)
