"""``edge-qc fleet``: what runs on each station, and how often one rejects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_qc.cli.broker import broker_and_topic, broker_options
from edge_qc.cli.options import Number, json_option

if TYPE_CHECKING:
    from edge_qc.plant.fleet import StationRow

_COLUMNS = ("station", "state", "since", "bundle", "verdicts/s", "waiting", "why")
_KEYS = ("station", "state", "bundle", "why")
"""Which columns a narrow terminal shows, the one that it always shows first."""


@click.group("fleet")
def command() -> None:
    """See what runs on a broker's stations. To change them, use Ansible (deploy/fleet)."""


@command.command("status")
@broker_options
@json_option
@click.option("--site", default="+", help="Only the stations of this site.")
@click.option(
    "--for",
    "for_s",
    type=Number(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Seconds to listen; the broker stores every station's last state.",
)
@click.option(
    "--bundle-version",
    type=click.IntRange(min=1),
    help="Exit status 1 unless every station judges with this version of its bundle.",
)
def status(
    broker: str | None,
    config: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    as_json: bool,
    site: str,
    for_s: float,
    bundle_version: int | None,
) -> int:
    """Show every station: state, since when and why, bundle, rate and outbox."""
    import json

    from edge_qc.errors import UsageError
    from edge_qc.plant.fleet import retained, roster

    if site != "+" and set(site) & set("/+#"):
        raise UsageError(f"--site {site!r}: wanted one name, without / + #")
    mqtt, _ = broker_and_topic(broker, config, username, password_file, ca_file)
    rows = roster(retained(mqtt, for_s, site))

    def wrong(row: StationRow) -> bool:
        return bundle_version is not None and not (
            row.judges and row.bundle_version == bundle_version
        )

    if as_json:
        click.echo(json.dumps({"stations": [_document(row, wrong(row)) for row in rows]}, indent=2))
    else:
        _draw(rows, [wrong(row) for row in rows])
    if not rows:
        click.echo("edge-qc: this broker has no message of any station", err=True)
        return 1
    return int(any(map(wrong, rows)))


def _document(row: StationRow, wrong: bool) -> dict[str, object]:
    import dataclasses

    document = {
        field.name: getattr(row, field.name)
        for field in dataclasses.fields(row)
        if field.name != "health"
    }
    health = row.health
    return document | {
        "state": row.state and row.state.value,
        "since": row.since and row.since.isoformat(),
        "health": None if health is None else health.model_dump(mode="json", by_alias=True),
        "as_wanted": not wrong,
    }


def _draw(rows: Sequence[StationRow], wrong: list[bool]) -> None:
    from edge_qc.cli.rows import print_table

    cells = []
    for row, amiss in zip(rows, wrong, strict=True):
        health = row.health
        waiting = None if health is None or health.outbox is None else health.outbox.waiting
        cells.append(
            [
                row.name,
                ("✗ " if amiss else "") + (row.state.value if row.state else "?"),
                row.since and f"{row.since:%Y-%m-%d %H:%M:%SZ}",
                row.bundle_id and f"{row.bundle_version} {row.bundle_id[:12]}",
                health and f"{health.rate_per_s:.1f}",
                waiting,
                row.fault or row.why,
            ]
        )
    print_table(_COLUMNS, cells, _KEYS)


@command.command("rate")
@broker_options
@json_option
@click.argument("station")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How many live verdicts to wait for.",
)
@click.option(
    "--for",
    "for_s",
    type=Number(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds to wait for them.",
)
@click.option(
    "--at-most",
    type=Number(0, 1),
    help="Exit status 1 if a larger share is rejected, or too few verdicts came.",
)
def rate(
    broker: str | None,
    config: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    as_json: bool,
    station: str,
    count: int,
    for_s: float,
    at_most: float | None,
) -> int:
    """Measure the share of views that STATION (SITE/STATION) currently rejects."""
    import json

    from edge_qc.plant.fleet import rates

    mqtt, _ = broker_and_topic(broker, config, username, password_file, ca_file)
    seen = rates(mqtt, station, count=count, for_s=for_s)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "station": station,
                    "verdicts": seen.verdicts,
                    "not_judged": seen.not_judged,
                    "dispositions": dict(seen.dispositions),
                    "rejected": seen.rejected,
                }
            )
        )
    else:
        share = "nothing was judged" if seen.rejected is None else f"{seen.rejected:.1%} rejected"
        click.echo(f"{station}: {share}, {seen.verdicts} verdicts, {seen.not_judged} not judged")
    if at_most is None:
        return 0
    if seen.verdicts < count:
        click.echo(
            f"edge-qc: only {seen.verdicts} of {count} verdicts came in {for_s:g} s", err=True
        )
        return 1
    return int(seen.rejected is None or seen.rejected > at_most)


@command.command("forget")
@broker_options
@click.argument("station")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--for",
    "for_s",
    type=Number(min=0, min_open=True),
    default=6.0,
    show_default=True,
    help="Seconds to listen for a sign of life; stations send one every 5 s unless told otherwise.",
)
def forget(
    broker: str | None,
    config: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    station: str,
    yes: bool,
    for_s: float,
) -> None:
    """Have the broker forget STATION (SITE/STATION), which was renamed or taken away.

    Its retained state and heartbeat are cleared, and it vanishes from dashboards, watch and fleet
    status. What is recorded of it stays. A station that is alive is refused.
    """
    from edge_qc.plant.fleet import forget

    mqtt, _ = broker_and_topic(broker, config, username, password_file, ca_file)
    if not yes:
        click.confirm(f"Have {mqtt.host}:{mqtt.port} forget {station}?", abort=True, err=True)
    row = forget(mqtt, station, for_s=for_s)
    last = f" (last state: {row.state.value})" if row.state is not None else ""
    click.echo(f"{station}{last}: forgotten")
