"""``edge-qc outbox``: the station's messages that have not been acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo
from pathlib import Path

import click

from edge_qc.cli.options import config_option, json_option
from edge_qc.cli.times import Zone

_file_option = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The outbox file, such as one that was set aside, instead of the station's own.",
)

_KINDS = ("verdict", "part", "event", "overrule")


@click.group("outbox")
def command() -> None:
    """Show, export, verify or replay the outbox. The station may run meanwhile."""


@command.command("status")
@config_option
@_file_option
@json_option
def status(config: Path, file: Path | None, as_json: bool) -> None:
    """Count the messages in the outbox, and show how old the oldest is."""
    import dataclasses
    import json

    from edge_qc.cli.table import print_tree
    from edge_qc.publisher.ledger import audit

    found = dataclasses.asdict(audit.report(_resolve(config, file)))
    if as_json:
        click.echo(json.dumps(found, default=str, indent=2))
    else:
        name = found.pop("file")
        print_tree(
            str(name), {key: "-" if value is None else value for key, value in found.items()}
        )


@command.command("export")
@config_option
@_file_option
@click.option("--waiting", is_flag=True, help="Only messages that have not been acknowledged.")
@click.option("--kind", type=click.Choice(_KINDS), help="Only this topic's.")
def export(config: Path, file: Path | None, waiting: bool, kind: str | None) -> None:
    """Write the messages as lines of JSON, in order."""
    from edge_qc.publisher import Kind
    from edge_qc.publisher.ledger import audit

    for payload in audit.messages(
        _resolve(config, file), kind=Kind(kind) if kind else None, waiting=waiting
    ):
        click.echo(payload)


@command.command("verify")
@config_option
@_file_option
@json_option
def verify(config: Path, file: Path | None, as_json: bool) -> int:
    """Check the file, its commits, every payload's hash and every number.

    Exit status 1 if anything is wrong.
    """
    import json

    from edge_qc.publisher.ledger import audit

    path = _resolve(config, file)
    faults = list(audit.faults(path))
    if as_json:
        click.echo(json.dumps({"file": str(path), "faults": faults}, indent=2))
    else:
        for fault in faults:
            click.echo(fault)
        if not faults:
            click.echo(f"{path}: intact")
    return 1 if faults else 0


@command.command("replay")
@config_option
@_file_option
@click.option("--from", "first", metavar="TIME|SEQ", help="The first, inclusive.")
@click.option("--to", "last", metavar="TIME|SEQ", help="The last, inclusive.")
@click.option(
    "--zone", type=Zone(), default="UTC", show_default=True, help="Of times without an offset."
)
@click.option("--epoch", help="The epoch; --from and --to are then numbers.")
@click.option("--kind", type=click.Choice(_KINDS), help="Only this topic's.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(
    config: Path,
    file: Path | None,
    first: str | None,
    last: str | None,
    zone: tzinfo,
    epoch: str | None,
    kind: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Send delivered messages again, marked historical, if the plant has lost them.

    All of them, or those that are selected, after it has said how many and asked. Select by time
    (2026-03-01, 2026-03-01T06:00 in --zone, 2026-03-01T06:00+01:00) or, with --epoch, by number.
    [outbox] in station.toml sets how long delivered messages are kept.
    """
    from dataclasses import replace

    from edge_qc.publisher import Kind
    from edge_qc.publisher.connection.replay import Selection, delivered, replay
    from edge_qc.settings import read_settings

    selection = Selection(epoch=epoch, kinds=(Kind(kind),) if kind else Selection().kinds)
    if epoch is not None:
        selection = replace(selection, first=_number(first), last=_number(last))
    else:
        from edge_qc.cli.times import end_of, start_of

        selection = replace(selection, since=start_of(first, zone), until=end_of(last, zone))
    path = _resolve(config, file)
    if dry_run:
        click.echo(f"{_count(delivered(path, selection))} messages would be sent")
        return
    settings = read_settings(config)
    if not yes and (count := _count(delivered(path, selection))):
        broker = f"{settings.mqtt.host}:{settings.mqtt.port}"
        click.confirm(f"Send {count} messages again to {broker}?", abort=True, err=True)
    sent = replay(settings.mqtt, settings.station, delivered(path, selection))
    click.echo(f"{sent} messages sent")


def _count(messages: Iterable[object]) -> int:
    return sum(1 for _ in messages)


def _number(text: str | None) -> int | None:
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise click.UsageError(f"{text!r}: with --epoch, --from and --to are numbers")


def _resolve(config: Path, file: Path | None) -> Path:
    if file is not None:
        return file
    from edge_qc.publisher import OUTBOX_FILE
    from edge_qc.settings import read_settings

    return read_settings(config).station.state_dir / OUTBOX_FILE
