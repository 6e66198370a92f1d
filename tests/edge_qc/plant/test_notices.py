"""Notices: once when something is wrong, once when it is over, to a webhook and by e-mail."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_qc.cli.notify import command as notify
from edge_qc.errors import UsageError
from edge_qc.plant.notices.conditions import Conditions, Notice
from edge_qc.plant.notices.service import remembered, watch
from edge_qc.publisher import Kind, Subscription, read_message
from edge_qc.settings import MqttTable
from edge_qc.system.state import STOP_REQUESTED, STOPPED, State
from tests.rig.brokers import free_port
from tests.rig.publishing import TIME, open_outbox, open_publisher, wait_until
from tests.rig.recording import verdict

NAME = "s/n"


def state(name: str, why: str = "") -> Any:
    fields = {"schema": "edge-qc/state/1", "epoch": "e", "site": "s", "station": "n",
              "state": name, "time": TIME.isoformat(), "why": why}  # fmt: skip
    return read_message(Kind.STATE, json.dumps(fields).encode())


def event(name: str, detail: str = "", camera: str | None = None) -> Any:
    fields = {"schema": "edge-qc/event/1", "epoch": "e", "site": "s", "station": "n", "seq": 1,
              "event": name, "time": TIME.isoformat(), "camera": camera, "detail": detail,
              "historical": False}  # fmt: skip
    return read_message(Kind.EVENT, json.dumps(fields).encode())


def titles(notices: list[Notice]) -> list[str]:
    return [notice.title for notice in notices]


def test_a_state_is_noticed_once_when_it_lasts_and_once_when_it_is_over() -> None:
    plant = Conditions(after_s=60)
    plant.hear(NAME, state("DEAD", "connection lost"), 0)
    plant.hear(NAME, state("RUNNING"), 30)
    assert plant.due(100) == []
    plant.hear(NAME, state("DEAD", "connection lost"), 100)
    assert plant.due(159) == []
    (notice,) = plant.due(161)
    assert notice.title == "s/n: DEAD"
    assert "connection lost" in notice.text
    assert "journalctl" in notice.text
    plant.hear(NAME, state("DEAD", "connection lost"), 170)
    assert plant.due(500) == []
    plant.hear(NAME, state("STARTING"), 501)
    assert titles(plant.due(501)) == ["s/n: over: DEAD"]
    plant.hear(NAME, state("DEAD", STOPPED), 600)
    assert plant.due(999) == []


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("camera-moved", "camera-moved-over"),
        ("good-parts-creep", "good-parts-creep-over"),
        ("output-unconfirmed", "output-acknowledged"),
    ],
)
def test_an_event_is_noticed_at_once_and_until_its_end(name: str, end: str) -> None:
    plant = Conditions()
    for _ in range(3):
        plant.hear(NAME, event(name, "by 4 %", "north"), 0)
    (notice,) = plant.due(0)
    assert notice.title == f"s/n: {name.replace('-', ' ')}"
    assert notice.text.startswith("north: by 4 %")
    plant.hear(NAME, event(end), 1)
    assert [notice.over for notice in plant.due(1)] == [True]
    plant.hear(NAME, event(end), 2)
    assert plant.due(2) == []


def test_a_low_yield_ends_only_by_new_views() -> None:
    plant = Conditions(yield_below=0.9, views=10)

    def judged(label: str, count: int) -> list[Notice]:
        for _ in range(count):
            plant.hear(NAME, read_message(Kind.VERDICT, verdict(1, label=label)), 0)
        return plant.due(0)

    assert judged("GOOD", 9) == []
    assert judged("NOT_JUDGED", 50) == []
    assert judged("Missing", 1) == []
    (low,) = judged("Missing", 1)
    assert (low.title, low.text) == (
        "s/n: the yield is low", "80.0% of the last 10 views passed, wanted 90.0%."
    )  # fmt: skip
    assert judged("GOOD", 9) == []
    assert titles(judged("GOOD", 1)) == ["s/n: over: the yield is low"]


def test_a_broker_that_ends_makes_no_station_dead() -> None:
    """Its last wills come first, and again when it is back."""
    plant = Conditions(after_s=60)
    plant.hear(NAME, state("DEAD", "connection lost"), 0)
    plant.broker("b:1883", "the connection was lost", 1)
    assert titles(plant.due(200)) == ["b:1883: no connection to the broker; states unknown"]
    plant.broker("b:1883", None, 201)
    plant.hear(NAME, state("RUNNING"), 203)
    assert titles(plant.due(500)) == [
        "b:1883: over: no connection to the broker; states unknown"
    ]  # fmt: skip


def test_a_restart_repeats_nothing_and_still_tells_the_end(tmp_path: Path) -> None:
    memory = tmp_path / "noticed.json"
    memory.write_text(json.dumps([[NAME, "DEAD"]]))
    plant = Conditions(after_s=0, known=remembered(memory))
    plant.hear(NAME, state("DEAD"), 0)
    assert plant.due(100) == []
    plant.forget(NAME)
    assert titles(plant.due(100)) == ["s/n: over: DEAD"]
    memory.write_text("{")
    assert remembered(memory) == []


@pytest.mark.broker
def test_a_fault_an_alarm_and_a_planned_stop_over_a_real_broker(
    mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    sent: list[Notice] = []
    stop, memory = threading.Event(), tmp_path / "noticed.json"
    topics = [f"edge-qc/v1/+/+/{level}" for level in ("state", "event", "verdict")]
    heard = Subscription(
        MqttTable(host=mosquitto[0], port=mosquitto[1]), topics, session="notify", session_s=60
    )
    conditions = Conditions(after_s=0.5)
    thread = threading.Thread(
        target=watch, args=(heard, "broker", conditions, sent.append, stop, memory)
    )
    thread.start()
    try:
        with open_outbox(tmp_path) as outbox:
            publisher = open_publisher(outbox, tmp_path, mosquitto)
            publisher.state(State.FAULT, "no engine")
            wait_until(lambda: titles(sent) == ["s/n: FAULT"])
            publisher.state(State.RUNNING, "judging")
            wait_until(lambda: titles(sent[1:]) == ["s/n: over: FAULT"])
            outbox.event("camera-moved", "by 4 %", camera="north").result(10)
            wait_until(lambda: titles(sent[2:]) == ["s/n: camera moved"])
            wait_until(memory.exists)
            wait_until(lambda: json.loads(memory.read_text()) == [[NAME, "camera-moved"]])
            outbox.event("camera-moved-over", "", camera="north").result(10)
            wait_until(lambda: titles(sent[3:]) == ["s/n: over: camera moved"])
            publisher.state(State.STOPPING, STOP_REQUESTED)
            publisher.close()
            time.sleep(1.5)
    finally:
        stop.set()
        thread.join(20)
        heard.close()
    assert len(sent) == 4


@contextmanager
def webhook(fails: int = 0) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A web server that takes JSON, after it has failed some times."""
    taken: list[dict[str, Any]] = []
    left = [fails]

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            left[0] -= 1
            status = 503 if left[0] >= 0 else 200
            if status == 200:
                taken.append(json.loads(body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], taken
        server.shutdown()


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    mails: list[str] = []

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().strip().upper():
                if line.startswith(b"DATA"):
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (text := self.rfile.readline()) != b".\r\n":
                        lines.append(text.decode())
                    mails.append("".join(lines))
                self.wfile.write(b"250 ok\r\n" if line != b"QUIT" else b"221 bye\r\n")
                if line == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], mails
        server.shutdown()


def test_a_webhook_that_is_away_gets_its_notices_later_and_others_get_them_once() -> None:
    pytest.importorskip("apprise", reason="needs apprise: pip install apprise")
    from edge_qc.plant.notices.sending import Sender

    with webhook(fails=2) as (port, slow), mail_server() as (mail_port, mails):
        sender = Sender(
            [
                f"json://127.0.0.1:{port}/hook",
                f"mailto://127.0.0.1:{mail_port}?from=line@example.org&to=shift@example.org",
            ],
            rest_s=0.1,
        )
        for number in range(3):
            sender.send(Notice(f"s/n: DEAD {number}", "Check power.", over=False))
        wait_until(lambda: len(slow) == 3 and len(mails) == 3)
        sender.close()
        assert sender.waiting == 0
    assert [one["title"] for one in slow] == [f"s/n: DEAD {number}" for number in range(3)]
    assert slow[0]["message"] == "Check power."
    assert "To: shift@example.org" in mails[0]
    assert "s/n: DEAD 0" in mails[0]


def test_targets_are_tried_by_hand_and_named_without_their_secrets(tmp_path: Path) -> None:
    pytest.importorskip("apprise", reason="needs apprise: pip install apprise")
    targets = tmp_path / "targets"
    words = ["--targets-file", str(targets), "--test"]
    with webhook() as (port, taken):
        targets.write_text(f"# the shift\n\njson://127.0.0.1:{port}/hook\n")
        done = CliRunner().invoke(notify, words)
        assert done.output.endswith("1 targets took the notice\n")
        assert taken[0]["title"] == "edge-qc: a test"
    targets.write_text(f"json://user:geheim@127.0.0.1:{free_port()}/\n")
    failed = CliRunner().invoke(notify, words)
    assert failed.exit_code == 1
    assert "1 of 1 targets did not take the notice" in str(failed.exception)
    for text, wanted in (("", "names no target"), ("moon://geheim", "target 1 (moon:…)")):
        targets.write_text(text)
        wrong = CliRunner().invoke(notify, words)
        assert isinstance(wrong.exception, UsageError)
        assert wanted in str(wrong.exception)
        assert "geheim" not in str(wrong.exception)
