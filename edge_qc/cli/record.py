"""``edge-qc record``: stores every station's messages in a database."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.broker import broker_and_topic, broker_options
from edge_qc.cli.options import Number, database_option

_SESSION_S = 14 * 86_400


@click.command("record")
@broker_options
@database_option
@click.option(
    "--session",
    default="edge-qc-record",
    show_default=True,
    help="The recorder's name at the broker, one for each; the broker stores messages under it "
    "while the recorder is away.",
)
@click.option(
    "--no-ack",
    is_flag=True,
    help="Send no acknowledgements: for a second recorder beside the first.",
)
@click.option(
    "--keep-days",
    # A century: a calendar has an end.
    type=Number(min=0, max=36_525, min_open=True),
    help="Delete messages older than this; by default never. Counts, verdicts on parts and "
    "labelled verdicts stay.",
)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Store this bundle's cost matrix for edge-qc query quality; may be repeated.",
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="Record the labels that edge-qc review keeps in this folder, such as a station's that is "
    "shared with this machine; may be repeated.",
)
def command(
    broker: str | None,
    config: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    database: str,
    session: str,
    no_ack: bool,
    keep_days: float | None,
    bundles: tuple[Path, ...],
    evidence: tuple[Path, ...],
) -> None:
    """Record verdicts, parts, events, states and overrules, and acknowledge them to their stations.

    --broker records every station of that broker, --config only one station. A station with
    `recorder = true` in [mqtt] keeps each message until this recorder acknowledges it. Ends at
    Ctrl-C or SIGTERM.
    """
    import json
    import logging
    import signal
    import threading

    from edge_qc.bundle.verification import open_bundle
    from edge_qc.evidence import Labels
    from edge_qc.plant.recorder import KINDS, Recorder, Store, open_database, wrapped
    from edge_qc.publisher import Subscription
    from edge_qc.system.notify import notify

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    mqtt, topic = broker_and_topic(broker, config, username, password_file, ca_file)
    root = topic.removesuffix("/+")
    engine = open_database(database)
    store = Store(engine)
    with wrapped(engine):
        for path in bundles:
            bundle = open_bundle(path)
            costs = {true: dict(said) for true, said in bundle.manifest.costs.items()}
            store.keep_costs(bundle.id, bundle.manifest.version, json.dumps(costs))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    levels = [*(kind.value for kind in KINDS), "overrule", "state"]
    subscription = Subscription(
        mqtt, [f"{root}/{level}" for level in levels], session=session, session_s=_SESSION_S
    )
    try:
        into = engine.url.render_as_string(hide_password=True)
        click.echo(f"recording {root} of {mqtt.host}:{mqtt.port} into {into}", err=True)
        notify("READY=1")
        recorder = Recorder(
            subscription,
            store,
            acknowledge=not no_ack,
            keep_days=keep_days,
            labels=[Labels(folder) for folder in evidence],
        )
        recorder.run(stop)
    finally:
        subscription.close()
        engine.dispose()
    click.echo(f"{recorder.new} recorded, {recorder.repeated} duplicates", err=True)
