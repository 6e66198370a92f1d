"""The outputs: packages, chips, controllers that answer and have the addresses. Nothing moves.

Controllers are read, never written. Pins are not requested, since a request would set their level.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_qc.doctor.cameras import pin_finding
from edge_qc.doctor.finding import NO_SETTINGS, Finding, bad, good, none, note, remedy_of
from edge_qc.errors import EdgeQCError, SettingsError
from edge_qc.output import maps_of
from edge_qc.output.connection import check_output, open_connection, open_counters
from edge_qc.output.latch import FILE, Latch
from edge_qc.settings import OutputTable, Settings


def reach(settings: Settings | None) -> Iterator[Finding]:
    """Each output of the station, what confirms it, and the faults that a person has to end."""
    if settings is None:
        yield none("outputs", NO_SETTINGS)
        return
    if not settings.output:
        yield note("outputs", "none: verdicts reach people, and no machine", "see docs/outputs.md")
        return
    for table in settings.output:
        if table.where.pin is None:
            yield _controller(settings, table)
        else:
            yield pin_finding(f"output {table.name}", table.where.pin, "target")
        if table.confirming_pin is not None:
            check = f"confirmation of {table.name}"
            yield pin_finding(check, table.confirming_pin, "confirm")
        if table.encoder_pin is not None:
            yield pin_finding(f"encoder of {table.name}", table.encoder_pin, "encoder")
    for name, why in Latch(settings.station.state_dir / FILE).standing().items():
        yield bad(
            f"output {name}", f"in FAULT: {why}", "see to it, then: edge-qc output acknowledge"
        )


def _controller(settings: Settings, table: OutputTable) -> Finding:
    check = f"output {table.name}"
    try:
        check_output(table)
        found = next(found for found in maps_of(settings) if found.table is table)
        connection = open_connection(found)
        try:
            for area in found.blocks:
                connection.toggle(str(area.of))
        finally:
            connection.close()
        if found.trigger is not None or found.confirm is not None:
            counters = open_counters(found)
            try:
                counters.read()
            finally:
                counters.close()
    except SettingsError as error:
        return bad(check, str(error), remedy_of(error, "correct [[output]] in station.toml"))
    except EdgeQCError as error:
        return bad(check, str(error), f"edge-qc output map {table.name} shows what it must have")
    blocks = ", ".join(settings.blocks_of(table))
    return good(check, f"{table.target} answers; blocks {blocks}")
