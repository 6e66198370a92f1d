"""The load generator: a camera whose every frame says what it shows and what will go wrong with it.

``load:live=0&part=4&pause=0.01&fault.nan=0.01…``: a frame's image name is unique and holds
its prototype and its fault, so that the referee knows the truth of every verdict from the message
alone; a fault of a later stage travels in the frame's first pixel, where ``sabotage`` finds it.
Read in the camera's own process, whose start each import delays.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from edge_qc.camera.sources import BadImage, Grab, SourceRequest
from edge_qc.errors import CameraError

SIDE = 8

PROTOTYPES: tuple[tuple[str, tuple[int, int, int, int]], ...] = (
    ("GOOD", (190, 190, 210, 40)),
    ("missing", (210, 210, 40, 210)),
    ("GOOD", (140, 210, 210, 40)),
    ("flat", (40, 40, 140, 190)),
    ("GOOD", (90, 210, 210, 40)),
    ("missing", (190, 140, 40, 210)),
)
"""Label and grey level of each quadrant: what the tiny bundle's network says with a wide margin."""

CODES = {
    "nan": 10,
    "inf": 20,
    "shape": 30,
    "error": 40,
    "bug": 50,
    "hang": 60,
    "view": 70,
    "crop": 80,
    "decide": 90,
    "slow": 100,
}
"""Faults of the stages behind the camera, and the first pixel that asks for them. ``slow``: the
engine takes ``SLOW_S``, and the verdict is as good as any."""

SLOW_S = 0.4

CAMERA_FAULTS = ("black", "white", "stale", "gone", "crash", "stuck", "misshapen")
"""Faults of the camera itself. ``gone``: an error; ``crash``: its process is killed; ``stuck``: a
read that never returns; ``misshapen``: pixels of a shape that no frame has."""

FORBIDS_A_DECISION = (
    *(code for code in CODES if code != "slow"),
    "black",
    "white",
    "stale",
    "misshapen",
)
NO_FAULT = "none"


@dataclass(frozen=True)
class Shown:
    """What an image name says."""

    label: str
    fault: str


def shown(image: str) -> Shown:
    """The truth of an image by its name."""
    _, prototype, fault = image.split("~")
    return Shown(PROTOTYPES[int(prototype)][0], fault)


def picture(prototype: int, code: int, noise: np.random.Generator) -> NDArray[np.uint8]:
    """A frame, uint8 (8, 8)."""
    levels = np.array(PROTOTYPES[prototype][1]).reshape(2, 2)
    pixels = np.kron(levels, np.ones((SIDE // 2, SIDE // 2))) + noise.integers(-8, 9, (SIDE, SIDE))
    pixels[0, 0] = code
    return pixels.astype(np.uint8)


class LoadSource:
    """See the module."""

    def __init__(self, request: SourceRequest) -> None:
        options = dict(parse_qsl(request.uri.partition(":")[2]))
        self.live = options.get("live") == "1"
        self._die = request.die or ""
        self._part = int(options.get("part", "0"))
        self._pause_s = float(options.get("pause", "0"))
        self._faults = {
            name.removeprefix("fault."): float(share)
            for name, share in options.items()
            if name.startswith("fault.")
        }
        unknown = set(self._faults) - set(CODES) - set(CAMERA_FAULTS)
        if unknown:
            raise CameraError(f"load: unknown faults {unknown}")
        self._number = 0
        self._stem = f"{os.getpid()}-{time.time_ns()}"
        self._dice = random.Random()
        self._noise = np.random.default_rng()

    @staticmethod
    def check(request: SourceRequest) -> None:
        """Everything can be asked."""

    def read(self, timeout_s: float) -> Grab | BadImage | None:
        """The next frame, after the pause."""
        time.sleep(self._pause_s)
        self._number += 1
        prototype = self._number % len(PROTOTYPES)
        fault = NO_FAULT
        throw = self._dice.random()
        for name, share in self._faults.items():
            if throw < share:
                fault = name
                break
            throw -= share
        pixels = picture(prototype, CODES.get(fault, 0), self._noise)
        taken_s = time.monotonic()
        if fault == "gone":
            raise CameraError("load: the camera is gone")
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "stuck":
            time.sleep(3600)
        if fault in ("black", "white"):
            pixels[:] = 255 * (fault == "white")
        if fault == "stale":
            taken_s -= 60.0
        if fault == "misshapen":
            pixels = np.zeros((SIDE, SIDE, 4), np.uint8) + 100
        part = None
        if self._part and self._number % self._part == 0:
            part = f"{self._stem}-{self._number}~{prototype}~{fault}"
        image = f"{self._stem}-{self._number}~{prototype}~{fault}"
        return Grab(pixels, self._die, part, image, datetime.now(timezone.utc), taken_s)

    def close(self) -> None:
        """Nothing is held."""
