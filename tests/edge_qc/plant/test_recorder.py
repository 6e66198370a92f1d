"""A station and its recorder over a real broker: what is acknowledged is recorded."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import sqlalchemy as sa

from edge_qc.plant.recorder import Store, open_database
from edge_qc.plant.recorder import tables as t
from edge_qc.publisher import Kind, Outbox, OverruleContent, Publisher
from edge_qc.settings import MqttTable
from edge_qc.system.state import State
from tests.rig.proxy import Proxy
from tests.rig.publishing import Ear, judge, open_outbox, open_publisher, wait_until
from tests.rig.recording import recording

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    engine = open_database(database)
    yield engine
    engine.dispose()


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_database(str(tmp_path / "records.sqlite"))
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with open_outbox(tmp_path) as outbox:
        yield outbox


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_qc.publisher.connection.recorded.RESEND_S", 0.6)
    monkeypatch.setattr("edge_qc.plant.recorder.service.REPEAT_S", 0.3)


def station(outbox: Outbox, folder: Path, address: tuple[str, int], **keys: Any) -> Publisher:
    publisher = open_publisher(outbox, folder, address, recorder=True, **keys)
    publisher.state(State.RUNNING, "judging")
    return publisher


def recorded(engine: sa.Engine, table: sa.Table = t.verdict) -> list[Any]:
    with engine.connect() as db:
        return list(db.execute(sa.select(table).order_by(table.c.stream_id, table.c.seq)))


def test_all_that_a_station_says_is_recorded_and_then_let_go(
    mosquitto: tuple[str, int], engine: sa.Engine, outbox: Outbox, tmp_path: Path
) -> None:
    with recording(mosquitto, Store(engine)) as recorder:
        publisher = station(outbox, tmp_path, mosquitto)
        ids = judge(outbox, 500)
        outbox.event("camera-lost", "no picture", camera="north").result(10)
        assert publisher.drain(30)
        publisher.close()
        wait_until(lambda: recorder.new == 501)
    assert [row.verdict_id for row in recorded(engine)] == ids
    assert [row.event for row in recorded(engine, t.event)] == ["camera-lost"]
    with engine.connect() as db:
        states = db.execute(sa.select(t.state_change.c.state)).scalars().all()
        assert db.execute(sa.select(sa.func.sum(t.tally.c.n))).scalar() == 500
    assert "RUNNING" in states


def test_an_overrule_is_recorded_as_a_label_and_waits_for_no_recorder(
    mosquitto: tuple[str, int], file_engine: sa.Engine, outbox: Outbox, tmp_path: Path
) -> None:
    """A recorder of before knows none: its stations' outbox would grow for ever."""
    now = datetime.now(timezone.utc)
    said = OverruleContent(
        overrule_id="o", verdict_id="v", part_id=None, camera="north", die="Die01",
        verdict_time=now, time=now, what="overruled", said="DRIFT", label="GOOD", who="ann",
    )  # fmt: skip
    publisher = station(outbox, tmp_path, mosquitto)
    outbox.overrule(said).result(10)
    assert publisher.drain(30)
    with recording(mosquitto, Store(file_engine)):
        # Known to the recorder is what comes from now on.
        outbox.event("camera-lost").result(10)
        assert publisher.drain(30)
        outbox.overrule(said).result(10)
        wait_until(lambda: len(labels_of(file_engine)) == 1)
    publisher.close()
    assert labels_of(file_engine) == [("v", "GOOD", "DRIFT", "ann", "overrule")]


def labels_of(engine: sa.Engine) -> list[tuple[Any, ...]]:
    of = t.label.c
    with engine.connect() as db:
        query = sa.select(of.verdict_id, of.truth, of.said, of.labelled_by, of.via)
        return [tuple(row) for row in db.execute(query)]


def test_the_broker_s_word_alone_lets_nothing_go(
    mosquitto: tuple[str, int], file_engine: sa.Engine, outbox: Outbox, tmp_path: Path
) -> None:
    """The recorder is away, and has never been there: the station says so, and sends everything
    again once it is heard."""
    with Ear(mosquitto) as ear:
        publisher = station(outbox, tmp_path, mosquitto, recorder_silent_s=0.5)
        ids = judge(outbox, 300)
        wait_until(lambda: len(ear.first_of_each) == 300)
        wait_until(lambda: "the recorder has been silent" in str(publisher.trouble))
        assert outbox.status().waiting == 300
        assert len(ear.verdicts) == 300
        with recording(mosquitto, Store(file_engine)):
            assert publisher.drain(30)
            wait_until(lambda: publisher.trouble is None)
        publisher.close()
    assert [row.verdict_id for row in recorded(file_engine)] == ids


def test_what_is_lost_between_them_is_sent_again(
    mosquitto: tuple[str, int], file_engine: sa.Engine, outbox: Outbox, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Every fifth message vanishes on its way from the broker, as from a queue that is too short:
    nothing above it is acknowledged, and the station sends from there again."""
    from edge_qc.plant.recorder import service

    read, lost = service.arrival, set[int]()

    def lossy(topic: str, payload: bytes, *observed: Any) -> Any:
        one = read(topic, payload, *observed)
        if one is not None and one.seq is not None and one.seq % 5 == 0 and one.seq not in lost:
            lost.add(one.seq)
            return None
        return one

    monkeypatch.setattr(service, "arrival", lossy)
    with recording(mosquitto, Store(file_engine)):
        publisher = station(outbox, tmp_path, mosquitto)
        ids = judge(outbox, 50)
        assert publisher.drain(30)
        publisher.close()
    assert len(lost) == 10
    assert {row.verdict_id for row in recorded(file_engine)} == set(ids)


def test_damaged_and_vanished_rows_stall_no_acknowledgement(
    mosquitto: tuple[str, int], file_engine: sa.Engine, outbox: Outbox, tmp_path: Path
) -> None:
    """One payload was altered on disk, another row is gone: the station tells that they will not
    come, the recorder notes the gaps, and everything else is let go."""
    ids = judge(outbox, 20)
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as hand, hand:
        hand.execute("UPDATE message SET payload = replace(payload, 'north', 'south') WHERE seq=7")
        hand.execute("DELETE FROM message WHERE seq = 12")
    with recording(mosquitto, Store(file_engine)):
        publisher = station(outbox, tmp_path, mosquitto)
        wait_until(lambda: outbox.status().waiting <= 1)
        judge(outbox, 5)
        wait_until(lambda: len(recorded(file_engine)) == 23)
        publisher.close()
    assert {row.verdict_id for row in recorded(file_engine)} >= set(ids) - {ids[6], ids[11]}
    with file_engine.connect() as db:
        gaps = db.execute(sa.select(t.gap.c.first, t.gap.c.last)).all()
    assert sorted(tuple(gap) for gap in gaps) == [(7, 7), (12, 12)]
    (event,) = recorded(file_engine, t.event)
    assert "verdict 7" in event.detail


def test_records_that_were_lost_do_not_hold_a_station(
    mosquitto: tuple[str, int], file_engine: sa.Engine, outbox: Outbox, tmp_path: Path
) -> None:
    """The database is replaced by an empty one while the station runs."""
    publisher = station(outbox, tmp_path, mosquitto)
    with recording(mosquitto, Store(file_engine)):
        judge(outbox, 40)
        assert publisher.drain(30)
    other = open_database(str(tmp_path / "other.sqlite"))
    with recording(mosquitto, Store(other)):
        ids = judge(outbox, 40)
        assert publisher.drain(30)
        publisher.close()
    assert [row.verdict_id for row in recorded(other)] == ids
    with other.connect() as db:
        assert db.execute(sa.select(t.gap.c.first, t.gap.c.last)).all() == [(1, 40)]
    other.dispose()


def test_a_restarted_station_is_acknowledged_for_both_its_epochs(
    mosquitto: tuple[str, int], file_engine: sa.Engine, tmp_path: Path
) -> None:
    with open_outbox(tmp_path) as outbox:
        publisher = station(outbox, tmp_path, mosquitto)
        wait_until(lambda: publisher.connected)
        ids = judge(outbox, 30)
        publisher.close()
    with open_outbox(tmp_path) as outbox, recording(mosquitto, Store(file_engine)):
        assert outbox.status().waiting == 30
        publisher = station(outbox, tmp_path, mosquitto)
        ids += judge(outbox, 10)
        assert publisher.drain(30)
        publisher.close()
    assert {row.verdict_id for row in recorded(file_engine)} == set(ids)
    assert len({row.stream_id for row in recorded(file_engine)}) == 2


def test_a_database_that_is_away_lets_nothing_go_and_loses_nothing(
    mosquitto: tuple[str, int], file_engine: sa.Engine, outbox: Outbox, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    count, away = Store._count, True

    def fail(self: Store, *arguments: Any) -> None:
        if away:
            raise sa.exc.OperationalError("INSERT", {}, Exception("server closed"))
        count(self, *arguments)

    monkeypatch.setattr(Store, "_count", fail)
    with recording(mosquitto, Store(file_engine)) as recorder:
        publisher = station(outbox, tmp_path, mosquitto)
        ids = judge(outbox, 30)
        wait_until(lambda: "server closed" in str(recorder.trouble))
        assert not publisher.drain(0.5)
        assert outbox.status().waiting == 30
        away = False
        assert publisher.drain(30)
        wait_until(lambda: recorder.trouble is None)
        publisher.close()
    assert {row.verdict_id for row in recorded(file_engine)} == set(ids)


def test_acknowledgements_that_nobody_can_have_meant_are_not_heeded(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mouth = paho.Client(paho.CallbackAPIVersion.VERSION2)
    mouth.connect(*mosquitto)
    mouth.loop_start()
    with Ear(mosquitto) as ear:
        publisher = station(outbox, tmp_path, mosquitto)
        judge(outbox, 5)
        wait_until(lambda: len(ear.verdicts) == 5)
        for ack in (
            {"epoch": outbox.epoch, "kind": "verdict", "upto": 6},
            {"epoch": outbox.epoch, "kind": "part", "upto": 1},
            {"epoch": outbox.epoch, "kind": "state", "upto": 1},
            {"epoch": outbox.epoch, "kind": "verdict", "upto": -1},
            {"epoch": "another", "kind": "verdict", "upto": 5},
            {"upto": 5},
        ):
            text = json.dumps({"schema": "edge-qc/ack/1", **ack})
            mouth.publish("edge-qc/v1/s/n/ack", text, 1).wait_for_publish(5)
        wait_until(lambda: "which this station never sent" in caplog.text)
        wait_until(lambda: caplog.text.count("does not match its schema") == 3)
        assert outbox.status().waiting == 5
        text = json.dumps({"epoch": outbox.epoch, "kind": "verdict", "upto": 3})
        mouth.publish("edge-qc/v1/s/n/ack", text, 1).wait_for_publish(5)
        wait_until(lambda: outbox.status().waiting == 2)
        publisher.close()
    mouth.disconnect()
    mouth.loop_stop()


def test_without_a_recorder_the_station_counts_what_nobody_heard(
    mosquitto: tuple[str, int], outbox: Outbox, tmp_path: Path
) -> None:
    publisher = open_publisher(outbox, tmp_path, mosquitto)
    judge(outbox, 7)
    assert publisher.drain(20)
    wait_until(lambda: publisher.unheard == 7)
    with Ear(mosquitto) as ear:
        judge(outbox, 3)
        wait_until(lambda: len(ear.verdicts) == 3)
    assert publisher.drain(20)
    assert publisher.unheard == 7
    publisher.close()


def start_recorder(address: tuple[str, int], database: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_qc.cli", "record", "--broker", f"{address[0]}:{address[1]}",
         "--database", database],
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def let_go(folder: Path) -> set[str]:
    """The verdicts that the outbox holds as delivered."""
    with closing(sqlite3.connect(f"file:{folder}/outbox.sqlite?mode=ro", uri=True)) as hand:
        return {row[0] for row in hand.execute("SELECT verdict_id FROM message WHERE state = 1")}


def test_kill_nine_of_the_recorder_misses_nothing_that_it_acknowledged(
    mosquitto: tuple[str, int], database: str, engine: sa.Engine, outbox: Outbox, tmp_path: Path
) -> None:
    """SIGKILL, four times in the middle of the work, and the connection cut: whatever the station
    has let go is in the database at that moment; in the end everything is, once."""
    dice = random.Random(1)
    ids: list[str] = []
    with Proxy(mosquitto) as proxy:
        publisher = station(outbox, tmp_path, proxy.address)
        for turn in range(5):
            recorder = start_recorder(mosquitto, database)
            before = len(let_go(tmp_path))
            until_s = time.monotonic() + 60
            while len(let_go(tmp_path)) < before + 60 and time.monotonic() < until_s:
                ids += judge(outbox, 10)
                time.sleep(0.02)
            ids += judge(outbox, dice.randint(1, 200))
            if turn == 4:
                assert publisher.drain(40)
                recorder.terminate()
                assert recorder.wait(20) == 0
                break
            time.sleep(dice.uniform(0, 0.1))
            recorder.send_signal(signal.SIGKILL)
            recorder.wait()
            proxy.cut()
            gone = let_go(tmp_path)
            assert gone <= {row.verdict_id for row in recorded(engine)}
            assert len(gone) > before
        publisher.close()
    held = [row.verdict_id for row in recorded(engine)]
    assert sorted(held) == sorted(ids)
    with engine.connect() as db:
        assert db.execute(sa.select(sa.func.sum(t.tally.c.n))).scalar() == len(ids)


def test_what_a_broker_keeps_for_a_recorder_that_is_away(
    mosquitto: tuple[str, int], file_engine: sa.Engine, outbox: Outbox, tmp_path: Path
) -> None:
    """The station expects no recorder, and lets go at the PUBACK: the broker keeps the rest."""
    with recording(mosquitto, Store(file_engine)):
        pass
    publisher = open_publisher(outbox, tmp_path, mosquitto)
    ids = judge(outbox, 100)
    assert publisher.drain(20)
    publisher.close()
    with recording(mosquitto, Store(file_engine)) as recorder:
        wait_until(lambda: recorder.new == 100)
    assert [row.verdict_id for row in recorded(file_engine)] == ids
    assert Store(file_engine).upto(*_stream(outbox)) == 100


def _stream(outbox: Outbox) -> Any:
    from edge_qc.plant.recorder.arrivals import Source

    return Source("s", "n"), outbox.epoch, Kind.VERDICT


def test_a_recorder_that_cannot_connect_says_so(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "edge_qc.cli", "record", "--broker", "127.0.0.1:1",
         "--database", tmp_path / "records.sqlite"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 1
    assert "Connection refused" in run.stderr
    assert MqttTable(host="h").recorder is False
