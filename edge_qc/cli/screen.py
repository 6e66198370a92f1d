"""How ``edge-qc watch`` draws a tally: stations, counts, the last verdicts, events.

No verdict is told by colour alone. What the figures are is ``tally``'s.
"""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from edge_qc.cli.tally import Tally, plain

_STYLES = {"PASS": "green", "REJECT": "bold red", "REVIEW": "yellow"}
_STATE_STYLES = {
    "READY": "green",
    "RUNNING": "green",
    "DEGRADED": "yellow",
    "FAULT": "bold red",
    "DEAD": "bold red",
}


def picture(tally: Tally, where: str, trouble: str | None, height: int) -> RenderableType:
    """The whole view, for a terminal of so many lines."""
    now_s = time.monotonic()
    parts = sum(tally.parts.values())
    figures = [
        f"{tally.verdicts} verdicts",
        f"{tally.rate_per_s(now_s):.1f}/s",
        *([f"{parts} parts"] if parts else []),
        *([f"{tally.historical} historical"] if tally.historical else []),
        *([f"{tally.duplicates} duplicates"] if tally.duplicates else []),
        *([f"{tally.unreadable} unreadable"] if tally.unreadable else []),
    ]
    head = Text.assemble(("edge-qc watch ", "bold"), f"{where}   ", "   ".join(figures))
    blocks: list[RenderableType] = [head]
    if trouble is not None:
        blocks.append(Text(plain(trouble), "bold red"))
    blocks += [_stations(tally, now_s), _counts(tally)]
    events = [
        Text(
            plain(
                f"{event.time:%H:%M:%S} {name} {event.severity.value}: {event.event} {event.detail}"
            ),
            "bold red" if event.severity.value == "alarm" else "",
            no_wrap=True,
            overflow="ellipsis",
        )
        for name, event in list(tally.events)[-3:]
    ]
    labels = {label for label, _ in tally.counts}
    rest = height - len(tally.stations) - len(labels) - len(events) - 16
    return Group(*blocks, _last(tally, max(3, rest)), *events)


def _stations(tally: Tally, now_s: float) -> RenderableType:
    table = Table("station", "state", "why", "last verdict", "verdicts", "gaps", "backlog")
    for station in sorted(tally.stations.values(), key=lambda station: station.name):
        age = "-"
        if station.last_verdict_s is not None:
            age = f"{now_s - station.last_verdict_s:.0f} s ago"
        table.add_row(
            Text(plain(station.name)),
            Text(station.state, _STATE_STYLES.get(station.state, "")),
            Text(plain(station.why), no_wrap=True, overflow="ellipsis"),
            age,
            str(station.verdicts),
            Text(str(station.gaps), "bold red" if station.gaps else ""),
            "-" if station.waiting is None else str(station.waiting),
        )
    return table


def _counts(tally: Tally) -> RenderableType:
    dies = sorted({die for _, die in tally.counts})
    table = Table("verdict", *(Column(Text(plain(die))) for die in dies), "all")
    totals = {label: 0 for label, _ in tally.counts}
    for (label, _), number in tally.counts.items():
        totals[label] += number
    for label in sorted(totals, key=lambda name: (name != "GOOD", -totals[name])):
        cells = [tally.counts[label, die] for die in dies]
        table.add_row(
            Text(plain(label)), *(str(cell) if cell else "" for cell in cells), str(totals[label])
        )
    return table


def _last(tally: Tally, rows: int) -> RenderableType:
    table = Table("time", "camera", "die", "part", "verdict", "", "drift p", "ms", "")
    for _, verdict in list(tally.last)[-rows:]:
        drift = verdict.drift
        said = verdict.label
        if verdict.detail:
            said += f" ({verdict.reason.value}: {verdict.detail})"
        cells = [
            f"{verdict.time:%H:%M:%S.%f}"[:-3],
            verdict.camera,
            verdict.die or "-",
            verdict.part_id or verdict.image or "-",
            said,
            verdict.disposition.value,
            "-" if drift is None else f"{drift.p_value:.2g}",
            f"{sum(verdict.latency_ms.values()):.1f}" if verdict.latency_ms else "-",
            "historical" if verdict.historical else "",
        ]
        style = _STYLES.get(verdict.disposition.value, "")
        table.add_row(*(Text(plain(cell, 80), no_wrap=True) for cell in cells), style=style)
    return table
