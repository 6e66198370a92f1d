"""Which conditions of a plant a person must hear of, and which are over. Pure.

A condition is noticed once, when it has lasted for a while, and once more when it is over. What is
over before it was noticed is not noticed at all: a broker's restart, a station's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from edge_qc.parts import NOT_JUDGED, Disposition
from edge_qc.plant.dashboard import advice
from edge_qc.publisher import EventMessage, Message, StateMessage, VerdictMessage
from edge_qc.system.state import STOPPED, State

Key = tuple[str, str]
"""``site/station``, or the broker's address; and the name of the condition."""

OUT_OF_CONTROL = (
    "camera-moved", "lamp-ageing", "focus-lost", "picture-brighter", "picture-sharper",
    "good-parts-creep",
)  # fmt: skip
_ENDS = {
    **{f"{name}-over": (name,) for name in OUT_OF_CONTROL},
    "output-acknowledged": ("output-unconfirmed", "output-fault"),
}
_EVENTS = {*OUT_OF_CONTROL, "output-unconfirmed", "output-fault"}
_STATES = (State.DEAD.value, State.FAULT.value)
AWAY, YIELD = "broker-away", "yield"


@dataclass(frozen=True, slots=True)
class Notice:
    """over: the condition has ended."""

    title: str
    text: str
    over: bool


@dataclass(slots=True)
class _Open:
    text: str
    since_s: float
    noticed: bool = False


@dataclass(slots=True)
class Conditions:
    """after_s: how long a state must last. yield_below: the share of passed views under which a
    station's yield is noticed, over ``views`` judged ones; None: never. known: conditions that were
    noticed before a restart. Times are ``time.monotonic``."""

    after_s: float = 60.0
    yield_below: float | None = None
    views: int = 200
    known: Iterable[Key] = ()
    _open: dict[Key, _Open] = field(default_factory=dict)
    _passed: dict[str, deque[bool]] = field(default_factory=dict)
    _over: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        for key in self.known:
            self._open[key] = _Open("", 0.0, noticed=True)

    @property
    def noticed(self) -> list[Key]:
        """The conditions that were noticed and that last."""
        return sorted(key for key, one in self._open.items() if one.noticed)

    def hear(self, station: str, message: Message, now_s: float) -> None:
        """Take a station's message into account."""
        if isinstance(message, StateMessage):
            self._hear_state(station, message, now_s)
        elif isinstance(message, EventMessage):
            if message.event in _EVENTS:
                camera = f"{message.camera}: " if message.camera else ""
                self._begin((station, message.event), f"{camera}{message.detail}", now_s)
            for name in _ENDS.get(message.event, ()):
                self._end((station, name))
        elif isinstance(message, VerdictMessage):
            self._count(station, message, now_s)

    def forget(self, station: str) -> None:
        """Somebody had the broker forget a station."""
        for key in [key for key in self._open if key[0] == station]:
            self._end(key)

    def broker(self, where: str, trouble: str | None, now_s: float) -> None:
        """Take into account whether the broker can be reached. trouble: why not.

        A broker that ends publishes every station's last will, so while it is away, and for
        ``after_s`` behind that, no state counts that was not noticed before."""
        if trouble is not None:
            self._begin((where, AWAY), trouble, now_s)
        elif (where, AWAY) in self._open:
            self._end((where, AWAY))
            for (_, name), one in self._open.items():
                if name in _STATES:
                    one.since_s = now_s

    def due(self, now_s: float) -> list[Notice]:
        """What is to be sent now, each once."""
        found, self._over = self._over, []
        away = any(name == AWAY for _, name in self._open)
        for (station, name), one in self._open.items():
            waits = name in (*_STATES, AWAY)
            if one.noticed or (away and name in _STATES):
                continue
            if not waits or now_s - one.since_s >= self.after_s:
                one.noticed = True
                text = " ".join(filter(None, (one.text, advice.for_event(name))))
                found.append(Notice(f"{station}: {_words(name)}", text, over=False))
        return found

    def _hear_state(self, station: str, message: StateMessage, now_s: float) -> None:
        planned = message.state is State.DEAD and message.why == STOPPED
        for state in _STATES:
            if message.state.value == state and not planned:
                self._begin((station, state), message.why, now_s)
            else:
                self._end((station, state))

    def _count(self, station: str, verdict: VerdictMessage, now_s: float) -> None:
        if self.yield_below is None or verdict.historical or verdict.label == NOT_JUDGED:
            return
        last = self._passed.setdefault(station, deque(maxlen=self.views))
        last.append(verdict.disposition is Disposition.PASS)
        if len(last) < self.views:
            return
        share = sum(last) / len(last)
        key = station, YIELD
        if share < self.yield_below:
            if key not in self._open:
                # Judged anew: only views from now on can end it.
                last.clear()
            text = (
                f"{share:.1%} of the last {self.views} views passed, wanted {self.yield_below:.1%}."
            )
            self._begin(key, text, now_s)
        else:
            self._end(key)

    def _begin(self, key: Key, text: str, now_s: float) -> None:
        self._open.setdefault(key, _Open(text, now_s))

    def _end(self, key: Key) -> None:
        one = self._open.pop(key, None)
        if one is not None and one.noticed:
            title = f"{key[0]}: over: {_words(key[1])}"
            self._over.append(Notice(title, "It is over.", over=True))


def _words(name: str) -> str:
    if name == YIELD:
        return "the yield is low"
    if name == AWAY:
        return "no connection to the broker; states unknown"
    return name.replace("-", " ")
