"""``edge-qc outbox``: what the station has to say and the broker has not acknowledged."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.options import config_option, json_option

_file_option = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The outbox itself, such as one that was set aside; instead of --config.",
)


@click.group("outbox")
def command() -> None:
    """Show, export or verify what has not been delivered. The station may run meanwhile."""


@command.command("status")
@config_option
@_file_option
@json_option
def status(config: Path, file: Path | None, as_json: bool) -> None:
    """How many messages wait, since when, and what else the outbox holds."""
    import dataclasses
    import json

    from edge_qc.cli.table import print_tree
    from edge_qc.publisher import audit

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
@click.option("--waiting", is_flag=True, help="Only what the broker has not acknowledged.")
@click.option("--kind", type=click.Choice(["verdict", "part", "event"]), help="Only this topic's.")
def export(config: Path, file: Path | None, waiting: bool, kind: str | None) -> None:
    """Write the messages as lines of JSON, in the order in which they were made."""
    from edge_qc.publisher import Kind, audit

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

    Exit status 1 where something is wrong.
    """
    import json

    from edge_qc.publisher import audit

    path = _resolve(config, file)
    faults = list(audit.faults(path))
    if as_json:
        click.echo(json.dumps({"file": str(path), "faults": faults}, indent=2))
    else:
        for fault in faults:
            click.echo(fault)
        if not faults:
            click.echo(f"{path}: all is as it was written")
    return 1 if faults else 0


def _resolve(config: Path, file: Path | None) -> Path:
    if file is not None:
        return file
    from edge_qc.publisher import OUTBOX_FILE
    from edge_qc.settings import read_settings

    return read_settings(config).station.state_dir / OUTBOX_FILE
