"""The types that cross a boundary between rooms: frozen, slotted, validated when made.

Arrays are NumPy and become read-only, so that each object is a value.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import EdgeQCError

GOOD = "GOOD"
DRIFT = "DRIFT"
NOT_JUDGED = "NOT_JUDGED"


class Disposition(str, enum.Enum):
    """What the line does with a part."""

    PASS = "PASS"
    REJECT = "REJECT"
    REVIEW = "REVIEW"


class Reason(str, enum.Enum):
    """Why a verdict is what it is; every reason but ``DECIDED`` means NOT_JUDGED."""

    DECIDED = "decided"
    CAMERA = "camera"
    FRAME = "frame"
    ENGINE = "engine"
    OVERRUN = "overrun"
    RESTART = "restart"
    STATE = "state"


def _frozen(array: NDArray[np.generic]) -> NDArray[np.generic]:
    array = array.view()
    array.flags.writeable = False
    return array


def _require_utc(name: str, value: datetime) -> None:
    if value.utcoffset() != timedelta(0):
        raise ValueError(f"{name}: expected a UTC time with its time zone, got {value!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One photograph and where it comes from.

    pixels: uint8, (H, W) grey or (H, W, 3) BGR. time: UTC. monotonic_s: the same moment on
    ``time.monotonic``. sequence counts the camera's frames from 0. part_id: None if the line does
    not name the part. label: the image's name, if the source has one.
    """

    pixels: NDArray[np.uint8]
    camera: str
    die: str
    trigger_id: str
    part_id: str | None
    sequence: int
    time: datetime
    monotonic_s: float
    image: str | None = None

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.dtype != np.uint8 or not (
            pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
        ):
            raise ValueError(
                "a frame needs uint8 pixels of shape (H, W) or (H, W, 3), "
                f"got {pixels.dtype} {pixels.shape}"
            )
        if 0 in pixels.shape:
            raise ValueError(f"a frame needs at least one pixel, got shape {pixels.shape}")
        _require_utc("frame time", self.time)
        object.__setattr__(self, "pixels", _frozen(pixels))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the part was found in its frame, against where parts lie on average: right_px and
    down_px at the crop's centre, turn_deg counter-clockwise about it. residual: 0 where its edges
    are those of GOOD parts, 1 where they have nothing in common; above ``limit`` nothing is taken
    to be the part. fault: why it may not be judged, in words; "" where it may."""

    right_px: float
    down_px: float
    turn_deg: float
    residual: float
    limit: float
    fault: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the network sees: a uint8 crop (1, H, W), and the 2 x 3 affine that takes a point
    (x, y) of the crop back to the frame's pixels. placement: where the part was looked for and
    found; with a fault the view was cut as if it lay in its place. None if nobody looked."""

    pixels: NDArray[np.uint8]
    to_frame: NDArray[np.float64]
    placement: Placement | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[0] != 1:
            raise ValueError(
                "a view needs uint8 pixels of shape (1, H, W), "
                f"got {self.pixels.dtype} {self.pixels.shape}"
            )
        if self.to_frame.shape != (2, 3):
            raise ValueError(f"a view needs a 2 x 3 affine, got shape {self.to_frame.shape}")
        object.__setattr__(self, "pixels", _frozen(self.pixels))
        object.__setattr__(self, "to_frame", _frozen(self.to_frame))


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The engine's output for one view, before any threshold.

    logits: (C,) float32 in the bundle's order of classes. distances: (gh, gw) float32, squared
    Mahalanobis distance of each patch. drift: the image's score from those. embedding_distance:
    squared Mahalanobis distance of the penultimate features to the nearest class. good_distance:
    the same to GOOD; None from bundles of schema 1, whose graph has no such answer.
    Raises EdgeQCError where a value is not finite or a shape is wrong.
    """

    logits: NDArray[np.float32]
    distances: NDArray[np.float32]
    drift: float
    embedding_distance: float
    good_distance: float | None = None

    def __post_init__(self) -> None:
        if self.logits.ndim != 1 or self.distances.ndim != 2:
            raise EdgeQCError(
                "a reading needs logits (C,) and distances (gh, gw), "
                f"got {self.logits.shape} and {self.distances.shape}"
            )
        if not (
            np.isfinite(self.logits).all()
            and np.isfinite(self.distances).all()
            and math.isfinite(self.drift)
            and math.isfinite(self.embedding_distance)
            and (self.good_distance is None or math.isfinite(self.good_distance))
        ):
            raise EdgeQCError("the engine returned values that are not finite")
        object.__setattr__(self, "logits", _frozen(self.logits))
        object.__setattr__(self, "distances", _frozen(self.distances))


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """How unusual a view is. score and threshold: the combined statistic, -ln p of the two
    witnesses (see ``decision``). p_value: of the score among held-out known parts. witness: which
    of ``padim`` and ``embedding`` has the smaller p-value. witnesses: each one's p-value."""

    score: float
    p_value: float
    threshold: float
    witness: str
    witnesses: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "witnesses", MappingProxyType(dict(self.witnesses)))


@dataclass(frozen=True, slots=True)
class GateFinding:
    """How unlike GOOD a view is. score: the weighted sum of the witnesses' -ln p among GOOD parts;
    the gate is open below the threshold. witnesses: each one's own p-value."""

    score: float
    threshold: float
    witnesses: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "witnesses", MappingProxyType(dict(self.witnesses)))

    @property
    def open(self) -> bool:
        """Whether the part may pass; never for a score that is not a number."""
        return self.score < self.threshold


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on one view: label, disposition and everything behind them.

    label: a class of the bundle, DRIFT or NOT_JUDGED. probabilities: by class name.
    expected_cost: by label. Both are empty, and drift is None, if nothing was judged; gate is
    None as well where the bundle has none (schema 1). placement: None where the bundle does not
    look for the part.
    latency_ms: by stage. detail says in words what ``reason`` says in one.
    """

    label: str
    disposition: Disposition
    reason: Reason
    bundle_id: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    drift: DriftFinding | None = None
    gate: GateFinding | None = None
    placement: Placement | None = None
    expected_cost: Mapping[str, float] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""

    def __post_init__(self) -> None:
        judged = self.reason is Reason.DECIDED
        if judged is (self.label == NOT_JUDGED):
            raise ValueError(f"label {self.label!r} contradicts reason {self.reason.value!r}")
        if self.disposition is Disposition.PASS and self.label != GOOD:
            raise ValueError(f"only GOOD passes, got label {self.label!r}")
        if self.label == GOOD and self.gate is not None and not self.gate.open:
            raise ValueError("the gate to GOOD is shut, so no label may be GOOD")
        if judged and (self.drift is None or not self.probabilities):
            raise ValueError("a judged view needs its probabilities and its drift")
        for name in ("probabilities", "expected_cost", "latency_ms"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


@dataclass(frozen=True, slots=True)
class PartVerdict:
    """The worst of a part's views. complete: False if a die's view did not come by the deadline or
    was not judged; such a part is not good. labels: by die. missing: the dies without a view."""

    part_id: str
    label: str
    disposition: Disposition
    complete: bool
    labels: Mapping[str, str]
    missing: tuple[str, ...]
    verdict_ids: tuple[str, ...]
    time: datetime

    def __post_init__(self) -> None:
        _require_utc("part time", self.time)
        if self.disposition is Disposition.PASS and not self.complete:
            raise ValueError(f"part {self.part_id!r} is incomplete and cannot pass")
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
