"""The events and counts that a camera reports to the line."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from edge_qc.parts import Frame, Reason


class CameraState(str, enum.Enum):
    """Where a camera is. LOST: closed after a failure, opened again after a while."""

    OPENING = "opening"
    RUNNING = "running"
    LOST = "lost"
    ENDED = "ended"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Fault:
    """In place of a frame: one photograph that cannot be judged, and why.

    reason: FRAME (this photograph), CAMERA (the camera) or OVERRUN (the line was too slow). time:
    UTC.
    """

    camera: str
    die: str | None
    trigger_id: str
    part_id: str | None
    image: str | None
    detail: str
    reason: Reason
    time: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """A folder or video that does not loop has ended; this camera delivers nothing more."""

    camera: str


Event: TypeAlias = Frame | Fault | Ended
Deliver: TypeAlias = Callable[[Event], bool | None]
"""False where an event could not be recorded, so that it is as if it had never come."""


@dataclass(frozen=True, slots=True)
class CameraStats:
    """Counts since the start. faults: all Faults, with the overruns. last_frame_monotonic:
    ``time.monotonic`` of the last frame's capture. detail: why the camera was lost last."""

    state: CameraState
    frames: int
    faults: int
    overruns: int
    reopened: int
    last_frame_monotonic: float | None
    detail: str
    pid: int | None
