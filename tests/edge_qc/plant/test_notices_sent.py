"""How notices are sent: to a webhook and by e-mail, whatever a target does."""

from __future__ import annotations

import json
import logging
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_qc.cli.notify import command as notify
from edge_qc.errors import SettingsError, UsageError
from edge_qc.plant.notices.conditions import Notice
from tests.rig.brokers import free_port
from tests.rig.publishing import wait_until
from tests.rig.trained import EDGE_QC


@contextmanager
def webhook(
    fails: int = 0, refuses: str | None = None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A web server that takes JSON, after it has failed some times. refuses: a message that it
    never takes."""
    taken: list[dict[str, Any]] = []
    left = [fails]

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            left[0] -= 1
            status = 503 if left[0] >= 0 else 200
            if body["message"] == refuses:
                status = 400
            if status == 200:
                taken.append(body)
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


def test_a_notice_that_a_target_refuses_for_good_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("apprise", reason="needs apprise: pip install apprise")
    from edge_qc.plant.notices.sending import Sender

    with webhook(refuses="odd") as (port, taken):
        sender = Sender([f"json://127.0.0.1:{port}/hook"], rest_s=0.01)
        for number, text in enumerate(("odd", "odd", "plain", "odd", "plain", "plain")):
            sender.send(Notice(f"s/n: DEAD {number}", text, over=False))
        wait_until(lambda: sender.waiting == 0)
        sender.close()
    assert sorted(one["title"][-1] for one in taken) == ["2", "4", "5"]
    given_up = [line for line in caplog.messages if "given up" in line]
    assert [line[-1] for line in given_up] == ["0", "1", "3"]
    assert "127.0.0.1" not in "".join(given_up)


def test_a_broker_that_is_away_at_the_start_is_noticed(tmp_path: Path) -> None:
    pytest.importorskip("apprise", reason="needs apprise: pip install apprise")
    targets, memory = tmp_path / "targets", tmp_path / "noticed.json"
    where = f"127.0.0.1:{free_port()}"
    with webhook() as (port, taken):
        targets.write_text(f"json://127.0.0.1:{port}/hook\n")
        with subprocess.Popen(
            [*EDGE_QC, "notify", "--broker", f"mqtt://{where}", "--after", "0", "--targets-file",
             targets, "--memory-file", memory],
        ) as program:  # fmt: skip
            try:
                wait_until(lambda: bool(taken))
                assert program.poll() is None
            finally:
                program.terminate()
            assert program.wait(20) == 0
    assert taken[0]["title"] == f"{where}: no connection to the broker; states unknown"
    assert "refused" in taken[0]["message"]


def test_targets_are_tried_by_hand_and_named_without_their_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
    targets.write_bytes("mailtos://user:gehe\xedm@host".encode("latin-1"))
    wrong = CliRunner().invoke(notify, words)
    assert isinstance(wrong.exception, SettingsError)
    assert str(wrong.exception) == f"--targets-file: {targets} is not UTF-8. Save it as UTF-8"
    for text, wanted in (
        ("", "names no target"),
        ("moon://geheim", "target 1 (moon:…)"),
        ("wat://geheim@host", "target 1 (wat:…)"),
        ("geheim:geheim", "target 1 is no address"),
    ):
        targets.write_text(text)
        wrong = CliRunner().invoke(notify, words)
        assert isinstance(wrong.exception, UsageError)
        assert wanted in str(wrong.exception)
        assert "geheim" not in str(wrong.exception)
    assert "geheim" not in caplog.text


def test_more_views_than_are_remembered_are_wrong_use(tmp_path: Path) -> None:
    words = ["--targets-file", str(tmp_path / "none"), "--views", "9" * 24]
    done = CliRunner().invoke(notify, words)
    assert done.exit_code == 2
    assert "--views" in done.output


def test_why_a_target_refuses_is_logged_without_its_secrets(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    apprise = pytest.importorskip("apprise", reason="needs apprise: pip install apprise")
    from edge_qc.plant.notices.sending import Sender

    def notify(_service: object, **_words: object) -> bool:
        logging.getLogger("apprise").warning("%s: 403 Forbidden", "wat://t0ken@host/ge heim")
        raise OSError("no route for url /t0ken/")

    monkeypatch.setattr(apprise.Apprise, "notify", notify)
    sender = Sender([f"json://t0ken@127.0.0.1:{free_port()}/ge%20heim"])
    sender.send(Notice("s/n: DEAD", "Check power.", over=False))
    sender.close()
    assert "403 Forbidden" in caplog.text
    assert "a notice was not sent: OSError: no route" in caplog.text
    assert "t0ken" not in caplog.text
    assert "heim" not in caplog.text
