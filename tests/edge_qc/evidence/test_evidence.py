"""Images kept for people: what is kept, what goes first, and that the line never waits."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_qc.evidence import Evidence, Exhibit, Labels, Store, doubt, keeper
from edge_qc.evidence.keeper import _Allowance
from edge_qc.evidence.quota import Shelves
from edge_qc.parts import Disposition, Frame, Reading, Reason, Verdict, View
from edge_qc.settings import EvidenceTable
from edge_qc.system.state import State
from tests.rig.cameras import picture
from tests.rig.lines import HandCamera, frame, messages, pictures, running_line
from tests.rig.publishing import good, wait_until

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
NOW_S = NOW.timestamp()
VIEW = View(picture(1, 8, 8)[np.newaxis], np.eye(2, 3))
READING = Reading(np.zeros(3, np.float32), np.arange(4, dtype=np.float32).reshape(2, 2), 1.0, 1.0)


def exhibit(
    label: str = "GOOD", unsure: float = 0.1, days: float = 0.0, size: int = 100_000
) -> Exhibit:
    time = NOW - timedelta(days=days)
    return Exhibit(Path("x"), str(uuid.uuid4()), label, time, unsure, size)


# What goes first


def test_the_sure_go_before_the_uncertain_and_the_old_before_the_new() -> None:
    shelves = Shelves()
    order = [exhibit(unsure=0.02, days=5), exhibit(unsure=0.02), exhibit(unsure=0.9, days=5)]
    for one in reversed(order):
        shelves.put(one, NOW_S)
    assert [shelves.take_least() for _ in order] == order
    assert shelves.take_least() is None
    assert shelves.bytes == 0


def test_an_uncertain_image_does_not_stay_for_ever() -> None:
    shelves = Shelves()
    old, new = exhibit(unsure=1.0, days=50), exhibit(unsure=0.02)
    shelves.put(old, NOW_S)
    shelves.put(new, NOW_S)
    assert shelves.take_least() is old


def test_what_a_person_has_labelled_stays_longer() -> None:
    shelves = Shelves()
    labelled, other = exhibit(days=20), exhibit()
    shelves.put(labelled, NOW_S, labelled=True)
    shelves.put(other, NOW_S)
    assert shelves.take_least() is other


@given(st.lists(st.sampled_from(["GOOD", "Missing", "Missing", "Missing", "DRIFT"]), max_size=60))
def test_a_frequent_class_does_not_push_out_the_rare_ones(labels: list[str]) -> None:
    """Whatever comes: the bytes are kept to, and a label loses images only where it has as many
    as any other, or more than its own number."""
    shelves = Shelves()
    here: Counter[str] = Counter()
    limit = 10 * 150_000
    for label in labels:
        shelves.put(exhibit(label), NOW_S)
        here[label] += 1
        for gone in shelves.surplus(label, 6, limit):
            assert here[gone.label] > 6 or here[gone.label] == max(here.values())
            here[gone.label] -= 1
        assert shelves.bytes <= limit
        assert len(shelves) == here.total()
        assert here[label] <= 6


def test_doubt_is_the_distance_of_the_two_most_probable_labels() -> None:
    assert doubt(good()) == pytest.approx(0.5)
    nothing = Verdict("NOT_JUDGED", Disposition.REVIEW, Reason.ENGINE, "b")
    assert doubt(nothing) == 1.0


def test_the_sure_ones_leave_half_of_a_minute_to_the_uncertain() -> None:
    allowance = _Allowance(10)
    assert sum(allowance.take("GOOD", False, 0.0) for _ in range(50)) == 5
    assert sum(allowance.take("GOOD", True, 0.0) for _ in range(50)) == 5
    assert allowance.take("Missing", False, 0.0)
    assert sum(allowance.take("GOOD", True, 60.0) for _ in range(50)) == 10


# The folder


def add(store: Store, label: str = "GOOD", **how: Any) -> Exhibit:
    verdict_id = str(uuid.uuid4())
    how = {"frame": picture(1), "verdict": {"verdict_id": verdict_id, "die": "Die01"}, **how}
    return store.add(verdict_id, label, how.pop("time", NOW), how.pop("doubt", 0.25), **how)


def test_an_exhibit_is_found_again_as_it_was_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "evidence")
    label = "../Lift-off blanc/é."
    kept = add(store, label, view=VIEW.pixels[0], distances=READING.distances)
    (found,) = Store(tmp_path / "evidence").exhibits()
    assert found == kept == store.find(kept.verdict_id)
    assert (found.label, found.time, found.doubt) == (label, NOW, pytest.approx(0.25, abs=1e-3))
    assert found.folder.parents[1] == tmp_path / "evidence"
    image = cv2.imread(str(found.folder / "frame.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image, picture(1))
    distances = found.distances()
    assert distances is not None
    assert np.array_equal(distances, READING.distances)
    assert found.verdict()["die"] == "Die01"
    store.remove(found)
    assert list(store.exhibits()) == []


def test_what_a_power_cut_left_half_made_is_nobody_s_and_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add(store)
    half = tmp_path / ".unfinished-x"
    half.mkdir()
    (half / "frame.png").write_bytes(b"half")
    assert len(list(store.exhibits())) == 1
    store.sweep()
    assert not half.exists()


# The thread


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "evidence")


@pytest.fixture
def keep(store: Store) -> Iterator[Any]:
    """Start a keeper with these settings; ended after the test."""
    kept = []

    def start(tight: Any = lambda: False, **keys: Any) -> Evidence:
        table = EvidenceTable.model_validate({"min_free_mb": 0, "per_minute": 6000, **keys})
        kept.append(Evidence(store, table, tight))
        return kept[-1]

    yield start
    for evidence in kept:
        evidence.close()


def offer(evidence: Evidence, verdict: Verdict | None = None, **how: Any) -> str:
    verdict_id = str(uuid.uuid4())
    describe = how.pop("describe", lambda: json.dumps({"verdict_id": verdict_id, "die": "Die01"}))
    shot: Frame = how.pop("frame", None) or frame(picture(2))
    evidence.offer(verdict_id, shot, VIEW, READING, verdict or good(), describe)
    return verdict_id


def test_frame_view_distances_and_verdict_are_kept(store: Store, keep: Any) -> None:
    evidence = keep()
    verdict_id = offer(evidence)
    wait_until(lambda: evidence.stats.images == 1)
    found = store.find(verdict_id)
    assert found is not None
    names = {file.name for file in found.folder.iterdir()}
    assert names == {"frame.png", "view.png", "distances.npy", "verdict.json"}


def test_a_unit_that_forbids_priorities_costs_no_image(
    store: Store, keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the shipped one does: its system calls are few."""

    def forbidden(*_: Any) -> None:
        raise PermissionError("setpriority")

    monkeypatch.setattr(os, "setpriority", forbidden)
    verdict_id = offer(keep())
    wait_until(lambda: store.find(verdict_id) is not None)


def test_the_line_never_waits_and_what_is_dropped_is_counted(keep: Any) -> None:
    """A disk that hangs holds the thread, not the line."""
    evidence = keep()
    gate = threading.Event()

    def hangs() -> str:
        gate.wait(10)
        return "{}"

    began_s = time.monotonic()
    for _ in range(30):
        offer(evidence, describe=hangs)
    assert time.monotonic() - began_s < 1.0
    gate.set()
    wait_until(lambda: evidence.stats.images + evidence.stats.dropped == 30)
    assert evidence.stats.dropped >= 20


def test_quotas_hold_through_a_restart(store: Store, keep: Any) -> None:
    for number in range(6):
        add(store, "Missing", time=NOW + timedelta(seconds=number))
    evidence = keep(images_per_label=4)
    wait_until(lambda: evidence.stats.images == 6)
    newest = offer(evidence, good("Missing"))
    wait_until(lambda: evidence.stats.images == 4)
    left = list(store.exhibits())
    assert len(left) == 4
    assert newest in {one.verdict_id for one in left}


def test_evidence_goes_first_when_the_outbox_wants_for_room(store: Store, keep: Any) -> None:
    for _ in range(5):
        add(store)
    wants = [2]

    def tight() -> bool:
        return len(list(store.exhibits())) > wants[0]

    evidence = keep(tight)
    offer(evidence)
    wait_until(lambda: len(list(store.exhibits())) in (2, 3))
    wants[0] = -1
    offer(evidence)
    wait_until(lambda: list(store.exhibits()) == [])
    offer(evidence)
    evidence.close()
    assert list(store.exhibits()) == []


def test_less_room_than_is_to_stay_free_keeps_nothing(store: Store, keep: Any) -> None:
    evidence = keep(min_free_mb=10_000_000)
    offer(evidence)
    evidence.close()
    assert list(store.exhibits()) == []
    assert evidence.stats.failed == 0


def test_a_disk_that_refuses_is_counted_and_not_asked_again_at_once(
    store: Store, keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuses(*_: Any, **__: Any) -> Exhibit:
        asked.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "add", refuses)
    evidence = keep()
    for _ in range(5):
        offer(evidence)
        time.sleep(0.02)
    evidence.close()
    assert len(asked) == 1
    assert evidence.stats.failed == 1


def test_a_full_disk_is_told_until_there_is_room(
    store: Store, keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [True]
    evidence = keep(lambda: full[0])
    offer(evidence)
    wait_until(lambda: evidence.trouble is not None)
    assert str(store.folder) in evidence.trouble
    full[0] = False
    offer(evidence)
    wait_until(lambda: evidence.trouble is None)


def test_images_of_a_clock_that_was_ahead_push_out_no_new_ones(
    store: Store, keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was ahead before the start or is set back meanwhile."""
    ahead, now = timedelta(days=999), datetime.now(timezone.utc)
    add(store, time=now + ahead)
    evidence = keep(images_per_label=3)
    wait_until(lambda: evidence.stats.images == 1)
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9 + ahead.total_seconds())
    later = replace(frame(picture(2)), time=now + ahead)
    for number in (2, 3):
        offer(evidence, frame=later)
        wait_until(lambda number=number: evidence.stats.images == number)  # type: ignore[misc]
    monkeypatch.undo()
    newest = [offer(evidence) for _ in range(3)]
    wait_until(lambda: {one.verdict_id for one in store.exhibits()} == set(newest))


@pytest.mark.parametrize("late", ["a share that cannot be read yet", "a share mounted late"])
def test_images_that_were_there_are_counted_once_they_can_be(
    late: str, store: Store, keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_PAUSE_S", 0.3)
    monkeypatch.setattr(keeper, "_TURN_S", 0.05)
    for _ in range(2):
        add(store)
    away = store.folder.with_name("away")
    store.folder.rename(away)
    unreadable = "cannot" in late
    if unreadable:
        store.folder.write_text("")
    evidence = keep()
    if unreadable:
        wait_until(lambda: evidence.trouble is not None)
        offer(evidence)
        assert "no images are kept" in evidence.trouble
        store.folder.unlink()
    else:
        offer(evidence)
        wait_until(lambda: evidence.stats.images == 1)
        store.folder.rename(store.folder.with_name("under the mount"))
    away.rename(store.folder)
    wait_until(lambda: evidence.stats.images == 2)
    assert evidence.trouble is None
    offer(evidence)
    wait_until(lambda: evidence.stats.images == 3)


def test_a_label_given_meanwhile_keeps_an_image(store: Store, keep: Any) -> None:
    evidence = keep(images_per_label=2)
    first = offer(evidence, frame=frame(picture(3)))
    wait_until(lambda: evidence.stats.images == 1)
    Labels(store.folder).add(first, "Missing", "GOOD", "anna")
    for number in range(2, 5):
        offer(evidence)
        wait_until(lambda number=number: evidence.stats.images == min(number, 2))  # type: ignore[misc]
    wait_until(lambda: len(list(store.exhibits())) == 2)
    assert store.find(first) is not None


# Through the line


def test_the_line_keeps_what_it_judged_with_its_verdict(tmp_path: Path) -> None:
    """The verdict beside the image is the one that was published."""
    camera = HandCamera()
    store = Store(tmp_path / "evidence")
    table = EvidenceTable(min_free_mb=0)
    evidence = Evidence(store, table)
    with running_line(tmp_path, camera, evidence=evidence) as line:
        assert camera.started.wait(10)
        camera.give(pictures()[Disposition.REJECT], "p1")
        camera.give(pictures()[Disposition.PASS], "p2")
        wait_until(lambda: evidence.stats.images == 2)
        told = line._heartbeat._figures(0, time.monotonic()).evidence
        assert told is not None
        assert (told.images, told.bytes > 0, told.dropped) == (2, True, 0)
        assert line.state is State.RUNNING
    evidence.close()
    published = {message["verdict_id"]: message for message in messages(tmp_path, "verdict")}
    kept = {found.verdict_id: found for found in store.exhibits()}
    assert set(kept) == set(published)
    for verdict_id, found in kept.items():
        said = found.verdict()
        assert said == {key: published[verdict_id][key] for key in said}
        assert found.label == said["label"]
        shape = found.distances()
        assert shape is not None
        assert shape.shape == (2, 2)
        assert found.file("view.png") is not None


def test_a_station_that_cannot_keep_images_is_degraded_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It judges on all the same."""
    monkeypatch.setattr("edge_qc.evidence.keeper._PAUSE_S", 0.0)
    camera = HandCamera()
    in_the_way = tmp_path / "evidence"
    in_the_way.write_text("a file where the folder should be")
    evidence = Evidence(Store(in_the_way), EvidenceTable(min_free_mb=0))
    with running_line(tmp_path, camera, evidence=evidence) as line:
        assert camera.started.wait(10)
        camera.give(pictures()[Disposition.PASS])
        wait_until(lambda: line.state is State.DEGRADED)
        assert "no images are kept" in line.why
        assert str(in_the_way) in line.why
        in_the_way.unlink()
        camera.give(pictures()[Disposition.REJECT])
        wait_until(lambda: line.state is State.RUNNING)
    evidence.close()
    said = [message["reason"] for message in messages(tmp_path, "verdict")]
    assert said == ["decided", "decided"]
