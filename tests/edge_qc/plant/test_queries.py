"""The records' answers, against counting by hand; SQLite and PostgreSQL."""

from __future__ import annotations

import csv
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from edge_qc.cli.label import command as label
from edge_qc.cli.query import command as query
from edge_qc.cli.record import command as record
from edge_qc.errors import DataError, UsageError
from edge_qc.plant.recorder import Store, counts, open_database, queries, truths
from edge_qc.plant.recorder.labels import add_labels
from edge_qc.plant.recorder.quality import figures, weighted
from edge_qc.plant.recorder.where import Answer, Shifts, Span, Where
from tests.rig.publishing import TIME
from tests.rig.recording import arrived, part, verdict

PARIS = ZoneInfo("Europe/Paris")
SHIFTS = Shifts((time(6), time(14), time(22)), PARIS)
COSTS = {
    "GOOD": {"GOOD": 0, "Missing": 100, "DRIFT": 30},
    "Missing": {"GOOD": 10_000, "Missing": 0, "DRIFT": 20},
    "DRIFT": {"GOOD": 5000, "Missing": 20, "DRIFT": 0},
}


def history() -> list[dict[str, Any]]:
    """Three hundred verdicts of two stations over some days, two bundles among them."""
    dice = random.Random(0)
    said = []
    for seq in range(1, 301):
        kind = dice.choices(["GOOD", "Missing", "DRIFT", "NOT_JUDGED"], [80, 10, 5, 5])[0]
        said.append(
            {
                "seq": seq,
                "label": kind,
                "die": dice.choice(["Die01", "Die02"]),
                "time": (TIME + timedelta(minutes=dice.randrange(7200))).isoformat(),
                "bundle": {"id": dice.choice("ab") * 64, "version": 1},
                "station": dice.choice(["n", "m"]),
            }
        )
    return said


def filled(database: str) -> Iterator[sa.Engine]:
    engine = open_database(database)
    found = []
    for fields in history():
        keys = dict(fields)
        root = f"edge-qc/v1/s/{keys['station']}"
        payload = verdict(keys.pop("seq"), epoch=f"e-{fields['station']}", **keys)
        found += arrived(payload, root=root)
    Store(engine).record(found)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def engine(shared_database: str) -> Iterator[sa.Engine]:
    """To be read."""
    yield from filled(shared_database)


@pytest.fixture
def own_engine(database: str) -> Iterator[sa.Engine]:
    """To be written to."""
    yield from filled(database)


def counted(answer: Answer, columns: int) -> dict[tuple[Any, ...], int]:
    return {row[:columns]: row[columns] for row in answer.rows}


def _offset(moment: datetime) -> str:
    text = f"{moment:%z}"
    return f"{text[:3]}:{text[3:]}"


def test_yields_are_what_counting_says(engine: sa.Engine) -> None:
    answer = counts.yields(engine, Where(), ("shift", "die", "class"), SHIFTS)
    by_hand: Counter[tuple[str, ...]] = Counter()
    for one in history():
        local = datetime.fromisoformat(one["time"]).astimezone(PARIS)
        hour = max((h for h in (6, 14, 22) if h <= local.hour), default=22)
        day = local.date() - timedelta(days=local.hour < 6)
        begins = datetime(day.year, day.month, day.day, hour, tzinfo=PARIS)
        shift = f"{begins:%Y-%m-%d %H:%M}{_offset(begins)}"
        by_hand[shift, one["die"], one["label"]] += 1
    assert counted(answer, 3) == dict(by_hand)
    assert answer.columns[:5] == ("shift", "die", "class", "views", "passed")


@pytest.mark.parametrize(
    ("start", "zone"),
    [
        (time(6), "Europe/Paris"),
        (time(6, 15), "Europe/Paris"),
        (time(6), "Asia/Kolkata"),
        (time(6, 30), "Asia/Kathmandu"),
    ],
)
def test_hours_and_shifts_begin_where_the_plant_says(
    engine: sa.Engine, start: time, zone: str
) -> None:
    """Whether full hours of UTC fit into them or not."""
    here = ZoneInfo(zone)
    answer = counts.yields(engine, Where(), ("shift", "hour"), Shifts((start,), here))
    by_hand: Counter[tuple[str, ...]] = Counter()
    for one in history():
        local = datetime.fromisoformat(one["time"]).astimezone(here)
        day = local.date() - timedelta(days=local.time() < start)
        begins = datetime.combine(day, start, here)
        shift = f"{begins:%Y-%m-%d %H:%M}{_offset(begins)}"
        by_hand[shift, f"{local:%Y-%m-%d %H:00}{_offset(local)}"] += 1
    assert counted(answer, 2) == dict(by_hand)


def test_a_yield_is_of_what_was_judged(engine: sa.Engine) -> None:
    (row,) = counts.yields(engine, Where(station="s/m", die="Die01"), ("die",), SHIFTS).rows
    mine = [one for one in history() if (one["station"], one["die"]) == ("m", "Die01")]
    labels = Counter(one["label"] for one in mine)
    judged = len(mine) - labels["NOT_JUDGED"]
    assert row[1:6] == (
        len(mine), labels["GOOD"], labels["Missing"] + labels["DRIFT"],
        labels["NOT_JUDGED"], labels["NOT_JUDGED"],
    )  # fmt: skip
    assert row[6] == labels["GOOD"] / judged


@pytest.mark.parametrize("by", [("die",), ("day", "die"), ("hour", "die"), ("shift", "station")])
@pytest.mark.parametrize(
    ("first_h", "last_h"),
    [
        (0, 72), (3, 60), (0, 30), (30, 72), (26, 28), (-9, 500),
        (12.01, 60.9), (24, 71.99), (13.37, 13.7), (13.3, 13.301), (26.249, 26.251), (13.3, 13.3),
    ],
)  # fmt: skip
def test_whole_days_and_their_edges_are_all_counted_once(
    engine: sa.Engine, by: tuple[str, ...], first_h: float, last_h: float
) -> None:
    """From tallies of days where those do, of quarters of an hour at both ends, and of the verdicts
    within one."""
    midnight = TIME.replace(hour=0, minute=0, second=0, microsecond=0)
    since, until = midnight + timedelta(hours=first_h), midnight + timedelta(hours=last_h)
    utc = Shifts((time(6),), timezone.utc)
    answer = counts.yields(engine, Where(since=since, until=until), by, utc)
    meant = [one for one in history() if since <= datetime.fromisoformat(one["time"]) < until]
    assert sum(row[len(by)] for row in answer.rows) == len(meant)
    assert answer.counted is None
    passed = sum(one["label"] == "GOOD" for one in meant)
    assert sum(row[len(by) + 1] for row in answer.rows) == passed


def test_a_quarter_whose_verdicts_were_deleted_is_counted_whole_and_says_so(
    database: str,
) -> None:
    """1 737 of 6 889 can be told no more: all of the quarter, and from when to when."""
    engine = open_database(database)
    at = TIME.replace(minute=0, second=0, microsecond=0)
    times = [at + timedelta(minutes=minutes) for minutes in (1, 4, 8, 14, 16, 29, 31)]
    store = Store(engine)
    store.record(arrived(*(verdict(n, time=t.isoformat()) for n, t in enumerate(times, 1))))
    where = Where(since=at + timedelta(minutes=3), until=at + timedelta(minutes=30))
    exact = counts.yields(engine, where, ("die",), SHIFTS)
    assert (exact.rows[0][1], exact.counted) == (5, None)
    store.prune(at + timedelta(minutes=5))
    wide = counts.yields(engine, where, ("die",), SHIFTS)
    assert wide.rows[0][1] == 6
    assert wide.counted == Span(at, where.until)
    engine.dispose()
    options = ("--by", "die", "--from", "2026-03-01T12:03", "--to", "2026-03-01T12:30")
    told = call(query, database, "yield", *options, "--json")
    (row,) = json.loads(told.stdout)
    assert (row["views"], row["counted_from"]) == (6, "2026-03-01T12:00:00+00:00")
    assert "counted from 2026-03-01 12:00:00" in told.stderr
    whole = call(query, database, "yield", "--by", "die", "--json")
    assert set(json.loads(whole.stdout)[0]) == {"die", *counts.FIGURES[counts.VIEWS]}


def test_parts_are_counted_as_before_once_old_messages_are_gone(database: str) -> None:
    """They have no tally: their own rows are the counts."""
    engine = open_database(database)
    Store(engine).record(arrived(part(1, TIME), part(2, TIME, "Missing"), level="part"))
    before = counts.yields(engine, Where(), ("station",), SHIFTS, counts.PARTS).rows
    Store(engine).prune(TIME + timedelta(days=1))
    assert counts.yields(engine, Where(), ("station",), SHIFTS, counts.PARTS).rows == before
    assert before[0][1] == 2
    engine.dispose()


def test_an_answer_does_not_say_of_deleted_verdicts_what_they_were(database: str) -> None:
    """Three of five were rejected, and nobody can list them any more."""
    engine = open_database(database)
    said = [verdict(seq, label="Missing" if seq < 4 else "GOOD") for seq in range(1, 6)]
    Store(engine).record(arrived(*said))
    Store(engine).prune(TIME + timedelta(seconds=4))
    told = call(query, database, "verdicts", "--not-passed")
    assert "3 of 5 verdicts were deleted (--keep-days), the others passed" in told.stderr
    Store(engine).prune(TIME + timedelta(days=1))
    for options in ((), ("--not-passed",)):
        told = call(query, database, "verdicts", *options)
        assert "5 of 5 verdicts were deleted (--keep-days)" in told.stderr
    elsewhere = call(query, database, "verdicts", "--from", "2031-01-01")
    assert "all single verdicts were deleted (--keep-days)" in elsewhere.stderr
    engine.dispose()


@pytest.mark.parametrize(
    "where",
    [
        Where(bundle="aa"),
        Where(bundle="%"),
        Where(station="n"),
        Where(since=TIME + timedelta(days=1), until=TIME + timedelta(days=2)),
        Where(die="Die03"),
    ],
)
def test_single_verdicts_are_those_that_are_meant(engine: sa.Engine, where: Where) -> None:
    def meant(one: dict[str, Any]) -> bool:
        moment = datetime.fromisoformat(one["time"])
        return (
            one["bundle"]["id"].startswith(where.bundle or "")
            and (where.station or one["station"]) == one["station"]
            and (where.die or one["die"]) == one["die"]
            and (where.since is None or where.since <= moment)
            and (where.until is None or moment < where.until)
        )

    found = list(queries.verdicts(engine, where))
    assert {row[0] for row in found} == {
        f"e-{one['station']}-{one['seq']}" for one in history() if meant(one)
    }
    assert [row[1] for row in found] == sorted(row[1] for row in found)
    last = list(queries.verdicts(engine, where, not_passed=True, limit=3))
    assert all(row[8] != "PASS" for row in last)
    assert [row[1] for row in last] == sorted((row[1] for row in last), reverse=True)


def test_labels_make_escapes_and_the_last_one_counts(own_engine: sa.Engine) -> None:
    engine = own_engine
    good = next(one for one in history() if one["label"] == "GOOD")
    verdict_id = f"e-{good['station']}-{good['seq']}"
    assert add_labels(engine, [verdict_id], "missing", by="ann", note="rework") == "Missing"
    (row,) = truths.escapes(engine, Where()).rows
    assert (row[4], row[7], row[8], row[10]) == ("Missing", verdict_id, "ann", "rework")
    add_labels(engine, [verdict_id], "GOOD", by="bob")
    assert truths.escapes(engine, Where()).rows == []
    with engine.connect() as db:
        assert db.execute(sa.text("SELECT count(*) FROM label")).scalar() == 2
    with pytest.raises(UsageError, match="use one of DRIFT, GOOD, Missing"):
        add_labels(engine, [verdict_id], "Mising", by="ann")
    with pytest.raises(UsageError, match="not recorded"):
        add_labels(engine, ["none"], "GOOD", by="ann")


def test_a_label_is_known_in_either_spelling_of_its_letters(database: str) -> None:
    """A Mac types a letter and its accent, Windows one character for both (NFD, NFC)."""
    nfc, nfd = "R\u00e9parable", "Re\u0301parable"
    engine = open_database(database)
    classes = {"probabilities": {"GOOD": 0.5, nfc: 0.5}, "expected_cost": {}}
    unjudged = {"probabilities": {}, "expected_cost": {}, "label": "NOT_JUDGED"}
    Store(engine).record(arrived(verdict(1, **classes), verdict(2, **unjudged)))
    assert add_labels(engine, ["e1-1"], nfd.lower(), by="ann") == nfc
    assert add_labels(engine, ["e1-2"], nfd, by="ann") == nfc
    engine.dispose()


def test_gaps_are_told_final_and_open(database: str) -> None:
    engine = open_database(database)
    store = Store(engine)
    store.record(arrived(verdict(1), verdict(5, after=1), verdict(8), verdict(12)))
    store.record(arrived(verdict(3)))
    rows = queries.gaps(engine).rows
    assert [row[4:] for row in rows] == [
        (2, 2, 1, True), (4, 4, 1, True), (6, 7, 2, False), (9, 11, 3, False)
    ]  # fmt: skip
    engine.dispose()


def test_what_came_and_was_deleted_since_is_not_missing(database: str) -> None:
    """A recorder that joined a stream late, and numbers that a station gave up and sent later."""
    engine = open_database(database)
    store = Store(engine)
    store.record(arrived(*(verdict(n) for n in (*range(40, 50), *range(55, 60)))))
    store.record(arrived(verdict(64, after=59), verdict(61), verdict(62)))
    store.record(arrived(verdict(66, verdict_id="e1-40"), verdict(68)))
    add_labels(engine, ["e1-45"], "Missing", by="ann")

    def missing() -> list[Any]:
        return [row[4:] for row in queries.gaps(engine).rows]

    before = [(1, 39, 39, False), (50, 54, 5, False), (60, 60, 1, True), (63, 63, 1, True),
              (65, 65, 1, False), (67, 67, 1, False)]  # fmt: skip
    assert missing() == before
    for last in (43, 62, 70):
        store.prune(TIME + timedelta(seconds=last))
        assert missing() == before
    # After a restart of the recorder, what was deleted is known, and what is missing may come.
    again = Store(engine).record(arrived(verdict(41), verdict(60), verdict(65)))
    assert (again.new, again.repeated) == (2, 1)
    assert missing() == [*before[:2], *before[3:4], *before[5:]]
    engine.dispose()


def test_figures_are_the_workstation_s() -> None:
    """One definition of cost and PWA on both sides of the house."""
    metrics = pytest.importorskip("edge_qc_export.figures.metrics")
    dice = random.Random(3)
    labels = list(COSTS)
    for _ in range(20):
        truth = dice.choices(labels, [8, 2, 1], k=60)
        said = dice.choices(labels, [8, 2, 1], k=60)
        ours = figures(Counter(zip(truth, said, strict=True)), COSTS)
        present = metrics.present_labels(truth, said, COSTS)
        theirs = metrics.figures(metrics.confusion_matrix(truth, said, present), COSTS, present)
        for name in ("pwa_challenge", "pwa_report", "pwa_skill", "escape_rate", "overkill_rate",
                     "accuracy", "mean_cost"):  # fmt: skip
            assert ours[name] == pytest.approx(float(theirs[name])), name


def test_labelled_verdicts_stand_for_what_was_said_as_often_as_they_were() -> None:
    """Half of the rejected were labelled, and one in a hundred of the passed."""
    sample = {("GOOD", "GOOD"): 9, ("Missing", "GOOD"): 1, ("Missing", "Missing"): 50}
    scaled = weighted(sample, {"GOOD": 1000, "Missing": 100})
    assert scaled == {
        ("GOOD", "GOOD"): 900, ("Missing", "GOOD"): 100, ("Missing", "Missing"): 100
    }  # fmt: skip
    assert figures(scaled, COSTS)["escape_rate"] == 0.5


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"GOOD": 1},
        {"GOOD": {"Missing": 1}},
        {"A": {"A": 0}},
        {"GOOD": {"A": -1}, "A": {"GOOD": 1}},
        {"GOOD": {"A": float("nan")}, "A": {"GOOD": 1}},
    ],
)
def test_costs_that_are_none_are_refused(tmp_path: Path, document: Any) -> None:
    Store(open_database(str(tmp_path / "records.sqlite"))).record(arrived(verdict(1)))
    (tmp_path / "costs.json").write_text(json.dumps(document))
    words = ["quality", "--database", str(tmp_path / "records.sqlite"), "--costs"]
    refused = CliRunner().invoke(query, [*words, str(tmp_path / "costs.json")])
    assert isinstance(refused.exception, DataError), refused.output
    assert str(tmp_path / "costs.json") in str(refused.exception)


def test_quality_takes_the_costs_that_training_takes(tmp_path: Path) -> None:
    """Without the right answers' zeros, without drift, and with GOOD spelt as people do."""
    store = Store(open_database(str(tmp_path / "records.sqlite")))
    store.record(arrived(verdict(1), verdict(2, label="DRIFT", disposition="REVIEW")))
    (tmp_path / "costs.json").write_text(json.dumps({"ok": {"Missing": 5}, "Missing": {"ok": 50}}))
    words = ["quality", "--database", str(tmp_path / "records.sqlite"), "--json", "--costs"]
    first = call(query, words[2], "verdicts", "--json")
    for row, name in zip(json.loads(first.stdout), ("Missing", "DRIFT"), strict=True):
        assert call(label, words[2], row["verdict_id"], name, "--who", "ann").exit_code == 0
    told = CliRunner().invoke(query, [*words, str(tmp_path / "costs.json")])
    assert told.exit_code == 0, told.exception
    found = {row["figure"]: row["labelled_sample"] for row in json.loads(told.stdout)}
    assert found["mean_cost"] == 25, "50 for the escape, 0 for the drift that was found"


def test_shifts_begin_where_tallies_do() -> None:
    with pytest.raises(UsageError, match="quarter"):
        Shifts((time(6, 10),), timezone.utc)
    with pytest.raises(UsageError, match="quarter"):
        Shifts((time(6, 0, 30),), timezone.utc)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("yield", "--to", "9999-12-31"), "wanted a year from 2 to 9998"),
        (("verdicts", "--from", "0001-01-01"), "wanted a year from 2 to 9998"),
        (("yield", "--by", "shift", "--shifts", "06:00+01:00"), "06:00:00+01:00: wanted no offset"),
        (("yield", "--by", "shift", "--shifts", "06:00,14:00Z"), "14:00:00+00:00: wanted no off"),
    ],
)
def test_a_time_that_no_calendar_has_is_refused_in_words(
    tmp_path: Path, words: tuple[str, ...], wanted: str
) -> None:
    database = str(tmp_path / "records.sqlite")
    Store(open_database(database)).record(arrived(verdict(1)))
    told = call(query, database, *words)
    assert told.exit_code in (1, 2)
    assert wanted in told.output + str(told.exception)


def test_no_one_keeps_records_for_longer_than_a_calendar() -> None:
    words = ["--broker", "mqtt://127.0.0.1:1", "--database", "x", "--keep-days", "1000000"]
    told = CliRunner().invoke(record, words)
    assert told.exit_code == 2
    assert "36525" in told.output


def call(command: Any, database: str, *words: str) -> Result:
    head, *rest = words
    return CliRunner().invoke(command, [head, "--database", database, *rest])


def test_times_are_meant_and_shown_in_the_zone(database: str) -> None:
    """Without an offset a time is the zone's, also on the day of 25 hours; outputs show offsets."""
    moments = {
        "before": "2026-10-24T21:59:59+00:00",
        "first": "2026-10-24T22:00:00+00:00",
        "two": "2026-10-25T00:30:00+00:00",
        "two again": "2026-10-25T01:30:00+00:00",
        "last": "2026-10-25T22:59:59+00:00",
        "behind": "2026-10-25T23:00:00+00:00",
    }
    said = [verdict(n, key, time=at) for n, (key, at) in enumerate(moments.items(), 1)]
    engine = open_database(database)
    Store(engine).record(arrived(*said))
    engine.dispose()

    def asked(*options: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(call(query, database, *options, "--json").stdout)
        return found

    day = ("--from", "2026-10-25", "--to", "2026-10-25")
    paris = ("--zone", "Europe/Paris")
    rows = asked("verdicts", *day, *paris)
    assert [row["verdict_id"] for row in rows] == ["first", "two", "two again", "last"]
    assert [row["time"] for row in rows] == [
        "2026-10-25T00:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T23:59:59+01:00",
    ]
    assert asked("verdicts", *day)[0]["verdict_id"] == "two"
    twice = ("--from", "2026-10-25T02:30", "--to", "2026-10-25T02:31", *paris)
    assert [row["verdict_id"] for row in asked("verdicts", *twice)] == ["two", "two again"]
    named = ("--from", "2026-10-25T00:30Z", "--to", "2026-10-25T02:31+02:00", *paris)
    assert [row["verdict_id"] for row in asked("verdicts", *named)] == ["two"]
    hours = [row["hour"] for row in asked("yield", "--by", "hour", *paris, *day)]
    assert "2026-10-25 02:00+02:00" in hours
    assert "2026-10-25 02:00+01:00" in hours
    shifts = [row["shift"] for row in asked("yield", "--by", "shift", *paris, *day)]
    assert shifts == ["2026-10-24 22:00+02:00", "2026-10-25 22:00+01:00"]


@pytest.mark.parametrize("width", [200, 120, 80, 40, 20])
def test_a_narrow_terminal_shows_fewer_columns_and_the_whole_key(
    database: str, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """The key is what the next command wants; what is left out is named."""
    key = "6f0c9a1e-4d4c-4b0e-9a57-2f6d1f6f5a10"
    engine = open_database(database)
    Store(engine).record(arrived(verdict(1, key, label="NOT_JUDGED")))
    engine.dispose()
    monkeypatch.setenv("COLUMNS", str(width))
    shown = call(query, database, "verdicts")
    lines = shown.stdout.splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "…" not in shown.stdout
    assert key in re.sub(r"\s", "", shown.stdout)
    if width >= 80:
        assert key in shown.stdout
        assert "NOT_JUDGED" in shown.stdout
        assert "2026-03-01 12:30:16+00:00" in shown.stdout
    assert "left out for want of width" in shown.stderr
    assert "bundle_version" in shown.stderr


def test_a_pipe_has_no_edge(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    engine = open_database(database)
    Store(engine).record(arrived(verdict(1, "6f0c9a1e-4d4c-4b0e-9a57-2f6d1f6f5a10")))
    engine.dispose()
    shown = call(query, database, "verdicts")
    assert all(column in shown.stdout for column in queries.VERDICT_COLUMNS)
    assert "b" * 64 in shown.stdout
    assert "left out" not in shown.stderr


def test_answers_go_to_terminals_programs_and_files(
    own_engine: sa.Engine, database: str, tmp_path: Path
) -> None:
    assert "Die01" in call(query, database, "yield").output
    by = ("--by", "day,class", "--from", "2026-03-02", "--to", "2026-03-02", "--json")
    rows = json.loads(call(query, database, "yield", *by).stdout)
    assert {row["day"] for row in rows} == {"2026-03-02"}
    assert call(query, database, "yield", "--by", "moon").exit_code == 2
    assert call(query, database, "yield", "--zone", "Moon/Base").exit_code == 2
    assert call(query, database, "yield", "--from", "noon").exit_code == 2

    file = tmp_path / "verdicts.csv"
    assert call(query, database, "verdicts", "--csv", str(file)).exit_code == 0
    with file.open(newline="") as source:
        table = list(csv.DictReader(source))
    assert len(table) == 300
    assert table[0]["bundle"] in ("a" * 64, "b" * 64)

    pq = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "verdicts.parquet"
    assert call(query, database, "verdicts", "--parquet", str(file)).exit_code == 0
    kept = pq.read_table(file)
    assert kept.num_rows == 300
    assert kept.column("time")[0].as_py().isoformat() == table[0]["time"]
    assert str(kept.schema.field("seq").type) == "int64"
    assert call(query, database, "escapes", "--parquet", str(file)).exit_code == 0
    assert pq.read_table(file).num_rows == 0

    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps(COSTS))
    first = table[0]["verdict_id"]
    assert call(label, database, first, "missing", "--who", "ann").output.endswith(
        "1 view labelled Missing\n"
    )
    words = ("quality", "--costs", str(costs), "--json")
    told = {row["figure"]: row for row in json.loads(call(query, database, *words).stdout)}
    assert told["verdicts"]["labelled_sample"] == 1
    assert told["escape_rate"]["labelled_sample"] is None
    assert call(query, database, "quality").exit_code == 2
    Store(own_engine).keep_costs("a" * 64, 1, json.dumps(COSTS))
    assert json.loads(call(query, database, "quality", "--json").stdout)[0]["figure"] == "verdicts"
    assert "False" in call(query, database, "gaps").output


def test_a_spreadsheet_runs_nothing_out_of_a_part_s_name(tmp_path: Path) -> None:
    file = str(tmp_path / "records.sqlite")
    Store(open_database(file)).record(arrived(verdict(1, part_id="=cmd|' /C calc'!A0")))
    CliRunner().invoke(query, ["verdicts", "--database", file, "--csv", str(tmp_path / "v.csv")])
    assert "'=cmd" in (tmp_path / "v.csv").read_text()


def test_a_limit_beyond_any_database_is_wrong_use(tmp_path: Path) -> None:
    file = str(tmp_path / "records.sqlite")
    Store(open_database(file)).record(arrived(verdict(1)))
    for limit, status in ((str(2**63 - 1), 0), ("9" * 24, 2)):
        done = CliRunner().invoke(query, ["verdicts", "--database", file, "--limit", limit])
        assert done.exit_code == status, done.output
