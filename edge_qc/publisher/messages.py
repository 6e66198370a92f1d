"""The MQTT contract: topics, messages, and the JSON Schemas made from them.

A message of the outbox (verdict, part, event) has three layers. Its *content* is what the line
says. The *stamp* in front (``schema``, ``epoch``, ``seq``, ``site``, ``station``, for a verdict
also ``verdict_id``) is set when the outbox commits it; content and stamp are then an immutable
JSON text with its hash. ``historical`` alone is added behind at each sending, since whether a
message comes late is known only then. State and health describe the moment and pass no outbox.

Sending and storing are elsewhere. The compatibility rule: fields are added, none renamed or
dropped, so every reader ignores fields that it does not know.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_qc.parts import GOOD, NOT_JUDGED, Disposition, Reason
from edge_qc.system.state import State

DETAIL_LIMIT = 2000

Finite = Annotated[float, Field(allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Kind(str, enum.Enum):
    """The last level of a topic."""

    VERDICT = "verdict"
    PART = "part"
    EVENT = "event"
    STATE = "state"
    HEALTH = "health"


class Severity(str, enum.Enum):
    """How soon a person should look at an event."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True)


class DriftFields(_Model):
    """See ``parts.DriftFinding``."""

    score: Finite
    p_value: Probability
    threshold: Finite
    witness: str
    witnesses: Mapping[str, Probability]


class BundleRef(_Model):
    """Which model judged. version is None where only the id is known."""

    id: str
    version: int | None = None


class VerdictContent(_Model):
    """What the line says of one view. time: UTC, when the frame was taken or the trigger came.
    late: the verdict on its part was given before, without it."""

    camera: str
    die: str | None
    part_id: str | None
    trigger_id: str
    time: datetime
    label: str
    disposition: Disposition
    reason: Reason
    probabilities: Mapping[str, Probability] = {}
    drift: DriftFields | None = None
    expected_cost: Mapping[str, Finite] = {}
    bundle: BundleRef | None = None
    engine: str | None = None
    latency_ms: Mapping[str, Finite] = {}
    image: str | None = None
    detail: str = ""
    late: bool = False

    @model_validator(mode="after")
    def _never_wrongly_good(self) -> VerdictContent:
        if (self.label == NOT_JUDGED) is (self.reason is Reason.DECIDED):
            raise ValueError(f"label {self.label!r} does not go with reason {self.reason.value!r}")
        if self.disposition is Disposition.PASS and self.label != GOOD:
            raise ValueError(f"only GOOD passes, got label {self.label!r}")
        return self


class PartContent(_Model):
    """The verdict on a whole part, see ``parts.PartVerdict``. labels: by die."""

    part_id: str
    time: datetime
    label: str
    disposition: Disposition
    complete: bool
    labels: Mapping[str, str]
    missing: tuple[str, ...]
    verdict_ids: tuple[str, ...]


class EventContent(_Model):
    """Something that happened to the station. event: a short name with hyphens."""

    event: str
    severity: Severity = Severity.INFO
    time: datetime
    camera: str | None = None
    detail: str = ""


class CameraHealth(_Model):
    """One camera as the station sees it. picture: figures by name, against the reference that was
    learnt of it; empty until then."""

    state: str
    frames: Count = 0
    faults: Count = 0
    rate_per_s: Finite | None = None
    last_frame_age_s: Finite | None = None
    picture: Mapping[str, Finite] = {}


class OutboxHealth(_Model):
    """waiting: messages not yet acknowledged. open_triggers: accepted, no verdict yet. unheard:
    messages since the start that the broker took while nobody had subscribed to them."""

    waiting: Count
    unheard: Count = 0
    open_triggers: Count
    free_bytes: Count
    space: Literal["ok", "low", "full"]


class EvidenceHealth(_Model):
    """Images kept for people. dropped: since the start, those that came faster than they could be
    written. failed: those that the disk refused."""

    images: Count
    bytes: Count
    dropped: Count
    failed: Count


class HealthContent(_Model):
    """The heartbeat. verdicts: by label since the start. latency_ms: by name, such as ``p50`` and
    ``p99``."""

    time: datetime
    state: State
    uptime_s: Finite
    verdicts: Mapping[str, Count]
    rate_per_s: Finite
    latency_ms: Mapping[str, Finite] = {}
    queue: Count = 0
    last_verdict_age_s: Finite | None = None
    cameras: Mapping[str, CameraHealth] = {}
    outbox: OutboxHealth | None = None
    evidence: EvidenceHealth | None = None
    memory_bytes: Count = 0
    temperatures_c: Mapping[str, Finite] = {}


class StateContent(_Model):
    """time: since when; in the last will (DEAD), when the connection was made. why: in words."""

    state: State
    time: datetime
    why: str = ""
    bundle: BundleRef | None = None


class _Stamp(_Model):
    epoch: str
    site: str
    station: str


class _Sequenced(_Stamp):
    """seq counts from 1 without a gap within an epoch, for each topic on its own. after: given
    where the station holds nothing between that number and seq: what a consumer has not had of
    those will not come by itself any more."""

    seq: Annotated[int, Field(ge=1)]
    historical: bool
    after: Count | None = None


class VerdictMessage(VerdictContent, _Sequenced):
    """``…/verdict``: one per accepted trigger and view."""

    schema_: Literal["edge-qc/verdict/1"] = Field(alias="schema")
    verdict_id: str


class PartMessage(PartContent, _Sequenced):
    """``…/part``: one per part."""

    schema_: Literal["edge-qc/part/1"] = Field(alias="schema")


class EventMessage(EventContent, _Sequenced):
    """``…/event``."""

    schema_: Literal["edge-qc/event/1"] = Field(alias="schema")


class StateMessage(StateContent, _Stamp):
    """``…/state``: retained, with DEAD as the last will."""

    schema_: Literal["edge-qc/state/1"] = Field(alias="schema")


class HealthMessage(HealthContent, _Stamp):
    """``…/health``: retained, expires."""

    schema_: Literal["edge-qc/health/1"] = Field(alias="schema")


class AckMessage(_Model):
    """``…/ack``, from the recorder: all of a kind in an epoch up to a number is recorded."""

    schema_: Literal["edge-qc/ack/1"] = Field(alias="schema", default="edge-qc/ack/1")
    epoch: str
    kind: Literal[Kind.VERDICT, Kind.PART, Kind.EVENT]
    upto: Count


Message = VerdictMessage | PartMessage | EventMessage | StateMessage | HealthMessage

MESSAGES: Mapping[Kind, type[Message]] = {
    Kind.VERDICT: VerdictMessage,
    Kind.PART: PartMessage,
    Kind.EVENT: EventMessage,
    Kind.STATE: StateMessage,
    Kind.HEALTH: HealthMessage,
}
