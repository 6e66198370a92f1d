"""The plant as its messages show it: every station, its verdicts, parts, events, gaps.

The caller passes messages and the time; there is no clock, thread or network here. ``snapshot``
selects what a page shows.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import NamedTuple

from edge_qc.errors import PublishError
from edge_qc.parts import NOT_JUDGED
from edge_qc.plant.dashboard.alarms import OpenAlarms
from edge_qc.plant.dashboard.history import History
from edge_qc.plant.dashboard.sequence import Numbers
from edge_qc.plant.dashboard.station import WILLS_S, Link, Now, Station, utc_s
from edge_qc.publisher import (
    EventMessage,
    HealthMessage,
    Kind,
    PartMessage,
    Severity,
    StateMessage,
    VerdictMessage,
    parse_topic,
    read_message,
)
from edge_qc.system.state import STOPPED, State

STATIONS = 512
_VERDICTS = 2_000
_EVENTS = 500
_MOST = 1e6
"""Larger than any real figure; sums of many stay finite."""

NAME = 120
"""Letters of a name that are kept."""

INCOMPLETE = "INCOMPLETE"
"""What a part is counted under of which a view is missing."""


class Happening(NamedTuple):
    """Something that happened: a station's event, a change of its state, or the broker's absence.
    state: the new one, for a change of state."""

    station: str
    time: datetime
    severity: Severity
    event: str
    detail: str
    historical: bool = False
    state: State | None = None


class PlantState:
    """Collects messages.

    verdicts, refused: the latest ones, newest last; the second excludes what passed. events: for
    the list alone; ``alarms`` knows what is open. last_s: when the last message came. unreadable:
    messages that do not match their schema. unknown: messages of stations beyond the limit.
    """

    def __init__(self) -> None:
        self.stations: dict[str, Station] = {}
        self.views = History()
        self.parts = History()
        self.verdicts: deque[tuple[str, VerdictMessage]] = deque(maxlen=_VERDICTS)
        self.refused: deque[tuple[str, VerdictMessage]] = deque(maxlen=_VERDICTS)
        self.events: deque[Happening] = deque(maxlen=_EVENTS)
        self.alarms = OpenAlarms()
        self.link = Link()
        self.last_s: float | None = None
        self._recorded: dict[str, dict[Kind, Numbers]] = {}
        self.heard = self.historical = self.duplicates = self.unreadable = self.unknown = 0

    def lose_broker(self, now: Now) -> None:
        """No message can arrive from now on. A broker that ends publishes the last will of every
        station, whatever the stations do."""
        for station in self.stations.values():
            station.disbelieve(now)
        recent = now.utc - timedelta(seconds=WILLS_S)
        kept = [one for one in self.events if one.state is not State.DEAD or one.time < recent]
        self.events.clear()
        self.events.extend(kept)
        self._happened("broker-away", Severity.WARNING, now)
        self.link = Link(away_since=now.utc)

    def find_broker(self, now: Now) -> None:
        """Messages arrive again."""
        self._happened("broker-back", Severity.INFO, now)
        self.link = Link(back_s=now.monotonic_s)

    def note_recorded(self, where: str, kind: Kind, epoch: str, upto: int) -> None:
        """Every message up to this number is recorded: none of them is missing, whether or not it
        was heard here."""
        if upto:
            self.numbers_of(where, kind).note_upto(epoch, upto)

    def numbers_of(self, where: str, kind: Kind) -> Numbers:
        """The numbers of a station's messages, also before it is heard."""
        station = self.stations.get(where)
        known = self._recorded.setdefault(where, {}) if station is None else station.numbers
        return known.setdefault(kind, Numbers())

    def feed(self, topic: str, payload: bytes, now: Now, *, retained: bool = False) -> None:
        """Add one message from the broker. One of no station, or that cannot be read, is only
        counted."""
        self.last_s = now.monotonic_s
        parsed = parse_topic(topic)
        if parsed is None:
            self._hear_recorder(topic, now)
            return
        site, name, kind = parsed
        where = f"{site}/{name}"
        if not payload and kind in (Kind.STATE, Kind.HEALTH):
            # Somebody had the broker forget what it retained: of a state, the station itself.
            if kind is Kind.STATE:
                self.stations.pop(where, None)
                self.alarms.forget(where)
            return
        try:
            message = read_message(kind, payload)
        except PublishError:
            self.unreadable += 1
            return
        station = self.stations.get(where)
        if station is None:
            if len(self.stations) >= STATIONS:
                self.unknown += 1
                return
            station = self.stations[where] = Station(where)
            station.numbers = self._recorded.pop(where, {})
        if isinstance(message, StateMessage):
            if station.change(message, now) and not retained:
                severity = severity_of_state(message.state, message.why)
                state = message.state
                changed = Happening(where, now.utc, severity, state.value, message.why, state=state)
                self.events.append(changed)
            return
        if isinstance(message, HealthMessage):
            station.beat(message, now, retained)
            if not retained:
                station.hear(now)
                station.hear_epoch(message.epoch, now)
            return
        if not isinstance(message, (VerdictMessage, PartMessage, EventMessage)):
            return
        self.heard += 1
        if not station.numbers.setdefault(kind, Numbers()).note(message.epoch, message.seq):
            self.duplicates += 1
            return
        if message.after is not None:
            station.gone.append((kind, message.epoch, message.after, message.seq))
        self.historical += message.historical
        if isinstance(message, VerdictMessage):
            self._verdict(station, message, now)
        elif isinstance(message, PartMessage):
            self.parts.add(
                (where, ""),
                placed(message.time, now.utc),
                message.label[:NAME] if message.complete else INCOMPLETE,
                message.disposition,
                judged=message.complete,
                historical=message.historical,
            )
        else:
            self.events.append(
                Happening(
                    where,
                    message.time,
                    message.severity,
                    message.event[:NAME],
                    message.detail,
                    message.historical,
                )
            )
            self.alarms.note(
                where, message.event[:NAME], message.severity, placed(message.time, now.utc)
            )

    def _happened(self, event: str, severity: Severity, now: Now) -> None:
        self.events.append(Happening("", now.utc, severity, event, ""))

    def _hear_recorder(self, topic: str, now: Now) -> None:
        *_, site, name, level = ("", "", *topic.split("/"))
        station = self.stations.get(f"{site}/{name}") if level == "ack" else None
        if station is not None:
            station.acked_s = now.monotonic_s

    def _verdict(self, station: Station, message: VerdictMessage, now: Now) -> None:
        drift = message.drift
        ratio = None
        if drift is not None and drift.threshold > 0:
            ratio = min(max(drift.score / drift.threshold, 0.0), _MOST)
        latency_ms = min(sum(message.latency_ms.values()), _MOST) if message.latency_ms else None
        self.views.add(
            (station.name, (message.die or "-")[:NAME]),
            placed(message.time, now.utc),
            message.label[:NAME],
            message.disposition,
            judged=message.label != NOT_JUDGED,
            drift=ratio,
            latency_ms=latency_ms,
            historical=message.historical,
        )
        self.verdicts.append((station.name, message))
        if message.disposition.value != "PASS":
            self.refused.append((station.name, message))
        if not message.historical:
            station.count(now)
            station.last_verdict_s = now.monotonic_s
            station.hear(now)


def severity_of_state(state: State, why: str) -> Severity:
    """How urgently a person should look at a change of state."""
    if state is State.DEAD and why == STOPPED:
        return Severity.INFO
    if state in (State.DEAD, State.FAULT):
        return Severity.ALARM
    return Severity.WARNING if state is State.DEGRADED else Severity.INFO


def placed(time: datetime, now: datetime) -> float:
    """Where a message's time counts, in seconds since 1970; a clock ahead of ours must not push out
    the others."""
    return min(utc_s(time), now.timestamp())
