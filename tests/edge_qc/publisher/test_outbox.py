"""The outbox: what was accepted is never lost, and a disk that lies is found out."""

from __future__ import annotations

import dataclasses
import json
import os
import pkgutil
import shutil
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_qc.errors import PublishError
from edge_qc.parts import Disposition, PartVerdict
from edge_qc.publisher import Kind, Outbox, Space, part_content
from edge_qc.publisher.ledger import writer
from edge_qc.publisher.ledger.disk import HighWaterMark
from tests.rig.publishing import TIME, content, judge, open_outbox, record, sent, wait_until


def rows(folder: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "outbox.sqlite")) as reader:
        return reader.execute(statement).fetchall()


def crash(folder: Path, into: Path) -> Path:
    """What a disk would hold if the power went now."""
    shutil.copytree(folder, into)
    return into


def flip(file: Path, text: bytes) -> None:
    """Flips one bit of the first byte of ``text``."""
    data = bytearray(file.read_bytes())
    data[data.index(text)] ^= 1
    file.write_bytes(data)


def events(outbox: Outbox) -> list[dict[str, Any]]:
    return [message for message in sent(outbox) if message["schema"] == "edge-qc/event/1"]


def test_a_trigger_is_on_disk_before_its_view_is_judged(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as outbox:
        outbox.trigger("v1", record("t9")).result(10)
        ((verdict_id, epoch, stored),) = rows(tmp_path, "SELECT * FROM trigger")
        assert (verdict_id, epoch) == ("v1", outbox.epoch)
        assert json.loads(stored)["trigger_id"] == "t9"
        assert outbox.status().open_triggers == 1


def test_a_verdict_takes_the_place_of_its_trigger(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as outbox:
        outbox.trigger("v1", record())
        outbox.verdict("v1", content(image="a.png")).result(10)
        assert rows(tmp_path, "SELECT * FROM trigger") == []
        (message,) = sent(outbox)
        assert message["verdict_id"] == "v1"
        assert message["epoch"] == outbox.epoch
        assert message["image"] == "a.png"
        assert outbox.status().open_triggers == 0
        assert outbox.status().waiting == 1


def test_numbers_have_no_gaps_whoever_writes(tmp_path: Path) -> None:
    """Eight threads at once; verdicts, parts and events are each numbered from 1."""
    with open_outbox(tmp_path) as outbox:

        def work() -> None:
            for _ in range(30):
                judge(outbox)
                outbox.event("camera-lost")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outbox.part(part()).result(10)
        for kind, count in (("verdict", 240), ("event", 240), ("part", 1)):
            numbers = [m["seq"] for m in sent(outbox) if m["schema"] == f"edge-qc/{kind}/1"]
            assert numbers == list(range(1, count + 1))


def part() -> Any:
    return part_content(
        PartVerdict("p", "GOOD", Disposition.PASS, True, {"Die01": "GOOD"}, (), ("v1",), TIME)
    )


def test_a_line_that_is_behind_has_its_records_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sync serves them all; a trigger that a part waits for hurries the rest."""
    monkeypatch.setattr(writer, "_GATHER_S", 30.0)
    with open_outbox(tmp_path) as outbox:
        before = outbox._writer._commits
        outbox.line_behind(True)
        patient = [outbox.trigger(f"t{number}", record()) for number in range(5)]
        time.sleep(0.1)
        assert not any(done.done() for done in patient)
        outbox.trigger("now", record(), hurry=True).result(10)
        assert all(done.done() for done in patient)
        assert outbox._writer._commits == before + 1
        left = outbox.trigger("last", record())
    assert left.result(0) is None


def test_each_start_is_an_epoch_and_the_backlog_keeps_its_own(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as first:
        judge(first, 2)
    with open_outbox(tmp_path) as second:
        judge(second)
        told = [(m["epoch"], m["seq"]) for m in sent(second)]
    assert told == [(first.epoch, 1), (first.epoch, 2), (second.epoch, 1)]
    assert first.epoch != second.epoch


def test_a_trigger_that_a_crash_left_open_is_not_judged(tmp_path: Path) -> None:
    with open_outbox(tmp_path / "a") as outbox:
        done = judge(outbox)
        outbox.trigger("open", record("t7")).result(10)
        after = crash(tmp_path / "a", tmp_path / "b")
    with open_outbox(after) as outbox:
        old, new = sent(outbox)
        assert old["verdict_id"] == done[0]
        assert new["verdict_id"] == "open"
        assert (new["label"], new["reason"]) == ("NOT_JUDGED", "restart")
        assert new["disposition"] == "REVIEW"
        assert (new["trigger_id"], new["part_id"], new["image"]) == ("t7", "part-1", "a.png")
        assert new["epoch"] == outbox.epoch
        assert all(m.made_s is None for m in outbox.waiting(0, 9) if m.verdict_id == "open")
    assert rows(after, "SELECT * FROM trigger") == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trigger SET verdict_id = 'opem'",
        "UPDATE trigger SET record = replace(record, 't7', 't6')",
        "UPDATE trigger SET record = replace(record, 'seal', 'seam')",
    ],
)
def test_an_altered_trigger_answers_for_nobody_else(tmp_path: Path, change: str) -> None:
    """A flipped bit in a trigger's id or record: a gap is told, and no verdict on another."""
    with open_outbox(tmp_path / "a") as outbox:
        outbox.trigger("open", record("t7")).result(10)
        after = crash(tmp_path / "a", tmp_path / "b")
    with closing(sqlite3.connect(after / "outbox.sqlite")) as database:
        database.execute(change)
        database.commit()
    with open_outbox(after) as outbox:
        (gap,) = sent(outbox)
    assert gap["event"] == "ledger-gap"
    assert "damaged" in gap["detail"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(["trigger", "verdict", "event", "deliver", "crash"]), max_size=25))
def test_whatever_happens_every_trigger_has_one_verdict(tmp_path: Path, steps: list[str]) -> None:
    """Any order of triggers, verdicts, deliveries and power cuts."""
    folder = tmp_path / uuid.uuid4().hex
    outbox = open_outbox(folder)
    accepted: list[str] = []
    waiting: list[str] = []
    delivered: list[dict[str, Any]] = []
    for step in [*steps, "crash"]:
        if step == "trigger":
            accepted.append(str(uuid.uuid4()))
            waiting.append(accepted[-1])
            outbox.trigger(accepted[-1], record()).result(10)
        elif step == "verdict" and waiting:
            outbox.verdict(waiting.pop(0), content()).result(10)
        elif step == "event":
            outbox.event("camera-lost").result(10)
        elif step == "deliver":
            messages = outbox.waiting(0, 3)
            delivered += [json.loads(message.payload) for message in messages]
            outbox.delivered([message.row for message in messages])
        elif step == "crash":
            after = crash(folder, tmp_path / uuid.uuid4().hex)
            outbox.close()
            folder, outbox, waiting = after, open_outbox(after), []
    delivered += sent(outbox)
    outbox.close()
    verdicts = {m["verdict_id"]: m for m in delivered if m["schema"] == "edge-qc/verdict/1"}
    assert sorted(verdicts) == sorted(accepted)
    # Delivered twice at most as the very same message.
    by_number = {(m["schema"], m["epoch"], m["seq"]): json.dumps(m) for m in delivered}
    assert len(by_number) == len({json.dumps(m) for m in delivered})
    for epoch in {m["epoch"] for m in verdicts.values()}:
        numbers = sorted(m["seq"] for m in verdicts.values() if m["epoch"] == epoch)
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_trigger_has_one_verdict_and_a_verdict_its_trigger(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as outbox:
        with pytest.raises(PublishError, match="no open trigger"):
            outbox.verdict("v1", content())
        outbox.trigger("v1", record())
        with pytest.raises(PublishError, match="already recorded"):
            outbox.trigger("v1", record())
        outbox.verdict("v1", content())
        with pytest.raises(PublishError, match="no open trigger"):
            outbox.verdict("v1", content())


def test_what_was_delivered_is_not_sent_again_and_leaves_the_count(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as outbox:
        judge(outbox, 3)
        first, second, third = outbox.waiting(0, 9)
        outbox.delivered([first.row, third.row])
        assert [message.row for message in outbox.waiting(0, 9)] == [second.row]
        assert outbox.status().waiting == 1
        assert not outbox.wait_delivered(0.05)
        outbox.delivered([second.row])
        assert outbox.wait_delivered(5)
    with open_outbox(tmp_path) as outbox:
        assert outbox.waiting(0, 9) == []
    assert rows(tmp_path, "SELECT count(*) FROM message") == [(3,)]


def test_held_kinds_stay_behind(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as outbox:
        judge(outbox)
        outbox.event("camera-lost").result(10)
        assert [m.kind for m in outbox.waiting(0, 9, [Kind.VERDICT])] == [Kind.EVENT]


def test_a_text_that_no_encoding_has_costs_its_character_alone(tmp_path: Path) -> None:
    """As the name of an image whose bytes are no UTF-8 reaches Python."""
    odd = "Pi\udce8ce-1.png"
    with open_outbox(tmp_path) as outbox:
        outbox.trigger("v1", record()).result(10)
        outbox.verdict("v1", content(image=odd)).result(10)
        outbox.trigger("v2", dataclasses.replace(record(), image=odd)).result(10)
    with open_outbox(tmp_path) as outbox:
        said = [(message["verdict_id"], message["image"]) for message in sent(outbox)]
    assert said == [("v1", "Pi?ce-1.png"), ("v2", "Pi?ce-1.png")]


def test_a_trigger_that_outlived_its_verdict_is_answered(tmp_path: Path) -> None:
    """A disk that lost one page of a checkpoint leaves both."""
    with open_outbox(tmp_path) as outbox:
        outbox.trigger("v1", record()).result(10)
        ((stored, epoch, text),) = rows(tmp_path, "SELECT * FROM trigger")
        outbox.verdict("v1", content()).result(10)
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as writer, writer:
        writer.execute("INSERT INTO trigger VALUES (?, ?, ?)", (stored, epoch, text))
    with open_outbox(tmp_path) as outbox:
        assert [message["verdict_id"] for message in sent(outbox)] == ["v1"]
        assert outbox.status().open_triggers == 0


def test_a_ledger_of_an_earlier_build_takes_acknowledgements(tmp_path: Path) -> None:
    """It lacks the index by which they are found."""
    with open_outbox(tmp_path) as outbox:
        judge(outbox, 3)
        epoch = outbox.epoch
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as writer, writer:
        writer.execute("DROP INDEX message_owed")
    with open_outbox(tmp_path) as outbox:
        outbox.acknowledged(epoch, Kind.VERDICT, 2)
        wait_until(lambda: outbox.status().waiting == 1)


def test_two_stations_cannot_share_an_outbox(tmp_path: Path) -> None:
    with open_outbox(tmp_path), pytest.raises(PublishError, match="another process has it open"):
        open_outbox(tmp_path)
    open_outbox(tmp_path).close()


def test_after_close_nothing_is_accepted_and_all_before_is_kept(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    futures = []
    for number in range(500):
        outbox.trigger(f"v{number}", record())
        futures.append(outbox.verdict(f"v{number}", content()))
    outbox.close()
    outbox.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert rows(tmp_path, "SELECT count(*) FROM message") == [(500,)]
    with pytest.raises(PublishError, match="is closed"):
        outbox.event("camera-lost")


def test_a_flipped_bit_in_a_message_is_named_and_never_sent(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as outbox:
        outbox.trigger("v1", record())
        outbox.verdict("v1", content(image="marked-one.png"))
        judge(outbox)
    flip(tmp_path / "outbox.sqlite", b"marked-one")
    with open_outbox(tmp_path) as outbox:
        (message,) = [m for m in sent(outbox) if m["schema"] == "edge-qc/verdict/1"]
        assert message["seq"] == 2
        wait_until(lambda: len(events(outbox)) == 1)
        (event,) = events(outbox)
        assert (event["event"], event["severity"]) == ("ledger-gap", "alarm")
        assert "v1" in event["detail"]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE message SET payload = CAST(payload AS BLOB) WHERE seq = 2",
        "UPDATE message SET payload = 7 WHERE seq = 2",
        "UPDATE message SET sha256 = 'text' WHERE seq = 2",
        "UPDATE message SET kind = CAST(kind AS BLOB) WHERE seq = 2",
        "UPDATE message SET seq = x'02', made_s = 'late' WHERE seq = 2",
        "UPDATE message SET epoch = CAST(epoch AS BLOB) WHERE seq = 2",
        "UPDATE trigger SET record = CAST(record AS BLOB)",
        "UPDATE trigger SET record = 7",
        "UPDATE ledger SET commits = 'many'",
        "UPDATE ledger SET commits = x'07'",
    ],
)
def test_a_value_whose_type_was_altered_costs_itself_alone(
    tmp_path: Path, change: str, broken: bool
) -> None:
    """A flipped bit may make bytes of a text. broken: in a file that has to be salvaged, too."""
    with open_outbox(tmp_path) as outbox:
        ids = judge(outbox, 3)
        outbox.trigger("open", record()).result(10)
    file = tmp_path / "outbox.sqlite"
    with closing(sqlite3.connect(file)) as writer, writer:
        writer.execute(change)
        if broken:
            # An index that holds other rows than it should.
            writer.execute("PRAGMA writable_schema=ON")
            writer.execute(
                "UPDATE sqlite_master SET sql = replace(sql, 'state = 1', 'state = 0')"
                " WHERE name = 'message_delivered'"
            )
    with open_outbox(tmp_path) as outbox:
        said = {message.get("verdict_id") for message in sent(outbox)}
        assert set(ids) - {ids[1]} <= said
        wait_until(lambda: len(events(outbox)) > 0)


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version=65537",
        "UPDATE sqlite_master SET sql = replace(sql, 'delivered_s', 'delivered_q')",
        "UPDATE sqlite_master SET sql = replace(sql, 'sha256 BLOB', 'sha25' || x'f5' || ' BLOB')",
        "UPDATE sqlite_master SET sql = replace(sql, 'state = 0', 'state = 1')",
    ],
)
def test_a_schema_that_was_altered_is_set_aside_and_the_station_starts(
    tmp_path: Path, change: str
) -> None:
    """SQLite's own check finds nothing, and every statement would fail."""
    with open_outbox(tmp_path) as outbox:
        judge(outbox, 3)
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as writer, writer:
        writer.execute("PRAGMA writable_schema=ON")
        writer.execute(change)
    with open_outbox(tmp_path) as outbox:
        (gap,) = events(outbox)
        assert "set aside as outbox.sqlite.corrupt-" in gap["detail"]
        judge(outbox, 1)


@pytest.mark.parametrize("table", ["ledger", "epoch", "trigger", "message"])
def test_a_table_whose_name_was_altered_costs_no_message(tmp_path: Path, table: str) -> None:
    """SQLite then refuses the whole file, or says that there is no such table; its pages are
    whole."""
    with open_outbox(tmp_path) as outbox:
        ids = judge(outbox, 30)
        outbox.trigger("open", record()).result(10)
    file = tmp_path / "outbox.sqlite"
    data = bytearray(file.read_bytes())
    name = f"table{table}{table}".encode()
    data[data.index(name, 0, 4096) + len("table")] ^= 1
    file.write_bytes(data)
    with open_outbox(tmp_path) as outbox:
        (gap,) = events(outbox)
        assert "salvaged from it: 30 undelivered messages and 1 triggers" in gap["detail"]
        assert {*ids, "open"} == {m["verdict_id"] for m in sent(outbox) if "verdict_id" in m}
    assert not (tmp_path / "outbox.salvage").exists()


def test_a_file_format_that_is_none_is_set_aside(tmp_path: Path) -> None:
    """SQLite would say that the file may not be written."""
    with open_outbox(tmp_path) as outbox:
        ids = judge(outbox, 3)
    data = bytearray((tmp_path / "outbox.sqlite").read_bytes())
    data[18] ^= 8
    (tmp_path / "outbox.sqlite").write_bytes(data)
    with open_outbox(tmp_path) as outbox:
        said = [message.get("verdict_id") for message in sent(outbox)]
        assert set(ids) <= set(said)
        assert "file formats, 10 and 2" in events(outbox)[0]["detail"]


@pytest.mark.parametrize("damage", ["header", "page", "rubbish", "truncated"])
def test_a_corrupt_file_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    """Never deleted, never silently replaced; what can be read of it is sent all the same."""
    with open_outbox(tmp_path) as outbox:
        first = outbox.epoch
        judge(outbox, 60)
        outbox.trigger("open", record())
        outbox.close()
    file = tmp_path / "outbox.sqlite"
    data = bytearray(file.read_bytes())
    if damage == "header":
        data[:16] = b"x" * 16
    elif damage == "page":
        data[-4096 * 3 : -4096 * 2] = b"\xa5" * 4096
    elif damage == "rubbish":
        data = bytearray(b"not a database at all" * 1000)
    else:
        data = data[: len(data) // 2]
    file.write_bytes(data)
    with open_outbox(tmp_path) as outbox:
        assert outbox.epoch != first
        (event,) = events(outbox)
        assert (event["event"], event["severity"]) == ("ledger-gap", "alarm")
        (aside,) = tmp_path.glob("outbox.sqlite.corrupt-*[0-9Z]")
        assert aside.name in event["detail"]
        assert aside.read_bytes() == bytes(data)
        saved = [m for m in sent(outbox) if m["schema"] == "edge-qc/verdict/1"]
        if damage == "page":
            assert len(saved) > 30
            assert {m["epoch"] for m in saved} <= {first, outbox.epoch}
        judge(outbox)


class Killed(BaseException):
    """In the place of SIGKILL."""


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("edge_qc.publisher.ledger.recovery.set_aside", 1),
        ("pathlib.Path.rename", 1),
        ("pathlib.Path.rename", 2),
        ("edge_qc.publisher.ledger.recovery.prepare", 1),
        ("edge_qc.publisher.ledger.recovery.salvage", 1),
        ("pathlib.Path.unlink", 1),
        ("edge_qc.publisher.ledger.writer.Writer.start", 1),
    ],
)
def test_a_start_killed_while_it_saves_a_corrupt_file_is_taken_up_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, calls: int
) -> None:
    """What is whole in the file and in its log is sent, once."""
    with open_outbox(tmp_path / "a") as outbox:
        judge(outbox, 60)
    with open_outbox(tmp_path / "a") as outbox:
        in_the_log = set(judge(outbox, 5))
        outbox.trigger("open", record()).result(10)
        state = crash(tmp_path / "a", tmp_path / "b")
    data = bytearray((state / "outbox.sqlite").read_bytes())
    data[4096 * 20 : 4096 * 21] = b"\xa5" * 4096
    (state / "outbox.sqlite").write_bytes(data)
    with monkeypatch.context() as patch:
        original, left = pkgutil.resolve_name(name), [calls]

        def killed(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return original(*arguments)

        patch.setattr(name, killed)
        if calls == 2:
            # SQLite's own look at the file may bring its log home.
            patch.setattr("edge_qc.publisher.ledger.recovery.check", lambda file: "damaged")
        with pytest.raises(Killed):
            open_outbox(state)
    with open_outbox(state) as outbox:
        saved = [m["verdict_id"] for m in sent(outbox) if m["schema"] == "edge-qc/verdict/1"]
        assert len(saved) == len(set(saved)) > 40
        assert {*in_the_log, "open"} <= set(saved)
        gaps = events(outbox)
        assert [gap["event"] for gap in gaps] == ["ledger-gap"]
    assert not list(state.glob("*.salvage*"))


def test_an_older_copy_put_back_is_found_out(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as outbox:
        judge(outbox)
    older = (tmp_path / "outbox.sqlite").read_bytes()
    with open_outbox(tmp_path) as outbox:
        judge(outbox, 2)
    (tmp_path / "outbox.sqlite").write_bytes(older)
    with open_outbox(tmp_path) as outbox:
        (event,) = events(outbox)
        assert event["event"] == "ledger-gap"
        assert "its last ones are lost" in event["detail"]
    with open_outbox(tmp_path) as outbox:
        assert len(events(outbox)) == 1, "said once"


def test_commits_that_vanish_from_the_log_are_found_out(tmp_path: Path) -> None:
    """A flipped bit in the write-ahead log, which SQLite's own check calls ok."""
    with open_outbox(tmp_path / "a") as outbox:
        judge(outbox, 5)
        after = crash(tmp_path / "a", tmp_path / "b")
    log = after / "outbox.sqlite-wal"
    data = bytearray(log.read_bytes())
    data[len(data) - 4096 + 100] ^= 1
    log.write_bytes(data)
    (after / "outbox.sqlite-shm").unlink()
    with open_outbox(after) as outbox:
        assert [event["event"] for event in events(outbox)] == ["ledger-gap"]


def test_a_removed_file_is_not_silently_made_anew(tmp_path: Path) -> None:
    open_outbox(tmp_path).close()
    (tmp_path / "outbox.sqlite").unlink()
    with open_outbox(tmp_path) as outbox:
        assert "the file was removed" in events(outbox)[0]["detail"]


def test_a_first_start_has_nothing_to_say(tmp_path: Path) -> None:
    with open_outbox(tmp_path / "new" / "folder") as outbox:
        assert sent(outbox) == []
        assert outbox.status().space is Space.OK


def test_an_outbox_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    open_outbox(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(PublishError, match="schema 99"):
        open_outbox(tmp_path)
    assert not list(tmp_path.glob("*corrupt*"))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match=r"file/outbox\.sqlite.*may write there"):
        open_outbox(tmp_path / "file")


def test_a_full_disk_refuses_triggers_with_the_figures(tmp_path: Path) -> None:
    with open_outbox(tmp_path, full_bytes=2**62) as outbox:
        assert outbox.status().space is Space.FULL
        with pytest.raises(PublishError, match=r"disk is full.*triggers are refused"):
            outbox.trigger("v1", record())
        assert outbox.status().open_triggers == 0
        outbox.event("storage-full").result(10)


def test_a_low_disk_is_said_and_triggers_go_on(tmp_path: Path) -> None:
    with open_outbox(tmp_path, low_bytes=2**62) as outbox:
        assert outbox.status().space is Space.LOW
        judge(outbox)


def test_verdicts_on_accepted_triggers_wait_for_room(tmp_path: Path) -> None:
    """SQLite says the disk is full: the ballast goes, no trigger is taken, nothing is dropped, and
    all is well again when there is room."""
    with open_outbox(tmp_path) as outbox:
        ballast = tmp_path / "outbox.sqlite.ballast"
        assert ballast.exists()
        for number in range(200):
            recorded = outbox.trigger(f"v{number}", record())
        recorded.result(10)
        database = outbox._writer._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        futures = [outbox.verdict(f"v{number}", content()) for number in range(200)]
        wait_until(lambda: not ballast.exists())
        assert outbox.space() is Space.FULL
        with pytest.raises(PublishError, match="disk is full"):
            outbox.trigger("another", record())
        assert not futures[-1].done()
        database.execute("PRAGMA max_page_count = 1000000")
        for future in futures:
            future.result(10)
        wait_until(lambda: outbox.space() is Space.OK)
        assert ballast.exists()
        assert [m["seq"] for m in sent(outbox)] == list(range(1, 201))


def test_an_outbox_that_broke_says_so_to_everybody(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    outbox.trigger("v1", record()).result(10)
    outbox._writer._db.execute("DROP TABLE message")
    with pytest.raises(PublishError, match="can no longer be written"):
        outbox.verdict("v1", content()).result(10)
    assert "no such table" in str(outbox.status().fault)
    assert outbox.fault == outbox.status().fault
    with pytest.raises(PublishError, match="can no longer be written"):
        outbox.trigger("v2", record())
    outbox.close()


def test_delivered_messages_are_kept_for_a_time_and_waiting_ones_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_qc.publisher.ledger.writer._PRUNE_EVERY_S", 0)
    with open_outbox(tmp_path, keep_days=1e-9) as outbox:
        judge(outbox, 5)
        outbox.delivered([message.row for message in outbox.waiting(0, 3)])
        wait_until(lambda: outbox.event("tick").result(10) is None and count(tmp_path) == 2)


def test_starts_of_which_nothing_is_left_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A station that is started again every two seconds for days."""
    monkeypatch.setattr("edge_qc.publisher.ledger.writer._PRUNE_EVERY_S", 0)
    for _ in range(3):
        with open_outbox(tmp_path):
            pass
    with open_outbox(tmp_path) as outbox:
        judge(outbox, 1)
    with open_outbox(tmp_path) as outbox:
        outbox.event("tick").result(10)
        wait_until(lambda: outbox.event("tick").result(10) is None and epochs(tmp_path) == 2)


def epochs(folder: Path) -> int:
    return int(rows(folder, "SELECT count(*) FROM epoch")[0][0])


def test_the_file_is_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_qc.publisher.ledger.writer._PRUNE_EVERY_S", 0)
    with open_outbox(tmp_path, keep_bytes=200_000) as outbox:
        for _ in range(5):
            judge(outbox, 200)
            outbox.delivered([message.row for message in outbox.waiting(0, 10_000)])
            assert outbox.wait_delivered(5)
        wait_until(lambda: outbox.event("tick").result(10) is None and count(tmp_path) < 400)


def count(folder: Path) -> int:
    found = rows(folder, "SELECT count(*) FROM message WHERE kind = 'verdict'")
    return int(found[0][0])


def test_a_torn_mark_leaves_the_one_before(tmp_path: Path) -> None:
    mark = HighWaterMark(tmp_path / "mark")
    assert mark.read() == 0
    for commits in (1, 2, 3):
        mark.write(commits)
        mark.sync()
    mark.write(4)
    assert mark.read() == 4
    flip(tmp_path / "mark", b"4 ")
    assert mark.read() == 3
    mark.close()
    mark = HighWaterMark(tmp_path / "mark")
    mark.write(5)
    flip(tmp_path / "mark", b"5 ")
    assert mark.read() == 3
    mark.close()


def test_no_record_waits_for_the_mark_which_reaches_the_disk_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, after_a_power_cut = tmp_path / "outbox.sqlite.mark", tmp_path / "after"
    sync = os.fdatasync

    def synced(fd: int) -> None:
        sync(fd)
        if os.path.samestat(os.fstat(fd), file.stat()):
            after_a_power_cut.write_bytes(file.read_bytes())

    monkeypatch.setattr(os, "fdatasync", synced)
    with open_outbox(tmp_path) as outbox:
        wait_until(after_a_power_cut.exists)
        monkeypatch.setattr("edge_qc.publisher.ledger.writer._MARK_S", 3600)
        at_rest = HighWaterMark.peek(after_a_power_cut)
        assert at_rest == HighWaterMark.peek(file) == 1
        for number in range(3):
            outbox.trigger(f"v{number}", record()).result(10)
            assert HighWaterMark.peek(after_a_power_cut) == at_rest
        assert HighWaterMark.peek(file) == at_rest + 3
    assert HighWaterMark.peek(after_a_power_cut) == HighWaterMark.peek(file) == at_rest + 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """What was accepted gets its verdict in the ballast's room; a start on the full disk works and
    refuses triggers; with room again all goes on, and nothing is missing."""
    room = {"full_bytes": 64 * 1024, "ballast_bytes": 512 * 1024}
    with open_outbox(small_disk, **room) as outbox:
        for number in range(50):
            outbox.trigger(f"v{number}", record()).result(10)
        filler = (small_disk / "evidence").open("wb")
        with suppress(OSError):
            while True:
                filler.write(bytes(4096))
                filler.flush()
        futures = [outbox.verdict(f"v{number}", content()) for number in range(50)]
        for future in futures:
            future.result(10)
        assert not (small_disk / "outbox.sqlite.ballast").exists()
        with suppress(OSError):
            while True:
                filler.write(bytes(512))
                filler.flush()
        with pytest.raises(PublishError, match="disk is full"):
            outbox.trigger("refused", record())
    with suppress(OSError):
        filler.close()
    (small_disk / "evidence").unlink()
    with open_outbox(small_disk, **room) as outbox:
        judge(outbox, 3)
        assert (small_disk / "outbox.sqlite.ballast").exists()
        outbox.trigger("open", record()).result(10)
        with suppress(OSError):
            (small_disk / "evidence").write_bytes(bytes(2**21))
        outbox.verdict("open", content()).result(10)
        told = [m for m in sent(outbox) if m["schema"] == "edge-qc/verdict/1"]
        assert [m["seq"] for m in told] == [*range(1, 51), 1, 2, 3, 4]


def test_a_start_on_a_full_disk_says_so(small_disk: Path) -> None:
    room = {"full_bytes": 64 * 1024, "ballast_bytes": 512 * 1024}
    with open_outbox(small_disk, **room) as outbox:
        outbox.trigger("open", record()).result(10)
        after = {file.name: file.read_bytes() for file in small_disk.iterdir()}
    # As a power cut would have left it.
    for file in small_disk.iterdir():
        file.unlink()
    for name, data in after.items():
        if not name.endswith("-shm"):
            (small_disk / name).write_bytes(data)
    with suppress(OSError):
        (small_disk / "evidence").write_bytes(bytes(2**21))
    with open_outbox(small_disk, **room) as outbox:
        assert outbox.space() is Space.FULL
        assert [m["reason"] for m in sent(outbox)] == ["restart"]
        with pytest.raises(PublishError, match="disk is full"):
            outbox.trigger("another", record())
        (small_disk / "evidence").unlink()
        outbox.event("storage-ok").result(10)
        wait_until(lambda: outbox.space() is Space.OK)
        judge(outbox)
