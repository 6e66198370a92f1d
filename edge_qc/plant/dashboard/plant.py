"""The plant as its messages show it: every station, its verdicts, parts, events, gaps.

The caller passes messages and the time; there is no clock, thread or network here. ``snapshot``
selects what a page shows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NamedTuple

from edge_qc.errors import PublishError
from edge_qc.plant.dashboard.history import BIN_S, BINS, History
from edge_qc.plant.dashboard.sequence import Numbers
from edge_qc.publisher import (
    EventMessage,
    HealthMessage,
    Kind,
    PartMessage,
    StateMessage,
    VerdictMessage,
    parse_topic,
    read_message,
)
from edge_qc.system.state import State

STATIONS = 256
_VERDICTS = 2_000
_EVENTS = 500
_RATE_S = 10
_SILENT_S = 15.0
_HEARTBEATS = 3
_SKEW_S = 30.0
_EPOCHS = 8
_TWICE_S = 60.0
_MOST = 1e6
"""Larger than any real figure; sums of many stay finite."""

NAME = 120
"""Letters of a name that are kept."""

_1970 = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Now:
    """One moment on both clocks. monotonic_s: for ages; utc: to compare with a station's times."""

    monotonic_s: float
    utc: datetime


class Beat(NamedTuple):
    """The worst of a bin's heartbeats. time_s: its start, since 1970."""

    time_s: float
    p99_ms: float
    queue: int
    waiting: int


@dataclass(slots=True)
class Station:
    """One station as its messages show it. name: site/station. skew_s: how far its clock is ahead
    of this machine's; None while that is below half a minute."""

    name: str
    state: State | None = None
    why: str = ""
    since: datetime | None = None
    epoch: str | None = None
    health: HealthMessage | None = None
    bundle_version: int | None = None
    last_verdict_s: float | None = None
    skew_s: float | None = None
    numbers: dict[Kind, Numbers] = field(default_factory=dict)
    trend: deque[Beat] = field(default_factory=lambda: deque(maxlen=BINS))
    gone: deque[tuple[Kind, str, int, int]] = field(default_factory=lambda: deque(maxlen=200))
    """Kind, epoch and two numbers between which the station itself has no message left."""
    twice_s: float | None = None
    """When two stations of this name were last heard; None while there is one."""
    _epochs: dict[str, float] = field(default_factory=dict)
    _heard_s: float | None = None
    _beat_s: float | None = None
    _interval_s: float = 0.0
    _seconds: dict[int, int] = field(default_factory=dict)

    def age_s(self, now: Now) -> float | None:
        """Seconds since its last verdict, by our clock if we saw it arrive, otherwise by its
        own."""
        if self.last_verdict_s is not None:
            return max(0.0, now.monotonic_s - self.last_verdict_s)
        if self.health is None or self.health.last_verdict_age_s is None:
            return None
        return self.health.last_verdict_age_s + max(
            0.0, now.utc.timestamp() - _utc_s(self.health.time)
        )

    def silent_s(self, now: Now) -> float | None:
        """Seconds since its last message if its heartbeat is overdue; None otherwise, or if it
        reported that it stopped."""
        if self.state in (None, State.DEAD) or self._heard_s is None:
            return None
        quiet_s = now.monotonic_s - self._heard_s
        return quiet_s if quiet_s > max(_SILENT_S, _HEARTBEATS * self._interval_s) else None

    def rate_per_s(self, now: Now) -> float:
        """Verdicts per second in the last whole seconds."""
        second = int(now.monotonic_s)
        return sum(self._seconds.get(second - i, 0) for i in range(1, _RATE_S + 1)) / _RATE_S

    @property
    def missing(self) -> int:
        """Missing messages."""
        return sum(numbers.missing for numbers in self.numbers.values())

    def hear_epoch(self, epoch: str, now: Now) -> None:
        """Notes whose heartbeat came now. A station that starts again leaves its old epoch for
        good: one that comes back after another is a second station of the same name."""
        newest = next(reversed(self._epochs), None)
        if newest is not None and epoch != newest and epoch in self._epochs:
            self.twice_s = now.monotonic_s
        self._epochs.pop(epoch, None)
        self._epochs[epoch] = now.monotonic_s
        while len(self._epochs) > _EPOCHS:
            del self._epochs[next(iter(self._epochs))]

    def conflict(self, now: Now) -> str | None:
        """Words for two stations of one name, as long as both are heard."""
        if self.twice_s is None or now.monotonic_s - self.twice_s > _TWICE_S:
            return None
        return f"two stations use the name {self.name}: give each its own [station] site and name"

    def hear(self, now: Now) -> None:
        """Note that the station is alive."""
        self._heard_s = now.monotonic_s

    def beat(self, message: HealthMessage, now: Now, retained: bool) -> None:
        """Add a heartbeat."""
        self.health = message
        if not retained:
            if self._beat_s is not None:
                self._interval_s = max(0.7 * self._interval_s, now.monotonic_s - self._beat_s)
            self._beat_s = now.monotonic_s
            skew_s = _utc_s(message.time) - now.utc.timestamp()
            self.skew_s = skew_s if abs(skew_s) > _SKEW_S else None
        beat = Beat(
            _utc_s(message.time) // BIN_S * BIN_S,
            message.latency_ms.get("p99", 0.0),
            message.queue,
            0 if message.outbox is None else message.outbox.waiting,
        )
        if self.trend and self.trend[-1].time_s == beat.time_s:
            last = self.trend.pop()
            beat = Beat(
                beat.time_s,
                max(last.p99_ms, beat.p99_ms),
                max(last.queue, beat.queue),
                max(last.waiting, beat.waiting),
            )
        self.trend.append(beat)

    def count(self, now: Now) -> None:
        """Add a verdict that arrived now."""
        second = int(now.monotonic_s)
        if second not in self._seconds:
            for old in [key for key in self._seconds if key < second - 2 * _RATE_S]:
                del self._seconds[old]
        self._seconds[second] = self._seconds.get(second, 0) + 1


class PlantState:
    """Collects messages. verdicts, refused: the latest ones, newest last; the second excludes what
    passed. unreadable: messages that do not match their schema. unknown: messages of stations
    beyond the limit."""

    def __init__(self) -> None:
        self.stations: dict[str, Station] = {}
        self.views = History()
        self.parts = History()
        self.verdicts: deque[tuple[str, VerdictMessage]] = deque(maxlen=_VERDICTS)
        self.refused: deque[tuple[str, VerdictMessage]] = deque(maxlen=_VERDICTS)
        self.events: deque[tuple[str, EventMessage]] = deque(maxlen=_EVENTS)
        self.heard = self.historical = self.duplicates = self.unreadable = self.unknown = 0

    def feed(self, topic: str, payload: bytes, now: Now, *, retained: bool = False) -> None:
        """Add one message from the broker. One of no station, or that cannot be read, is only
        counted."""
        parsed = parse_topic(topic)
        if parsed is None:
            return
        site, name, kind = parsed
        where = f"{site}/{name}"
        if not payload and kind in (Kind.STATE, Kind.HEALTH):
            # Somebody had the broker forget what it retained: of a state, the station itself.
            if kind is Kind.STATE:
                self.stations.pop(where, None)
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
        if isinstance(message, StateMessage):
            station.state, station.why = message.state, message.why
            station.since, station.epoch = message.time, message.epoch
            if message.bundle is not None:
                station.bundle_version = message.bundle.version
            station.hear(now)
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
                _placed(message.time, now),
                message.label[:NAME] if message.complete else "INCOMPLETE",
                message.disposition,
                historical=message.historical,
            )
        else:
            self.events.append((where, message))

    def _verdict(self, station: Station, message: VerdictMessage, now: Now) -> None:
        drift = message.drift
        ratio = None
        if drift is not None and drift.threshold > 0:
            ratio = min(max(drift.score / drift.threshold, 0.0), _MOST)
        latency_ms = min(sum(message.latency_ms.values()), _MOST) if message.latency_ms else None
        self.views.add(
            (station.name, (message.die or "-")[:NAME]),
            _placed(message.time, now),
            message.label[:NAME],
            message.disposition,
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


def _placed(time: datetime, now: Now) -> float:
    """A message's time; a clock ahead of ours must not push out the others."""
    return min(_utc_s(time), now.utc.timestamp())


def _utc_s(time: datetime) -> float:
    """Seconds since 1970; a time without a zone, which no station sends, counts as UTC."""
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    return (time - _1970).total_seconds()
