"""The outbox's way to the broker: paho-mqtt as transport, and nothing else of it.

Only the outbox retransmits. Each connection is a fresh client with a clean start, so that nothing
lingers in a library's queue: what was not acknowledged is read from the outbox again, in order.
paho's callbacks do nothing but enqueue; one sender thread does the rest, and survives its own
errors. What happens on one connection is ``session``'s.
"""

from __future__ import annotations

import json
import logging
import queue
import random
import threading
import time
from collections import deque
from typing import Any

import paho.mqtt.client as paho

from edge_qc.errors import EdgeQCError, PublishError
from edge_qc.publisher.connection import WINDOW, await_connack, connect
from edge_qc.publisher.inbox import Handler, Inbox
from edge_qc.publisher.messages import (
    DETAIL_LIMIT,
    AckMessage,
    BundleRef,
    HealthContent,
    Kind,
    Severity,
    StateContent,
)
from edge_qc.publisher.outbox import Outbox
from edge_qc.publisher.recorded import RecorderWatch
from edge_qc.publisher.session import Lost, Resting, Session
from edge_qc.publisher.transport import Connected, Note, Received, cut
from edge_qc.publisher.wire import read_ack, stamped, utc_now
from edge_qc.settings import MqttTable, StationTable
from edge_qc.state import State

LATE_S = 5.0
HEALTH_EXPIRES_S = 60

_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 15.0
_GOODBYE_S = 2.0
_REPLIES = 256
_RECORDER_TURN_S = 1.0

log = logging.getLogger(__name__)


class Publisher:
    """Sends what the outbox holds, and the station's state and health.

    bundle: what the state names; set it once the bundle is accepted.
    """

    def __init__(
        self, mqtt: MqttTable, station: StationTable, outbox: Outbox, *, late_s: float = LATE_S
    ) -> None:
        """late_s: a message sent later than this after it was made is marked historical."""
        self.bundle: BundleRef | None = None
        self._mqtt, self._station, self._outbox, self._late_s = mqtt, station, outbox, late_s
        self._broker = f"broker {mqtt.host}:{mqtt.port}"
        self._protocol = paho.MQTTv5
        self._notes: queue.Queue[Note] = queue.Queue()
        self._inbox = Inbox(station.root)
        self._replies: deque[bytes] = deque(maxlen=_REPLIES)
        self._acks: queue.Queue[AckMessage] = queue.Queue()
        self._recorder: RecorderWatch | None = None
        if mqtt.recorder:
            self._recorder = RecorderWatch(outbox.epoch, mqtt.recorder_silent_s)
            self._inbox.listen("ack", self._take_ack)
        self._unheard = 0
        self._lock = threading.Condition()
        self._state = StateContent(state=State.STARTING, time=utc_now())
        self._state_told: StateContent | None = None
        self._sent_state: StateContent | None = None
        self._health: HealthContent | None = None
        self._why: str | None = f"{self._broker}: not connected yet"
        self._resting: Resting = {}
        self._unreachable = False
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def trouble(self) -> str | None:
        """Why messages are not leaving, in words; None while they do."""
        return self._why

    @property
    def unheard(self) -> int:
        """How many messages the broker took while nobody had subscribed to them."""
        return self._unheard

    def start(self) -> None:
        """Connects, now and after every loss, on a thread of its own. Never raises for the
        broker's sake."""
        self._outbox.on_commit(self._wake)
        self._thread.start()

    def state(self, state: State, why: str = "") -> None:
        """What the station is doing from now on; sent at once when connected, and at the start of
        every connection. While the broker refuses a topic, READY and RUNNING go out as DEGRADED."""
        with self._lock:
            self._state = StateContent(
                state=state, time=utc_now(), why=why[:DETAIL_LIMIT], bundle=self.bundle
            )
        self._wake()

    def health(self, health: HealthContent) -> None:
        """The heartbeat; of several that wait, the last is sent."""
        with self._lock:
            self._health = health
        self._wake()

    def listen(self, level: str, handler: Handler) -> None:
        """Has ``handler`` called with what comes on ``<root>/<level>`` while connected: at QoS 1,
        so that it may come twice, at most 64 KiB, nothing that was retained. A thread of the
        level's own calls it; what it raises is logged."""
        self._inbox.listen(level, handler)
        self._wake()

    def reply(self, document: dict[str, Any]) -> None:
        """Publishes to ``<root>/reply`` at QoS 1, now or when next connected. It passes no outbox:
        a station that stops before then has not answered. Raises ValueError where it is no JSON."""
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._replies.append(text.encode())
        self._wake()

    def drain(self, timeout_s: float) -> bool:
        """Waits until the broker has acknowledged everything; False where the time was short."""
        return self._outbox.wait_delivered(timeout_s)

    def close(self) -> None:
        """Says DEAD in place of the last will, and disconnects. The outbox keeps what is left."""
        if self._thread.is_alive():
            with self._lock:
                # A station that stops at once has still to say why.
                self._lock.wait_for(
                    lambda: self._unreachable or self._state_told is self._state, _GOODBYE_S
                )
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            # An address that does not answer may hold the thread; the process may end without it.
            self._thread.join(2 * _GOODBYE_S)
        self._inbox.close(_GOODBYE_S)

    def _wake(self) -> None:
        self._notes.put("wake")

    def _note(self, note: Note) -> None:
        if isinstance(note, Received):
            self._inbox.take(note)
        else:
            self._notes.put(note)

    def _run(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._serve()
            except (Lost, EdgeQCError, OSError, ValueError) as error:
                self._why = f"{self._broker}: {error}"
            except Exception as error:
                log.exception("the publisher failed and connects again")
                self._why = f"{self._broker}: publisher: {error!r}"
            self._connected.clear()
            if self._stopping.is_set():
                return
            log.warning("%s", self._why)
            if time.monotonic() - began_s > _LAST_BACKOFF_S:
                backoff_s = _FIRST_BACKOFF_S
            self._stopping.wait(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _LAST_BACKOFF_S)

    def _serve(self) -> None:
        """One connection from its start to its end, which is always an error but when stopping."""
        will = StateContent(
            state=State.DEAD,
            time=utc_now(),
            why="the connection ended without a word",
            bundle=self.bundle,
        )
        try:
            client = connect(
                self._mqtt,
                self._station,
                self._note,
                protocol=self._protocol,
                will=self._live(Kind.STATE, will),
            )
            self._unreachable = False
        except OSError:
            with self._lock:
                self._unreachable = True
                self._lock.notify_all()
            raise
        client.loop_start()
        session: Session | None = None
        try:
            answer = await_connack(client, self._notes, self._stopping)
            window = min(WINDOW, self._accepted(answer))
            session = Session(
                client,
                self._station.root,
                self._outbox,
                self._resting,
                window=window,
                late_s=self._late_s,
                recorder=self._recorder,
            )
            self._feed(session)
            client.disconnect()
            client.loop_stop()
        finally:
            cut(client)
            if session is not None:
                session.finish(self._notes)
                self._unheard += session.unheard

    def _feed(self, session: Session) -> None:
        log.info("%s: connected", self._broker)
        self._sent_state = None
        self._connected.set()
        if self._recorder is not None:
            self._recorder.connected(time.monotonic())
        while not self._stopping.is_set():
            self._why = "; ".join([*session.refusals, *self._heed_recorder()]) or None
            session.subscribe(self._inbox.levels)
            self._tell(session)
            try:
                session.fill()
            except PublishError as error:
                # The outbox cannot be read; the state that says so can still be sent.
                self._why = str(error)
            session.listen(self._notes, _RECORDER_TURN_S if self._recorder is not None else None)
        until_s = time.monotonic() + _GOODBYE_S
        while session.in_flight and (left_s := until_s - time.monotonic()) > 0:
            session.listen(self._notes, left_s)
        dead = StateContent(
            state=State.DEAD,
            time=utc_now(),
            why=f"stopped in order; before: {self._state.state.value} {self._state.why}".rstrip(),
            bundle=self.bundle,
        )
        info = session.publish_now(Kind.STATE, self._live(Kind.STATE, dead))
        info.wait_for_publish(_GOODBYE_S)

    def _take_ack(self, payload: bytes) -> None:
        try:
            self._acks.put(read_ack(payload))
        except PublishError as error:
            log.warning("%s", error)
        self._wake()

    def _heed_recorder(self) -> list[str]:
        """Lets go what the recorder has acknowledged; that it is silent, in words."""
        if self._recorder is None:
            return []
        now_s = time.monotonic()
        while not self._acks.empty():
            ack = self._acks.get()
            if self._recorder.heard(ack, now_s):
                self._outbox.acknowledged(ack.epoch, ack.kind, ack.upto)
            else:
                log.warning("an ack of %s %d, which was never sent", ack.kind.value, ack.upto)
        silence = self._recorder.silence(now_s)
        return [silence] if silence is not None else []

    def _accepted(self, answer: Connected) -> int:
        """How many messages the broker takes at a time. Raises Lost where it refused."""
        if answer.wrong_protocol and self._protocol == paho.MQTTv5:
            self._step_down()
        if answer.refused is not None:
            raise Lost(
                f"the connection is refused: {answer.refused}. Correct [mqtt] in station.toml, or "
                "the broker's accounts"
            )
        return answer.receive_maximum

    def _step_down(self) -> None:
        self._protocol = paho.MQTTv311
        self._outbox.event(
            "mqtt-3.1.1",
            f"{self._broker} does not speak MQTT 5. Under 3.1.1 it acknowledges even what its "
            "access rules drop: see that they allow this station's topics, or replace it",
            severity=Severity.WARNING,
        )

    def _tell(self, session: Session) -> None:
        """Publishes state and health where they changed."""
        with self._lock:
            asked = state = self._state
            health, self._health = self._health, None
        if session.refusals and state.state in (State.READY, State.RUNNING):
            why = "; ".join(session.refusals)[:DETAIL_LIMIT]
            state = state.model_copy(update={"state": State.DEGRADED, "why": why})
        if state != self._sent_state:
            session.publish_now(Kind.STATE, self._live(Kind.STATE, state))
            self._sent_state = state
        if asked is not self._state_told:
            with self._lock:
                self._state_told = asked
                self._lock.notify_all()
        if health is not None:
            expiry_s = HEALTH_EXPIRES_S if self._protocol == paho.MQTTv5 else None
            session.publish_now(Kind.HEALTH, self._live(Kind.HEALTH, health), expiry_s)
        while self._replies:
            session.publish_once("reply", self._replies[0])
            self._replies.popleft()

    def _live(self, kind: Kind, content: StateContent | HealthContent) -> bytes:
        return stamped(
            kind,
            content.model_dump_json(by_alias=True),
            epoch=self._outbox.epoch,
            site=self._station.site,
            station=self._station.name,
        ).encode()
