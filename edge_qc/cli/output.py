"""``edge-qc output``: the way to the machine looked at, tried on purpose, and made safe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_qc.cli.options import config_option, json_option

if TYPE_CHECKING:
    from edge_qc.settings import OutputTable, Settings


@click.group("output")
def command() -> None:
    """The way from verdict to reject: register map, a pulse on purpose, faults acknowledged."""


@command.command("map")
@click.argument("name", required=False)
@config_option
def print_map(name: str | None, config: Path) -> None:
    """Print the register map of the output NAME, or of all, for whoever programs the controller.

    Markdown; labels are those of the bundle that the station has now.
    """
    from edge_qc.bundle.slots import bundle_folder
    from edge_qc.bundle.verification import open_bundle
    from edge_qc.errors import BundleError
    from edge_qc.output import maps_of
    from edge_qc.output.page import page
    from edge_qc.settings import read_settings

    settings = read_settings(config)
    try:
        bundle = open_bundle(bundle_folder(settings), settings.bundle.public_key)
        labels = bundle.manifest.labels
    except BundleError as error:
        click.echo(f"labels are not known: {error}", err=True)
        labels = ()
    maps = {found.table.name: found for found in maps_of(settings)}
    for table in _named(settings, name):
        if table.where.kind == "gpio":
            click.echo(f"output {table.name} is a pin: {table.target}", err=True)
            continue
        click.echo(page(maps[table.name], labels))


@command.command("test")
@click.argument("name")
@config_option
@click.option("--pulse", is_flag=True, help="Show one PASS, and take it back.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def try_output(name: str, config: Path, pulse: bool, yes: bool) -> None:
    """Connect to the output NAME while no station runs; with --pulse, move it on purpose.

    Whatever it drives will move: see that nobody is in its way.
    """
    import time
    from dataclasses import replace

    from edge_qc.errors import EdgeQCError
    from edge_qc.output import map_of
    from edge_qc.output.block import PASSED, Block
    from edge_qc.output.connection import check_output, open_connection
    from edge_qc.settings import read_settings

    settings = read_settings(config)
    (table,) = _named(settings, name)
    _no_station(settings)
    check_output(table)
    blocks = settings.blocks_of(table)
    seconds = table.shown_ms / 1e3 or 1.0
    if pulse:
        click.echo(_warning(table, blocks, seconds), err=True)
        if not yes:
            click.confirm("Is nobody in its way?", abort=True, err=True)
    connection = open_connection(map_of(settings, table))
    try:
        for block in blocks:
            resting = Block(toggle=connection.toggle(block))
            connection.show(block, resting)
            connection.write(block, resting)
            if not pulse:
                continue
            shown = replace(
                resting,
                disposition=PASSED,
                trigger="edge-qc output test",
                passed=True,
                toggle=not resting.toggle,
            )
            try:
                connection.write(block, shown)
                connection.show(block, shown)
                click.echo(f"{table.name}, {block}: PASS for {seconds:g} s", err=True)
                time.sleep(seconds)
            finally:
                resting = replace(resting, toggle=shown.toggle)
                connection.show(block, resting)
                connection.write(block, resting)
    except EdgeQCError:
        click.echo(f"{table.name}: what it shows now is not known", err=True)
        raise
    finally:
        connection.close()
    click.echo(f"{table.name}: answers, and stands at REJECT")


@command.command("acknowledge")
@config_option
@json_option
def acknowledge(config: Path, as_json: bool) -> None:
    """End the FAULT of an output, or an alarm of its ejector, once a person has seen to it.

    After a FAULT parts may be GOOD again. Asked of the running station; where none runs, its next
    start publishes it.
    """
    import json

    from edge_qc.errors import EdgeQCError
    from edge_qc.output.latch import FILE, Latch
    from edge_qc.settings import read_settings
    from edge_qc.system.control import connect

    state_dir = read_settings(config).station.state_dir
    ended: dict[str, str] = {}
    client = connect(state_dir, command="output-acknowledge")
    if client is None:
        try:
            ended = Latch(state_dir / FILE).acknowledge_for_next_start()
        except OSError as error:
            raise EdgeQCError(
                f"{error}. Nothing was acknowledged; run this as root or as the station's user, on "
                "a disk with room"
            ) from error
    else:
        with client:
            for answer in client.answers():
                ended = answer.get("acknowledged", ended)
    if as_json:
        click.echo(json.dumps({"acknowledged": ended}))
        return
    for name, why in ended.items():
        click.echo(f"{name}: {why}")
    if not ended:
        click.echo("no output is in FAULT; alarms of ejectors count as seen to")


@command.command("safe")
@config_option
def make_safe(config: Path) -> None:
    """Set every output to REJECT while no station runs: what the unit does after each stop.

    An output that cannot be reached is named, the others are set all the same.
    """
    from edge_qc.errors import EdgeQCError
    from edge_qc.output import map_of
    from edge_qc.output.block import STATES, Block
    from edge_qc.output.connection import check_output, open_connection
    from edge_qc.settings import read_settings
    from edge_qc.system.state import State

    settings = read_settings(config)
    failed = []
    for table in settings.output:
        try:
            check_output(table)
            connection = open_connection(map_of(settings, table))
            try:
                for block in settings.blocks_of(table):
                    dead = Block(toggle=connection.toggle(block), state=STATES[State.DEAD])
                    connection.show(block, dead)
                    connection.write(block, dead)
                    connection.beat(block, dead)
            finally:
                connection.close()
        except EdgeQCError as error:
            failed.append(table.name)
            click.echo(f"edge-qc: {error}", err=True)
        else:
            click.echo(f"{table.name}: REJECT")
    if failed:
        raise EdgeQCError(f"not set to REJECT: {', '.join(failed)}")


def _named(settings: Settings, name: str | None) -> list[OutputTable]:
    from edge_qc.errors import UsageError

    found = [table for table in settings.output if name in (None, table.name)]
    if not found:
        known = ", ".join(table.name for table in settings.output) or "none"
        raise UsageError(
            f"there is no output {name or ''} in station.toml; there are: {known}".replace(
                "  ", " "
            )
        )
    return found


def _no_station(settings: Settings) -> None:
    from edge_qc.errors import EdgeQCError
    from edge_qc.system.control import connect

    client = connect(settings.station.state_dir, command="status")
    if client is not None:
        with client:
            raise EdgeQCError(
                "a station runs here and holds its outputs; stop it first: "
                "sudo systemctl stop edge-qc"
            )


def _warning(table: OutputTable, blocks: tuple[str, ...], seconds: float) -> str:
    if table.where.kind == "gpio":
        level = f"goes {table.active} for {seconds:g} s"
        return f"WARNING: pin {table.target} {level}. Whatever hangs on it moves."
    return (
        f"WARNING: {table.target} is shown one PASS for {seconds:g} s in {', '.join(blocks)}. "
        "Whatever its programme drives with that moves: an ejector, a gate, a belt."
    )
