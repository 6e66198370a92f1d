"""What describes the moment and bypasses the outbox: the station's state, health and replies.

Only the latest state and health count; each is sent when it changes. ``mqtt`` decides when to send.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from edge_qc.publisher.connection.session import Session
from edge_qc.publisher.connection.transport import Lost
from edge_qc.publisher.messages import (
    DETAIL_LIMIT,
    LOST_CONNECTION,
    STATE_LIFE_S,
    BundleRef,
    HealthContent,
    Kind,
    StateContent,
)
from edge_qc.publisher.wire import stamped, utc_now
from edge_qc.settings import StationTable
from edge_qc.system.state import STOP_REQUESTED, STOPPED, State

HEALTH_EXPIRES_S = 60

_REPLIES = 256


class Moment:
    """Any thread may set it; only the sender's thread sends. bundle: the bundle that the state
    names; set it once the bundle is accepted."""

    def __init__(self, station: StationTable, epoch: str) -> None:
        self.bundle: BundleRef | None = None
        self._station, self._epoch = station, epoch
        self._lock = threading.Condition()
        self._state = StateContent(state=State.STARTING, time=utc_now())
        self._told: StateContent | None = None
        self._sent: StateContent | None = None
        self._health: HealthContent | None = None
        self._replies: deque[bytes] = deque(maxlen=_REPLIES)
        self._unreachable = False

    def set_state(self, state: State, why: str) -> None:
        with self._lock:
            self._state = StateContent(
                state=state, time=utc_now(), why=why[:DETAIL_LIMIT], bundle=self.bundle
            )

    def set_health(self, health: HealthContent) -> None:
        with self._lock:
            self._health = health

    def add_reply(self, document: dict[str, Any]) -> None:
        """Raises ValueError if it is not JSON."""
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._replies.append(text.encode())

    def reachable(self, reachable: bool) -> None:
        """Note whether a broker can be reached."""
        with self._lock:
            self._unreachable = not reachable
            self._lock.notify_all()

    def wait_told(self, timeout_s: float) -> None:
        """Wait until the last state was sent, or no broker can be reached."""
        with self._lock:
            self._lock.wait_for(lambda: self._unreachable or self._told is self._state, timeout_s)

    def begin(self) -> None:
        """Start a new connection, on which nothing was sent yet."""
        self._sent = None

    def tell(self, session: Session, troubles: Sequence[str]) -> None:
        """Publish state and health if they changed, and all waiting replies. With troubles of this
        connection, READY and RUNNING go out as DEGRADED. Raises Lost."""
        with self._lock:
            asked = state = self._state
            health, self._health = self._health, None
        if troubles and state.state in (State.READY, State.RUNNING):
            why = "; ".join(troubles)[:DETAIL_LIMIT]
            state = state.model_copy(update={"state": State.DEGRADED, "why": why})
        if state != self._sent:
            wire = self._wire(Kind.STATE, state)
            session.publish_now(Kind.STATE, wire, expiry_s=STATE_LIFE_S)
            self._sent = state
        if asked is not self._told:
            with self._lock:
                self._told = asked
                self._lock.notify_all()
        if health is not None:
            session.publish_now(
                Kind.HEALTH, self._wire(Kind.HEALTH, health), expiry_s=HEALTH_EXPIRES_S
            )
        while self._replies:
            # Taken first: a full queue drops its oldest when another thread adds one.
            reply = self._replies.popleft()
            try:
                session.publish_once("reply", reply)
            except Lost:
                self._replies.appendleft(reply)
                raise

    def will(self) -> bytes:
        """The state that the broker publishes when the connection is lost without a goodbye
        message."""
        return self._dead(LOST_CONNECTION)

    def goodbye(self) -> bytes:
        """The state that the station publishes itself when it stops."""
        if self._state.why == STOP_REQUESTED:
            return self._dead(STOPPED)
        before = f"{self._state.state.value} {self._state.why}".rstrip()
        return self._dead(f"stopped; state before: {before}")

    def _dead(self, why: str) -> bytes:
        dead = StateContent(state=State.DEAD, time=utc_now(), why=why, bundle=self.bundle)
        return self._wire(Kind.STATE, dead)

    def _wire(self, kind: Kind, content: StateContent | HealthContent) -> bytes:
        return stamped(
            kind,
            content.model_dump_json(by_alias=True),
            epoch=self._epoch,
            site=self._station.site,
            station=self._station.name,
        ).encode()
