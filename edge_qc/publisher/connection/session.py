"""One connection to the broker: messages in flight, acknowledgements, and topics that pause.

A message leaves the outbox at its PUBACK, also at *no matching subscribers*, which MQTT counts as
success. Where a recorder is expected, a PUBACK only makes room for the next message; what it
records (``messages.RECORDED``) leaves when the recorder has acknowledged it (``recorded``). If the
broker refuses a message (*not authorized*, *quota exceeded*, …) it stays in the outbox and its
topic pauses, which keeps the order. ``mqtt`` opens and reopens connections.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Sequence

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_qc.publisher.connection.loop import Loop
from edge_qc.publisher.connection.recorded import RecorderWatch
from edge_qc.publisher.connection.transport import (
    Acknowledged,
    Disconnected,
    Lost,
    Note,
    Subscribed,
)
from edge_qc.publisher.ledger.outbox import Outbox
from edge_qc.publisher.ledger.statements import Stored
from edge_qc.publisher.messages import RECORDED, Kind
from edge_qc.publisher.wire import as_sent

ACK_S = 20.0
REST_S = 15.0

_READ_AHEAD = 64
_PACKET_BYTES = 256

Resting = dict[Kind, tuple[float, str]]
"""Kinds that the broker refused: until when they pause (``time.monotonic``), and its words."""


class Session:
    """For the sender's thread only. unheard: how many messages the broker accepted without a
    subscriber."""

    def __init__(
        self,
        loop: Loop,
        root: str,
        outbox: Outbox,
        resting: Resting,
        *,
        window: int,
        late_s: float,
        largest_bytes: int,
        recorder: RecorderWatch | None = None,
    ) -> None:
        """loop: of a client that the broker has accepted. root: of the station's topics. resting:
        refused kinds; outlives the session, since a broker may close the connection on which it
        refused a message. window: how many messages may be unacknowledged. largest_bytes: the
        broker's packet limit. recorder: whose acknowledgement releases messages; None if a PUBACK
        does.
        """
        self._loop, self._client, self._root, self._outbox = loop, loop.client, root, outbox
        self._resting, self._window, self._late_s = resting, window, late_s
        self._largest_bytes = largest_bytes
        self._cursor = 0
        self._ready: deque[Stored] = deque()
        self._recorder, self._numbers = recorder, dict[tuple[str, Kind], int]()
        self._sent: dict[int, tuple[Stored, float]] = {}
        # Kinds that the broker has accepted on this connection. The first message of any other kind
        # travels alone: a broker that hangs up when it refuses cannot be heard while more data is
        # on its way.
        self._taken: set[Kind] = set()
        self.unheard = 0
        self._asked: dict[str, int] = {}
        self._unheard: dict[str, str] = {}

    @property
    def in_flight(self) -> int:
        """How many messages of the outbox are sent and unacknowledged."""
        return len(self._sent)

    @property
    def refusals(self) -> tuple[str, ...]:
        """What the broker currently refuses, in words."""
        return tuple(
            f"the broker refuses {self._topic(kind.value)}: {reason}. Nothing is lost"
            for kind, (_, reason) in self._resting.items()
        ) + tuple(
            f"the broker refuses to let this station read {self._topic(level)}: {reason}"
            for level, reason in self._unheard.items()
        )

    def subscribe(self, levels: Iterable[str]) -> None:
        """Subscribe to these levels. The station's own state is only looked at: to be refused
        that is no trouble. Raises Lost."""
        for level in levels:
            if level in self._asked:
                continue
            if self._client.protocol == paho.MQTTv5:
                options = SubscribeOptions(qos=1, noLocal=True, retainHandling=2)
                error, mid = self._client.subscribe(self._topic(level), options=options)
            else:
                error, mid = self._client.subscribe(self._topic(level), 1)
            if error != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
                raise Lost(f"subscribing failed: {paho.error_string(error)}")
            self._asked[level] = mid

    def publish_now(
        self, kind: Kind, payload: bytes, expiry_s: int | None = None
    ) -> paho.MQTTMessageInfo:
        """Publish state or health: retained, bypassing the outbox. Raises Lost."""
        properties = None
        if expiry_s is not None and self._client.protocol == paho.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expiry_s
        return self._publish(kind.value, payload, retain=True, properties=properties)

    def publish_once(self, level: str, payload: bytes) -> None:
        """Publish without retain, bypassing the outbox. Raises Lost."""
        self._publish(level, payload)

    def fill(self) -> None:
        """Send from the outbox until the window is full. Raises Lost."""
        now_s = time.monotonic()
        rested = [kind for kind, (until_s, _) in self._resting.items() if until_s <= now_s]
        if rested:
            for kind in rested:
                del self._resting[kind]
                self._taken.discard(kind)
            self._rewind()
        if self._recorder is not None and self._recorder.wants_again(now_s):
            self._rewind()
        held = tuple(self._resting)
        in_flight = {message.row for message, _ in self._sent.values()}
        trying = any(message.kind not in self._taken for message, _ in self._sent.values())
        while len(self._sent) < self._window and not trying:
            if not self._ready:
                if self._cursor >= self._outbox.newest:
                    return  # most wakes are acknowledgements: nothing new to read from the disk
                self._ready.extend(self._outbox.waiting(self._cursor, _READ_AHEAD, held))
                if not self._ready:
                    return
            message = self._ready[0]
            if message.kind not in (*held, *self._taken) and self._sent:
                # Read it again once it may be sent: by then the messages in flight behind it have
                # left.
                self._ready.clear()
                return
            self._ready.popleft()
            self._cursor = message.row
            if message.kind in held:
                continue
            after = self._number_before(message)
            if message.row in in_flight:
                continue
            payload = as_sent(message.payload, self._is_late(message), after)
            if len(payload) + _PACKET_BYTES > self._largest_bytes:
                # The broker would hang up each time.
                why = (
                    f"a message has {len(payload)} bytes, the broker accepts at most "
                    f"{self._largest_bytes}"
                )
                self._resting[message.kind] = now_s + REST_S, why
                held = tuple(self._resting)
                continue
            info = self._publish(message.kind.value, payload)
            self._sent[info.mid] = message, now_s
            trying = message.kind not in self._taken
            if self._recorder is not None and message.kind in RECORDED:
                self._recorder.sent(message, now_s)

    def listen(self, at_most_s: float) -> None:
        """Run the loop until something came, and process all that is there. Raises Lost."""
        self._loop.run(self._patience_s(at_most_s))
        for note in self._heed():
            if isinstance(note, Disconnected):
                raise Lost(note.why)
            if isinstance(note, Subscribed) and note.refused:
                self._unheard |= {
                    level: note.refused
                    for level, mid in self._asked.items()
                    if mid == note.mid and level != Kind.STATE.value
                }
        oldest_s = min((sent_s for _, sent_s in self._sent.values()), default=None)
        if oldest_s is not None and time.monotonic() - oldest_s > ACK_S:
            raise Lost(f"no acknowledgement in {ACK_S:.0f} s")

    def disconnect(self, at_most_s: float) -> None:
        """Take leave of the broker, which then does not publish the last will."""
        self._client.disconnect()
        until_s = time.monotonic() + at_most_s
        with contextlib.suppress(Lost):
            while (left_s := until_s - time.monotonic()) > 0:
                self.listen(left_s)

    def finish(self) -> str | None:
        """Process what the broker has sent before the end of the connection. Returns why it ended,
        if the broker said so."""
        with contextlib.suppress(Lost):
            self._loop.run(0.0)
        ends = [note.why for note in self._heed() if isinstance(note, Disconnected)]
        return ends[-1] if ends else None

    def _heed(self) -> Sequence[Note]:
        """Take the notes, and mark what they acknowledge."""
        notes = list(self._loop.notes)
        self._loop.notes.clear()
        rows = []
        for note in notes:
            if not isinstance(note, Acknowledged):
                continue
            message, _ = self._sent.pop(note.mid, (None, 0.0))
            if message is None:
                continue
            self.unheard += note.unheard
            if note.refused is None:
                if self._recorder is None or message.kind not in RECORDED:
                    rows.append(message.row)
                self._taken.add(message.kind)
            else:
                until_s = time.monotonic() + REST_S
                self._resting[message.kind] = until_s, note.refused
        if rows:
            self._outbox.delivered(rows)
        return notes

    def _publish(
        self, level: str, payload: bytes, retain: bool = False, properties: Properties | None = None
    ) -> paho.MQTTMessageInfo:
        info = self._client.publish(self._topic(level), payload, 1, retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            # paho has queued it all the same, so drop the client together with its queue.
            raise Lost(f"sending failed: {paho.error_string(info.rc)}")
        return info

    def _rewind(self) -> None:
        """Start again at the oldest message in the outbox."""
        self._cursor = 0
        self._ready.clear()
        self._numbers.clear()

    def _number_before(self, message: Stored) -> int | None:
        """The field ``after`` (see ``messages``), for a recorder that would wait for a missing
        number."""
        key = message.epoch, message.kind
        before = self._numbers.get(key, 0)
        self._numbers[key] = message.seq
        return before if self._recorder is not None and before != message.seq - 1 else None

    def _is_late(self, message: Stored) -> bool:
        if message.epoch != self._outbox.epoch or message.made_s is None:
            return True
        return time.monotonic() - message.made_s > self._late_s

    def _patience_s(self, at_most_s: float) -> float:
        """How long the sender may wait for a note."""
        until_s = [until_s for until_s, _ in self._resting.values()]
        until_s += [sent_s + ACK_S for _, sent_s in self._sent.values()]
        return max(0.0, min([at_most_s, *(at_s - time.monotonic() for at_s in until_s)]))

    def _topic(self, level: str) -> str:
        return f"{self._root}/{level}"
