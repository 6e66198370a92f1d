"""Replay: sends delivered messages again, for a plant whose broker or database lost them.

It uses its own client, and the station may run meanwhile. It only reads the outbox and sends each
message unchanged, marked historical. Undelivered messages are left to the station.
"""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from pydantic import BaseModel, ConfigDict, ValidationError

from edge_qc.errors import PublishError
from edge_qc.publisher.connection.connecting import WINDOW
from edge_qc.publisher.connection.session import ACK_S
from edge_qc.publisher.connection.transport import (
    Acknowledged,
    Connected,
    Disconnected,
    Lost,
    Note,
    answer,
    cut,
    open_client,
)
from edge_qc.publisher.ledger import statements as ledger
from edge_qc.publisher.ledger.audit import open_outbox
from edge_qc.publisher.ledger.statements import Stored
from edge_qc.publisher.messages import NUMBERED, Kind
from edge_qc.publisher.wire import as_sent
from edge_qc.settings import MqttTable, StationTable


class _Timed(BaseModel):
    model_config = ConfigDict(extra="ignore")

    time: datetime


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages to send: all that match every given field. first, last: numbers within
    ``epoch``. since, until: the message's own ``time``, both inclusive."""

    kinds: tuple[Kind, ...] = NUMBERED
    epoch: str | None = None
    first: int | None = None
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, message: Stored) -> bool:
        if self.epoch not in (None, message.epoch) or message.seq < (self.first or 0):
            return False
        if self.last is not None and message.seq > self.last:
            return False
        try:
            time = _Timed.model_validate_json(message.payload).time
        except ValidationError:
            return False
        if time.tzinfo is None:
            time = time.replace(tzinfo=timezone.utc)
        after = self.since is None or time >= self.since
        return after and (self.until is None or time <= self.until)


def delivered(file: Path, selection: Selection) -> Iterator[tuple[Kind, str]]:
    """The kind and payload of each undamaged delivered message, in commit order. Raises
    PublishError."""
    with closing(open_outbox(file)) as reader:
        try:
            for message in ledger.in_pages(reader, selection.kinds, (ledger.DELIVERED,)):
                if message.whole and selection.takes(message):
                    yield message.kind, message.payload
        except sqlite3.Error as error:
            raise PublishError(f"{file} cannot be read: {error}") from error


def replay(mqtt: MqttTable, station: StationTable, messages: Iterator[tuple[Kind, str]]) -> int:
    """Publish messages again, in order, each acknowledged by the broker. Returns their number.

    Raises PublishError if the broker refuses a message or goes away; it is safe to repeat the call.
    """
    where = f"broker {mqtt.host}:{mqtt.port}"
    done = 0
    client, notes = _client(mqtt, station, MQTTProtocolVersion.MQTTv5)
    try:
        connected = _connect(client, notes, mqtt)
        if connected.wrong_protocol:
            cut(client)
            client, notes = _client(mqtt, station, MQTTProtocolVersion.MQTTv311)
            connected = _connect(client, notes, mqtt)
        if connected.refused is not None:
            raise PublishError(f"{where}: connection refused: {connected.refused}")
        window = min(WINDOW, connected.receive_maximum)
        sent: set[int] = set()
        taken: set[Kind] = set()
        for kind, payload in messages:
            # The first of each kind travels alone, as in ``session``, so that a refusal can be
            # read.
            while sent and kind not in taken:
                done += _heed(notes, sent)
            info = client.publish(f"{station.root}/{kind.value}", as_sent(payload, True), 1)
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise Lost(paho.error_string(info.rc))
            sent.add(info.mid)
            while len(sent) >= (window if kind in taken else 1):
                done += _heed(notes, sent)
            taken.add(kind)
        while sent:
            done += _heed(notes, sent)
        client.disconnect()
    except (Lost, OSError, ValueError) as error:
        raise PublishError(
            f"{where}: {error}. {done} messages were sent. Repeat the command: consumers recognise "
            "duplicates by verdict_id"
        ) from error
    finally:
        cut(client)
    return done


def _client(
    mqtt: MqttTable, station: StationTable, protocol: MQTTProtocolVersion
) -> tuple[paho.Client, queue.Queue[Note]]:
    notes: queue.Queue[Note] = queue.Queue()
    name = f"edge-qc.{station.site}.{station.name}.replay"
    return open_client(mqtt, name, notes.put, protocol=protocol, window=WINDOW), notes


def _connect(client: paho.Client, notes: queue.Queue[Note], mqtt: MqttTable) -> Connected:
    client.connect(mqtt.host, mqtt.port, mqtt.keepalive_s)
    client.loop_start()
    return answer(notes, Connected)


def _heed(notes: queue.Queue[Note], sent: set[int]) -> int:
    """Wait for the broker's next note. Returns how many messages it acknowledged. Raises Lost."""
    try:
        note = notes.get(timeout=ACK_S)
    except queue.Empty:
        raise Lost(f"no acknowledgement in {ACK_S:.0f} s") from None
    if isinstance(note, Disconnected):
        raise Lost(note.why)
    if not isinstance(note, Acknowledged) or note.mid not in sent:
        return 0
    sent.remove(note.mid)
    if note.refused is not None:
        raise Lost(f"the broker refused a message: {note.refused}")
    return 1
