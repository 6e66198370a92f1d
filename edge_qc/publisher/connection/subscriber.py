"""The other end: receives messages from a broker, for commands that watch or record a line.

It reconnects after a loss. Its readers interpret the messages.
"""

from __future__ import annotations

import queue
import random
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_qc.errors import PublishError
from edge_qc.publisher.connection.transport import (
    CONNECT_S,
    Acknowledged,
    Connected,
    Disconnected,
    Note,
    Received,
    Subscribed,
    cut,
    open_client,
)
from edge_qc.settings import MqttTable

_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 15.0
_SHORT_S, _SUSPICIOUS = 5.0, 3
"""So many connections on end that live so shortly are no broker's restart."""
_Answer = TypeVar("_Answer", Acknowledged, Connected, Subscribed)


class Subscription:
    """A subscription at QoS 1. trouble: why no message can arrive, in words; None while one can."""

    def __init__(
        self,
        mqtt: MqttTable,
        filters: Sequence[str],
        *,
        session: str | None = None,
        session_s: int = 0,
    ) -> None:
        """Connect and subscribe. Raises PublishError if the first try fails.

        session: a name under which the broker stores messages while this reader is away, and those
        that it has not acknowledged with ``acknowledge``, for ``session_s``.
        """
        self._mqtt, self._filters = mqtt, tuple(filters)
        self._session, self._session_s = session, session_s
        self._notes: queue.Queue[Note] = queue.Queue()
        self._early: deque[Note] = deque()
        self._protocol = paho.MQTTv5
        self._client: paho.Client | None = None
        self._backoff_s = _FIRST_BACKOFF_S
        self._retry_s = self._since_s = 0.0
        self._short_lives = 0
        self.trouble: str | None = None
        try:
            self._connect()
        except PublishError:
            self.close()
            raise

    def read(self, timeout_s: float) -> Received | None:
        """The next message; None if none came in time, or the broker is away."""
        until_s = time.monotonic() + timeout_s
        while True:
            if self._client is None:
                self._reconnect(until_s)
            left_s = until_s - time.monotonic()
            try:
                note = (
                    self._early.popleft()
                    if self._early
                    else self._notes.get(timeout=max(0.0, left_s))
                )
            except queue.Empty:
                return None
            if note.client is not self._client:
                continue
            if isinstance(note, Received):
                return note
            if isinstance(note, Disconnected):
                self._lose(f"broker {self._mqtt.host}:{self._mqtt.port}: {note.why}")
                self._suspect(note.taken_over)
                # Return at once, so that the reader sees even a short interruption.
                return None

    def acknowledge(self, received: Sequence[Received]) -> None:
        """Let the broker forget these messages, if this reader has a session."""
        for message in received:
            if self._session is not None and message.client is self._client and message.mid:
                message.client.ack(message.mid, 1)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 if connected; drop the message otherwise."""
        if self._client is not None:
            self._client.publish(topic, payload, 1)

    def clear(self, topic: str) -> None:
        """Have the broker forget what it retains on a topic, by an empty retained message. Raises
        PublishError where it refuses or does not answer."""
        where = f"broker {self._mqtt.host}:{self._mqtt.port}"
        if self._client is None:
            raise PublishError(f"{where}: not connected")
        sent = self._client.publish(topic, b"", 1, retain=True)
        answer = self._await(self._client, Acknowledged, where)
        if answer.mid == sent.mid and answer.refused is not None:
            raise PublishError(f"{where} does not let this account clear {topic}: {answer.refused}")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            cut(client)

    def _reconnect(self, until_s: float) -> None:
        """Try once if a try is due; otherwise wait for that or for ``until_s``."""
        wait_s = min(self._retry_s, until_s) - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        if time.monotonic() >= self._retry_s:
            try:
                self._connect()
            except PublishError as error:
                self._lose(str(error))

    def _lose(self, why: str) -> None:
        self.close()
        self.trouble = why
        self._retry_s = time.monotonic() + self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(2 * self._backoff_s, _LAST_BACKOFF_S)

    def _suspect(self, told: bool) -> None:
        """Keep away for a while where another program seems to use this session: two that take it
        from each other all the time would both hear little. told: by the broker; some only close
        the connection, again and again."""
        lived_s = time.monotonic() - self._since_s
        self._short_lives = self._short_lives + 1 if lived_s < _SHORT_S else 0
        if self._session is None or not (told or self._short_lives >= _SUSPICIOUS):
            return
        self.trouble = (
            f"{self.trouble}: another program may use the session {self._session!r}. Stop it, or "
            "give one of them another --session"
        )
        self._retry_s = time.monotonic() + _LAST_BACKOFF_S * random.uniform(0.5, 1.0)

    def _connect(self) -> None:
        where = f"broker {self._mqtt.host}:{self._mqtt.port}"
        try:
            client = open_client(
                self._mqtt,
                self._session or f"edge-qc-watch-{uuid.uuid4().hex[:12]}",
                self._notes.put,
                protocol=self._protocol,
                clean=self._session is None,
                manual_ack=self._session is not None,
            )
            self._open(client)
        except (OSError, ValueError) as error:
            raise PublishError(
                f"{where}: {error}. Check that the broker runs and that address and port are right"
            ) from error
        self._client = client
        client.loop_start()
        answer = self._await(client, Connected, where)
        if answer.wrong_protocol and self._protocol == paho.MQTTv5:
            self._protocol = paho.MQTTv311
            self.close()
            self._connect()
            return
        if answer.refused is not None:
            raise PublishError(f"{where} refuses the connection: {answer.refused}")
        client.subscribe([(topic, 1) for topic in self._filters])
        subscribed = self._await(client, Subscribed, where)
        if subscribed.refused is not None:
            raise PublishError(
                f"{where} refuses the subscription to {', '.join(self._filters)}: "
                f"{subscribed.refused}. Allow this account to read these topics"
            )
        self.trouble, self._backoff_s = None, _FIRST_BACKOFF_S
        self._since_s = time.monotonic()

    def _open(self, client: paho.Client) -> None:
        where = self._mqtt.host, self._mqtt.port, self._mqtt.keepalive_s
        if self._session is None or self._protocol != paho.MQTTv5:
            client.connect(*where)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_s
        client.connect(*where, clean_start=False, properties=properties)

    def _await(self, client: paho.Client, kind: type[_Answer], where: str) -> _Answer:
        """The next note of a kind; ``read`` gives what comes before it, in its order."""
        until_s = time.monotonic() + CONNECT_S
        while True:
            try:
                note = self._notes.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                raise PublishError(f"{where}: no answer in {CONNECT_S:.0f} s") from None
            if note.client is not client:
                continue
            if isinstance(note, kind):
                return note
            if isinstance(note, Disconnected):
                raise PublishError(f"{where}: {note.why} before the broker answered")
            self._early.append(note)
