"""What a page shows at one moment, for one filter: plain values, as JSON.

Pure. ``figures`` computes what is counted over the plant, ``rows`` lists single verdicts, and
``headline`` says in one sentence what is wrong. The page draws them.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_qc.parts import GOOD
from edge_qc.plant.dashboard import advice, figures
from edge_qc.plant.dashboard.figures import Mask, outcomes, rounded
from edge_qc.plant.dashboard.filters import Filter
from edge_qc.plant.dashboard.headline import (
    TONES,
    Document,
    Trouble,
    sentence,
    state_words,
    troubles,
)
from edge_qc.plant.dashboard.history import Window
from edge_qc.plant.dashboard.plant import NAME, PlantState
from edge_qc.plant.dashboard.rows import WORDS, events, gaps, stamp, verdicts
from edge_qc.plant.dashboard.station import Link, Now, Station

_CAMERAS = 32
_NEWEST = 30


def snapshot(plant: PlantState, chosen: Filter, now: Now) -> Document:
    """The sections of the page; each can be sent alone."""
    for history in (plant.views, plant.parts):
        history.advance(now.utc.timestamp())
    views = plant.views.window(chosen.window_s, figures.STEPS)
    parts = plant.parts.window(chosen.window_s, figures.STEPS)
    mask = views.of(chosen.station, chosen.die)
    known = [
        station
        for station in sorted(plant.stations.values(), key=lambda station: station.name)
        if chosen.station in (None, station.name)
    ]
    stations = [_station(station, views, parts, now, plant.link) for station in known]
    charts = figures.drift(views, mask)
    happened = events(plant, chosen, chosen.window_s, now)
    now_s = now.utc.timestamp()
    wrong = troubles(stations, charts, lambda name: plant.alarms.of(name, now_s))
    for one in stations:
        _tell(one, [trouble for trouble in wrong if trouble.station == one["name"]])
    return {
        "headline": sentence(stations, wrong, stamp(plant.link.away_since), more=plant.unknown > 0),
        "stations": stations,
        "totals": _totals(plant, chosen, views, parts),
        "dies": figures.dies(views, views.of(chosen.station)),
        "pareto": figures.pareto(views, mask),
        "drift": {
            "times": views.times.tolist(),
            "charts": charts[: figures.CHARTS],
            "all": len(charts),
        },
        "trends": figures.trends(known, chosen.window_s, now),
        "verdicts": verdicts(plant, chosen),
        "events": happened[:_NEWEST],
        "gaps": gaps(known),
        "choices": {
            "stations": sorted(plant.stations),
            "dies": sorted({die for _, die in views.sources}),
            "labels": sorted(views.label_names, key=lambda label: (label != GOOD, label)),
            "parts": bool(parts.outcomes.any()),
        },
    }


def _station(station: Station, views: Window, parts: Window, now: Now, link: Link) -> Document:
    health = station.health
    shown = station.shown(now, link)
    of, counts = _counted(station.name, views, parts)
    tone = TONES.get(shown, "none")
    # Figures of the moment, of a station that is not heard, would be the past's.
    alive = shown not in ("DEAD", "STOPPED", "SILENT") and link.away_since is None
    heard = health if alive else None
    cameras = {} if heard is None else heard.cameras
    return {
        "name": station.name,
        "state": shown,
        "tone": "none" if tone == "care" and shown == "STOPPING" else tone,
        "why": _why(station, shown, now, link)[:WORDS],
        "next": advice.for_state(shown),
        "since": stamp(station.since),
        "silent_s": rounded(station.silent_s(now, link), 0),
        "age_s": rounded(station.age_s(now), 0),
        "of": of,
        "all": counts.all,
        "passed": counts.passed,
        "missing": station.missing,
        "skew_s": rounded(station.skew_s, 0),
        "bundle": station.bundle_version,
        "rate": round(station.rate_per_s(now), 1) if alive else None,
        "p99": None if heard is None else rounded(heard.latency_ms.get("p99"), 1),
        "queue": None if heard is None else heard.queue,
        "waiting": None if heard is None or heard.outbox is None else heard.outbox.waiting,
        "outbox_grows": alive and station.outbox_grows(now),
        "space": None if heard is None or heard.outbox is None else heard.outbox.space,
        "cameras": [
            {"name": name[:NAME], "state": camera.state[:NAME]}
            for name, camera in sorted(cameras.items())[:_CAMERAS]
        ],
    }


def _tell(station: Document, wrong: Sequence[Trouble]) -> None:
    """Put what is wrong beside the station; its tone is the worst of it, unless it is not heard."""
    said = {state_words(station["state"]), "missing messages", "behind with its outbox"}
    station["troubles"] = [
        {"tone": trouble.tone, "words": trouble.words, "next": trouble.next}
        for trouble in wrong
        if trouble.words not in said
    ]
    if wrong and station["state"] not in ("UNKNOWN", "STOPPED", "STOPPING"):
        station["tone"] = wrong[0].tone


def _why(station: Station, shown: str, now: Now, link: Link) -> str:
    if shown == "UNKNOWN" and link.away_since is not None:
        return "no connection to the broker"
    if shown == "UNKNOWN" and link.back_s is not None:
        return "not heard since the broker came back"
    return station.conflict(now) or station.why


def _counted(name: str | None, views: Window, parts: Window) -> tuple[str, figures.Outcomes]:
    """Parts where a station publishes them, otherwise views; never both in one row."""
    of_parts = outcomes(parts, parts.of(name))
    if of_parts.all:
        return "parts", of_parts
    return "views", outcomes(views, views.of(name))


def _totals(plant: PlantState, chosen: Filter, views: Window, parts: Window) -> Document:
    window, mask, of = _selected(chosen, views, parts)
    counts = outcomes(window, mask)
    seen = views.of(chosen.station, chosen.die)
    return {
        "of": of,
        "all": counts.all,
        **counts._asdict(),
        "historical": int(views.historical[seen].sum()),
        "unreadable": plant.unreadable,
        "unknown": plant.unknown,
        # By interval, so that a fall is seen.
        "times": window.times.tolist(),
        "passing": figures.passing(window, mask),
        "late": window.historical[mask].sum(0).tolist(),
    }


def _selected(chosen: Filter, views: Window, parts: Window) -> tuple[Window, Mask, str]:
    """What is counted: parts if wanted and published; a die has views alone."""
    of_parts = parts.of(chosen.station)
    if chosen.counting != "views" and chosen.die is None and parts.outcomes[of_parts].any():
        return parts, of_parts, "parts"
    return views, views.of(chosen.station, chosen.die), "views"
