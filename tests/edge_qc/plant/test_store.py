"""The recorder's database, SQLite and PostgreSQL: once each, counted, never beyond a gap."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from edge_qc.errors import RecordError, UsageError
from edge_qc.plant.recorder import Store, open_database
from edge_qc.plant.recorder import tables as t
from edge_qc.plant.recorder.arrivals import Source, arrival
from edge_qc.publisher import Kind
from tests.rig.publishing import TIME
from tests.rig.recording import arrived, verdict

STREAM = (Source("s", "n"), "e1", Kind.VERDICT)


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    engine = open_database(database)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: sa.Engine) -> Store:
    return Store(engine)


def rows(engine: sa.Engine, table: sa.Table) -> list[dict[str, Any]]:
    with engine.connect() as db:
        return [dict(row._mapping) for row in db.execute(sa.select(table))]


def test_a_verdict_is_kept_whole_and_once(engine: sa.Engine, store: Store) -> None:
    payload = verdict(1)
    done = store.record(arrived(payload, payload))
    assert (done.new, done.repeated, done.upto) == (1, 1, {STREAM: 1})
    again = Store(engine).record(arrived(payload))
    assert (again.new, again.repeated, again.upto) == (0, 1, {STREAM: 1})
    (row,) = rows(engine, t.verdict)
    assert json.loads(row["payload"]) == json.loads(payload)
    assert row["time"] == TIME + timedelta(seconds=1)
    assert (row["label"], row["disposition"], row["expected_cost"]) == ("GOOD", "PASS", 1.5)
    assert row["latency_ms"] == 4.75
    (tally,) = rows(engine, t.tally)
    assert (tally["n"], tally["drift_n"], tally["drift_sum"]) == (1, 1, 0.5)
    assert tally["bucket"] == TIME.replace(minute=30, second=0, microsecond=0)


def test_tallies_are_what_counting_says(engine: sa.Engine, store: Store) -> None:
    for batch in range(4):
        store.record(
            arrived(
                *(
                    verdict(
                        seq,
                        label=("GOOD", "Missing", "NOT_JUDGED")[seq % 3],
                        die=(None, "Die01")[seq % 2],
                        time=(TIME + timedelta(minutes=seq)).isoformat(),
                    )
                    # Each batch repeats half of the one before.
                    for seq in range(batch * 10 + 1, batch * 10 + 21)
                )
            )
        )
    with engine.connect() as db:
        counted = db.execute(
            sa.select(
                t.verdict.c.label,
                t.verdict.c.die,
                sa.func.count(),
                sa.func.sum(t.verdict.c.expected_cost),
            ).group_by(t.verdict.c.label, t.verdict.c.die)
        ).all()
        tallied = db.execute(
            sa.select(
                t.tally.c.label,
                t.tally.c.die,
                sa.func.sum(t.tally.c.n),
                sa.func.sum(t.tally.c.expected_cost),
            ).group_by(t.tally.c.label, t.tally.c.die)
        ).all()
    assert len(rows(engine, t.verdict)) == 50
    assert len(rows(engine, t.tally)) > 10
    assert {(label, die or "", n): cost or 0.0 for label, die, n, cost in counted} == {
        (label, die, n): cost for label, die, n, cost in tallied
    }


def test_nothing_above_a_gap_is_acknowledged_even_after_a_restart(
    engine: sa.Engine, store: Store
) -> None:
    assert store.record(arrived(verdict(1), verdict(2), verdict(5))).upto == {STREAM: 2}
    again = Store(engine)
    assert again.upto(*STREAM) == 2
    assert again.record(arrived(verdict(3))).upto == {STREAM: 3}
    assert again.record(arrived(verdict(4))).upto == {STREAM: 5}


def test_a_stream_that_was_not_there_is_known_once_it_is(store: Store) -> None:
    """A station asks about its events long before it has one."""
    assert [store.upto(*STREAM), store.upto(*STREAM)] == [0, 0]
    store.record(arrived(verdict(1)))
    assert store.upto(*STREAM) == 1


def test_more_streams_than_are_held_in_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_qc.plant.recorder.catalogue._MOST_STREAMS", 2)
    epochs = [f"e{number}" for number in range(5)]
    here = Source("s", "n")
    assert {store.upto(here, epoch, Kind.VERDICT) for epoch in epochs[:2]} == {0}
    for seq in (1, 3, 2, 4):
        for epoch in epochs:
            store.record(arrived(verdict(seq, epoch=epoch)))
    assert {store.upto(here, epoch, Kind.VERDICT) for epoch in epochs} == {4}


def test_a_gap_that_the_station_gives_up_is_noted_and_passed(
    engine: sa.Engine, store: Store
) -> None:
    store.record(arrived(verdict(1)))
    done = store.record(arrived(verdict(6, after=2)))
    assert done.lost == [(STREAM, (3, 5))]
    # Number 2 is still owed.
    assert done.upto == {STREAM: 1}
    assert store.record(arrived(verdict(2))).upto == {STREAM: 6}
    (gap,) = rows(engine, t.gap)
    assert (gap["first"], gap["last"]) == (3, 5)
    # A replay brings one of them after all.
    for late in (store, Store(engine)):
        assert late.record(arrived(verdict(4))).upto == {STREAM: 6}
    assert sorted(row["seq"] for row in rows(engine, t.verdict)) == [1, 2, 4, 6]


def test_records_that_are_new_while_a_station_runs_do_not_stall_it(store: Store) -> None:
    assert store.record(arrived(verdict(5001, after=0), verdict(5002))).upto == {STREAM: 5002}


def test_one_verdict_under_two_numbers_is_kept_once_and_told(
    engine: sa.Engine, store: Store
) -> None:
    """A station that lost its last writes judges an open trigger once more."""
    store.record(arrived(verdict(1, "v1")))
    second = verdict(1, "v1", epoch="e2", label="NOT_JUDGED")
    done = store.record(arrived(second, verdict(2, "v2", epoch="e2")))
    assert done.upto == {(Source("s", "n"), "e2", Kind.VERDICT): 2}
    assert Store(engine).record(arrived(second)).repeated == 1
    assert [row["label"] for row in rows(engine, t.verdict)] == ["GOOD", "GOOD"]
    assert sum(row["n"] for row in rows(engine, t.tally)) == 2
    (aside,) = rows(engine, t.set_aside)
    assert "v1 is already recorded" in aside["why"]
    assert json.loads(aside["payload"])["label"] == "NOT_JUDGED"


@pytest.mark.parametrize(
    "broken",
    [
        {"label": "GOOD", "disposition": "REJECT", "reason": "restart"},
        {"time": "yesterday"},
        {"camera": None},
    ],
)
def test_a_message_that_breaks_its_schema_is_set_aside_and_does_not_stall(
    engine: sa.Engine, store: Store, broken: dict[str, Any]
) -> None:
    done = store.record(arrived(verdict(1), verdict(2, **broken), verdict(3)))
    assert (done.new, done.set_aside, done.upto) == (2, 1, {STREAM: 3})
    assert Store(engine).record(arrived(verdict(2, **broken))).repeated == 1


def test_text_that_a_database_may_refuse(engine: sa.Engine, store: Store) -> None:
    """NUL, lone surrogates, quotes, markup: kept or set aside, and the others pass."""
    names = ["a\0b", "'; DROP TABLE verdict; --", "<script>", "\U0001f642", "x" * 5000]
    payloads = [verdict(seq, part_id=name) for seq, name in enumerate(names, 1)]
    payloads += [verdict(6, part_id="\ud800"), verdict(7)]
    done = store.record(arrived(*payloads))
    assert done.upto == {STREAM: 7}
    assert done.new + done.set_aside == 7
    kept = {row["seq"]: row["part_id"] for row in rows(engine, t.verdict)}
    assert [kept[seq] for seq in (2, 3, 4)] == names[1:4]
    assert kept[1] == "a\N{REPLACEMENT CHARACTER}b"
    assert kept[7] == "part-7"


@pytest.mark.parametrize("epoch", ["a\0b", "a\ud800", "x" * 5000])
def test_an_epoch_that_a_database_may_refuse(store: Store, epoch: str) -> None:
    """The key under which a message would be set aside: the others pass, now and the next time."""
    payloads = [verdict(1), verdict(1, verdict_id="odd", epoch=epoch), verdict(2)]
    for _ in range(2):
        assert store.record(arrived(*payloads)).upto[STREAM] == 2


def test_an_id_that_is_too_long_for_an_index(store: Store) -> None:
    long = verdict(2, verdict_id="".join(map(str, range(5000))), part_id="p" * 9000)
    for _ in range(2):
        assert store.record(arrived(verdict(1), long, verdict(3))).upto == {STREAM: 3}


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("edge-qc/v1/s/n/verdict", b""),
        ("edge-qc/v1/s/n/verdict", b"{"),
        ("edge-qc/v1/s/n/verdict", b"[1]"),
        ("edge-qc/v1/s/n/verdict", b"[" * 60_000),
        ("edge-qc/v1/s/n/verdict", b'{"epoch": "e", "seq": true}'[:20]),
        ("edge-qc/v1/s/n/verdict", b'{"epoch": "e", "seq": -1}'),
        ("edge-qc/v1/s/n/verdict", verdict(10**30, time=TIME.isoformat())),
        ("edge-qc/v1/s/n/verdict", b"x" * 70_000),
        ("edge-qc/v1/s/n/state", b"{}"),
        ("edge-qc/v1/s/n/health", b"{}"),
        ("elsewhere/verdict", verdict(1)),
    ],
)
def test_junk_is_no_arrival(topic: str, payload: bytes) -> None:
    assert arrival(topic, payload) is None


def test_a_message_that_this_database_refuses_lets_the_others_pass(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that we did not think of."""
    write = Store._row

    def refuse(self: Store, db: Any, one: Any, *rest: Any) -> dict[str, Any]:
        row = write(self, db, one, *rest)
        return row | {"camera": None} if one.seq == 2 else row

    monkeypatch.setattr(Store, "_row", refuse)
    done = store.record(arrived(verdict(1), verdict(2), verdict(3)))
    assert (done.new, done.set_aside, done.upto) == (2, 1, {STREAM: 3})


def test_a_commit_that_fails_acknowledges_nothing(
    engine: sa.Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.record(arrived(verdict(1)))

    def fail(*_: Any) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("the server is going down"))

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_count", fail)
        with pytest.raises(sa.exc.OperationalError):
            store.record(arrived(verdict(2), verdict(3)))
    assert store.upto(*STREAM) == 1
    assert len(rows(engine, t.verdict)) == 1
    assert store.record(arrived(verdict(2), verdict(3))).upto == {STREAM: 3}
    assert sorted(row["seq"] for row in rows(engine, t.verdict)) == [1, 2, 3]


def test_old_messages_go_and_counts_and_labelled_verdicts_stay(
    engine: sa.Engine, store: Store
) -> None:
    store.record(arrived(*(verdict(seq) for seq in range(1, 11))))
    with engine.begin() as db:
        db.execute(
            t.label.insert().values(
                verdict_id="e1-2", truth="Missing", labelled_by="ann", time=TIME, note=""
            )
        )
    assert store.prune(TIME + timedelta(seconds=6)) == 4
    assert sorted(row["seq"] for row in rows(engine, t.verdict)) == [2, 6, 7, 8, 9, 10]
    assert rows(engine, t.tally)[0]["n"] == 10
    assert Store(engine).record(arrived(verdict(3), verdict(11))).upto == {STREAM: 11}


def test_old_states_are_pruned_but_each_station_s_last(engine: sa.Engine) -> None:
    """A station that has been RUNNING for longer is RUNNING still."""
    store = Store(engine)
    when = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    for number, name in enumerate(("STARTING", "RUNNING")):
        message = {
            "schema": "edge-qc/state/1", "epoch": "e1", "site": "s", "station": "n",
            "state": name, "time": (when + timedelta(seconds=number)).isoformat(),
        }  # fmt: skip
        store.record(arrived(json.dumps(message).encode(), level="state"))
    assert store.prune(datetime.now(timezone.utc) + timedelta(days=1)) == 1
    assert [row["state"] for row in rows(engine, t.state_change)] == ["RUNNING"]


def test_old_events_go_a_few_at_a_time(engine: sa.Engine, store: Store) -> None:
    """Stations wait for their acknowledgements meanwhile."""
    for number in range(1, 6):
        message = {
            "schema": "edge-qc/event/1", "epoch": "e1", "site": "s", "station": "n",
            "event": "tick", "severity": "info", "detail": "", "camera": None, "seq": number,
            "time": TIME.isoformat(), "historical": False,
        }  # fmt: skip
        store.record(arrived(json.dumps(message).encode(), level="event"))
    after = TIME + timedelta(days=1)
    assert [store.prune(after, most=2) for _ in range(4)] == [2, 2, 1, 0]
    assert rows(engine, t.event) == []


def test_databases_that_cannot_be_had_are_told(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="sqlite or postgresql"):
        open_database("mysql://host/name")
    with pytest.raises(RecordError, match=r"127\.0\.0\.1:1") as refused:
        open_database("postgresql://me:secret@127.0.0.1:1/name")
    assert "secret" not in str(refused.value)
    with pytest.raises(RecordError, match="no records"):
        open_database(str(tmp_path / "none.sqlite"), create=False)
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(RecordError, match=r"not a database\. Name the file that edge-qc record"):
        open_database(str(tmp_path / "junk"))
    newer = open_database(str(tmp_path / "newer.sqlite"))
    with newer.begin() as db:
        db.execute(t.records.update().values(schema_version=99))
    with pytest.raises(RecordError, match="schema 99"):
        open_database(str(tmp_path / "newer.sqlite"))


def test_what_is_not_installed_is_named() -> None:
    """Without the extra, the commands say what to install."""
    code = (
        "import sys\nsys.modules['sqlalchemy'] = None\nfrom edge_qc.cli import main\n"
        "sys.argv = ['edge-qc', 'query', 'gaps']\nmain()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "pip install '.[record]'" in run.stderr
