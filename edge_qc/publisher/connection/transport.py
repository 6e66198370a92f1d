"""Wraps paho-mqtt as a client that turns every callback into a note.

paho calls back on the thread that runs its loop: one of its own, which an exception would end in
silence, or the sender's (``loop``). So the callbacks only pass notes on; ``mqtt`` and
``subscriber`` interpret them.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_qc.publisher.connection.reasons import NO_SUBSCRIBERS, SESSION_TAKEN_OVER, words
from edge_qc.settings import MqttTable

CONNECT_S = 10.0


def _wake_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


# paho wakes its thread through a TCP connection to a port of its own, to which any process on the
# machine could connect first. A station listens nowhere, and its unit may not call listen(2).
paho._socketpair_compat = _wake_pair

_TLS_TROUBLE = "failed to receive on socket: "
_LARGEST_PACKET = 268_435_455


class Lost(Exception):
    """The connection can no longer be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker's answer to CONNECT. refused: its reason, None if it accepted. receive_maximum:
    how many unacknowledged messages it accepts. largest_bytes: its packet limit. lacks: a missing
    feature that a station needs, or None."""

    client: paho.Client
    refused: str | None
    wrong_protocol: bool
    receive_maximum: int
    largest_bytes: int
    lacks: str | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended. taken_over: another client has connected under the same id."""

    client: paho.Client
    why: str
    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A PUBACK. refused: the broker's reason, None for success. unheard: the message had no
    subscriber (MQTT 5's reason code 16)."""

    client: paho.Client
    mid: int
    refused: str | None
    unheard: bool


@dataclass(frozen=True, slots=True)
class Received:
    """A message of a subscription. mid: 0 where it needs no acknowledgement. again: the broker has
    sent it before. expires_s: what was left of its message expiry interval; None if it has none."""

    client: paho.Client
    topic: str
    payload: bytes
    retained: bool
    mid: int = 0
    again: bool = False
    expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A SUBACK. refused: the broker's reason for the first topic that it refused."""

    client: paho.Client
    refused: str | None
    mid: int


# From paho's own thread notes pass through queue.Queue: SimpleQueue.get with a timeout may block
# forever on Python 3.10.
Note = Connected | Disconnected | Acknowledged | Received | Subscribed
_Answer = TypeVar("_Answer", Connected, Acknowledged, Subscribed)


def answer(notes: queue.Queue[Note], kind: type[_Answer]) -> _Answer:
    """Wait for the broker's answer, and drop the notes before it. Raises Lost if there is none."""
    until_s = time.monotonic() + CONNECT_S
    while True:
        try:
            note = notes.get(timeout=max(0.0, until_s - time.monotonic()))
        except queue.Empty:
            raise Lost(f"no answer in {CONNECT_S:.0f} s") from None
        if isinstance(note, kind):
            return note
        if isinstance(note, Disconnected):
            raise Lost(note.why)


def open_client(
    mqtt: MqttTable,
    client_id: str,
    notify: Callable[[Note], None],
    *,
    protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
    window: int = 64,
    clean: bool = True,
    manual_ack: bool = False,
) -> paho.Client:
    """Return an unconnected client that never reconnects by itself. clean: MQTT 3.1.1's clean
    session. manual_ack: the reader acknowledges what it receives.

    Raises OSError (of which ssl.SSLError is one) or ValueError if the certificates cannot be used,
    SettingsError if the password cannot be read.
    """
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=protocol,
        reconnect_on_failure=False,
        manual_ack=manual_ack,
        clean_session=None if protocol == MQTTProtocolVersion.MQTTv5 else clean,
    )
    client.connect_timeout = CONNECT_S
    # The caller limits the window, so paho must not queue on its own.
    client.max_inflight_messages_set(2 * window)
    if mqtt.username is not None:
        password = mqtt.password()
        client.username_pw_set(
            mqtt.username, password.get_secret_value() if password is not None else None
        )
    tls = mqtt.ca_file is not None or mqtt.cert_file is not None
    if tls:
        client.tls_set(
            ca_certs=str(mqtt.ca_file) if mqtt.ca_file else None,
            certfile=str(mqtt.cert_file) if mqtt.cert_file else None,
            keyfile=str(mqtt.key_file) if mqtt.key_file else None,
        )

    # A likely explanation for the end, since paho and most brokers give none.
    hints = [] if tls else ["the port may require TLS, and mqtt.ca_file is not set"]

    def on_connect(
        client: paho.Client,
        _data: Any,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        hints.clear()
        notify(
            Connected(
                client,
                refused=words(reason) if reason.is_failure else None,
                wrong_protocol=reason.getName() == "Unsupported protocol version",
                receive_maximum=getattr(properties, "ReceiveMaximum", 65_535),
                largest_bytes=getattr(properties, "MaximumPacketSize", _LARGEST_PACKET),
                lacks=_lacks(properties),
            )
        )

    def on_disconnect(
        client: paho.Client,
        _data: Any,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.getName() != "Unspecified error":
            hints[:] = [_said(reason)]
        why = ": ".join(["the connection was lost", *hints[-1:]])
        notify(Disconnected(client, why, taken_over=reason.value == SESSION_TAKEN_OVER))

    def on_log(_client: paho.Client, _data: Any, _level: int, text: str) -> None:
        # A broker that refuses a certificate sends its alert after the handshake.
        if text.startswith(_TLS_TROUBLE):
            hints.append(text.removeprefix(_TLS_TROUBLE))

    def on_publish(
        client: paho.Client,
        _data: Any,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        refused = words(reason, topic=True) if reason.is_failure else None
        if refused is not None:
            hints.append(refused)
        notify(Acknowledged(client, mid, refused, unheard=reason.value == NO_SUBSCRIBERS))

    def on_subscribe(
        client: paho.Client,
        _data: Any,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [words(reason, topic=True) for reason in reasons if reason.is_failure]
        notify(Subscribed(client, refused[0] if refused else None, mid))

    def on_message(client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        mid = message.mid if message.qos else 0
        notify(
            Received(
                client,
                message.topic,
                bytes(message.payload),
                message.retain,
                mid,
                again=message.dup,
                expires_s=getattr(message.properties, "MessageExpiryInterval", None),
            )
        )

    client.on_connect = on_connect
    client.on_disconnect = on_disconnect
    client.on_publish = on_publish
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    if tls:
        # Not otherwise, since paho then puts each packet into words.
        client.on_log = on_log
    client.on_socket_open = _send_at_once
    return client


def _send_at_once(_client: paho.Client, _data: Any, connection: Any) -> None:
    """TCP_NODELAY: otherwise a small message, such as the verdict on a trigger just accepted, waits
    up to 40 ms for the acknowledgement of the one before."""
    if isinstance(connection, socket.socket) and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _lacks(properties: Properties | None) -> str | None:
    if getattr(properties, "MaximumQoS", 2) < 1:
        return "it only accepts QoS 0, at which verdicts can be lost"
    if not getattr(properties, "RetainAvailable", 1):
        return "it does not store retained messages, and …/state must be retained"
    return None


def _said(reason: ReasonCode) -> str:
    return words(reason) if reason.is_failure else str(reason)


def cut(client: paho.Client) -> None:
    """End a client without a new DISCONNECT; if none was sent, the broker publishes the last
    will."""
    with contextlib.suppress(OSError):
        if isinstance(connection := client.socket(), socket.socket):
            connection.shutdown(socket.SHUT_RDWR)
    client.loop_stop()
    with contextlib.suppress(OSError):
        if isinstance(connection := client.socket(), socket.socket):
            connection.close()
