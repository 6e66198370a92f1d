"""An example of each message, as it goes over the wire: a station's day, put together by hand.

Made through the station's own types, so that an example that no station could send is not made.
"""

from __future__ import annotations

from datetime import datetime, timezone

from edge_qc.parts import DRIFT, NOT_JUDGED, Disposition, Reason
from edge_qc.publisher.fields import CameraHealth, EvidenceHealth, OutboxHealth
from edge_qc.publisher.messages import (
    AckMessage,
    BundleRef,
    DriftFields,
    EventContent,
    HealthContent,
    Kind,
    OverruleContent,
    PartContent,
    Severity,
    StateContent,
    VerdictContent,
)
from edge_qc.publisher.requests import (
    CommandReply,
    CommandRequest,
    GoldenView,
    ReplyStatus,
    TriggerReply,
    TriggerRequest,
)
from edge_qc.publisher.wire import as_sent, stamped
from edge_qc.system.state import State

_EPOCH = "01JQ8X4T7Z3M9C5V6B2N1K0H8D"
_TIME = datetime(2026, 3, 2, 9, 41, 27, 318_000, tzinfo=timezone.utc)
_BUNDLE = BundleRef(id="6f1d" + "0c7b2e95a83d" * 5, version=12)
_JUDGED_ID = "8c1f0f1e-5b0a-4a52-9d4f-3f1c6a1f7f10"
_OTHER_ID = "b7a1c6d2-0e54-4b64-8f0a-9a4f2f5d9c31"

_VERDICT = VerdictContent(
    camera="die02",
    die="Die02",
    part_id="W26-09-118842",
    trigger_id="0f4c1f5b7ad94f3cb1a7e6d1c2b3a495",
    time=_TIME,
    label="Lift-off noir",
    disposition=Disposition.REJECT,
    reason=Reason.DECIDED,
    probabilities={"GOOD": 0.004, "Lift-off noir": 0.981, "Missing": 0.013, DRIFT: 0.002},
    drift=DriftFields(
        score=1.37,
        p_value=0.61,
        threshold=7.42,
        witness="padim",
        witnesses={"padim": 0.38, "embedding": 0.67},
    ),
    expected_cost={"GOOD": 9960.0, "Lift-off noir": 2.4, "Missing": 3.4, DRIFT: 998.0},
    bundle=_BUNDLE,
    engine="tensorrt 10.3.0 fp16 Orin (nvgpu)",
    latency_ms={"view": 0.2, "engine": 3.1, "decision": 0.1},
    image=None,
)
_NOT_JUDGED = VerdictContent(
    camera="die03",
    die="Die03",
    part_id="W26-09-118842",
    trigger_id="5d7b3a0c9c2e4e0fae1f0b4d8c6a7e21",
    time=_TIME,
    label=NOT_JUDGED,
    disposition=Disposition.REVIEW,
    reason=Reason.CAMERA,
    bundle=_BUNDLE,
    engine="tensorrt 10.3.0 fp16 Orin (nvgpu)",
    detail="die03: no picture for 5.0 s",
)
_PART = PartContent(
    part_id="W26-09-118842",
    time=_TIME,
    label="Lift-off noir",
    disposition=Disposition.REJECT,
    complete=False,
    labels={"Die01": "GOOD", "Die02": "Lift-off noir", "Die03": NOT_JUDGED},
    missing=("Die04",),
    verdict_ids=(_JUDGED_ID, _OTHER_ID),
)
_EVENT = EventContent(
    event="triggers-refused",
    severity=Severity.ALARM,
    time=_TIME,
    detail="14 triggers were refused while nothing could be recorded",
)
_OVERRULE = OverruleContent(
    overrule_id="3a0f7f6c-9d2b-5c1e-8a47-0d9f6b2c1e55",
    verdict_id=_OTHER_ID,
    part_id="W26-09-118841",
    camera="die03",
    die="Die03",
    bundle=_BUNDLE,
    verdict_time=_TIME,
    time=datetime(2026, 3, 2, 9, 58, 3, 112_000, tzinfo=timezone.utc),
    what="overruled",
    said=DRIFT,
    label="GOOD",
    who="anna",
    why="resin on the frame, none on the bond",
)
_STATE = StateContent(
    state=State.DEGRADED, time=_TIME, why="without a picture: die03", bundle=_BUNDLE
)
_HEALTH = HealthContent(
    time=_TIME,
    state=State.DEGRADED,
    uptime_s=86_412.5,
    verdicts={"GOOD": 331_204, "Missing": 1_871, NOT_JUDGED: 12},
    rate_per_s=9.8,
    latency_ms={"p50": 4.1, "p99": 7.9},
    queue=1,
    last_verdict_age_s=0.1,
    cameras={
        "die02": CameraHealth(state="running", frames=83_114, rate_per_s=4.9, last_frame_age_s=0.1),
        "die03": CameraHealth(
            state="lost", frames=83_020, faults=9, rate_per_s=0.0, last_frame_age_s=48.2
        ),
    },
    outbox=OutboxHealth(waiting=0, open_triggers=1, free_bytes=48_318_382_080, space="ok"),
    evidence=EvidenceHealth(images=2_417, bytes=811_204_608, dropped=0, failed=0),
    memory_bytes=412_090_368,
    temperatures_c={"cpu-thermal": 51.5, "gpu-thermal": 49.0},
)


_TRIGGER = TriggerRequest(trigger_id="plc-7.000411", part_id="W27-004411")

_ACCEPTED = TriggerReply(
    epoch=_EPOCH,
    site="plant-1",
    station="line-1",
    time=_TIME,
    trigger_id="plc-7.000411",
    status=ReplyStatus.ACCEPTED,
    verdict_ids={"die02": _JUDGED_ID, "die03": _OTHER_ID},
)

_REFUSED = TriggerReply(
    epoch=_EPOCH,
    site="plant-1",
    station="line-1",
    time=_TIME,
    trigger_id="plc-7.000412",
    status=ReplyStatus.REFUSED,
    detail="the station is FAULT",
)


_COMMAND = CommandRequest(request_id="hmi-2.17", command="golden-part", part_id="GOLDEN-1")

_DONE = CommandReply(
    epoch=_EPOCH,
    site="plant-1",
    station="line-1",
    time=_TIME,
    request_id="hmi-2.17",
    status="done",
    state=State.RUNNING,
    bundle=_BUNDLE,
    passed=True,
    views=(
        GoldenView(die="Die01", camera="die01", label="GOOD", expected="GOOD", as_expected=True),
    ),
)


def _wire(
    kind: Kind,
    content: VerdictContent
    | PartContent
    | EventContent
    | OverruleContent
    | StateContent
    | HealthContent,
    seq: int | None = None,
    verdict_id: str | None = None,
) -> bytes:
    text = stamped(
        kind,
        content.model_dump_json(),
        epoch=_EPOCH,
        site="plant-1",
        station="line-1",
        seq=seq,
        verdict_id=verdict_id,
    )
    return text.encode() if seq is None else as_sent(text, historical=False)


EXAMPLES: dict[str, tuple[bytes, ...]] = {
    "verdict": (
        _wire(Kind.VERDICT, _VERDICT, 333_086, _JUDGED_ID),
        _wire(Kind.VERDICT, _NOT_JUDGED, 333_087, _OTHER_ID),
    ),
    "part": (_wire(Kind.PART, _PART, 83_021),),
    "event": (_wire(Kind.EVENT, _EVENT, 3),),
    "overrule": (_wire(Kind.OVERRULE, _OVERRULE, 12),),
    "state": (_wire(Kind.STATE, _STATE),),
    "health": (_wire(Kind.HEALTH, _HEALTH),),
    "ack": (
        AckMessage(epoch=_EPOCH, kind=Kind.VERDICT, upto=333_087)
        .model_dump_json(by_alias=True)
        .encode(),
    ),
    "trigger": (
        _TRIGGER.model_dump_json(by_alias=True, exclude_none=True).encode(),
        b'{"schema":"edge-qc/trigger/1","trigger_id":"plc-7.000412","camera":"die02"}',
    ),
    "command": (
        _COMMAND.model_dump_json(by_alias=True, exclude_none=True).encode(),
        b'{"schema":"edge-qc/command/1","request_id":"hmi-2.18","command":"status"}',
    ),
    "reply": tuple(
        reply.model_dump_json(by_alias=True).encode() for reply in (_ACCEPTED, _REFUSED, _DONE)
    ),
}
"""By the last level of the topic."""
