"""How notices are sent: to a webhook and by e-mail, whatever a target does."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_qc.cli.notify import command as notify
from edge_qc.errors import UsageError
from edge_qc.plant.notices.conditions import Notice
from tests.rig.brokers import free_port
from tests.rig.publishing import wait_until


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
