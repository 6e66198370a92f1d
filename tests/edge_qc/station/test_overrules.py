"""What a person says of a view in REVIEW is told to the plant, once, and changes no verdict."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_qc.evidence import Labels, Store
from edge_qc.evidence.page import Desk
from edge_qc.parts import DRIFT, GOOD
from edge_qc.publisher import Kind, OverruleMessage, read_message
from edge_qc.publisher.wire import as_sent
from edge_qc.settings import Settings
from tests.rig.cameras import picture
from tests.rig.stations import Station, put_in, running_station, settings_in
from tests.rig.tiny_bundle import make_bundle

ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("edge_qc.station.overrules._TURN_S", 0.05)
    settings = settings_in(tmp_path / "state")
    put_in(settings, make_bundle(tmp_path / "v1"))
    return settings


def kept(store: Store, said: str = DRIFT, disposition: str = "REVIEW", **fields: Any) -> str:
    verdict_id, now = str(uuid.uuid4()), datetime.now(timezone.utc)
    verdict = {
        "verdict_id": verdict_id, "camera": "hand", "die": "Die01", "part_id": "W27-4",
        "time": now.isoformat(), "label": said, "disposition": disposition, "lot": "L-118",
        "bundle": {"id": "b" * 64, "version": 3},
        **fields,
    }  # fmt: skip
    store.add(verdict_id, said, now, 0.5, frame=picture(1), verdict=verdict)
    return verdict_id


def told(station: Station) -> list[tuple[str, str, str | None, str, str]]:
    """What, the part's view, its label, who and why; each is as the contract has it."""
    schema = json.loads((ROOT / "docs" / "mqtt" / "overrule.schema.json").read_text())
    found = []
    for payload in station.said("overrule"):
        sent = as_sent(json.dumps(payload), historical=False)
        jsonschema.Draft202012Validator(schema).validate(json.loads(sent))
        one = read_message(Kind.OVERRULE, sent)
        assert isinstance(one, OverruleMessage)
        assert (one.part_id, one.lot, one.said) == ("W27-4", "L-118", DRIFT)
        found.append((one.what, one.verdict_id, one.label, one.who, one.why))
    return found


def test_a_label_of_a_view_in_review_is_told_and_the_verdict_stays(settings: Settings) -> None:
    store = Store(settings.evidence_dir)
    review, sure, other = kept(store), kept(store, "Missing", "REJECT"), kept(store)
    Labels(store.folder).add(other, GOOD, DRIFT, "before the first start")
    with running_station(settings) as station:
        desk = Desk(store, "anna")
        # Told of nothing that was there before, and of no view that was not in REVIEW.
        station.wait_until((settings.station.state_dir / "overrules.json").exists)
        desk.label({"ids": [sure], "label": GOOD})
        desk.label({"ids": [review, other], "label": GOOD, "why": "resin on the frame"})
        desk.label({"ids": [other], "label": DRIFT})
        desk.undo({"before": [{"id": review, "label": None}]})
        station.wait_until(lambda: len(station.said("overrule")) == 4)
        assert told(station) == [
            ("overruled", review, GOOD, "anna", "resin on the frame"),
            ("overruled", other, GOOD, "anna", "resin on the frame"),
            ("confirmed", other, DRIFT, "anna", ""),
            ("withdrawn", review, None, "anna", ""),
        ]
        assert station.said("verdict") == station.said("part") == []
    exhibit = store.find(review)
    assert exhibit is not None
    verdict = exhibit.verdict()
    assert (verdict["label"], verdict["disposition"], exhibit.label) == (DRIFT, "REVIEW", DRIFT)


def test_a_restart_tells_what_came_meanwhile_and_nothing_twice(settings: Settings) -> None:
    store = Store(settings.evidence_dir)
    first, second = kept(store), kept(store)
    with running_station(settings) as station:
        station.wait_until((settings.station.state_dir / "overrules.json").exists)
        Desk(store, "anna").label({"ids": [first], "label": GOOD})
        station.wait_until(lambda: len(station.said("overrule")) == 1)
    Desk(store, "bert").label({"ids": [second], "label": "Missing"})
    with running_station(settings) as station:
        station.wait_until(lambda: len(station.said("overrule")) == 2)
    with running_station(settings) as station:
        pass
    assert [one[1:4] for one in told(station)] == [
        (first, GOOD, "anna"), (second, "Missing", "bert"),
    ]  # fmt: skip
    ids = [one["overrule_id"] for one in station.said("overrule")]
    assert len(set(ids)) == 2


def test_a_damaged_image_and_one_that_is_gone_keep_nothing_back(settings: Settings) -> None:
    store = Store(settings.evidence_dir)
    damaged, whole = kept(store), kept(store)
    exhibit = store.find(damaged)
    assert exhibit is not None
    (exhibit.folder / "verdict.json").write_text('{"disposition": "REVIEW"}')
    with running_station(settings) as station:
        station.wait_until((settings.station.state_dir / "overrules.json").exists)
        labels = Labels(store.folder)
        for one in (damaged, str(uuid.uuid4()), whole):
            labels.add(one, GOOD, DRIFT, "anna")
        station.wait_until(lambda: len(station.said("overrule")) == 1)
        assert [one[1] for one in told(station)] == [whole]
