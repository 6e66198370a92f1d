"""The one sentence over the page: which stations need somebody, and why. Pure.

"All stations are well" stands only over a plant in which nothing is wrong: no state, open alarm,
yield of nothing, chart out of control, missing message or station beyond those that are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from edge_qc.plant.dashboard import advice

Document = dict[str, Any]

TONES = {
    "RUNNING": "good",
    "READY": "good",
    "STARTING": "care",
    "BUILDING": "care",
    "DEGRADED": "care",
    "STOPPING": "care",
    "FAULT": "bad",
    "DEAD": "bad",
    "SILENT": "bad",
    "STOPPED": "none",
    "UNKNOWN": "none",
}
_WORDS = {
    "FAULT": "in fault",
    "UNKNOWN": "in an unknown state",
}
_FEWEST = 10
"""Views or parts of which none passed, before that is called a yield of nothing."""
_LETTERS = 40
"""Of an event's or a die's name in a sentence."""
_NAMED = 2
"""How many stations the sentence names in full."""


class Trouble(NamedTuple):
    """What is wrong at a station: the worst first in ``_RANK``. words: after "is"."""

    station: str
    tone: str
    words: str
    next: str


_RANK = {"bad": 0, "care": 1, "none": 2}


def troubles(
    stations: Iterable[Document],
    charts: Iterable[Document],
    alarms: Callable[[str], Sequence[str]],
) -> list[Trouble]:
    """Everything that is wrong, by station in their order, the worst of each station first.

    stations, charts: as ``snapshot`` shows them. alarms: a station's open alarms, by its name.
    """
    drifting: dict[str, list[str]] = {}
    for one in charts:
        if one["now_out"]:
            drifting.setdefault(one["station"], []).append(one["die"])
    found = []
    for station in stations:
        name = station["name"]
        of_it = [
            Trouble(name, tone, words, what)
            for tone, words, what in _of_station(station, drifting.get(name, []))
        ]
        of_it += [
            Trouble(name, "bad", f"in alarm ({event[:_LETTERS]})", advice.for_event(event))
            for event in alarms(name)
        ]
        found += sorted(of_it, key=lambda trouble: _RANK[trouble.tone])
    return found


def state_words(state: str) -> str:
    """A state as the sentence says it, after "is"."""
    return _WORDS.get(state, state.lower())


def _of_station(station: Document, drifting: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    state = station["state"]
    tone = TONES.get(state, "none")
    if state == "UNKNOWN":
        yield tone, state_words(state), station["next"]
        return
    if tone != "good":
        yield tone, state_words(state), station["next"]
    if station["all"] >= _FEWEST and station["passed"] == 0:
        yield "bad", f"passing no {station['of'].removesuffix('s')}", advice.PASSES_NOTHING
    if drifting:
        yield (
            "care",
            f"out of control ({', '.join(die[:_LETTERS] for die in drifting[:3])})",
            advice.DRIFTING,
        )
    if station["missing"]:
        yield "care", "missing messages", advice.MISSING
    if station["outbox_grows"]:
        yield "care", "behind with its outbox", advice.OUTBOX


def sentence(
    stations: Sequence[Document], found: Sequence[Trouble], away_since: str, *, more: bool = False
) -> Document:
    """The headline: ``tone``, ``text`` and, for the broker's absence, ``since``. more: whether
    stations were heard that are not among these, and may be in any state."""
    if away_since:
        text = "No connection to the broker since {since}; states unknown"
        return {"tone": "none", "text": text, "since": away_since}
    if not stations:
        return {"tone": "none", "text": "No station has reported yet", "since": ""}
    first: dict[str, Trouble] = {}
    for trouble in found:
        first.setdefault(trouble.station, trouble)
    # What a station is comes before what it reported.
    worst = sorted(
        first.values(), key=lambda one: (_RANK[one.tone], one.words.startswith("in alarm"))
    )
    pressing = [trouble for trouble in worst if trouble.tone != "none"]
    tone = pressing[0].tone if pressing else "none" if len(worst) == len(stations) else "good"
    text = _text(stations, worst, pressing)
    if more:
        tone = tone if tone in ("bad", "care") else "care"
        text = f"{text}; stations beyond these {len(stations)} are not shown"
    return {"tone": tone, "text": text, "since": ""}


def _text(
    stations: Sequence[Document], worst: Sequence[Trouble], pressing: Sequence[Trouble]
) -> str:
    names = short_names([station["name"] for station in stations])
    alone = names[stations[0]["name"]]
    if not worst:
        if len(stations) == 1:
            return f"{alone} is {stations[0]['state'].lower()}"
        return f"All {len(stations)} stations are well"
    if not pressing:
        counts = Counter(trouble.words for trouble in worst)
        if len(worst) == len(stations) == 1:
            return f"{alone} is {worst[0].words}"
        told = ", ".join(f"{n} {words}" for words, n in counts.items())
        return f"{told} of {len(stations)} stations"
    if len(pressing) <= _NAMED:
        told = " · ".join(f"{names[one.station]} is {one.words}" for one in pressing)
        return (
            told if len(stations) > 1 else f"{worst[0].station[:_LETTERS]} is {pressing[0].words}"
        )
    counts = Counter(one.words.partition(" (")[0] for one in pressing)
    told = ", ".join(f"{n} {words}" for words, n in counts.items())
    who = ", ".join(names[one.station] for one in pressing[:3])
    more = " …" if len(pressing) > 3 else ""
    return f"{told} of {len(stations)} stations: {who}{more}"


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Stations without their site, if several are of one site."""
    several = len(names) > 1 and len({name.partition("/")[0] for name in names}) == 1
    short = {name: name.partition("/")[2] if several else name for name in names}
    return {name: word[:_LETTERS] for name, word in short.items()}
