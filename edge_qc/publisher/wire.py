"""Converts content to wire format and back: topics, stamps, JSON texts and JSON Schemas.

``messages`` defines the content. Nothing here sends.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

from pydantic import ValidationError

from edge_qc.errors import PublishError
from edge_qc.parts import PartVerdict, Verdict
from edge_qc.publisher.fields import PlacementFields
from edge_qc.publisher.messages import (
    DETAIL_LIMIT,
    MESSAGES,
    AckMessage,
    BundleRef,
    DriftFields,
    GateFields,
    Kind,
    Message,
    PartContent,
    VerdictContent,
)


def verdict_content(
    verdict: Verdict,
    *,
    camera: str,
    die: str | None,
    trigger_id: str,
    time: datetime,
    part_id: str | None = None,
    image: str | None = None,
    bundle_version: int | None = None,
    engine: str | None = None,
    late: bool = False,
    lot: str | None = None,
    serial: str | None = None,
) -> VerdictContent:
    """The message content for a verdict and the frame it came from.

    Raises PublishError if a number in the verdict is not finite.
    """
    drift = verdict.drift
    try:
        return VerdictContent(
            camera=camera,
            die=die,
            part_id=part_id,
            trigger_id=trigger_id,
            time=time,
            label=verdict.label,
            disposition=verdict.disposition,
            reason=verdict.reason,
            probabilities=dict(verdict.probabilities),
            drift=None
            if drift is None
            else DriftFields(
                score=drift.score,
                p_value=drift.p_value,
                threshold=drift.threshold,
                witness=drift.witness,
                witnesses=dict(drift.witnesses),
            ),
            gate=None
            if verdict.gate is None
            else GateFields(
                score=verdict.gate.score,
                threshold=verdict.gate.threshold,
                witnesses=dict(verdict.gate.witnesses),
            ),
            placement=None
            if verdict.placement is None
            else PlacementFields(
                right_px=verdict.placement.right_px,
                down_px=verdict.placement.down_px,
                turn_deg=verdict.placement.turn_deg,
                residual=verdict.placement.residual,
                limit=verdict.placement.limit,
            ),
            expected_cost=dict(verdict.expected_cost),
            bundle=BundleRef(id=verdict.bundle_id, version=bundle_version)
            if verdict.bundle_id
            else None,
            engine=engine,
            latency_ms=dict(verdict.latency_ms),
            image=image,
            detail=verdict.detail[:DETAIL_LIMIT],
            late=late,
            lot=lot,
            serial=serial,
        )
    except ValidationError as error:
        raise PublishError(
            f"verdict of camera {camera!r} cannot be sent: {_faults(error)}"
        ) from error


def part_content(
    part: PartVerdict, *, lot: str | None = None, serial: str | None = None
) -> PartContent:
    """The message content for a part verdict."""
    return PartContent(
        part_id=part.part_id,
        time=part.time,
        label=part.label,
        disposition=part.disposition,
        complete=part.complete,
        labels=dict(part.labels),
        missing=part.missing,
        verdict_ids=part.verdict_ids,
        lot=lot,
        serial=serial,
    )


def utc_now() -> datetime:
    """The current time with its time zone."""
    return datetime.now(timezone.utc)


def stamped(
    kind: Kind,
    content_json: str,
    *,
    epoch: str,
    site: str,
    station: str,
    seq: int | None = None,
    verdict_id: str | None = None,
) -> str:
    """The content's JSON text with its stamp in front."""
    stamp: dict[str, str | int] = {"schema": f"edge-qc/{kind.value}/1"}
    if verdict_id is not None:
        stamp["verdict_id"] = verdict_id
    stamp["epoch"] = epoch
    if seq is not None:
        stamp["seq"] = seq
    stamp |= {"site": site, "station": station}
    return f"{json.dumps(stamp, separators=(',', ':'))[:-1]},{content_json[1:]}"


def as_sent(payload: str, historical: bool, after: int | None = None) -> bytes:
    """The bytes for the broker: a stored payload, whether it is late, and the number before it if
    that is not ``seq - 1``."""
    behind = "" if after is None else f',"after":{after}'
    return f'{payload[:-1]},"historical":{json.dumps(historical)}{behind}}}'.encode()


def read_ack(payload: bytes) -> AckMessage:
    """Parse a recorder's acknowledgement. Raises PublishError with the fault."""
    try:
        return AckMessage.model_validate_json(payload)
    except ValidationError as error:
        raise PublishError(f"an ack message does not match its schema: {_faults(error)}") from error


_TOPIC = re.compile(r"edge-qc/v1/([A-Za-z0-9._-]{1,64})/([A-Za-z0-9._-]{1,64})/([a-z]+)")
_KINDS = {kind.value: kind for kind in Kind}


def parse_topic(topic: str) -> tuple[str, str, Kind] | None:
    """Site, station and kind of a topic; None for any other topic."""
    match = _TOPIC.fullmatch(topic)
    if match is None or match[3] not in _KINDS:
        return None
    return match[1], match[2], _KINDS[match[3]]


def read_message(kind: Kind, payload: bytes) -> Message:
    """Parse a received message. Raises PublishError with the fault."""
    try:
        return MESSAGES[kind].model_validate_json(payload)
    except ValidationError as error:
        raise PublishError(
            f"a {kind.value} message does not match its schema: {_faults(error)}"
        ) from error


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema (2020-12) of each message, by kind."""
    schemas = {}
    for kind, model in MESSAGES.items():
        schema = model.model_json_schema(by_alias=True, mode="validation")
        schemas[kind.value] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:edge-qc:{kind.value}:1",
            **schema,
        }
    return schemas


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'message'}: {fault['msg']}"
        for fault in error.errors(include_url=False)[:5]
    )
