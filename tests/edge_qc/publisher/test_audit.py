"""`edge-qc outbox`: an outbox read from outside."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from edge_qc.errors import PublishError
from edge_qc.publisher import Kind
from edge_qc.publisher.ledger import audit
from tests.rig.publishing import judge, open_outbox, record, wait_until

ROOT = Path(__file__).parents[3]


def outbox_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_qc.cli", "outbox", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Six verdicts, two of them delivered, an event and an open trigger."""
    with open_outbox(tmp_path) as outbox:
        judge(outbox, 6)
        outbox.event("camera-lost")
        outbox.delivered([message.row for message in outbox.waiting(0, 2)])
        wait_until(lambda: not outbox._writer.settled)
        outbox.trigger("open", record()).result(10)
    return tmp_path / "outbox.sqlite"


def test_the_report_counts(file: Path) -> None:
    report = audit.report(file)
    assert report.waiting == {"verdict": 4, "event": 1}
    assert report.delivered == {"verdict": 2}
    assert (report.damaged, report.open_triggers, report.epochs) == (0, 1, 1)
    assert report.oldest_waiting == "2026-03-01T12:30:15.250000Z"
    assert report.set_aside == ()


def test_a_running_station_is_read_as_well(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as outbox:
        judge(outbox, 3)
        assert audit.report(tmp_path / "outbox.sqlite").epoch == outbox.epoch
        assert list(audit.faults(tmp_path / "outbox.sqlite")) == []
        judge(outbox)


def test_messages_in_their_order(file: Path) -> None:
    verdicts = [json.loads(text) for text in audit.messages(file, kind=Kind.VERDICT)]
    assert [verdict["seq"] for verdict in verdicts] == [1, 2, 3, 4, 5, 6]
    waiting = [json.loads(text) for text in audit.messages(file, waiting=True)]
    assert [message["seq"] for message in waiting] == [3, 4, 5, 6, 1]


def test_an_export_that_somebody_pages_through_holds_no_log_open(tmp_path: Path) -> None:
    """``outbox export | less``, left open over night: the station must reuse its log meanwhile."""
    file = tmp_path / "outbox.sqlite"
    with open_outbox(tmp_path) as outbox:
        judge(outbox, 600)
        paused = audit.messages(file)
        next(paused)
        judge(outbox, 1)
        with closing(sqlite3.connect(file)) as hand:
            (busy, _, _) = hand.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy
        assert sum(1 for _ in paused) == 600


def test_an_outbox_where_this_user_may_not_look_is_said_to_be_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(PublishError, match=r"cannot be looked at .*sudo -u edge-qc"):
        audit.report(file)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE message SET payload = '{}' WHERE row = 2", "message 2 .* payload was altered"),
        ("DELETE FROM message WHERE row = 3", "verdict 3 to 3 are missing"),
        ("UPDATE ledger SET commits = 1", "1 of .* commits: the last ones are lost"),
    ],
)
def test_what_was_altered_is_found(file: Path, statement: str, fault: str) -> None:
    assert list(audit.faults(file)) == []
    with closing(sqlite3.connect(file)) as database:
        database.execute(statement)
        database.commit()
    (found,) = audit.faults(file)
    assert re.search(fault, found)
    done = outbox_command("verify", "--file", file, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["faults"] == [found]


def test_what_is_no_outbox_is_said(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="no outbox found"):
        audit.report(tmp_path / "none")
    (tmp_path / "text").write_text("hello, this is not a database" * 100)
    with pytest.raises(PublishError, match="cannot be read"):
        audit.report(tmp_path / "text")
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE t (x)")
    with pytest.raises(PublishError, match="reads schema 1"):
        list(audit.messages(tmp_path / "other"))


def test_the_commands(file: Path) -> None:
    settings = file.with_name("station.toml")
    settings.write_text(
        '[station]\nsite = "s"\nname = "n"\nstate_dir = "."\n[bundle]\npath = "b"\n'
        '[mqtt]\nhost = "h"\n[[camera]]\nname = "c"\nsource = "file:///x"\ndie = "d"\n'
    )
    status = outbox_command("status", "--config", settings, "--json")
    assert json.loads(status.stdout)["waiting"] == {"event": 1, "verdict": 4}
    assert "verdict: 4" in outbox_command("status", "--file", file).stdout
    assert len(outbox_command("export", "--file", file).stdout.splitlines()) == 7
    verify = outbox_command("verify", "--file", file)
    assert (verify.returncode, "intact" in verify.stdout) == (0, True)
    missing = outbox_command("status", "--file", file.with_name("none"))
    assert missing.returncode == 1
    assert "Traceback" not in missing.stderr
