"""``edge-qc notify``: tells people by webhook or e-mail what is wrong, and when it is over."""

from __future__ import annotations

from pathlib import Path

import click

from edge_qc.cli.broker import broker_and_topic, broker_options
from edge_qc.cli.options import Number, Share

_SESSION_S = 3600


@click.command("notify")
@broker_options
@click.option(
    "--targets-file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A file of Apprise URLs, one a line: jsons://… for a webhook, mailtos://… for e-mail.",
)
@click.option(
    "--after",
    "after_s",
    type=Number(min=0),
    default=60.0,
    show_default=True,
    help="Seconds for which DEAD, FAULT or a missing broker must last.",
)
@click.option("--yield-below", type=Share(), help="Notice a lower yield, such as 90%.")
@click.option(
    "--views",
    type=click.IntRange(1, 1_000_000),
    default=200,
    show_default=True,
    help="Of how many judged views a yield is.",
)
@click.option(
    "--memory-file",
    "memory",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file of what was noticed, so that a restart repeats none.",
)
@click.option(
    "--session",
    default="edge-qc-notify",
    show_default=True,
    help="Its name at the broker, one for each that runs.",
)
@click.option("--test", is_flag=True, help="Send one notice to every target, and end.")
def command(
    broker: str | None,
    config: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    targets_file: Path,
    after_s: float,
    yield_below: float | None,
    views: int,
    memory: Path | None,
    session: str,
    test: bool,
) -> None:
    """Notify people of what is wrong at a station, once, and of its end.

    Noticed are DEAD (but not a planned stop) and FAULT, a camera's pictures or drift out of
    control, an ejector that is not confirmed, a yield below --yield-below, and a broker that is
    away. Ends at Ctrl-C or SIGTERM.
    """
    import logging
    import signal
    import threading

    from edge_qc.errors import PublishError
    from edge_qc.plant.notices.conditions import Conditions, Notice
    from edge_qc.plant.notices.memory import recall
    from edge_qc.plant.notices.sending import Sender, read_targets
    from edge_qc.plant.notices.service import watch
    from edge_qc.publisher import Subscription
    from edge_qc.system.notify import notify

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    urls = read_targets(targets_file)
    if test:
        sender = Sender(urls)
        sender.send(Notice("edge-qc: a test", "Notices reach you.", over=True))
        sender.close()
        if sender.waiting:
            raise PublishError(f"{sender.waiting} of {len(urls)} targets did not take the notice")
        click.echo(f"{len(urls)} targets took the notice")
        return
    mqtt, topic = broker_and_topic(broker, config, username, password_file, ca_file)
    root = topic.removesuffix("/+")
    levels = ["state", "event", *(["verdict"] if yield_below is not None else [])]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sender = Sender(urls)

    def connect() -> Subscription:
        filters = [f"{root}/{level}" for level in levels]
        return Subscription(mqtt, filters, session=session, session_s=_SESSION_S)

    try:
        where = f"{mqtt.host}:{mqtt.port}"
        click.echo(f"watching {root} of {where} for {len(urls)} targets", err=True)
        # Ready also while the broker is away: that is something to notice.
        notify("READY=1")
        conditions = Conditions(after_s, yield_below, views, recall(memory))
        watch(connect, where, conditions, sender.send, stop, memory)
    finally:
        sender.close()
