"""A live camera that does what a script says, for tests; read in the camera's own process.

``scripted:FILE?first opening|second opening|…``, each a list of words: a number of fresh frames,
``black``, ``white``, ``same`` (the last frame again), ``old`` (a minute old), ``idle``, ``hang``,
``crash``, ``fail``, ``slow`` (a frame after a second). After the words come fresh frames for ever.
FILE counts the openings.
"""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_qc.camera.files import FolderSource
from edge_qc.camera.sources import BadImage, Grab, SourceRequest
from edge_qc.errors import CameraError

PERIOD_S = 0.02


class ScriptedCamera:
    live = True

    def __init__(self, request: SourceRequest) -> None:
        self._die = request.die or ""
        file, _, scripts = request.uri.partition(":")[2].partition("?")
        with Path(file).open("a") as counter:
            counter.write("opened\n")
        opening = Path(file).read_text().count("opened") - 1
        openings = scripts.split("|")
        self._words: list[str] = []
        for word in openings[min(opening, len(openings) - 1)].split():
            self._words += ["fresh"] * int(word) if word.isdigit() else [word]
        if self._words[:1] == ["missing"]:
            raise CameraError("scripted camera: there is no such device")
        self._rng = np.random.default_rng()
        self._last = np.zeros((48, 64), np.uint8)

    @staticmethod
    def check(request: SourceRequest) -> None:
        pass

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        time.sleep(PERIOD_S)
        word = self._words.pop(0) if self._words else "fresh"
        if word == "hang":
            time.sleep(3600)
        if word == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "fail":
            raise CameraError("scripted camera: stopped giving frames")
        if word == "idle":
            return None
        if word == "slow":
            time.sleep(1.0)
        if word in ("fresh", "old", "slow"):
            self._last = self._rng.integers(30, 220, (48, 64), dtype=np.uint8)
        pixels = self._last
        if word in ("black", "white"):
            pixels = np.full((48, 64), 255 * (word == "white"), np.uint8)
        taken_s = time.monotonic() - 60.0 * (word == "old")
        return Grab(pixels, self._die, None, None, datetime.now(timezone.utc), taken_s)

    def close(self) -> None:
        pass


class PoisonedFolder(FolderSource):
    """A folder whose third image crashes the decoder."""

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        item = super().read(timeout_s)
        if item is not None and item.image == "2.png":
            os.kill(os.getpid(), signal.SIGSEGV)
        return item
