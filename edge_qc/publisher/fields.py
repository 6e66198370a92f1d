"""The types of the messages' fields, where a verdict's part lay, and the parts of a heartbeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_MOST = 2**53
"""Up to here every reader of JSON tells numbers apart."""


def _storable(number: int) -> int:
    if number > _MOST:
        raise ValueError(f"wanted at most {_MOST}, which every database here holds")
    return number


Count = Annotated[int, Field(ge=0), AfterValidator(_storable)]
"""Its bound stands in no schema: those were published without."""


class Model(BaseModel):
    """What every message and each of its parts is."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True)


class PlacementFields(Model):
    """See ``parts.Placement``: where the part lay against where parts lie on average."""

    right_px: Finite
    down_px: Finite
    turn_deg: Finite
    residual: Probability
    limit: Probability


class CameraHealth(Model):
    """One camera. rate_per_s: frames a second since the heartbeat before; null in the first.
    picture: process monitoring figures by name, relative to the camera's reference; empty until the
    reference is learned."""

    state: str
    frames: Count = 0
    faults: Count = 0
    rate_per_s: Finite | None = None
    last_frame_age_s: Finite | None = None
    picture: Mapping[str, Finite] = {}


class OutboxHealth(Model):
    """waiting: messages in the outbox, not yet acknowledged. open_triggers: accepted, no verdict
    yet. unheard: messages since the start that the broker accepted without a subscriber."""

    waiting: Count
    unheard: Count = 0
    open_triggers: Count
    free_bytes: Count
    space: Literal["ok", "low", "full"]


class EvidenceHealth(Model):
    """Images kept as evidence. dropped: since the start, images that came faster than they could be
    written. failed: images that the disk refused."""

    images: Count
    bytes: Count
    dropped: Count
    failed: Count


class OutputHealth(Model):
    """One output to the machine, since the start. results: handed to it; shown: at its other
    side; passed: shown as PASS.
    late: after their deadline. superseded: replaced before it took them, also while it was away.
    unsent: not shown because it was away.
    unconfirmed: the ejector was silent, or moved unasked. All but ``passed`` were rejected.
    latency_ms: from trigger to output, ``p50`` and ``p99`` of the last ones, ``worst`` since the
    start; at a pin with a delay, how much later than meant."""

    connected: bool
    results: Count = 0
    shown: Count = 0
    passed: Count = 0
    late: Count = 0
    superseded: Count = 0
    unsent: Count = 0
    unconfirmed: Count = 0
    latency_ms: Mapping[str, Finite] = {}
