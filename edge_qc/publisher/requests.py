"""Requests to the station (triggers and commands) and its replies on ``…/reply``.

The station accepts only these requests and refuses unknown fields, wrong types and oversized
messages. The broker's access rules decide who may write to the topics. ``line.dispatch`` handles
triggers, ``station.commands`` handles commands.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from edge_qc.errors import PublishError
from edge_qc.publisher.messages import BundleRef
from edge_qc.system.state import State

TRIGGER_LEVEL = "trigger"
COMMAND_LEVEL = "command"
TRIGGER_BYTES = 4096
"""More than any request needs; a longer one is refused unread."""

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

TriggerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
PartId = Annotated[str, Field(max_length=128, pattern=_PRINTABLE)]
Name = Annotated[str, Field(max_length=64, pattern=_PRINTABLE)]


class TriggerRequest(BaseModel):
    """``…/trigger``: take a picture now. trigger_id: new for each trigger; a known one does
    nothing. camera or die: selects among the cameras with ``trigger = "mqtt"``; without either, all
    of them. lot, serial: of the part, copied to its verdicts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True)

    schema_: Literal["edge-qc/trigger/1"] = Field(alias="schema", default="edge-qc/trigger/1")
    trigger_id: TriggerId
    part_id: PartId | None = None
    camera: Name | None = None
    die: Name | None = None
    lot: PartId | None = None
    serial: PartId | None = None

    @model_validator(mode="after")
    def _one_address(self) -> TriggerRequest:
        if self.camera is not None and self.die is not None:
            raise ValueError("give camera or die, not both")
        return self


class ReplyStatus(str, enum.Enum):
    """DUPLICATE: the trigger id is known; the station does nothing and repeats its first answer."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class TriggerReply(BaseModel):
    """``…/reply`` to a trigger. verdict_ids: by camera, the one verdict that each will produce.
    detail: why it was refused. trigger_id: None if the message could not be read."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True)

    schema_: Literal["edge-qc/reply/1"] = Field(alias="schema", default="edge-qc/reply/1")
    request: Literal["trigger"] = "trigger"
    epoch: str
    site: str
    station: str
    time: datetime
    trigger_id: str | None
    status: ReplyStatus
    verdict_ids: Mapping[str, str] = {}
    detail: str = ""


class CommandRequest(BaseModel):
    """``…/command``: one of the few requests that the plant may send; none changes the bundle or
    makes a verdict. ``status``: report the state. ``golden-part``: check the golden part ``name``
    on the next view of each die, or only on views of the part ``part_id``, within ``within_s``.
    request_id: repeated in the reply."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True)

    schema_: Literal["edge-qc/command/1"] = Field(alias="schema", default="edge-qc/command/1")
    request_id: TriggerId
    command: Literal["status", "golden-part"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "golden"
    part_id: PartId | None = None
    within_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 60.0


class GoldenView(BaseModel):
    """One die of a golden part. label: None if no view came in time."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    die: str
    camera: str | None
    label: str | None
    expected: str
    as_expected: bool


class CommandReply(BaseModel):
    """``…/reply`` to a command. detail: why it was refused, otherwise why the station is in its
    state. passed and views: of a golden part."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True)

    schema_: Literal["edge-qc/reply/1"] = Field(alias="schema", default="edge-qc/reply/1")
    request: Literal["command"] = "command"
    epoch: str
    site: str
    station: str
    time: datetime
    request_id: str | None
    status: Literal["done", "refused"]
    state: State
    bundle: BundleRef
    passed: bool | None = None
    views: tuple[GoldenView, ...] = ()
    detail: str = ""


class Reply(RootModel[Annotated[TriggerReply | CommandReply, Field(discriminator="request")]]):
    """``…/reply``: the station's answer to a trigger or a command."""


_Request = TypeVar("_Request", TriggerRequest, CommandRequest)


def read_trigger(payload: bytes) -> TriggerRequest:
    """Parse a trigger. Raises PublishError with the fault."""
    return _read(payload, TriggerRequest, "trigger")


def read_command(payload: bytes) -> CommandRequest:
    """Parse a command. Raises PublishError with the fault."""
    return _read(payload, CommandRequest, "command")


def _read(payload: bytes, model: type[_Request], what: str) -> _Request:
    if len(payload) > TRIGGER_BYTES:
        raise PublishError(f"a {what} of {len(payload)} bytes; the limit is {TRIGGER_BYTES}")
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or what}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)[:5]
        )
        raise PublishError(f"the {what} does not match its schema: {faults}") from error


def trigger_id_of(payload: bytes) -> str | None:
    """The id in a message that is not a valid trigger, so that its sender can match the reply; None
    if there is none."""
    return _id_of(payload, "trigger_id")


def request_id_of(payload: bytes) -> str | None:
    """As ``trigger_id_of``, for a command."""
    return _id_of(payload, "request_id")


def _id_of(payload: bytes, key: str) -> str | None:
    if len(payload) > TRIGGER_BYTES:
        return None
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    found = document.get(key) if isinstance(document, dict) else None
    return found[:64] if isinstance(found, str) else None
