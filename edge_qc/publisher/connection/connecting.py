"""Making one connection of the station to its broker: CONNECT with the last will, and the answer.

What is said on it is ``session``'s; when to make the next one, ``mqtt``'s.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_qc.publisher.connection.inbox import LARGEST_BYTES
from edge_qc.publisher.connection.session import Lost
from edge_qc.publisher.connection.transport import (
    CONNECT_S,
    Connected,
    Disconnected,
    Note,
    open_client,
)
from edge_qc.publisher.messages import Kind
from edge_qc.settings import MqttTable, StationTable

WINDOW = 64


def connect(
    mqtt: MqttTable,
    station: StationTable,
    notify: Callable[[Note], None],
    *,
    protocol: MQTTProtocolVersion,
    will: bytes,
) -> paho.Client:
    """A client that has sent its CONNECT; its loop is not started. will: the state that the broker
    publishes where the connection ends without a word.

    Raises what ``open_client`` raises, and OSError where the broker cannot be reached.
    """
    # The same name at each start: a broker that still holds a dead connection ends that first.
    client = open_client(
        mqtt,
        f"edge-qc.{station.site}.{station.name}",
        notify,
        protocol=protocol,
        window=WINDOW,
    )
    client.will_set(f"{station.root}/{Kind.STATE.value}", will, 1, True)
    properties = None
    if protocol == MQTTProtocolVersion.MQTTv5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        # Twice what is read, so that a message that is too long is told of; the broker drops what
        # would fill the memory.
        properties.MaximumPacketSize = 2 * LARGEST_BYTES
    client.connect(mqtt.host, mqtt.port, mqtt.keepalive_s, properties=properties)
    return client


def await_connack(
    client: paho.Client, notes: queue.Queue[Note], stopping: threading.Event
) -> Connected:
    """The broker's answer, which may be a refusal. Raises Lost where there is none."""
    until_s = time.monotonic() + CONNECT_S
    while True:
        try:
            note = notes.get(timeout=max(0.0, until_s - time.monotonic()))
        except queue.Empty:
            raise Lost(f"no answer to CONNECT in {CONNECT_S:.0f} s") from None
        if stopping.is_set():
            raise Lost("stopped before the broker answered")
        if note == "wake" or note.client is not client:
            continue
        if isinstance(note, Disconnected):
            raise Lost(f"{note.why} before it accepted the connection")
        if isinstance(note, Connected):
            return note
