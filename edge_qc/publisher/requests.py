"""What comes in: triggers and commands, and what the station answers on ``…/reply``.

Only what is named here is taken, and only as it is described: unknown fields, wrong types and
oversized messages are refused. Who may write to the topic is the broker's access rules' matter.
What a trigger leads to is ``dispatch``'s, what a command leads to ``commands``'s.
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
"""More than any trigger or command needs; a longer one is refused unread."""

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

TriggerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
PartId = Annotated[str, Field(max_length=128, pattern=_PRINTABLE)]
Name = Annotated[str, Field(max_length=64, pattern=_PRINTABLE)]


class TriggerRequest(BaseModel):
    """``…/trigger``: take a picture now. trigger_id: new for each, since one that was seen before
    does nothing. camera, or die: which of the cameras with ``trigger = "mqtt"``; without either,
    all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True)

    schema_: Literal["edge-qc/trigger/1"] = Field(alias="schema", default="edge-qc/trigger/1")
    trigger_id: TriggerId
    part_id: PartId | None = None
    camera: Name | None = None
    die: Name | None = None

    @model_validator(mode="after")
    def _one_address(self) -> TriggerRequest:
        if self.camera is not None and self.die is not None:
            raise ValueError("give camera or die, not both")
        return self


class ReplyStatus(str, enum.Enum):
    """DUPLICATE: the trigger id was seen before; nothing is done, the first answer is repeated."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class TriggerReply(BaseModel):
    """``…/reply`` to a trigger. verdict_ids: by camera, the verdicts that will come, one for each.
    detail: why it was refused. trigger_id: None where the message could not be read."""

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
    """``…/command``: one of the few things that the plant may ask of a station; none of them
    changes what it judges with, or makes a verdict. ``status``: what is it doing. ``golden-part``:
    the check of a shift, with the part ``name``, from the next view of each die, or only of the
    part ``part_id``, within ``within_s``. request_id: comes back in the reply."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True)

    schema_: Literal["edge-qc/command/1"] = Field(alias="schema", default="edge-qc/command/1")
    request_id: TriggerId
    command: Literal["status", "golden-part"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "golden"
    part_id: PartId | None = None
    within_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 60.0


class GoldenView(BaseModel):
    """One die of a golden part. label: None where no view came in time."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    die: str
    camera: str | None
    label: str | None
    expected: str
    as_expected: bool


class CommandReply(BaseModel):
    """``…/reply`` to a command. detail: why it was refused; else why the station is in its state.
    passed and views: of a golden part."""

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
    """``…/reply``: what the station says to a trigger or a command."""


_Request = TypeVar("_Request", TriggerRequest, CommandRequest)


def read_trigger(payload: bytes) -> TriggerRequest:
    """The trigger in a message. Raises PublishError that says what is wrong with it."""
    return _read(payload, TriggerRequest, "trigger")


def read_command(payload: bytes) -> CommandRequest:
    """The command in a message. Raises PublishError that says what is wrong with it."""
    return _read(payload, CommandRequest, "command")


def _read(payload: bytes, model: type[_Request], what: str) -> _Request:
    if len(payload) > TRIGGER_BYTES:
        raise PublishError(f"a {what} of {len(payload)} bytes, wanted at most {TRIGGER_BYTES}")
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or what}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)[:5]
        )
        raise PublishError(f"the {what} breaks its schema: {faults}") from error


def trigger_id_of(payload: bytes) -> str | None:
    """The id in a message that is no trigger, so that whoever sent it knows the answer for its;
    None where there is none."""
    return _id_of(payload, "trigger_id")


def request_id_of(payload: bytes) -> str | None:
    """The same of a message that is no command."""
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
