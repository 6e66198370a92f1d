"""The way out to the machine: verdicts at pins and controllers, in time or as REJECT.

``Outputs`` is the room's door. A verdict that is on disk is offered here, and goes to the broker
after that; an output that is slow, away or broken holds up no verdict, and its parts are rejected.
``block`` defines the values, ``layout`` their addresses, ``deadline`` when a PASS may be shown. The
room gives no safety function in the sense of ISO 13849.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from edge_qc.output.connection import check_output, open_connection, open_counters
from edge_qc.output.latch import FILE, Latch
from edge_qc.output.layout import RegisterMap, check_apart, register_map
from edge_qc.output.news import Bulletin, Tell
from edge_qc.output.outlet import Outlet
from edge_qc.output.polling import ControllerTrigger, CounterWatch
from edge_qc.output.result import Result, label_number
from edge_qc.settings import OutputTable, Settings
from edge_qc.settings.triggering import Pin
from edge_qc.system.state import State

__all__ = [
    "ControllerTrigger",
    "Outlet",
    "OutputFigures",
    "Outputs",
    "Result",
    "check_output",
    "label_number",
    "map_of",
    "maps_of",
]


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """One output since the start. results: offered to it; shown: at its other side; unsent: not
    shown because it was away; superseded: replaced by the next before it took them, also while it
    was away; unconfirmed: the ejector was silent, or moved unasked.
    latency_ms: from trigger to coil, p50 and p99 of the last ones, worst since the start; at a pin
    with a delay, how much later than meant."""

    connected: bool
    results: int
    shown: int
    passed: int
    late: int
    superseded: int
    unsent: int
    unconfirmed: int
    latency_ms: Mapping[str, float]


def map_of(settings: Settings, table: OutputTable) -> RegisterMap:
    """Where an output's values lie. Raises SettingsError if they overlap."""
    return register_map(table, settings.blocks_of(table), triggers=settings.triggers_of(table))


def maps_of(settings: Settings) -> list[RegisterMap]:
    """Of all outputs, in the order of the settings. Raises SettingsError if values overlap, also
    of two outputs at one controller."""
    maps = [map_of(settings, table) for table in settings.output]
    check_apart(maps)
    return maps


class Outputs:
    """All outputs of a station, REJECT from the first moment on. Every method may be called from
    any thread, and returns at once."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        """tell: takes events. Raises SettingsError for what can never work."""
        self._latch = Latch(settings.station.state_dir / FILE)
        self._outlets: list[Outlet] = []
        self._watches: dict[str, CounterWatch] = {}
        for table in settings.output:
            check_output(table)
        for found in maps_of(settings):
            table = found.table
            news = Bulletin(table.name, tell, self._latch)
            outlet = Outlet(table, settings.blocks_of(table), partial(open_connection, found), news)
            self._outlets.append(outlet)
            if found.trigger is not None or found.confirm is not None:
                self._watches[table.name] = CounterWatch(
                    table.name,
                    partial(open_counters, found),
                    table.poll_ms / 1e3,
                    on_lost=partial(_tell_lost, news),
                    on_confirmed=outlet.confirmed,
                )

    def start(self) -> None:
        """Connect, and show REJECT everywhere."""
        for outlet in self._outlets:
            outlet.start()
        for watch in self._watches.values():
            watch.start()

    def offer(self, result: Result) -> None:
        """A verdict that is on disk: to every output that shows its block."""
        for outlet in self._outlets:
            if result.block in outlet.blocks:
                outlet.offer(result)

    def station(self, state: State) -> None:
        """What the station is doing from now on."""
        for outlet in self._outlets:
            outlet.station(state)

    def on_trigger(self, name: str, call: Callable[[ControllerTrigger], object]) -> None:
        """Has ``call`` called with each trigger that this output's controller counts, on a thread
        that may wait."""
        self._watches[name].on_trigger = call

    def confirmers(self) -> list[tuple[Pin, Outlet]]:
        """The outputs whose ejector confirms at a pin: what pin, and whom to tell that it moved."""
        return [
            (outlet.table.confirming_pin, outlet)
            for outlet in self._outlets
            if outlet.table.confirming_pin is not None
        ]

    def encoders(self) -> list[tuple[Pin, Outlet]]:
        """The outputs that count a belt's edges: what pin, and whom to tell of them."""
        return [
            (outlet.table.encoder_pin, outlet)
            for outlet in self._outlets
            if outlet.table.encoder_pin is not None
        ]

    def acknowledge(self) -> dict[str, str]:
        """Acknowledge for a person. Returns the faults that stood, by output."""
        return self._latch.acknowledge()

    def seen_meanwhile(self) -> dict[str, str] | None:
        """As ``Latch.seen_meanwhile``."""
        return self._latch.seen_meanwhile()

    def forget_seen(self) -> None:
        """As ``Latch.forget_seen``."""
        self._latch.forget_seen()

    def faults(self) -> list[str]:
        """Why nothing may be GOOD until a person acknowledges."""
        return [
            f"output {name}: {why}; then: edge-qc output acknowledge"
            for name, why in self._latch.standing().items()
        ]

    def troubles(self) -> list[str]:
        """What is missing while the rest goes on."""
        watches = [watch.trouble for watch in self._watches.values()]
        found = [outlet.trouble for outlet in self._outlets] + watches
        return [trouble for trouble in found if trouble is not None]

    def figures(self) -> dict[str, OutputFigures]:
        """By output."""
        return {
            outlet.table.name: OutputFigures(
                connected=outlet.connected,
                results=outlet.results,
                shown=outlet.showing.count,
                passed=outlet.showing.passed,
                late=outlet.showing.times.late,
                superseded=outlet.superseded,
                unsent=outlet.unsent,
                unconfirmed=outlet.unconfirmed,
                latency_ms=outlet.showing.times.latency_ms(),
            )
            for outlet in self._outlets
        }

    def loops(self) -> dict[str, int | None]:
        """How often each thread went round, for the watchdog."""
        found: dict[str, int | None] = {
            f"output {outlet.table.name}": outlet.turns for outlet in self._outlets
        }
        found |= {f"counters of {name}": watch.turns for name, watch in self._watches.items()}
        return found

    def close(self) -> None:
        """REJECT everywhere, and give all outputs back."""
        for watch in self._watches.values():
            watch.close()
        for outlet in self._outlets:
            outlet.close()


def _tell_lost(news: Bulletin, count: int) -> None:
    news.alarm(
        "trigger-lost",
        f"{count} triggers of the controller were counted while nobody could read them in time; "
        "their parts have no verdict and are rejected",
    )
