"""``edge-qc watch``: verdicts live in a terminal, as a broker delivers them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_qc.cli.broker import broker_and_topic, broker_options
from edge_qc.cli.options import Number

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_qc.cli.tally import Seen, Tally
    from edge_qc.publisher import Subscription

_REFRESH_S = 0.25
_KEYS_S = 0.05


@click.command("watch")
@broker_options
@click.option("--count", type=click.IntRange(min=1), help="End after this many verdicts.")
@click.option(
    "--for",
    "for_s",
    type=Number(min=0, min_open=True),
    help="End after this many seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Every message as one line of JSON.")
def command(
    broker: str | None,
    config: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    count: int | None,
    for_s: float | None,
    as_json: bool,
) -> int:
    """Show verdicts as they arrive: the latest, counts by class and die, rate, state.

    Keys pause the list, filter it, and open one verdict in full; the last line names them. Without
    a terminal it prints one line for each verdict. It ends at q or Ctrl-C, or by --count and --for;
    exit status 1 if fewer than --count came in time.
    """
    import signal
    import sys

    from edge_qc.cli.tally import Tally
    from edge_qc.publisher import Subscription

    mqtt, topic = broker_and_topic(broker, config, username, password_file, ca_file)
    tally = Tally()
    # Like Ctrl-C, so that the terminal is restored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        subscription = Subscription(mqtt, [topic])
        try:
            if as_json:
                _follow(subscription, tally, count, for_s, _print_json)
            elif sys.stdout.isatty():
                _follow_live(subscription, tally, count, for_s, f"{mqtt.host}:{mqtt.port}")
            else:
                _follow(subscription, tally, count, for_s, _print_line)
        finally:
            subscription.close()
    except KeyboardInterrupt:
        return 0
    if count is not None and tally.verdicts < count:
        within = "" if for_s is None else f" in {for_s:g} s"
        click.echo(f"edge-qc: only {tally.verdicts} of {count} verdicts came{within}", err=True)
        return 1
    return 0


def _follow(
    subscription: Subscription,
    tally: Tally,
    count: int | None,
    for_s: float | None,
    show: Callable[[bytes, Seen], None],
    tick: Callable[[], bool] | None = None,
) -> None:
    """Read until the requested end. ``tick``, if given, is called often, shows any trouble, and
    returns whether to go on."""
    import time

    from edge_qc.cli.tally import plain

    until_s = float("inf") if for_s is None else time.monotonic() + for_s
    ticked_s, trouble = 0.0, None
    turn_s = _REFRESH_S if tick is None else _KEYS_S
    while count is None or tally.verdicts < count:
        now_s = time.monotonic()
        if now_s >= until_s:
            return
        if tick is not None and now_s - ticked_s >= turn_s:
            ticked_s = now_s
            if not tick():
                return
        received = subscription.read(min(turn_s, until_s - now_s))
        if received is not None:
            seen = tally.add(received.topic, received.payload, time.monotonic())
            if seen is not None:
                show(received.payload, seen)
        if tick is None and subscription.trouble != trouble:
            trouble = subscription.trouble
            click.echo(f"edge-qc: {plain(trouble or 'connected again')}", err=True)


def _follow_live(
    subscription: Subscription, tally: Tally, count: int | None, for_s: float | None, where: str
) -> None:
    import time

    from rich.console import Console
    from rich.live import Live

    from edge_qc.cli.keys import Choice, keyboard
    from edge_qc.cli.screen import picture

    console, choice, drawn_s = Console(), Choice(), 0.0
    with keyboard() as pressed, Live(console=console, auto_refresh=False, transient=False) as live:

        def draw() -> None:
            shown = picture(tally, where, subscription.trouble, console.height, choice)
            live.update(shown, refresh=True)

        def tick() -> bool:
            nonlocal drawn_s
            keys = pressed()
            for key in keys:
                choice.press(key, tally)
            if keys or time.monotonic() - drawn_s >= _REFRESH_S:
                drawn_s = time.monotonic()
                draw()
            return not choice.over

        _follow(subscription, tally, count, for_s, lambda _payload, _seen: None, tick)
        draw()


def _print_json(payload: bytes, seen: Seen) -> None:
    import json

    if seen.message is None:
        fault = {"station": seen.station, "unreadable": seen.fault}
        click.echo(json.dumps(fault))
    else:
        # One line, whatever white space the sender used; and what a terminal shows is ASCII.
        click.echo(json.dumps(json.loads(payload)))


def _print_line(_payload: bytes, seen: Seen) -> None:
    from edge_qc.cli.tally import plain
    from edge_qc.publisher import EventMessage, PartMessage, StateMessage, VerdictMessage

    message, words = seen.message, [seen.station]
    if message is None:
        words += ["unreadable:", str(seen.fault)]
    elif isinstance(message, VerdictMessage):
        words += [message.camera, message.die or "-", message.part_id or message.image or "-"]
        words += [message.label, message.disposition.value, message.time.isoformat()]
        words += [message.reason.value, message.detail] if message.detail else []
        words += ["duplicate"] if seen.duplicate else []
        words += ["historical"] if message.historical else []
    elif isinstance(message, PartMessage):
        missing = f"missing {', '.join(message.missing)}" if message.missing else ""
        words += ["part", message.part_id, message.label, message.disposition.value, missing]
    elif isinstance(message, EventMessage):
        words += [message.severity.value, message.event, message.detail]
    elif isinstance(message, StateMessage):
        words += ["state", message.state.value, message.why]
    else:
        return
    click.echo("  ".join(plain(word) for word in words if word))
