"""Labels of review and of the label command are one: whoever gave them, quality and escapes see
them; SQLite and PostgreSQL."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa

from edge_qc.errors import DataError, RecordError
from edge_qc.evidence import UNUSABLE, Label, Labels
from edge_qc.evidence import Store as Evidence
from edge_qc.evidence.page import Desk
from edge_qc.plant.recorder import Recorder, Store, open_database, truths
from edge_qc.plant.recorder.labels import RecordedLabels, add_labels, take_in
from edge_qc.plant.recorder.where import Where
from edge_qc.publisher import Subscription
from tests.rig.cameras import picture
from tests.rig.recording import arrived, verdict

KEYS = [str(uuid.UUID(int=n)) for n in range(1, 5)]


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    """Four verdicts, of which the last did not pass."""
    engine = open_database(database)
    labels = ["GOOD", "GOOD", "GOOD", "Missing"]
    said = [verdict(n, key, label=labels[n - 1]) for n, key in enumerate(KEYS, 1)]
    Store(engine).record(arrived(*said))
    yield engine
    engine.dispose()


def desk(folder: Path, engine: sa.Engine) -> Desk:
    evidence = Evidence(folder)
    now = datetime.now(timezone.utc)
    for key in KEYS:
        fields = {"verdict_id": key, "probabilities": {"GOOD": 0.75, "Missing": 0.25}}
        evidence.add(key, "GOOD", now, 0.2, frame=picture(1), verdict=fields)
    return Desk(evidence, "ann", (), RecordedLabels(engine, Labels(folder)))


def escaped(engine: sa.Engine) -> dict[str, tuple[str, str]]:
    return {row[7]: (row[4], row[8]) for row in truths.escapes(engine, Where()).rows}


def test_what_review_says_is_an_escape_like_what_label_says(
    engine: sa.Engine, tmp_path: Path
) -> None:
    page = desk(tmp_path, engine)
    page.label({"ids": [KEYS[0]], "label": "Missing"})
    add_labels(engine, [KEYS[1]], "Missing", by="bob")
    assert escaped(engine) == {KEYS[0]: ("Missing", "ann"), KEYS[1]: ("Missing", "bob")}
    shown = {row["id"]: row["label"] for row in page.listing()["exhibits"]}
    assert shown == {KEYS[0]: "Missing", KEYS[1]: "Missing", KEYS[2]: None, KEYS[3]: None}
    add_labels(engine, [KEYS[0]], "GOOD", by="bob")
    assert set(escaped(engine)) == {KEYS[1]}
    assert Labels(tmp_path).latest()[KEYS[0]].label == "Missing"


def test_labels_of_a_file_are_taken_in_once_and_count_by_their_time(
    engine: sa.Engine, tmp_path: Path
) -> None:
    """A station's file comes late; a label that was given after its own stays."""
    file = Labels(tmp_path)
    before = "2026-03-01T12:00:00.000+00:00"
    for key in KEYS[:2]:
        file.append(Label(key, "Missing", "GOOD", "ann", before, "scratch"))
    add_labels(engine, [KEYS[1]], "GOOD", by="bob")
    assert take_in(engine, file.history()) == 2
    assert take_in(engine, file.history()) == 0
    assert escaped(engine) == {KEYS[0]: ("Missing", "ann")}
    kept = RecordedLabels(engine).latest()
    assert kept[KEYS[0]] == file.latest()[KEYS[0]]
    assert kept[KEYS[1]].who == "bob"


def test_the_last_label_counts_though_the_clock_was_set_back(
    engine: sa.Engine, tmp_path: Path
) -> None:
    """In the records and in the file beside the images, whichever command gives it."""
    ahead = "2099-03-01T12:00:00.000+00:00"
    take_in(engine, [Label(key, "Missing", "GOOD", "ann", ahead) for key in KEYS[:3]])
    add_labels(engine, [KEYS[0]], "GOOD", by="bob")
    both = RecordedLabels(engine, Labels(tmp_path))
    both.add(KEYS[1], "GOOD", "GOOD", "bob")
    both.withdraw(KEYS[2], "bob")
    assert escaped(engine) == {}
    assert {key: one.label for key, one in Labels(tmp_path).latest().items()} == {KEYS[1]: "GOOD"}
    assert take_in(engine, Labels(tmp_path).history()) == 0


def test_a_label_taken_back_counts_no_more(engine: sa.Engine, tmp_path: Path) -> None:
    for store in (RecordedLabels(engine), Labels(tmp_path)):
        store.add(KEYS[0], "Missing", "GOOD", "ann")
        store.withdraw(KEYS[0], "ann")
        assert store.latest() == {}
    assert escaped(engine) == {}
    assert truths.confusion(engine, Where()) == {}
    RecordedLabels(engine).add(KEYS[0], "Missing", "GOOD", "ann")
    assert set(escaped(engine)) == {KEYS[0]}


def test_an_unusable_picture_says_nothing_of_its_part(engine: sa.Engine) -> None:
    store = RecordedLabels(engine)
    store.add(KEYS[0], UNUSABLE, "GOOD", "ann")
    store.add(KEYS[3], "GOOD", "Missing", "ann")
    assert escaped(engine) == {}
    assert truths.confusion(engine, Where()) == {("GOOD", "Missing"): 1}


def test_a_label_without_a_name_is_refused_and_a_database_that_is_away_is_told(
    engine: sa.Engine,
) -> None:
    store = RecordedLabels(engine)
    for label, who in (("", "ann"), ("Missing", " "), ("M" * 65, "ann")):
        with pytest.raises(DataError, match="printable"):
            store.add(KEYS[0], label, "GOOD", who)
    with engine.begin() as db:
        db.execute(sa.text("DROP TABLE label"))
    with pytest.raises(RecordError, match="label"):
        store.add(KEYS[0], "Missing", "GOOD", "ann")


def overruled(verdict_id: str, label: str | None, at: str, who: str = "ann") -> bytes:
    what = "overruled" if label else "withdrawn"
    message = {
        "schema": "edge-qc/overrule/1", "epoch": "e1", "seq": 1, "site": "s", "station": "n",
        "historical": False, "overrule_id": "o", "verdict_id": verdict_id, "part_id": "part-1",
        "camera": "north", "die": "Die01", "verdict_time": at, "time": at, "what": what,
        "said": "DRIFT", "label": label, "who": who, "why": "resin \0 on the frame",
    }  # fmt: skip
    return json.dumps(message).encode()


def test_an_overrule_is_a_label_once_whichever_way_it_comes(
    engine: sa.Engine, tmp_path: Path
) -> None:
    at, later = "2026-03-01T12:00:00.123Z", "2026-03-01T12:00:01Z"
    store, message = Store(engine), overruled(KEYS[0], "Missing", at)
    store.record(arrived(message, message, level="overrule"))
    file = Labels(tmp_path)
    file.append(Label(KEYS[0], "Missing", "DRIFT", "ann", "2026-03-01T12:00:00.123+00:00"))
    assert take_in(engine, file.history()) == 0
    (row,) = truths.history(engine, Where()).rows
    assert row[1:6] == ("ann", "overruled", "DRIFT", None, "Missing")
    assert row[10:] == ("overrule", "resin \N{REPLACEMENT CHARACTER} on the frame")
    assert truths.confusion(engine, Where()) == {("Missing", "GOOD"): 1}
    store.record(arrived(overruled(KEYS[0], None, later), level="overrule"))
    assert truths.confusion(engine, Where()) == {}


def test_what_a_person_released_from_review_and_was_bad_is_an_escape_of_theirs(
    engine: sa.Engine,
) -> None:
    """A key that was pressed by mistake and taken back released nothing."""
    keys = [str(uuid.UUID(int=n)) for n in (11, 12, 13)]
    said = [verdict(10 + n, key, label="DRIFT", disposition="REVIEW") for n, key in enumerate(keys)]
    Store(engine).record(arrived(*said))
    minutes = [f"2026-03-01T12:0{n}:00Z" for n in range(4)]
    word = [
        overruled(keys[0], "GOOD", minutes[0]),
        overruled(keys[1], "GOOD", minutes[0]),
        overruled(keys[1], None, minutes[1]),
        overruled(keys[1], "Missing", minutes[2]),
        overruled(keys[2], "GOOD", minutes[0]),
    ]
    Store(engine).record(arrived(*word, level="overrule"))
    assert escaped(engine) == {}
    add_labels(engine, [keys[0]], "Missing", by="bob")
    assert escaped(engine) == {keys[0]: ("Missing", "bob")}
    (row,) = truths.escapes(engine, Where()).rows
    assert row[-1] == "ann"


def test_a_recorder_takes_in_the_labels_of_a_station_s_folder(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is shared with it; also one that is away at first."""
    monkeypatch.setattr("edge_qc.plant.recorder.service.LABELS_EVERY_S", 0.0)
    turns: list[Callable[[], object]] = []

    class Silent:
        trouble = None

        def read(self, timeout_s: float) -> None:
            if turns:
                turns.pop(0)()

        def publish(self, topic: str, payload: bytes) -> None:
            pass

    folder, stop = tmp_path / "line-1", threading.Event()
    turns += [
        folder.mkdir,
        lambda: Labels(folder).add(KEYS[0], "Missing", "GOOD", "ann"),
        lambda: Labels(folder).add(KEYS[1], "Missing", "GOOD", "ann"),
        lambda: None,
        stop.set,
    ]
    Recorder(cast(Subscription, Silent()), Store(engine), labels=[Labels(folder)]).run(stop)
    assert set(escaped(engine)) == set(KEYS[:2])
    assert len(list(truths.history(engine, Where()).rows)) == 2
