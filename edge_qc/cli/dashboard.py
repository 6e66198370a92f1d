"""``edge-qc dashboard``: the plant's stations and verdicts in a browser."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_qc.cli.broker import broker_and_topic, broker_options
from edge_qc.cli.shifts import shift_options, shifts_of

if TYPE_CHECKING:
    from edge_qc.plant.dashboard.records.recorded import Records


@click.command("dashboard")
@broker_options
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=8080,
    show_default=True,
    help="The port to listen on.",
)
@click.option(
    "--login-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file whose first line is a password that all share; others cannot look without one.",
)
@click.option(
    "--accounts-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Accounts with names and roles, as edge-qc account writes them, instead of --login-file.",
)
@click.option(
    "--user-header",
    metavar="HEADER",
    help="Where a reverse proxy names whom it let in, such as X-Remote-User; with --proxy.",
)
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="The reverse proxy's IP address; may be repeated. Nobody else's header counts.",
)
@click.option(
    "--database",
    envvar="EDGE_QC_DATABASE",
    show_envvar=True,
    metavar="FILE|URL",
    help="The records of edge-qc record: shifts, days, weeks, handover, labels.",
)
@shift_options
@click.option(
    "--https-cert-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Serve HTTPS with this certificate.",
)
@click.option(
    "--https-key-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The certificate's key.",
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="A station's evidence folder, shared with this machine; may be repeated.",
)
def command(
    broker: str | None,
    config: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    host: str,
    port: int,
    login_file: Path | None,
    accounts_file: Path | None,
    user_header: str | None,
    proxies: tuple[str, ...],
    database: str | None,
    shifts: str,
    zone: tzinfo,
    https_cert_file: Path | None,
    https_key_file: Path | None,
    evidence: tuple[Path, ...],
) -> None:
    """Serve the plant's dashboard: stations, verdicts, yield, drift and events.

    It publishes nothing and changes no station. Without a password, only this machine can open it.
    """
    import importlib.util
    import signal

    from edge_qc.errors import EdgeQCError
    from edge_qc.extras import how_to_install

    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise EdgeQCError(
            f"the dashboard needs {' and '.join(missing)}. Install with: "
            + how_to_install("dashboard")
        )
    if (https_cert_file is None) != (https_key_file is None):
        raise click.UsageError("--https-cert-file and --https-key-file go together")

    if (user_header is None) != (not proxies):
        raise click.UsageError("--user-header and --proxy go together")
    if login_file is not None and accounts_file is not None:
        raise click.UsageError("give --login-file or --accounts-file, not both")

    from edge_qc.cli.review import require_evidence
    from edge_qc.plant.dashboard.access import Proxy
    from edge_qc.plant.dashboard.feed import Feed
    from edge_qc.plant.dashboard.login import Login, require_login
    from edge_qc.plant.dashboard.server import serve

    mqtt, topic = broker_and_topic(broker, config, username, password_file, ca_file)
    login = None
    if login_file is not None:
        login = Login.from_password_file(login_file)
    elif accounts_file is not None:
        login = Login.from_accounts_file(accounts_file)
    elif user_header is not None:
        # The proxy lets people in; nobody logs in here.
        login = Login({})
    require_login(host, login)
    proxy = None if user_header is None else Proxy(user_header, proxies)
    records = None if database is None else _records(database, shifts, zone)
    # uvicorn raises the signal that stopped it again when it has finished; ignore it, since nothing
    # is left to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    feed = Feed(mqtt, [topic], records)
    try:
        scheme = "http" if https_cert_file is None else "https"
        shown = f"[{host}]" if ":" in host else host
        address = f"edge-qc dashboard: {scheme}://{shown}:{port}"
        if login is not None and proxy is None and https_cert_file is None:
            click.echo(
                "edge-qc: without --https-cert-file the password and the verdicts travel "
                "unencrypted",
                err=True,
            )
        for folder in evidence:
            try:
                require_evidence(folder)
            except EdgeQCError as error:
                # A share that is away takes its pictures alone.
                click.echo(f"edge-qc: {error}. Until then its pictures are missing", err=True)
        serve(
            *(feed, login, host, port, https_cert_file, https_key_file, evidence, proxy),
            listens=lambda: click.echo(address, err=True),
        )
    finally:
        feed.close()


def _records(database: str, shifts: str, zone: tzinfo) -> Records:
    from edge_qc.plant.dashboard.records.recorded import Records
    from edge_qc.plant.recorder import open_database

    return Records(open_database(database, create=False), shifts_of(shifts, zone))
