"""How ``edge-qc watch`` draws a tally: stations, counts, the last verdicts, events.

No verdict is shown by colour alone. ``tally`` provides the figures.
"""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from edge_qc.cli.keys import HELP, Choice
from edge_qc.cli.tally import Tally, plain
from edge_qc.publisher import VerdictMessage

_STYLES = {"PASS": "green", "REJECT": "bold red", "REVIEW": "yellow"}
_STATE_STYLES = {
    "READY": "green",
    "RUNNING": "green",
    "DEGRADED": "yellow",
    "FAULT": "bold red",
    "DEAD": "bold red",
}


def picture(
    tally: Tally, where: str, trouble: str | None, height: int, choice: Choice | None = None
) -> RenderableType:
    """The whole screen, for a terminal with this many lines."""
    choice = choice or Choice()
    if choice.full and (row := choice.verdict(tally)) is not None:
        return _in_full(*row, height)
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
    if words := choice.words(tally):
        blocks.append(Text(f"shown: {plain(words)}", "bold"))
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
    rest = height - len(tally.stations) - len(labels) - len(events) - 18
    keys = Text(HELP, "dim", no_wrap=True, overflow="ellipsis")
    return Group(*blocks, _last(tally, choice, max(3, rest)), *events, keys)


def _stations(tally: Tally, now_s: float) -> RenderableType:
    columns = (
        "station",
        "state",
        "why",
        "last verdict",
        "verdicts",
        "gaps",
        "outbox",
        "no subscriber",
    )
    table = Table(*columns)
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
            "-"
            if station.unheard is None
            else Text(str(station.unheard), "yellow" if station.unheard else ""),
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


def _last(tally: Tally, choice: Choice, rows: int) -> RenderableType:
    time_column = Column("time", no_wrap=True, min_width=12)
    table = Table("", time_column, "camera", "die", "part", "verdict", "", "drift p", "ms", "")
    found = choice.rows(tally)
    at = next(
        (i for i, (_, verdict) in enumerate(found) if verdict.verdict_id == choice.chosen), None
    )
    end = len(found) if at is None else min(len(found), max(rows, at + rows // 2))
    for _, verdict in found[max(0, end - rows) : end]:
        drift = verdict.drift
        said = verdict.label
        if verdict.detail:
            said += f" ({verdict.reason.value}: {verdict.detail})"
        marked = verdict.verdict_id == choice.chosen
        cells = [
            "►" if marked else "",
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
        style = _STYLES.get(verdict.disposition.value, "") + (" reverse" if marked else "")
        table.add_row(*(Text(plain(cell, 80), no_wrap=True) for cell in cells), style=style)
    return table


def _in_full(station: str, verdict: VerdictMessage, height: int) -> RenderableType:
    """One verdict with every field of its message."""
    title = f"{station}: {verdict.label} {verdict.disposition.value}"
    table = Table("field", "value", title=Text(plain(title), "bold"), title_justify="left")
    rows: list[tuple[str, str]] = []
    for name, value in verdict.model_dump(mode="json", by_alias=True).items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for key, one in inner:
            rows.append((f"{name}.{key}" if key else name, "-" if one is None else str(one)))
    room = max(3, height - 7)
    for name, text in rows[:room]:
        table.add_row(Text(plain(name, 60)), Text(plain(text)))
    more = [Text(f"… {len(rows) - room} more; make the terminal higher")] if rows[room:] else []
    return Group(table, *more, Text("esc back   q back", "dim"))
