"""The outbox's way to the broker: paho-mqtt as transport, and nothing else of it.

Only the outbox retransmits. Each connection is a fresh client with a clean start, so that nothing
lingers in a library's queue: what was not acknowledged is read from the outbox again, in order, at
most ``WINDOW`` at a time. paho's callbacks run on paho's thread, where an exception would end it in
silence, so they do nothing but enqueue; one sender thread does the rest and survives its own
errors.

A message leaves at its PUBACK: success, and *no matching subscribers*, which MQTT counts as
success. Where the broker refuses (*not authorized*, *quota exceeded*, …) the message stays, its
topic rests for a while so that order is kept, and the station's state says so.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_qc.errors import EdgeQCError
from edge_qc.publisher.ledger import Stored
from edge_qc.publisher.messages import (
    DETAIL_LIMIT,
    BundleRef,
    HealthContent,
    Kind,
    Severity,
    State,
    StateContent,
)
from edge_qc.publisher.outbox import Outbox
from edge_qc.publisher.transport import (
    CONNECT_S,
    Acknowledged,
    Connected,
    Disconnected,
    Note,
    open_client,
)
from edge_qc.publisher.wire import as_sent, stamped, utc_now
from edge_qc.settings import MqttTable, StationTable

WINDOW = 64
LATE_S = 5.0
HEALTH_EXPIRES_S = 60

_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 15.0
_ACK_S = 20.0
_REST_S = 15.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Session:
    """One connection. cursor: the last row sent. sent: by message id, what and when. ready: read
    from the outbox, to be sent next."""

    client: paho.Client
    window: int
    cursor: int = 0
    sent: dict[int, tuple[Stored, float]] = field(default_factory=dict)
    ready: deque[Stored] = field(default_factory=deque)


class _Lost(Exception):
    """The connection is gone; the message says why."""


class Publisher:
    """Sends what the outbox holds, and the station's state and health."""

    def __init__(
        self, mqtt: MqttTable, station: StationTable, outbox: Outbox, *, late_s: float = LATE_S
    ) -> None:
        """late_s: a verdict sent later than this after it was made is marked historical.
        bundle: what the state names; set it once the bundle is accepted."""
        self.bundle: BundleRef | None = None
        self._mqtt, self._station, self._outbox, self._late_s = mqtt, station, outbox, late_s
        self._notes: queue.SimpleQueue[Note] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._state = StateContent(state=State.STARTING, time=utc_now())
        self._protocol = paho.MQTTv5
        self._state_told: StateContent | None = None
        self._health: HealthContent | None = None
        self._resting: dict[Kind, tuple[float, str]] = {}
        self._why: str | None = "not connected yet"
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def trouble(self) -> str | None:
        """Why messages are not leaving, in words; None while they do."""
        if self._resting:
            return "; ".join(why for _, why in self._resting.values())
        return self._why

    def start(self) -> None:
        """Connects, now and after every loss, on a thread of its own. Never raises for the
        broker's sake."""
        self._outbox.on_commit(self._wake)
        self._thread.start()

    def state(self, state: State, why: str = "") -> None:
        """What the station is doing from now on; sent at once when connected, and at the start of
        every connection."""
        with self._lock:
            self._state = StateContent(
                state=state,
                time=utc_now(),
                why=why[:DETAIL_LIMIT],
                bundle=self.bundle,
            )
        self._wake()

    def health(self, health: HealthContent) -> None:
        """The heartbeat; of several that wait, the last is sent."""
        with self._lock:
            self._health = health
        self._wake()

    def drain(self, timeout_s: float) -> bool:
        """Waits until the broker has acknowledged everything; False where the time was short."""
        return self._outbox.wait_delivered(timeout_s)

    def close(self) -> None:
        """Says DEAD in place of the last will, and disconnects. The outbox keeps what is left."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join()

    def _wake(self) -> None:
        self._notes.put("wake")

    def _run(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._serve()
            except _Lost as lost:
                self._why = str(lost)
            except (EdgeQCError, OSError, ValueError) as error:
                self._why = f"broker {self._mqtt.host}:{self._mqtt.port}: {error}"
            except Exception as error:
                log.exception("the publisher failed and starts again")
                self._why = f"publisher: {error!r}"
            self._connected.clear()
            if self._stopping.is_set():
                return
            log.warning("%s", self._why)
            if time.monotonic() - began_s > _LAST_BACKOFF_S:
                backoff_s = _FIRST_BACKOFF_S
            self._stopping.wait(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _LAST_BACKOFF_S)

    def _serve(self) -> None:
        """One connection from its start to its end, which is always an exception but when
        stopping."""
        client = self._client()
        client.loop_start()
        try:
            session = self._await_connack(client)
            self._connected.set()
            self._why = self._state_told = None
            while True:
                self._tell(session)
                self._fill(session)
                if self._stopping.is_set():
                    self._say_goodbye(session)
                    return
                self._listen(session)
        finally:
            client.disconnect()
            client.loop_stop()

    def _client(self) -> paho.Client:
        will = StateContent(
            state=State.DEAD,
            time=utc_now(),
            why="the connection ended without a word",
            bundle=self.bundle,
        )
        client = open_client(
            self._mqtt,
            f"edge-qc.{self._station.site}.{self._station.name}",
            self._notes.put,
            protocol=self._protocol,
            window=WINDOW,
        )
        client.will_set(self._topic(Kind.STATE), self._live(Kind.STATE, will), qos=1, retain=True)
        client.connect(self._mqtt.host, self._mqtt.port, self._mqtt.keepalive_s)
        return client

    def _await_connack(self, client: paho.Client) -> _Session:
        until_s = time.monotonic() + CONNECT_S
        while True:
            try:
                note = self._notes.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                raise _Lost(f"{self._broker}: no answer to CONNECT in {CONNECT_S:.0f} s") from None
            if note == "wake" or note.client is not client:
                if self._stopping.is_set():
                    raise _Lost("stopped before the broker answered")
                continue
            if isinstance(note, Disconnected):
                raise _Lost(f"{self._broker}: {note.why} before it accepted the connection")
            if isinstance(note, Connected):
                if note.wrong_protocol and self._protocol == paho.MQTTv5:
                    self._step_down()
                if note.refused is not None:
                    raise _Lost(
                        f"{self._broker} refuses the connection: {note.refused}. Correct [mqtt] "
                        "in station.toml, or the broker's accounts"
                    )
                return _Session(client, min(WINDOW, note.receive_maximum))

    def _tell(self, session: _Session) -> None:
        """Publishes state and health where they changed."""
        with self._lock:
            state, health, self._health = self._state, self._health, None
        refused = "; ".join(why for _, why in self._resting.values())
        if refused and state.state in (State.READY, State.RUNNING):
            state = state.model_copy(update={"state": State.DEGRADED, "why": refused})
        if state != self._state_told:
            self._publish_live(session, Kind.STATE, state, None)
            self._state_told = state
        if health is not None:
            expiry = None
            if self._protocol == paho.MQTTv5:
                expiry = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                expiry.MessageExpiryInterval = HEALTH_EXPIRES_S
            self._publish_live(session, Kind.HEALTH, health, expiry)

    def _fill(self, session: _Session) -> None:
        """Sends from the outbox until the window is full."""
        now_s = time.monotonic()
        rested = [kind for kind, (until_s, _) in self._resting.items() if until_s <= now_s]
        if rested:
            for kind in rested:
                del self._resting[kind]
            session.cursor = 0
            session.ready.clear()
        held = tuple(self._resting)
        in_flight = {message.row for message, _ in session.sent.values()}
        while len(session.sent) < session.window:
            if not session.ready:
                session.ready.extend(self._outbox.waiting(session.cursor, WINDOW, held))
                if not session.ready:
                    return
            message = session.ready.popleft()
            session.cursor = message.row
            if message.kind in held or message.row in in_flight:
                continue
            payload = as_sent(message.payload, self._is_historical(message))
            info = session.client.publish(self._topic(message.kind), payload, qos=1)
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise _Lost(f"{self._broker}: sending failed: {paho.error_string(info.rc)}")
            session.sent[info.mid] = message, now_s

    def _is_historical(self, message: Stored) -> bool:
        if message.epoch != self._outbox.epoch or message.made_s is None:
            return True
        return time.monotonic() - message.made_s > self._late_s

    def _listen(self, session: _Session) -> None:
        """Waits for notes, and takes all that are there."""
        notes: list[Note] = []
        try:
            notes.append(self._notes.get(timeout=self._patience_s(session)))
            while True:
                notes.append(self._notes.get_nowait())
        except queue.Empty:
            pass
        rows = []
        lost: str | None = None
        for note in notes:
            if note == "wake" or note.client is not session.client:
                continue
            if isinstance(note, Disconnected):
                lost = f"{self._broker}: {note.why}"
            elif isinstance(note, Acknowledged) and note.mid in session.sent:
                message, _ = session.sent.pop(note.mid)
                if note.refused is None:
                    rows.append(message.row)
                else:
                    self._rest(message.kind, note.refused)
        if rows:
            self._outbox.delivered(rows)
        if lost is not None:
            raise _Lost(lost)
        oldest_s = min((sent_s for _, sent_s in session.sent.values()), default=None)
        if oldest_s is not None and time.monotonic() - oldest_s > _ACK_S:
            raise _Lost(f"{self._broker}: no acknowledgement in {_ACK_S:.0f} s")

    def _patience_s(self, session: _Session) -> float | None:
        """How long nothing but a note can give the sender work; None: for ever."""
        until_s = [until_s for until_s, _ in self._resting.values()]
        until_s += [sent_s + _ACK_S for _, sent_s in session.sent.values()][:1]
        return max(0.0, min(until_s) - time.monotonic()) if until_s else None

    def _step_down(self) -> None:
        self._protocol = paho.MQTTv311
        self._outbox.event(
            "mqtt-3.1.1",
            f"{self._broker} does not speak MQTT 5. Under 3.1.1 it acknowledges even what its "
            "access rules drop: see that they allow this station's topics, or update it",
            severity=Severity.WARNING,
        )

    def _rest(self, kind: Kind, reason: str) -> None:
        self._resting[kind] = (
            time.monotonic() + _REST_S,
            f"{self._broker} refuses {self._topic(kind)}: {reason}. Nothing is lost; allow the "
            "topic to this station's account",
        )

    def _say_goodbye(self, session: _Session) -> None:
        dead = StateContent(
            state=State.DEAD, time=utc_now(), why="stopped in order", bundle=self.bundle
        )
        info = self._publish_live(session, Kind.STATE, dead, None)
        info.wait_for_publish(2.0)

    def _publish_live(
        self,
        session: _Session,
        kind: Kind,
        content: StateContent | HealthContent,
        properties: Properties | None,
    ) -> paho.MQTTMessageInfo:
        return session.client.publish(
            self._topic(kind), self._live(kind, content), qos=1, retain=True, properties=properties
        )

    def _live(self, kind: Kind, content: StateContent | HealthContent) -> bytes:
        return stamped(
            kind,
            content.model_dump_json(by_alias=True),
            epoch=self._outbox.epoch,
            site=self._station.site,
            station=self._station.name,
        ).encode()

    def _topic(self, kind: Kind) -> str:
        return f"{self._station.root}/{kind.value}"

    @property
    def _broker(self) -> str:
        return f"broker {self._mqtt.host}:{self._mqtt.port}"
