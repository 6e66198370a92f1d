"""Two stations with one site and name: how each notices, and what it does.

MQTT lets one client hold an id and ends the connection of the one before. Were each to connect
again under the same id, they would take it from each other forever. So a station that lost its id
twice goes on under one of its own, and both stay connected. Now and then it tries the shared id
again: so it learns that the other is gone, and the other that this one is not.

A broker may say what happened (reason code 0x8E, *session taken over*; OASIS MQTT 5.0, 3.14.2.1).
Mosquitto before 2.0.13 and brokers of MQTT 3.1.1 just close the connection: then it takes three
losses soon after an acceptance to suspect it, and a state of another epoch to know it.
"""

from __future__ import annotations

import json

from edge_qc.settings import StationTable
from edge_qc.system.state import State

PROBE_S = 600.0
NOTICE_S = 2.5 * PROBE_S
"""How long a conflict is reported after its last sign: long enough for the other's next try."""

_SOON_S = 30.0
"""A connection that ends within this time may have been taken over: the other tries as often."""
_SUSPICIOUS = 3
_FIRST_REST_S, _LAST_REST_S = 15.0, 300.0


class NameConflict:
    """Times are ``time.monotonic``. For the sender's thread."""

    def __init__(self, station: StationTable, epoch: str, *, probe_s: float = PROBE_S) -> None:
        self._name = f"{station.site}/{station.name}"
        # The same at each start: a broker that still holds a dead connection closes that first.
        self._shared = f"edge-qc.{station.site}.{station.name}"
        # Epochs differ from start to start, and so between two stations.
        self._own = f"{self._shared}.{epoch[:12]}"
        self._probe_s, self._notice_s = probe_s, NOTICE_S / PROBE_S * probe_s
        self._epoch = epoch
        self._losses = 0
        self._lost_s: float | None = None
        self._known_s: float | None = None
        self._apart_until_s = 0.0
        self._own_refused = self._counted = False

    def client_id(self, now_s: float) -> str:
        """The id to connect with."""
        return self._own if self.apart(now_s) else self._shared

    def apart(self, now_s: float) -> bool:
        """Whether to use an id of one's own at present."""
        return now_s < self._apart_until_s and not self._own_refused

    def taken_over(self, now_s: float) -> None:
        """The broker says that another client has connected under the id."""
        self._lose(now_s)
        self._known_s = now_s
        self._counted = True

    def lost(self, now_s: float, lasted_s: float) -> None:
        """A connection ended, ``lasted_s`` after the broker had accepted it."""
        if self._counted:
            self._counted = False
        elif lasted_s < _SOON_S:
            self._lose(now_s)
        else:
            self._losses = 0

    def saw_state(self, payload: bytes, now_s: float) -> None:
        """A state was published just now on this station's own topic."""
        try:
            state = json.loads(payload)
            another = state["epoch"] != self._epoch and state["state"] != State.DEAD.value
        except (ValueError, TypeError, KeyError):
            return
        if another:
            self._known_s = now_s

    def suspected(self, now_s: float) -> bool:
        """Whether to look for states of another on this station's own topic."""
        return self._lost_s is not None and now_s - self._lost_s <= self._notice_s

    def refused(self) -> None:
        """The broker lets this account use no other id."""
        self._own_refused = True

    def rest_s(self) -> float:
        """How long to leave the id to the other, if there is no other id to use."""
        if not self._own_refused or self._losses < 2:
            return 0.0
        return min(_FIRST_REST_S * 2.0 ** (self._losses - 2), _LAST_REST_S)

    def warning(self, now_s: float) -> str | None:
        """What to report while the conflict lasts; None if there is none."""
        advice = "two stations have the same [station] site and name, or one runs twice"
        if self._known_s is not None and now_s - self._known_s <= self._notice_s:
            return f"another client uses the name {self._name} at this broker: {advice}"
        if now_s < self._apart_until_s:
            return (
                f"the broker accepted this station {self._losses} times and closed the connection "
                f"at once: another client may use the name {self._name}, because {advice}"
            )
        return None

    def _lose(self, now_s: float) -> None:
        if self._lost_s is not None and now_s - self._lost_s > self._notice_s:
            self._losses = 0
        self._losses += 1
        self._lost_s = now_s
        known = self._known_s is not None and now_s - self._known_s <= self._notice_s
        if self._losses >= (2 if known else _SUSPICIOUS):
            self._apart_until_s = now_s + self._probe_s
