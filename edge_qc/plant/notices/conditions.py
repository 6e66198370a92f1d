"""Which conditions of a plant a person must hear of, and which are over. Pure.

A condition is noticed once, when it has lasted for a while, and once more when it is over. What is
over before it was noticed is not noticed at all: a broker's restart, a station's.

An event's end may never be heard, so a later state can end a condition too; and an event that is
sent again, or late, begins nothing that was over by then.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edge_qc.parts import NOT_JUDGED, Disposition
from edge_qc.plant.dashboard import advice
from edge_qc.plant.notices.memory import Key, Memory, Moment
from edge_qc.publisher import EventMessage, Message, StateMessage, VerdictMessage
from edge_qc.system.state import STOPPED, State

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
_LONGEST = 400
"""Characters of what a station says, before the advice: some services refuse a long text."""
_MOST_ENDS = 4096
"""Ends that are remembered, so that invented names take no memory."""


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
    moment: Moment | None = None


@dataclass(slots=True)
class Conditions:
    """after_s: how long a state must last. yield_below: the share of passed views under which a
    station's yield is noticed, over ``views`` judged ones; None: never. known: of before a
    restart. Times are ``time.monotonic``."""

    after_s: float = 60.0
    yield_below: float | None = None
    views: int = 200
    known: Memory = field(default_factory=Memory)
    _open: dict[Key, _Open] = field(default_factory=dict)
    _passed: dict[str, deque[bool]] = field(default_factory=dict)
    _over: list[Notice] = field(default_factory=list)
    _ended: dict[Key, Moment] = field(default_factory=dict)
    _epochs: dict[str, Moment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, moment in self.known.noticed.items():
            self._open[key] = _Open("", 0.0, noticed=True, moment=moment)
        self._ended.update(self.known.ended)

    @property
    def memory(self) -> Memory:
        """What a restart must know."""
        noticed = {key: one.moment for key, one in sorted(self._open.items()) if one.noticed}
        return Memory(noticed, dict(self._ended))

    def hear(self, station: str, message: Message, now_s: float) -> None:
        """Take a station's message into account."""
        if isinstance(message, StateMessage):
            self._hear_state(station, message, now_s)
        elif isinstance(message, EventMessage):
            self._hear_event(station, message, now_s)
        elif isinstance(message, VerdictMessage):
            self._count(station, message, now_s)

    def forget(self, station: str) -> None:
        """Somebody had the broker forget a station."""
        for key in [key for key in self._open if key[0] == station]:
            self._end(key)
        self._epochs.pop(station, None)

    def broker(self, where: str, trouble: str | None, now_s: float) -> None:
        """Take into account whether the broker can be reached. trouble: why not.

        A broker that ends publishes every station's last will, so while it is away, and for
        ``after_s`` behind that, no state counts that was not noticed before."""
        if trouble is not None:
            self._begin((where, "", AWAY), trouble, now_s)
            return
        # Also that of an address which the broker had before a restart.
        away = [key for key in self._open if key[2] == AWAY]
        for key in away:
            self._end(key)
        if away:
            for (_, _, name), one in self._open.items():
                if name in _STATES:
                    one.since_s = now_s

    def due(self, now_s: float) -> list[Notice]:
        """What is to be sent now, each once."""
        found, self._over = self._over, []
        away = any(name == AWAY for _, _, name in self._open)
        for (station, _, name), one in self._open.items():
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
                self._begin((station, "", state), message.why, now_s)
            else:
                self._end((station, "", state))
        if message.state is not State.DEAD:
            # A last will may be of an epoch before.
            self._end_out_of_control(station, message)

    def _end_out_of_control(self, station: str, message: StateMessage) -> None:
        """A station that has started again measures afresh, and one that is RUNNING, and not
        DEGRADED, has its pictures in control."""
        last = self._epochs.get(station)
        begun = last is None or last.epoch != message.epoch
        if begun:
            self._epochs[station] = Moment(message.epoch, 0, message.time)
        for key in [key for key in self._open if key[0] == station and key[2] in OUT_OF_CONTROL]:
            said = self._open[key].moment
            other = (begun and last is not None) if said is None else said.epoch != message.epoch
            # A broker repeats the state that it keeps: it may be older than the event.
            since = said is None or said.time < message.time
            if other:
                self._end(key, "The station has started again and measures afresh.")
            elif message.state is State.RUNNING and since:
                self._end(key)

    def _hear_event(self, station: str, message: EventMessage, now_s: float) -> None:
        event, camera = message.event, message.camera or ""
        moment = Moment(message.epoch, message.seq, message.time)
        if event in _EVENTS:
            ends = [self._ended.get((station, of, event)) for of in {camera, ""}]
            if event in OUT_OF_CONTROL:
                ends.append(self._epochs.get(station))
            if not any(_is_before(message, end) for end in ends):
                named = f"{camera}: " if camera else ""
                one = self._begin((station, camera, event), f"{named}{message.detail}", now_s)
                if not _is_before(message, one.moment):
                    one.moment = moment
        for name in _ENDS.get(event, ()):
            for key in [key for key in self._open if (key[0], key[2]) == (station, name)]:
                concerns = not camera or key[1] in ("", camera)
                if concerns and not _is_before(message, self._open[key].moment):
                    self._end(key)
            ended = station, camera, name
            if not _is_before(message, self._ended.get(ended)):
                self._ended.pop(ended, None)
                self._ended[ended] = moment
                while len(self._ended) > _MOST_ENDS:
                    del self._ended[next(iter(self._ended))]

    def _count(self, station: str, verdict: VerdictMessage, now_s: float) -> None:
        if self.yield_below is None or verdict.historical or verdict.label == NOT_JUDGED:
            return
        last = self._passed.setdefault(station, deque(maxlen=self.views))
        last.append(verdict.disposition is Disposition.PASS)
        if len(last) < self.views:
            return
        share = sum(last) / len(last)
        key = station, "", YIELD
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

    def _begin(self, key: Key, text: str, now_s: float) -> _Open:
        short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        return self._open.setdefault(key, _Open(short, now_s))

    def _end(self, key: Key, text: str = "It is over.") -> None:
        one = self._open.pop(key, None)
        if one is not None and one.noticed:
            station, camera, name = key
            named = f"{camera}: " if camera else ""
            self._over.append(Notice(f"{station}: over: {_words(name)}", named + text, over=True))


def _is_before(message: EventMessage, moment: Moment | None) -> bool:
    """Whether an event is from before a moment. Its number tells within an epoch; of another epoch,
    only what is sent late can be, since a clock may have been set back."""
    if moment is None:
        return False
    if message.epoch == moment.epoch:
        return message.seq < moment.seq
    return message.historical and message.time < moment.time


def _words(name: str) -> str:
    if name == YIELD:
        return "the yield is low"
    if name == AWAY:
        return "no connection to the broker; states unknown"
    return name.replace("-", " ")
