"""Opens one connection to the broker: sends CONNECT with the last will and reads the answer.

``session`` uses the connection; ``mqtt`` decides when to open the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_qc.publisher.connection.inbox import LARGEST_BYTES
from edge_qc.publisher.connection.loop import Loop
from edge_qc.publisher.connection.transport import (
    CONNECT_S,
    Connected,
    Disconnected,
    Lost,
    Note,
    open_client,
)
from edge_qc.publisher.messages import STATE_LIFE_S, Kind
from edge_qc.settings import MqttTable, StationTable

WINDOW = 64


def connect(
    mqtt: MqttTable,
    station: StationTable,
    notify: Callable[[Note], None],
    *,
    client_id: str,
    protocol: MQTTProtocolVersion,
    will: bytes,
) -> paho.Client:
    """Return a client that has sent its CONNECT and whose loop has not started. will: the state
    that the broker publishes when the connection is lost without a goodbye message.

    Raises what ``open_client`` raises, and OSError if the broker cannot be reached.
    """
    client = open_client(
        mqtt,
        client_id,
        notify,
        protocol=protocol,
        window=WINDOW,
    )
    properties = of_will = None
    if protocol == MQTTProtocolVersion.MQTTv5:
        of_will = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        of_will.MessageExpiryInterval = STATE_LIFE_S
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        # Twice the limit of the inbox, so that the station can log a message that is too long; the
        # broker drops larger ones before they fill the memory.
        properties.MaximumPacketSize = 2 * LARGEST_BYTES
    client.will_set(f"{station.root}/{Kind.STATE.value}", will, 1, True, of_will)
    client.connect(mqtt.host, mqtt.port, mqtt.keepalive_s, properties=properties)
    return client


def await_connack(loop: Loop, stopping: threading.Event) -> Connected:
    """Return the broker's answer, which may be a refusal; later notes stay where they are. Raises
    Lost if there is none."""
    until_s = time.monotonic() + CONNECT_S
    while (left_s := until_s - time.monotonic()) > 0:
        loop.run(left_s)
        if stopping.is_set():
            raise Lost("stopped before the broker answered")
        while loop.notes:
            note = loop.notes.popleft()
            if isinstance(note, Disconnected):
                raise Lost(f"{note.why} before it accepted the connection")
            if isinstance(note, Connected):
                return note
    raise Lost(f"no answer to CONNECT in {CONNECT_S:.0f} s")
