"""The MQTT contract: topics, messages, and the JSON Schemas made from them.

A message of the outbox (verdict, part, event, overrule) has three layers. The line provides its
*content*. The outbox puts the *stamp* in front (``schema``, ``epoch``, ``seq``, ``site``,
``station``, for a verdict also ``verdict_id``) when it commits; from then on both are an immutable
JSON text with its hash. Only ``historical`` is appended at each sending, since only then is it
known whether a message is late. State and health describe the moment and bypass the outbox.

Compatibility: new versions may add fields, never rename or remove one. Every reader ignores fields
that it does not know.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_qc.parts import GOOD, NOT_JUDGED, Disposition, Reason
from edge_qc.publisher.fields import (
    CameraHealth,
    Count,
    EvidenceHealth,
    Finite,
    Model,
    OutboxHealth,
    OutputHealth,
    PlacementFields,
    Probability,
)
from edge_qc.system.state import State

DETAIL_LIMIT = 2000
LOST_CONNECTION = "connection lost without a goodbye message"
"""Why a last will says DEAD: all that the broker knows."""
STATE_LIFE_S = 10 * 366 * 86_400
"""A state's message expiry interval under MQTT 5. It never runs out; but a broker counts it down
while it keeps the message (OASIS MQTT 5.0, 3.3.2.3.3), so a reader knows for how long."""


class Kind(str, enum.Enum):
    """The last level of a topic."""

    VERDICT = "verdict"
    PART = "part"
    EVENT = "event"
    OVERRULE = "overrule"
    STATE = "state"
    HEALTH = "health"


class Severity(str, enum.Enum):
    """How urgently a person should look at an event."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


class DriftFields(Model):
    """See ``parts.DriftFinding``."""

    score: Finite
    p_value: Probability
    threshold: Finite
    witness: str
    witnesses: Mapping[str, Probability]


class GateFields(Model):
    """See ``parts.GateFinding``: the gate to GOOD is open below the threshold."""

    score: Finite
    threshold: Finite
    witnesses: Mapping[str, Probability]


class BundleRef(Model):
    """Which bundle judged. version: None if only the id is known."""

    id: str
    version: int | None = None


class VerdictContent(Model):
    """The verdict on one view. time: UTC, when the frame was taken or the trigger arrived. late:
    the part verdict was published before, without this view. lot, serial: of the part, from its
    trigger."""

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
    gate: GateFields | None = None
    placement: PlacementFields | None = None
    expected_cost: Mapping[str, Finite] = {}
    bundle: BundleRef | None = None
    engine: str | None = None
    latency_ms: Mapping[str, Finite] = {}
    image: str | None = None
    detail: str = ""
    late: bool = False
    lot: str | None = None
    serial: str | None = None

    @model_validator(mode="after")
    def _never_wrongly_good(self) -> VerdictContent:
        if (self.label == NOT_JUDGED) is (self.reason is Reason.DECIDED):
            raise ValueError(f"label {self.label!r} contradicts reason {self.reason.value!r}")
        if self.disposition is Disposition.PASS and self.label != GOOD:
            raise ValueError(f"only GOOD may pass, got label {self.label!r}")
        return self


class PartContent(Model):
    """The verdict on a part; see ``parts.PartVerdict``. labels: by die."""

    part_id: str
    time: datetime
    label: str
    disposition: Disposition
    complete: bool
    labels: Mapping[str, str]
    missing: tuple[str, ...]
    verdict_ids: tuple[str, ...]
    lot: str | None = None
    serial: str | None = None


class EventContent(Model):
    """Something that happened at the station. event: a short name with hyphens."""

    event: str
    severity: Severity = Severity.INFO
    time: datetime
    camera: str | None = None
    detail: str = ""


class OverruleContent(Model):
    """A person's word on a view that the station had sent to REVIEW. It changes no verdict: who
    waits for a part in REVIEW reads here what it is. overrule_id: of this statement. what: whether
    it confirms the station's label, overrules it, or takes back what a person had said. said: the
    station's label. label: the person's; null if it was taken back. who: the person; why: in their
    words. time: UTC, of the statement; verdict_time: of the frame."""

    overrule_id: str
    verdict_id: str
    part_id: str | None
    camera: str
    die: str | None
    lot: str | None = None
    serial: str | None = None
    bundle: BundleRef | None = None
    verdict_time: datetime
    time: datetime
    what: Literal["confirmed", "overruled", "withdrawn"]
    said: str
    label: str | None
    who: str
    why: str = ""


class HealthContent(Model):
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
    outputs: Mapping[str, OutputHealth] = {}
    memory_bytes: Count = 0
    temperatures_c: Mapping[str, Finite] = {}


class StateContent(Model):
    """The station's state. time: since when; in the last will (DEAD), when the connection was
    opened. why: in words."""

    state: State
    time: datetime
    why: str = ""
    bundle: BundleRef | None = None


class _Stamp(Model):
    epoch: str
    site: str
    station: str


class _Sequenced(_Stamp):
    """seq counts from 1 without a gap within an epoch, for each topic. after: present if the
    station no longer holds any message between that number and seq: a consumer that misses some of
    those will not receive them by itself."""

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


class OverruleMessage(OverruleContent, _Sequenced):
    """``…/overrule``: a person's word on a view in REVIEW."""

    schema_: Literal["edge-qc/overrule/1"] = Field(alias="schema")


class StateMessage(StateContent, _Stamp):
    """``…/state``: retained, with DEAD as the last will."""

    schema_: Literal["edge-qc/state/1"] = Field(alias="schema")


class HealthMessage(HealthContent, _Stamp):
    """``…/health``: retained, expires."""

    schema_: Literal["edge-qc/health/1"] = Field(alias="schema")


class AckMessage(Model):
    """``…/ack``, from the recorder: every message of a kind in an epoch up to a number is
    recorded."""

    schema_: Literal["edge-qc/ack/1"] = Field(alias="schema", default="edge-qc/ack/1")
    epoch: str
    kind: Literal[Kind.VERDICT, Kind.PART, Kind.EVENT]
    upto: Count


Message = (
    VerdictMessage | PartMessage | EventMessage | OverruleMessage | StateMessage | HealthMessage
)

NUMBERED = (Kind.VERDICT, Kind.PART, Kind.EVENT, Kind.OVERRULE)
"""What the outbox keeps and numbers."""
RECORDED = (Kind.VERDICT, Kind.PART, Kind.EVENT)
"""What leaves at the recorder's acknowledgement, if one is expected. An overrule leaves at the
broker's: its label is kept in a file beside the images, which the recorder can read too."""

MESSAGES: Mapping[Kind, type[Message]] = {
    Kind.VERDICT: VerdictMessage,
    Kind.PART: PartMessage,
    Kind.EVENT: EventMessage,
    Kind.OVERRULE: OverruleMessage,
    Kind.STATE: StateMessage,
    Kind.HEALTH: HealthMessage,
}
