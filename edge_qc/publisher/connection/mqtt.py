"""Sends the outbox to the broker, with paho-mqtt as transport only.

Only the outbox retransmits. Each connection is a fresh client with a clean start, so that no
message lingers in a library's queue: unacknowledged messages are read from the outbox again, in
order. One sender thread runs paho's loop and survives its own errors. ``session`` handles one
connection.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import deque
from typing import Any

import paho.mqtt.client as paho

from edge_qc.errors import EdgeQCError, PublishError
from edge_qc.publisher.connection.acks import Acks
from edge_qc.publisher.connection.conflict import PROBE_S, NameConflict
from edge_qc.publisher.connection.connecting import WINDOW, await_connack, connect
from edge_qc.publisher.connection.inbox import Handler, Inbox
from edge_qc.publisher.connection.loop import Loop
from edge_qc.publisher.connection.moment import Moment
from edge_qc.publisher.connection.recorded import RecorderWatch
from edge_qc.publisher.connection.session import Resting, Session
from edge_qc.publisher.connection.transport import (
    Connected,
    Disconnected,
    Lost,
    Note,
    Received,
    cut,
)
from edge_qc.publisher.ledger.outbox import Outbox
from edge_qc.publisher.messages import STATE_LIFE_S, BundleRef, HealthContent, Kind, Severity
from edge_qc.settings import MqttTable, StationTable
from edge_qc.system.bell import Bell
from edge_qc.system.state import State

LATE_S = 5.0

_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 15.0
_GOODBYE_S = 2.0
_RECORDER_TURN_S = 1.0
_TURN_S = 5.0

log = logging.getLogger(__name__)


class Publisher:
    """Sends the outbox's messages and the station's state, health and replies."""

    def __init__(
        self,
        mqtt: MqttTable,
        station: StationTable,
        outbox: Outbox,
        *,
        late_s: float = LATE_S,
        probe_s: float = PROBE_S,
    ) -> None:
        """late_s: messages older than this when they are sent are marked historical. probe_s: how
        long to keep clear of another client that uses this station's name."""
        self._mqtt, self._station, self._outbox, self._late_s = mqtt, station, outbox, late_s
        self._broker = f"broker {mqtt.host}:{mqtt.port}"
        self._protocol = paho.MQTTv5
        self._bell = Bell()
        self._inbox = Inbox(station.root)
        self._moment = Moment(station, outbox.epoch)
        self._conflict = NameConflict(station, outbox.epoch, probe_s=probe_s)
        self._recorder: RecorderWatch | None = None
        self._acks: Acks | None = None
        if mqtt.recorder:
            self._recorder = RecorderWatch(outbox.epoch, mqtt.recorder_silent_s)
            self._acks = Acks(self._recorder, outbox, self._bell.ring)
            self._inbox.listen("ack", self._acks.take)
        self._unheard = 0
        self.turns = 0
        self._why: str | None = f"{self._broker}: not connected yet"
        self._resting: Resting = {}
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    @property
    def bundle(self) -> BundleRef | None:
        """The bundle that the state names; set it once the bundle is accepted."""
        return self._moment.bundle

    @bundle.setter
    def bundle(self, bundle: BundleRef | None) -> None:
        self._moment.bundle = bundle

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def trouble(self) -> str | None:
        """Why messages cannot leave, in words; None while they can."""
        return self._why

    @property
    def unheard(self) -> int:
        """How many messages the broker accepted without a subscriber."""
        return self._unheard

    def start(self) -> None:
        """Connect, now and after every loss, on a thread of its own. A broker that fails never
        raises here."""
        self._outbox.on_commit(self._bell.ring)
        self._thread.start()

    def state(self, state: State, why: str = "") -> None:
        """Set the station's state. It is sent at once when connected, and at the start of every
        connection. While the broker refuses a topic, READY and RUNNING go out as DEGRADED."""
        self._moment.set_state(state, why)
        self._bell.ring()

    def health(self, health: HealthContent) -> None:
        """Set the heartbeat; of several that wait, only the last is sent."""
        self._moment.set_health(health)
        self._bell.ring()

    def listen(self, level: str, handler: Handler) -> None:
        """Call ``handler`` with each message on ``<root>/<level>``: at QoS 1, so a message may come
        twice; at most 64 KiB; no retained ones. Each level has its own thread, which logs what a
        handler raises."""
        self._inbox.listen(level, handler)
        self._bell.ring()

    def reply(self, document: dict[str, Any]) -> None:
        """Publish to ``<root>/reply`` at QoS 1, now or when next connected. Replies bypass the
        outbox: a station that stops before then never answers. Raises ValueError if it is not
        JSON."""
        self._moment.add_reply(document)
        self._bell.ring()

    def drain(self, timeout_s: float) -> bool:
        """Wait until the broker has acknowledged everything; False if the time ran out."""
        return self._outbox.wait_delivered(timeout_s)

    def close(self) -> None:
        """Publish DEAD in place of the last will, and disconnect. The outbox keeps what is left."""
        if self._thread.is_alive():
            # Even a station that stops at once must report why.
            self._moment.wait_told(_GOODBYE_S)
        self._stopping.set()
        self._bell.ring()
        if self._thread.is_alive():
            # An address that does not answer may block the thread; the process ends without waiting
            # for it.
            self._thread.join(3 * _GOODBYE_S)
        if not self._thread.is_alive():
            self._bell.close()
        self._inbox.close(_GOODBYE_S)

    def _note(self, note: Note, notes: deque[Note]) -> None:
        if isinstance(note, Received):
            if note.topic != f"{self._station.root}/{Kind.STATE.value}":
                self._inbox.take(note)
            elif not note.retained:
                self._conflict.saw_state(note.payload, time.monotonic())
                self._bell.ring()
            return
        if isinstance(note, Disconnected) and note.taken_over:
            self._conflict.taken_over(time.monotonic())
        notes.append(note)

    def _run(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._stopping.is_set():
            self.turns += 1
            began_s = time.monotonic()
            try:
                self._serve()
                backoff_s = _FIRST_BACKOFF_S
            except (Lost, EdgeQCError, OSError, ValueError) as error:
                self._why = f"{self._broker}: {error}"
            except Exception as error:
                log.exception("the publisher failed; it connects again")
                self._why = f"{self._broker}: publisher: {error!r}"
            self._connected.clear()
            if self._stopping.is_set():
                return
            log.warning("%s", self._why)
            if time.monotonic() - began_s > _LAST_BACKOFF_S:
                backoff_s = _FIRST_BACKOFF_S
            rest_s = max(backoff_s, self._conflict.rest_s())
            self._stopping.wait(rest_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _LAST_BACKOFF_S)

    def _serve(self) -> None:
        """Run one connection until the station stops, or it is time to try the shared name again;
        any other end is an error."""
        now_s = time.monotonic()
        apart = self._conflict.apart(now_s)
        notes = deque[Note]()
        try:
            client = connect(
                self._mqtt,
                self._station,
                lambda note: self._note(note, notes),
                client_id=self._conflict.client_id(now_s),
                protocol=self._protocol,
                will=self._moment.will(),
            )
        except OSError:
            self._moment.reachable(False)
            raise
        self._moment.reachable(True)
        with contextlib.ExitStack() as ends:
            ends.callback(cut, client)
            loop = Loop(client, self._bell, notes)
            answer = await_connack(loop, self._stopping)
            if answer.refused is not None and apart:
                self._conflict.refused()
            self._check(answer)
            accepted_s = time.monotonic()
            session = Session(
                loop,
                self._station.root,
                self._outbox,
                self._resting,
                window=min(WINDOW, answer.receive_maximum),
                late_s=self._late_s,
                largest_bytes=answer.largest_bytes,
                recorder=self._recorder,
            )
            ends.callback(session.finish)
            try:
                self._feed(session, apart)
            except Lost as error:
                if not session.refusals:
                    now_s = time.monotonic()
                    self._conflict.lost(now_s, now_s - accepted_s)
                # The broker's last message explains more than a send that failed.
                raise Lost(session.finish() or str(error)) from error
            session.disconnect(_GOODBYE_S)

    def _feed(self, session: Session, apart: bool) -> None:
        log.info("%s: connected", self._broker)
        self._moment.begin()
        self._connected.set()
        before = self._unheard
        if self._recorder is not None:
            self._recorder.connected(time.monotonic())
        while not self._stopping.is_set():
            now_s = time.monotonic()
            conflict = self._conflict.warning(now_s)
            wrong = [*session.refusals, *([conflict] if conflict is not None else [])]
            silent = [] if self._acks is None else self._acks.heed()
            self._why = "; ".join([*wrong, *silent]) or None
            if apart and not self._conflict.apart(now_s):
                self._why = f"{self._broker}: connecting under the shared name again"
                return
            also = (Kind.STATE.value,) if self._conflict.suspected(now_s) else ()
            session.subscribe((*self._inbox.levels, *also))
            self._moment.tell(session, wrong)
            self._unheard = before + session.unheard
            try:
                session.fill()
            except PublishError as error:
                # The outbox cannot be read, but the state that reports it can still be sent.
                self._why = str(error)
            self.turns += 1
            session.listen(_RECORDER_TURN_S if self._recorder is not None else _TURN_S)
        until_s = time.monotonic() + _GOODBYE_S
        while session.in_flight and (left_s := until_s - time.monotonic()) > 0:
            session.listen(left_s)
        info = session.publish_now(Kind.STATE, self._moment.goodbye(), expiry_s=STATE_LIFE_S)
        until_s = time.monotonic() + _GOODBYE_S
        while not info.is_published() and (left_s := until_s - time.monotonic()) > 0:
            session.listen(left_s)

    def _check(self, answer: Connected) -> None:
        """Raises Lost if the broker refused, or cannot serve a station."""
        if answer.wrong_protocol and self._protocol == paho.MQTTv5:
            self._step_down()
        if answer.refused is not None:
            raise Lost(f"connection refused: {answer.refused}")
        if answer.lacks is not None:
            raise Lost(f"this broker cannot serve a station: {answer.lacks}")

    def _step_down(self) -> None:
        self._protocol = paho.MQTTv311
        self._outbox.event(
            "mqtt-3.1.1",
            f"{self._broker} does not support MQTT 5. Under MQTT 3.1.1 it acknowledges even "
            "messages that its access rules drop. Check that the rules allow this station's "
            "topics, or use another broker",
            severity=Severity.WARNING,
        )
