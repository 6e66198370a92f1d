"""Parts in the records: which views are of one, labels of a part, escapes in parts and in views,
and what a name that does not exist is answered with; SQLite and PostgreSQL."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from edge_qc.cli.label import command as label
from edge_qc.cli.query import command as query
from edge_qc.evidence import Labels
from edge_qc.evidence import Store as Evidence
from edge_qc.plant.recorder import Store, open_database
from edge_qc.plant.recorder.exact import interval
from edge_qc.plant.recorder.parts import parts_of
from edge_qc.plant.recorder.quality import assessed
from tests.rig.cameras import picture
from tests.rig.publishing import TIME
from tests.rig.recording import arrived, verdict

COSTS = {
    "GOOD": {"GOOD": 0.0, "Missing": 100.0},
    "Missing": {"GOOD": 10_000.0, "Missing": 0.0},
}
DIES = ("Die01", "Die02", "Die03", "Die04")


def views(part: str, first: int, after_s: float, epoch: str = "e1", **labels: str) -> list[bytes]:
    """One view of each die; labels: by die, GOOD where none is named."""
    return [
        verdict(
            first + n, epoch=epoch, part_id=part, die=die, label=labels.get(die, "GOOD"),
            lot="lot-7", serial=f"s{first}",
            time=(TIME + timedelta(seconds=after_s + n / 10)).isoformat(),
        )
        for n, die in enumerate(DIES)
    ]  # fmt: skip


def whole(part: str, first: int, seq: int, disposition: str, epoch: str = "e1") -> bytes:
    message = {
        "schema": "edge-qc/part/1", "epoch": epoch, "seq": seq, "site": "s", "station": "n",
        "part_id": part, "time": TIME.isoformat(), "complete": True,
        "label": "GOOD" if disposition == "PASS" else "Missing", "disposition": disposition,
        "labels": {}, "missing": [], "historical": False, "lot": "lot-7",
        "verdict_ids": [f"{epoch}-{first + n}" for n in range(4)],
    }  # fmt: skip
    return json.dumps(message).encode()


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    """Part p-1 came three times: twice within a minute, by two part verdicts, and an hour later
    without one. Part p-2 was rejected for Die03."""
    engine = open_database(database)
    said = [
        *views("p-1", 1, 0), *views("p-1", 5, 20), *views("p-1", 9, 3600),
        *views("p-2", 13, 40, Die03="Missing"),
    ]  # fmt: skip
    wholes = [
        whole("p-1", 1, 1, "PASS"), whole("p-1", 5, 2, "PASS"), whole("p-2", 13, 3, "REJECT")
    ]  # fmt: skip
    Store(engine).record([*arrived(*said), *arrived(*wholes, level="part")])
    yield engine
    engine.dispose()


def call(command: Any, database: str, *words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(command, [*words, "--database", database], input=answer)


def refused(result: Result) -> str:
    """The text of a wrong use."""
    assert result.exception is not None
    assert getattr(result.exception, "exit_status", result.exit_code) == 2
    return f"{result.exception} {result.output}"


def truths(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as db:
        return {
            row[0]: row[1] for row in db.execute(sa.text("SELECT verdict_id, truth FROM label"))
        }


def test_an_id_that_comes_again_is_another_part(engine: sa.Engine) -> None:
    with engine.connect() as db:
        came = parts_of(db, "p-1")
    assert [[view.verdict_id for view in one.views] for one in came] == [
        [f"e1-{first + n}" for n in range(4)] for first in (1, 5, 9)
    ]
    assert [one.disposition for one in came] == ["PASS", "PASS", None]


def test_a_view_that_no_part_verdict_names_is_of_the_part_that_was_there(
    engine: sa.Engine,
) -> None:
    """A late one; another starts again after a restart of the station, in another epoch."""
    late = verdict(20, part_id="p-2", die="Die04", time=(TIME + timedelta(seconds=45)).isoformat())
    again = views("p-2", 1, 900, epoch="e2")
    Store(engine).record(arrived(late, *again))
    with engine.connect() as db:
        first, second = parts_of(db, "p-2")
    assert "e1-20" in [view.verdict_id for view in first.views]
    assert [view.verdict_id for view in second.views] == [f"e2-{n}" for n in range(1, 5)]


def test_a_defect_wants_a_die_and_a_part_that_came_again_a_time(
    engine: sa.Engine, database: str
) -> None:
    by = ("--who", "ann")
    said = refused(call(label, database, "--part", "p-1", "Missing", *by))
    assert "came 3 times" in said
    assert said.count("--at 2026-03-01T") == 3
    at = ("--at", "2026-03-01T13:30:15")
    said = refused(call(label, database, "--part", "p-1", "Missing", *by, *at))
    assert "would be the label of all 4 views" in said
    assert "--die" in said
    said = refused(call(label, database, "--part", "p-1", "Missing", *by, *at, "--die", "Die09"))
    assert "there are Die01, Die02, Die03, Die04" in said
    assert truths(engine) == {}
    done = call(label, database, "--part", "p-1", "missing", *by, *at, "--die", "Die02")
    assert done.exit_code == 0, done.output
    assert "1 view of part p-1 of 2026-03-01T13:30:15+00:00 at s/n labelled Missing" in done.output
    assert truths(engine) == {"e1-10": "Missing"}
    call(label, database, "--part", "p-1", "GOOD", *by, "--at", "last")
    assert truths(engine) == {f"e1-{n}": "GOOD" for n in range(9, 13)}
    assert call(label, database, "--part", "p-2", "Missing", *by, "--yes").exit_code == 0
    assert sum(truth == "Missing" for truth in truths(engine).values()) == 4


def test_a_person_is_asked_before_all_views_get_a_defect(
    engine: sa.Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_qc.cli.label._is_asked", lambda: True)
    words = ("--part", "p-2", "Missing", "--who", "ann")
    assert call(label, database, *words, answer="n\n").exit_code == 1
    assert truths(engine) == {}
    asked = call(label, database, *words, answer="y\n")
    assert "Die03 Missing" in asked.output
    assert len(truths(engine)) == 4


def test_escapes_are_counted_in_views_and_in_parts(engine: sa.Engine, database: str) -> None:
    """Two views of one part that passed, and one of a part that was rejected for another view."""
    for key in ("e1-1", "e1-2", "e1-14"):
        call(label, database, key, "Missing", "--who", "ann")
    of_views = call(query, database, "escapes", "--json")
    assert [row["verdict_id"] for row in json.loads(of_views.stdout)] == ["e1-1", "e1-2", "e1-14"]
    assert "escaped: 3 of 3 labelled views, 1 whole parts" in of_views.stderr
    (row,) = json.loads(call(query, database, "escapes", "--of", "parts", "--json").stdout)
    assert (row["part_id"], row["dies"], row["bad_views"], row["views"]) == (
        "p-1", "Die01, Die02", 2, 4
    )  # fmt: skip
    file = Path(engine.url.database or "").with_name("costs.json")
    if engine.dialect.name == "sqlite":
        file.write_text(json.dumps(COSTS))
        told = call(query, database, "quality", "--costs", str(file), "--json")
        rows = {row["figure"]: row for row in json.loads(told.stdout)}
        of_parts = rows["escape_rate_of_parts"]
        assert (of_parts["count"], of_parts["of"], of_parts["labelled_sample"]) == (1, 2, None)
        assert "escape_rate: 3 of 3 labelled; it may be anything from 0.29 to 1" in told.stderr


def test_parts_and_views_are_counted_apart(engine: sa.Engine, database: str) -> None:
    def asked(*words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(call(query, database, "yield", *words).stdout)
        return found

    (row,) = asked("--of", "parts", "--by", "station", "--json")
    assert row == {
        "station": "n", "parts": 3, "passed": 2, "rejected": 1, "review": 0, "incomplete": 0,
        "yield": 2 / 3,
    }  # fmt: skip
    (row,) = asked("--by", "station", "--json", "--lot", "lot-7")
    assert (row["views"], row["passed"], row["yield"]) == (16, 15, 15 / 16)
    assert [row["parts"] for row in asked("--of", "parts", "--by", "hour", "--json")] == [3]
    by_hour = asked("--by", "hour", "--json", "--part", "p-1")
    assert [row["views"] for row in by_hour] == [8, 4]
    assert "no die" in refused(call(query, database, "yield", "--of", "parts", "--by", "die"))


def test_one_part_in_one_answer(engine: sa.Engine, database: str, tmp_path: Path) -> None:
    key = "6f0c9a1e-4d4c-4b0e-9a57-2f6d1f6f5a10"
    Store(engine).record(arrived(verdict(30, key, part_id="p-3", lot="lot-8", image="a/b.png")))
    evidence = Evidence(tmp_path / "evidence")
    kept = evidence.add(key, "GOOD", TIME, 0.5, frame=picture(1), verdict={})
    call(label, database, key, "Missing", "--who", "ann", "--note", "bench 3")
    folders = ("--evidence", str(evidence.folder), "--evidence", str(tmp_path / "missing"))
    (row,) = json.loads(call(query, database, "part", "p-3", "--json", *folders).stdout)
    assert (row["label"], row["truth"], row["note"], row["lot"]) == (
        "GOOD", "Missing", "bench 3", "lot-8"
    )  # fmt: skip
    assert (row["image"], row["picture"]) == ("a/b.png", str(kept.folder))
    rows = json.loads(call(query, database, "part", "p-1", "--json").stdout)
    assert [row["part"] for row in rows] == [1] * 4 + [2] * 4 + [3] * 4
    assert rows[0]["part_disposition"] == "PASS"
    only = call(query, database, "verdicts", "--lot", "lot-8", "--json")
    assert [row["verdict_id"] for row in json.loads(only.stdout)] == [key]


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("--station", "s/n"), ("--die", "Die01, Die02"), ("--bundle", "b" * 12),
        ("--part", "p-1"), ("--lot", "lot-7"), ("--label", "GOOD, Missing"),
        ("--reason", "decided"),
    ],
)  # fmt: skip
def test_a_name_that_does_not_exist_is_told_with_those_that_do(
    engine: sa.Engine, database: str, option: str, known: str
) -> None:
    said = refused(call(query, database, "verdicts", option, "moon"))
    assert "'moon' is not recorded" in said
    assert known in said


def test_nothing_is_told_from_none_of_many(engine: sa.Engine, database: str) -> None:
    bad = call(query, database, "verdicts", "--not-passed", "--die", "Die01")
    assert "0 of 4 views did not pass" in bad.stderr
    early = call(query, database, "verdicts", "--to", "2020-01-01", "--zone", "Europe/Paris")
    assert "no views match; verdicts are recorded from 2026-03-01 13:30:15+01:00" in early.stderr
    assert "no view escaped: 0 of 16 views are labelled" in call(query, database, "escapes").stderr
    assert "no number is missing in 2 streams" in call(query, database, "gaps").stderr


def test_every_label_has_a_line_of_who_what_and_when(
    engine: sa.Engine, database: str, tmp_path: Path
) -> None:
    call(label, database, "e1-1", "GOOD", "--who", "ann")
    call(label, database, "e1-1", "Missing", "--who", "bob", "--note", "bench 3")
    call(label, database, "e1-15", "GOOD", "--who", "ann")
    Labels(tmp_path).add("e1-2", "Scratch", "GOOD", "cy")
    taken = call(label, database, "--from-review", str(tmp_path))
    assert "1 labels taken in, 0 were known" in taken.output
    rows = json.loads(call(query, database, "labels", "--json").stdout)
    assert [
        (row["who"], row["what"], row["said"], row["before"], row["truth"]) for row in rows
    ] == [
        ("ann", "confirmed", "GOOD", None, "GOOD"),
        ("bob", "changed", "GOOD", "GOOD", "Missing"),
        ("ann", "overruled", "Missing", None, "GOOD"),
        ("cy", "overruled", "GOOD", None, "Scratch"),
    ]
    assert (rows[1]["note"], rows[3]["via"]) == ("bench 3", "review")
    when = [datetime.fromisoformat(row["time"]) for row in rows]
    assert all(abs(datetime.now(timezone.utc) - time) < timedelta(hours=1) for time in when)


def test_a_label_is_by_the_login_unless_it_says_otherwise(
    engine: sa.Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "dora")
    call(label, database, "e1-1", "GOOD")
    call(label, database, "e1-1", "GOOD", "--who", "ann")
    rows = json.loads(call(query, database, "labels", "--json").stdout)
    assert [row["who"] for row in rows] == ["dora", "ann"]


def test_intervals_are_the_workstation_s() -> None:
    exact = pytest.importorskip("edge_qc_export.figures.exact", reason="needs the workstation")
    dice = random.Random(1)
    for of in (1, 2, 3, 20, 170, 5000):
        for count in {0, 1, of // 3, of - 1, of, dice.randrange(of + 1)}:
            theirs = exact.share(count, of)
            assert interval(count, of) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert interval(0, 0) == (0.0, 1.0)


def test_a_share_of_few_is_its_interval_and_a_class_without_costs_is_told() -> None:
    said = {"GOOD": 1000, "Missing": 100}
    few = {("GOOD", "GOOD"): 40, ("Missing", "GOOD"): 1, ("Scratch", "GOOD"): 2}
    found, warnings = assessed(few, said, COSTS, (1, 2))
    by_name = {one.name: one for one in found}
    escapes, overkill = by_name["escape_rate"], by_name["overkill_rate"]
    assert (escapes.value, escapes.count, escapes.of) == (None, 3, 3)
    assert (escapes.low, escapes.high) == (pytest.approx(0.2924, abs=1e-4), 1.0)
    assert (overkill.value, overkill.count, overkill.of) == (0.0, 0, 40)
    assert by_name["verdicts"].value == 41
    assert any("Scratch have no costs" in warning for warning in warnings)
    assert any(warning.startswith("escape_rate: 3 of 3") for warning in warnings)
