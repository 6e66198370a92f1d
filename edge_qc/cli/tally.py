"""The tally of ``edge-qc watch``: counts, rates, gaps and states, ready to show.

Pure; the caller passes the time. ``screen`` draws it.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from edge_qc.errors import PublishError
from edge_qc.plant.dashboard.sequence import Numbers
from edge_qc.publisher import (
    EventMessage,
    HealthMessage,
    Kind,
    Message,
    PartMessage,
    StateMessage,
    VerdictMessage,
    parse_topic,
    read_message,
)

_RATE_S = 10.0
_REMEMBERED = 100_000


@dataclass(slots=True)
class Station:
    """One station as its messages show it. gaps: verdicts whose number was skipped. unheard: its
    messages that the broker accepted without a subscriber."""

    name: str
    state: str = "unknown"
    why: str = ""
    last_verdict_s: float | None = None
    verdicts: int = 0
    waiting: int | None = None
    unheard: int | None = None
    numbers: Numbers = field(default_factory=Numbers)

    @property
    def gaps(self) -> int:
        return self.numbers.missing


@dataclass(frozen=True, slots=True)
class Seen:
    """A message read, or why it could not be."""

    station: str
    message: Message | None
    fault: str | None = None
    duplicate: bool = False


class Tally:
    """Adds up messages. Times are ``time.monotonic``."""

    def __init__(self) -> None:
        self.stations: dict[str, Station] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.verdicts = self.duplicates = self.historical = self.unreadable = 0
        self.parts: Counter[str] = Counter()
        self.last: deque[tuple[str, VerdictMessage]] = deque(maxlen=2_000)
        self.events: deque[tuple[str, EventMessage]] = deque(maxlen=20)
        self._ids: dict[str, None] = {}
        self._recent: deque[float] = deque()

    def add(self, topic: str, payload: bytes, now_s: float) -> Seen | None:
        """Counts one message; None for a topic that is not a station's."""
        parsed = parse_topic(topic)
        if parsed is None:
            return None
        site, name, kind = parsed
        where = f"{site}/{name}"
        if not payload and kind in (Kind.STATE, Kind.HEALTH):
            # Somebody had the broker forget what it retained: of a state, the station itself.
            if kind is Kind.STATE:
                self.stations.pop(where, None)
            return None
        try:
            message = read_message(kind, payload)
        except PublishError as error:
            self.unreadable += 1
            return Seen(where, None, str(error))
        station = self.stations.setdefault(where, Station(where))
        duplicate = False
        if isinstance(message, VerdictMessage):
            duplicate = not self._add_verdict(station, message, now_s)
        elif isinstance(message, PartMessage):
            self.parts[message.label if message.complete else "INCOMPLETE"] += 1
        elif isinstance(message, EventMessage):
            self.events.append((where, message))
        elif isinstance(message, StateMessage):
            station.state, station.why = message.state.value, message.why
        elif isinstance(message, HealthMessage) and message.outbox is not None:
            station.waiting, station.unheard = message.outbox.waiting, message.outbox.unheard
        return Seen(where, message, None, duplicate)

    def rate_per_s(self, now_s: float) -> float:
        """Verdicts per second that arrived in the last ten seconds."""
        while self._recent and now_s - self._recent[0] > _RATE_S:
            self._recent.popleft()
        return len(self._recent) / _RATE_S

    def _add_verdict(self, station: Station, message: VerdictMessage, now_s: float) -> bool:
        if message.verdict_id in self._ids:
            self.duplicates += 1
            return False
        self._ids[message.verdict_id] = None
        if len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]
        self.verdicts += 1
        self.historical += message.historical
        self.counts[message.label, message.die or "-"] += 1
        self.last.append((station.name, message))
        self._recent.append(now_s)
        station.numbers.note(message.epoch, message.seq)
        station.verdicts += 1
        station.last_verdict_s = now_s
        return True


def plain(text: str, most: int = 300) -> str:
    """Text from the network, without anything that a terminal would interpret."""
    text = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return text if len(text) <= most else text[: most - 1] + "…"
