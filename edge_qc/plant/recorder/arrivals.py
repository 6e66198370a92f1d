"""Parses received messages into what is recorded: a message's row and its number.

``store`` decides what is new.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edge_qc.errors import PublishError
from edge_qc.evidence import Label
from edge_qc.evidence.labels import WITHDRAWN
from edge_qc.publisher import (
    EventMessage,
    Kind,
    Message,
    OverruleMessage,
    PartMessage,
    StateMessage,
    VerdictMessage,
    parse_topic,
    read_message,
)

_LONGEST = 65_536
_LONGEST_EPOCH = 64
_LONGEST_ID = 256
_HIGHEST_SEQ = 2**53


@dataclass(frozen=True, slots=True)
class Source:
    """A station, as its topics name it."""

    site: str
    name: str

    @property
    def root(self) -> str:
        return f"edge-qc/v1/{self.site}/{self.name}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message. seq: None for a state, and for an overrule, which is recorded as a label. after:
    see ``messages.Sequenced``. message: None if it could not be read; ``fault`` then says why.
    observed: when the broker had it; None if the broker does not tell. repeated: the broker sends
    what it has kept, or has sent before."""

    source: Source
    kind: Kind
    epoch: str
    seq: int | None
    after: int | None
    payload: str
    message: Message | None
    fault: str = ""
    observed: datetime | None = None
    repeated: bool = False


def arrival(
    topic: str, payload: bytes, observed: datetime | None = None, repeated: bool = False
) -> Arrival | None:
    """Parse the message on a topic; None if it is not a station's, or has no number.

    The topic decides whose it is, since the broker's access rules apply to topics.
    """
    where = parse_topic(topic)
    if where is None or len(payload) > _LONGEST:
        return None
    site, name, kind = where
    text = payload.decode("utf-8", "replace")
    try:
        message = read_message(kind, payload)
    except PublishError as error:
        return _unread(Source(site, name), kind, text, str(error))
    source, epoch = Source(site, name), _key(message.epoch)
    if isinstance(message, (VerdictMessage, PartMessage, EventMessage)):
        if message.seq > _HIGHEST_SEQ:
            return None
        return Arrival(source, kind, epoch, message.seq, message.after, text, message)
    return Arrival(
        source, kind, epoch, None, None, text, message, observed=observed, repeated=repeated
    )


def _unread(source: Source, kind: Kind, text: str, fault: str) -> Arrival | None:
    """A message that does not match its schema still settles its number, or its stream would
    stop."""
    try:
        stamp = json.loads(text)
        epoch, seq = stamp["epoch"], stamp["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if kind not in (Kind.VERDICT, Kind.PART, Kind.EVENT):
        return None
    if not (isinstance(epoch, str) and isinstance(seq, int) and 1 <= seq <= _HIGHEST_SEQ):
        return None
    return Arrival(source, kind, _key(epoch), seq, None, text, None, fault)


def _key(epoch: str) -> str:
    """An epoch that can be a key; a station's is a UUID. One that no database can store would
    return from the broker forever, together with its whole group."""
    return str(plain(epoch.encode("utf-8", "replace").decode()[:_LONGEST_EPOCH]))


def columns(arrival: Arrival, received: datetime) -> dict[str, Any]:
    """The columns of a message's own table, without its keys."""
    message = arrival.message
    if isinstance(message, StateMessage):
        return {
            "time": message.time,
            "epoch": plain(message.epoch),
            "state": message.state.value,
            "why": plain(message.why),
            "observed": arrival.observed or received,
            "received": received,
        }
    assert isinstance(message, (VerdictMessage, PartMessage, EventMessage))
    row: dict[str, Any] = {
        "seq": message.seq,
        "time": message.time,
        "historical": message.historical,
        "received": received,
        "payload": arrival.payload.replace("\0", "\N{REPLACEMENT CHARACTER}"),
    }
    if isinstance(message, VerdictMessage):
        latencies = message.latency_ms
        return row | {
            "verdict_id": plain(message.verdict_id[:_LONGEST_ID]),
            "camera": plain(message.camera),
            "die": plain(message.die),
            "part_id": plain(message.part_id),
            "lot": plain(message.lot),
            "serial": plain(message.serial),
            "label": plain(message.label),
            "disposition": message.disposition.value,
            "reason": message.reason.value,
            "drift_score": message.drift.score if message.drift else None,
            "drift_p": message.drift.p_value if message.drift else None,
            "expected_cost": message.expected_cost.get(message.label),
            "latency_ms": latencies.get("total", sum(latencies.values())) if latencies else None,
        }
    if isinstance(message, PartMessage):
        return row | {
            "part_id": plain(message.part_id),
            "lot": plain(message.lot),
            "serial": plain(message.serial),
            "label": plain(message.label),
            "disposition": message.disposition.value,
            "complete": message.complete,
        }
    return row | {
        "event": plain(message.event),
        "severity": message.severity.value,
        "camera": plain(message.camera),
        "detail": plain(message.detail),
    }


def label_of(message: OverruleMessage) -> Label:
    """The label that an overrule tells of. Its time has the milliseconds of the label's file, so
    that the two are found to be one."""
    time = message.time.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    label = WITHDRAWN if message.label is None else message.label
    said = "" if message.label is None else message.said
    return Label(
        plain(message.verdict_id[:_LONGEST_ID]), plain(label), plain(said), plain(message.who),
        time, plain(message.why),
    )  # fmt: skip


def plain(text: str | None) -> Any:
    """Text that PostgreSQL holds: it has no NUL."""
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}")
