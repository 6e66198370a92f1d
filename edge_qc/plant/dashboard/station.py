"""One station as its messages show it: its state, heartbeats, rates and missing numbers.

The caller passes messages and the time; there is no clock, thread or network here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NamedTuple

from edge_qc.plant.dashboard.history import BIN_S, BINS
from edge_qc.plant.dashboard.sequence import Numbers
from edge_qc.publisher import HealthMessage, Kind, StateMessage
from edge_qc.system.state import STOPPED, State

_RATE_S = 10
_SILENT_S = 15.0
_HEARTBEATS = 3
_SKEW_S = 30.0
_EPOCHS = 8
_TWICE_S = 60.0
WILLS_S = 5.0
"""A last will that came so shortly before the connection was lost is the broker's own end."""
_RETURN_S = 30.0
"""How long stations may take to connect again after their broker has come back."""
_RECORDED_S = 30.0
"""A recorder repeats its acknowledgement every few seconds."""
_WAITING, _WAITING_S = (10, 5.0), (100, 30.0)
"""How many messages may wait in an outbox, or how many seconds' worth: for a broker's answer, and
for that of a recorder, which acknowledges in groups."""

_1970 = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Now:
    """One moment on both clocks. monotonic_s: for ages; utc: to compare with a station's times."""

    monotonic_s: float
    utc: datetime


@dataclass(frozen=True, slots=True)
class Link:
    """The dashboard's connection to its broker. away_since: None while there is one. back_s: when
    it came back, on the monotonic clock; None if it was never away."""

    away_since: datetime | None = None
    back_s: float | None = None


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
    acked_s: float | None = None
    """When a recorder last acknowledged its messages."""
    _before: tuple[State | None, str, float] | None = None
    """State and reason before it was DEAD, and when it became so."""
    _epochs: dict[str, float] = field(default_factory=dict)
    _heard_s: float | None = None
    _beat_s: float | None = None
    _interval_s: float = 0.0
    _seconds: dict[int, int] = field(default_factory=dict)

    def change(self, message: StateMessage, now: Now) -> bool:
        """Note a published state; whether it is another than the last one."""
        changed = (message.state, message.epoch) != (self.state, self.epoch)
        if message.state is State.DEAD and self.state is not State.DEAD:
            self._before = self.state, self.why, now.monotonic_s
        self.state, self.why = message.state, message.why
        self.since, self.epoch = message.time, message.epoch
        if message.bundle is not None:
            self.bundle_version = message.bundle.version
        self.hear(now)
        return changed

    def disbelieve(self, now: Now) -> None:
        """Take back a last will that came just now: the broker itself has ended."""
        if self.state is State.DEAD and self.why != STOPPED and self._before is not None:
            state, why, at_s = self._before
            if now.monotonic_s - at_s < WILLS_S:
                self.state, self.why = state, why

    def shown(self, now: Now, link: Link) -> str:
        """The state as shown. UNKNOWN while no broker is connected: one that ends publishes every
        station's last will, whatever the stations do. STOPPED: an operator stopped it. SILENT: its
        heartbeat is overdue."""
        if link.away_since is not None or self.state is None:
            return "UNKNOWN"
        if self.state is State.DEAD:
            if self.why == STOPPED:
                return "STOPPED"
            returning = link.back_s is not None and now.monotonic_s - link.back_s < _RETURN_S
            return "UNKNOWN" if returning else "DEAD"
        return self.state.value if self.silent_s(now, link) is None else "SILENT"

    def age_s(self, now: Now) -> float | None:
        """Seconds since its last verdict, by our clock if we saw it arrive, otherwise by its
        own."""
        if self.last_verdict_s is not None:
            return max(0.0, now.monotonic_s - self.last_verdict_s)
        if self.health is None or self.health.last_verdict_age_s is None:
            return None
        return self.health.last_verdict_age_s + max(
            0.0, now.utc.timestamp() - utc_s(self.health.time)
        )

    def silent_s(self, now: Now, link: Link = Link()) -> float | None:
        """Seconds since its last message if its heartbeat is overdue; None otherwise, or if it
        reported that it stopped."""
        if self.state in (None, State.DEAD) or self._heard_s is None:
            return None
        if link.away_since is not None:
            return None
        # While there was no broker nothing could be heard.
        quiet_s = now.monotonic_s - max(self._heard_s, link.back_s or self._heard_s)
        return quiet_s if quiet_s > max(_SILENT_S, _HEARTBEATS * self._interval_s) else None

    def rate_per_s(self, now: Now) -> float:
        """Verdicts per second in the last whole seconds."""
        second = int(now.monotonic_s)
        return sum(self._seconds.get(second - i, 0) for i in range(1, _RATE_S + 1)) / _RATE_S

    def outbox_grows(self, now: Now) -> bool:
        """Whether more waits in its outbox than a recorder's or a broker's answer explains."""
        if self.health is None or self.health.outbox is None:
            return False
        waiting = self.health.outbox.waiting
        recorded = self.acked_s is not None and now.monotonic_s - self.acked_s < _RECORDED_S
        some, seconds = _WAITING_S if recorded else _WAITING
        return waiting > max(some, seconds * self.rate_per_s(now))

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
            skew_s = utc_s(message.time) - now.utc.timestamp()
            self.skew_s = skew_s if abs(skew_s) > _SKEW_S else None
        beat = Beat(
            utc_s(message.time) // BIN_S * BIN_S,
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


def utc_s(time: datetime) -> float:
    """Seconds since 1970; a time without a zone, which no station sends, counts as UTC."""
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    return (time - _1970).total_seconds()
