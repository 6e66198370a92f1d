"""`edge-qc watch`: what a person and a program see of a line."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from rich.console import Console

from edge_qc.cli.screen import picture
from edge_qc.cli.tally import Tally, plain
from edge_qc.inspection.decision import not_judged
from edge_qc.parts import Disposition, PartVerdict, Reason
from edge_qc.publisher import Kind, part_content
from edge_qc.publisher.messages import EventContent, Severity, StateContent
from edge_qc.publisher.wire import as_sent, stamped
from edge_qc.system.state import State
from tests.rig.brokers import running_broker
from tests.rig.publishing import TIME, content, good

ROOT = Path(__file__).parents[3]
WATCH = [sys.executable, "-m", "edge_qc.cli", "watch"]
HOSTILE = "\x1b[2J[red]p\u202e1\n"


def verdict(seq: int, historical: bool = False, epoch: str = "e1", **fields: str) -> bytes:
    said = content(good(fields.pop("label", "GOOD")), **fields)
    text = stamped(
        Kind.VERDICT,
        said.model_dump_json(),
        epoch=epoch,
        site="s",
        station="n",
        seq=seq,
        verdict_id=f"{epoch}-{seq}",
    )
    return as_sent(text, historical)


def message(kind: Kind, said: EventContent | StateContent) -> bytes:
    numbered = kind is Kind.EVENT
    text = stamped(
        kind,
        said.model_dump_json(),
        epoch="e1",
        site="s",
        station="n",
        seq=1 if numbered else None,
    )
    return as_sent(text, False) if numbered else text.encode()


RUNNING = message(Kind.STATE, StateContent(state=State.RUNNING, time=TIME, why="judging"))
LOST = message(
    Kind.EVENT,
    EventContent(event="camera-lost", severity=Severity.ALARM, time=TIME, detail=HOSTILE),
)
TOPIC = "edge-qc/v1/s/n/"


def publish(address: tuple[str, int], *messages: tuple[str, bytes], retain: bool = False) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect(*address)
    client.loop_start()
    for topic, payload in messages:
        client.publish(TOPIC + topic, payload, 1, retain).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


@contextmanager
def watching(address: tuple[str, int], *options: str) -> Iterator[subprocess.Popen[str]]:
    """A watch that has seen the retained state, so that it is known to listen."""
    publish(address, ("state", RUNNING), retain=True)
    watch = subprocess.Popen(
        [*WATCH, "--broker", f"{address[0]}:{address[1]}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert watch.stdout is not None
    assert "RUNNING" in watch.stdout.readline()
    try:
        yield watch
    finally:
        watch.kill()
        watch.communicate()


@pytest.mark.broker
def test_a_line_for_each_verdict_where_there_is_no_terminal(broker: tuple[str, int]) -> None:
    """Everything a terminal would act on is taken out; it ends at the count, with status 0."""
    with watching(broker, "--count", "3") as watch:
        publish(
            broker,
            ("verdict", verdict(1, part_id=HOSTILE)),
            ("event", LOST),
            ("verdict", b"junk"),
            ("nonsense", b"{}"),
            ("verdict", verdict(2, historical=True, label="Missing", die="Die02")),
            ("verdict", verdict(2, historical=True, label="Missing", die="Die02")),
            ("verdict", verdict(3)),
        )
        output, errors = watch.communicate(timeout=20)
    assert watch.returncode == 0, errors
    lines = output.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("s/n  north  Die01  \ufffd[2J[red]p\ufffd1\ufffd  GOOD  PASS")
    assert "alarm  camera-lost" in lines[1]
    assert "unreadable" in lines[2]
    assert lines[3].split("  ")[2:6] == ["Die02", "-", "Missing", "REJECT"]
    assert lines[3].endswith("historical")
    assert "duplicate" in lines[4]
    assert "\x1b" not in output


@pytest.mark.broker
def test_json_is_the_messages_line_by_line(mosquitto: tuple[str, int]) -> None:
    with watching(mosquitto, "--count", "1", "--json") as watch:
        publish(mosquitto, ("event", LOST), ("verdict", b"{}"), ("verdict", verdict(1)))
        output, _ = watch.communicate(timeout=20)
    event, unreadable, told = map(json.loads, output.splitlines())
    assert event == json.loads(LOST)
    assert "does not match its schema" in unreadable["unreadable"]
    assert told == json.loads(verdict(1))


@pytest.mark.broker
def test_too_few_in_time_is_a_failure(mosquitto: tuple[str, int]) -> None:
    with watching(mosquitto, "--count", "2", "--for", "1.5") as watch:
        publish(mosquitto, ("verdict", verdict(1)))
        _, errors = watch.communicate(timeout=20)
    assert watch.returncode == 1
    assert "1 of 2 verdicts came in 1.5 s" in errors


@pytest.mark.broker
def test_a_broker_that_goes_and_comes_back_is_told_of(mosquitto: tuple[str, int]) -> None:
    with running_broker("mosquitto") as address:
        watch = watching(address, "--count", "1", "--for", "20")
        process = watch.__enter__()
    try:
        with running_broker("mosquitto", address[1]):
            until_s = time.monotonic() + 15
            while process.poll() is None and time.monotonic() < until_s:
                publish(address, ("verdict", verdict(1)))
                time.sleep(0.2)
            output, errors = process.communicate(timeout=20)
    finally:
        watch.__exit__(None, None, None)
    assert process.returncode == 0
    assert "GOOD" in output
    assert "the connection was lost" in errors
    assert "connected again" in errors


@pytest.mark.broker
def test_the_live_view_gives_the_terminal_back(mosquitto: tuple[str, int]) -> None:
    """In a real pseudo-terminal, ended by SIGTERM: cursor shown again, no traceback."""
    publish(mosquitto, ("state", RUNNING), retain=True)
    leader, follower = pty.openpty()
    watch = subprocess.Popen(
        [*WATCH, "--broker", f"{mosquitto[0]}:{mosquitto[1]}"],
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(follower)
    seen = b""
    while b"RUNNING" not in seen:
        seen += os.read(leader, 65_536)
    publish(mosquitto, ("verdict", verdict(1, label="Missing")))
    while b"Missing" not in seen:
        seen += os.read(leader, 65_536)
    watch.terminate()
    try:
        while data := os.read(leader, 65_536):
            seen += data
    except OSError:
        pass
    os.close(leader)
    assert watch.wait(10) == 0
    assert b"\x1b[?25h" in seen
    assert b"Traceback" not in seen


@pytest.mark.broker
def test_q_before_the_count_says_how_many_came(mosquitto: tuple[str, int]) -> None:
    leader, follower = pty.openpty()
    publish(mosquitto, ("state", RUNNING), retain=True)
    watch = subprocess.Popen(
        [*WATCH, "--broker", f"{mosquitto[0]}:{mosquitto[1]}", "--count", "2"],
        stdin=follower,
        stdout=follower,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )
    seen = b""
    while b"RUNNING" not in seen:
        seen += os.read(leader, 65_536)
    os.write(leader, b"q")
    said = watch.communicate(timeout=10)[1]
    os.close(follower)
    os.close(leader)
    assert (watch.returncode, said) == (1, b"edge-qc: only 0 of 2 verdicts came\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--broker", "127.0.0.1:1"], 1, "127.0.0.1:1: [Errno 111]"),
        (["--broker", "nowhere.invalid"], 1, "nowhere.invalid:1883"),
        (["--broker", "127.0.0.1:http"], 2, "Write --broker HOST:PORT"),
        (["--broker", "127.0.0.1:70000"], 2, "Write --broker HOST:PORT"),
        (["--broker", "a broker"], 2, "is no host"),
        (["--broker", "localhost/x"], 2, 'write "localhost"'),
        (["--broker", "mqtt://u:Sekr3t1@localhost"], 2, "--username and --password-file"),
        ([], 2, "give either --broker HOST[:PORT] or --config"),
        (["--config", "none.toml"], 78, "none.toml: there is no such file"),
        (["--broker", "127.0.0.1:1", "--ca-file", "none.pem"], 1, "No such file"),
    ],
)
def test_wrong_use_is_explained(arguments: list[str], status: int, said: str) -> None:
    done = subprocess.run(
        [*WATCH, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Sekr3t1" not in done.stderr


@pytest.mark.broker
def test_a_refused_account_is_explained() -> None:
    with running_broker("mosquitto", None, ["allow_anonymous false"]) as (host, port):
        done = subprocess.run(
            [*WATCH, "--broker", f"{host}:{port}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
    assert done.returncode == 1
    assert "Not authorized" in done.stderr
    assert done.stderr.lower().count("user name") == 1, "what to do, once"


def test_gaps_in_the_numbers_are_counted_and_late_ones_fill_them() -> None:
    tally = Tally()
    for seq in (5, 6, 9, 9, 7):
        tally.add(TOPIC + "verdict", verdict(seq), 0.0)
    tally.add(TOPIC + "verdict", verdict(1, epoch="e2"), 0.0)
    assert tally.stations["s/n"].gaps == 1
    assert tally.duplicates == 1
    assert tally.verdicts == 5


def test_what_nobody_heard_is_shown() -> None:
    """As the station counted it."""
    document = json.loads((ROOT / "docs/mqtt/examples/health.json").read_text())
    tally = Tally()
    tally.add(TOPIC + "state", RUNNING, 0.0)
    console = Console(width=160, force_terminal=False, record=True, file=io.StringIO())
    console.print(picture(tally, "localhost:1883", None, 40))
    assert "4711" not in console.export_text()
    document["outbox"]["unheard"] = 4711
    tally.add(TOPIC + "health", json.dumps(document).encode(), 0.0)
    console.print(picture(tally, "localhost:1883", None, 40))
    shown = console.export_text()
    assert "no subscriber" in shown
    assert "4711" in shown


def test_the_rate_is_that_of_the_last_seconds() -> None:
    tally = Tally()
    for seq in range(1, 21):
        tally.add(TOPIC + "verdict", verdict(seq), seq / 10)
    assert tally.rate_per_s(2.0) == 2.0
    assert tally.rate_per_s(60.0) == 0.0


def test_the_picture_shows_names_as_they_are_and_nothing_they_command() -> None:
    tally = Tally()
    part = PartVerdict("p", "GOOD", Disposition.REVIEW, False, {}, ("Die02",), (), TIME)
    text = stamped(
        Kind.PART, part_content(part).model_dump_json(), epoch="e", site="s", station="n", seq=1
    )
    tally.add(TOPIC + "part", as_sent(text, False), 0.0)
    tally.add(TOPIC + "state", RUNNING, 0.0)
    tally.add(TOPIC + "event", LOST, 0.0)
    tally.add(TOPIC + "verdict", verdict(1, die="[bold]D\x07", part_id=HOSTILE), 0.0)
    judged = not_judged("b", Reason.CAMERA, "cable out")
    text = stamped(
        Kind.VERDICT,
        content(judged).model_dump_json(),
        epoch="e1",
        site="s",
        station="n",
        seq=2,
        verdict_id="v",
    )
    tally.add(TOPIC + "verdict", as_sent(text, True), 0.0)
    console = Console(width=160, force_terminal=False, record=True, file=io.StringIO())
    console.print(picture(tally, "localhost:1883", "the broker is away", 40))
    shown = console.export_text()
    for word in (
        "2 verdicts", "1 parts", "1 historical", "the broker is away", "RUNNING", "judging",
        "[bold]D\ufffd", "[red]p\ufffd1", "NOT_JUDGED (camera: cable out)", "PASS", "REVIEW",
        "alarm: camera-lost", "historical",
    ):  # fmt: skip
        assert word in shown, word
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown


def test_long_words_are_cut() -> None:
    assert plain("x" * 1000) == "x" * 299 + "…"
