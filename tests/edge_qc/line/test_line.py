"""The line as a whole, with cameras that a test fires by hand."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge_qc.camera import Camera, CameraState, Fault
from edge_qc.errors import EngineError, PublishError
from edge_qc.inspection import inspecting
from edge_qc.inspection.inspecting import Prepared, open_inspection
from edge_qc.inspection.view import view
from edge_qc.line import judging
from edge_qc.line.intake import Intake, Work
from edge_qc.line.outgoing import Origin
from edge_qc.parts import Disposition, Frame, Reason, Verdict, View
from edge_qc.publisher import HealthContent, TriggerRecord
from edge_qc.settings import CameraTable, LineTable
from edge_qc.system.state import State
from tests.rig.lines import HandCamera, frame, messages, pictures, running_line
from tests.rig.publishing import wait_until
from tests.rig.tiny_bundle import make_bundle


def test_a_late_view_is_recorded_and_marked_and_told_where_it_is_worse(tmp_path: Path) -> None:
    """The part's verdict stands; whoever let the part through is told."""
    camera = HandCamera()
    good, bad = pictures()[Disposition.PASS], pictures()[Disposition.REJECT]

    def verdict(pixels: Any) -> dict[str, Any]:
        before = len(messages(tmp_path, "verdict"))
        camera.give(pixels, "p")
        wait_until(lambda: len(messages(tmp_path, "verdict")) > before)
        return messages(tmp_path, "verdict")[-1]

    with running_line(tmp_path, camera):
        assert camera.started.wait(10)
        assert verdict(good)["late"] is False
        assert verdict(good)["late"] is True
        assert messages(tmp_path, "event") == []
        assert verdict(bad)["late"] is True
    (part,) = messages(tmp_path, "part")
    assert (part["part_id"], part["disposition"]) == ("p", "PASS")
    (event,) = messages(tmp_path, "event")
    assert (event["event"], event["severity"]) == ("late-view", "alarm")
    assert "part p was published as PASS" in event["detail"]


@pytest.mark.parametrize("table", ["trigger", "message"])
def test_a_line_whose_outbox_broke_ends_for_a_new_start(tmp_path: Path, table: str) -> None:
    """Whether triggers are refused from there on, or a verdict cannot be recorded: it does not
    stand still until somebody comes."""
    camera = HandCamera()
    with running_line(tmp_path, camera) as line:
        assert camera.started.wait(10)
        line._outbox._writer._db.execute(f"DROP TABLE {table}")
        camera.give(pictures()[Disposition.PASS])
        wait_until(lambda: camera.stats.state is CameraState.STOPPED)
        assert "restart the station to open it again" in str(line.failure)


class Moody:
    """An engine that waits for its first call to be released, and then fails as often as told."""

    name = "moody"

    def __init__(self, real: Any) -> None:
        self._real = real
        self.batches: list[int] = []
        self.failures = 0
        self.closed = False
        self.called = threading.Event()
        self.released: Any = threading.Event()

    def infer(self, views: Any) -> Any:
        self.called.set()
        self.released.wait(10)
        self.batches.append(len(views))
        if len(self.batches) > 1 and self.failures > 0:
            self.failures -= 1
            raise EngineError("the device fell off the bus")
        return self._real.infer(views)

    def close(self) -> None:
        self.closed = True
        self._real.close()


@pytest.mark.parametrize("failures", [1, 5])
def test_five_calls_of_the_engine_in_a_row_are_five_and_not_a_batch_of_five(
    tmp_path: Path, failures: int
) -> None:
    camera = HandCamera()
    settings = LineTable(queue=64, drain_s=0.01, part_dies=())
    with running_line(tmp_path, camera, line=settings, batch=8) as line:
        assert camera.started.wait(10)
        moody = line.inspection.engine = Moody(line.inspection.engine)
        moody.failures = failures
        picture = pictures()[Disposition.PASS]
        camera.give(picture)
        assert moody.called.wait(10)
        for _ in range(8 * failures):
            camera.give(picture)
        moody.released.set()
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 1 + 8 * failures)
        assert moody.batches == [1] + [8] * failures
        if failures == 5:
            assert "5 times in a row" in str(line.failure)
        else:
            assert line.failure is None
    said = [message["reason"] for message in messages(tmp_path, "verdict")]
    assert said == ["decided"] + ["engine"] * 8 * failures


def test_the_engine_reads_the_next_view_while_a_verdict_is_made(tmp_path: Path) -> None:
    """And the verdicts stay in the order of their frames."""
    camera = HandCamera()
    settings = LineTable(queue=64, drain_s=0.01, part_dies=())
    both = [pictures()[Disposition.PASS], pictures()[Disposition.REJECT]]
    worked_ahead: list[bool] = []
    with running_line(tmp_path, camera, line=settings) as line:
        assert camera.started.wait(10)
        moody = line.inspection.engine = Moody(line.inspection.engine)

        def slow(_frame: Frame, _verdict: Verdict) -> None:
            """The verdict's last step: by its end the engine has had the next frame."""
            ahead = len(worked_ahead) + 2
            # The first may come before there is a second, and nothing follows the last.
            until_s = time.monotonic() + (10 if 3 <= ahead <= 6 else 0)
            while len(moody.batches) < ahead and time.monotonic() < until_s:
                time.sleep(0.001)
            worked_ahead.append(len(moody.batches) >= ahead)

        line.observe(slow)
        for number in range(6):
            camera.give(both[number % 2])
        moody.released.set()
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 6)
    assert worked_ahead[1:5] == [True] * 4
    said = [message["disposition"] for message in messages(tmp_path, "verdict")]
    assert said == ["PASS", "REJECT"] * 3


def test_a_fault_at_an_output_stops_the_very_next_verdict(tmp_path: Path) -> None:
    """However shortly before the station has looked around."""
    camera = HandCamera()
    settings = LineTable(queue=64, drain_s=0.01, part_dies=())
    picture = pictures()[Disposition.PASS]
    faults: list[str] = []
    outputs = SimpleNamespace(
        faults=lambda: list(faults),
        troubles=list,
        station=lambda state: None,
        offer=lambda result: None,
        figures=dict,
        loops=dict,
    )
    with running_line(tmp_path, camera, line=settings, outputs=outputs) as line:
        assert camera.started.wait(10)

        def break_behind(_frame: Frame, _verdict: Verdict) -> None:
            faults[:] = ["the ejector was silent"]

        line.observe(break_behind)
        camera.give(picture)
        camera.give(picture)
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 2)
    first, second = messages(tmp_path, "verdict")
    assert (first["disposition"], second["disposition"]) == ("PASS", "REVIEW")
    assert second["reason"] == "state"


def test_what_comes_while_the_engine_works_joins_one_batch(tmp_path: Path) -> None:
    """Frames that come one by one are not cut off from each other by working ahead."""
    camera = HandCamera()
    settings = LineTable(queue=64, drain_s=0.01, part_dies=())
    picture = pictures()[Disposition.PASS]
    with running_line(tmp_path, camera, line=settings, batch=8) as line:
        assert camera.started.wait(10)
        moody = line.inspection.engine = Moody(line.inspection.engine)
        calls = threading.Semaphore(0)
        moody.released = SimpleNamespace(wait=lambda timeout_s: calls.acquire(timeout=timeout_s))
        camera.give(picture)
        assert moody.called.wait(10)
        for _ in range(9):
            camera.give(picture)
        calls.release()
        wait_until(lambda: line.intake.waiting <= 1)
        for _ in range(5):
            time.sleep(0.02)
            camera.give(picture)
        calls.release(2)
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 15)
        assert moody.batches == [1, 8, 6]


def test_a_line_whose_engine_never_answers_is_closed_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is left behind, and the engine with it; the outputs behind it come to REJECT."""
    monkeypatch.setattr(judging, "_CLOSE_S", 0.1)
    inspection = open_inspection(make_bundle(tmp_path / "bundle"))
    moody = inspection.engine = Moody(inspection.engine)  # type: ignore[assignment]
    line = judging.Judging(inspection, *[None] * 4)  # type: ignore[arg-type]
    line.begin([Work("id", frame(pictures()[Disposition.PASS]), Origin("t"))])
    assert moody.called.wait(10)
    line.close()
    assert "the engine has not come back" in caplog.text
    assert not moody.closed
    moody.released.set()


def test_what_one_bundle_read_no_other_decides(tmp_path: Path) -> None:
    """The engine is a frame ahead when the bundle is exchanged: that frame is the old one's."""
    camera = HandCamera()
    settings = LineTable(queue=64, drain_s=0.01, part_dies=())
    picture = pictures()[Disposition.PASS]
    seen: list[str] = []
    going_on = threading.Event()
    with running_line(tmp_path, camera, line=settings) as line:
        assert camera.started.wait(10)
        old = line.inspection.bundle.id
        moody = line.inspection.engine = Moody(line.inspection.engine)
        fresh = open_inspection(make_bundle(tmp_path / "fresh", batch=1, version=2))
        assert fresh.bundle.id != old

        def hold_the_second(_frame: Frame, verdict: Verdict) -> None:
            seen.append(verdict.bundle_id)
            if len(seen) == 2:
                going_on.wait(10)

        line.observe(hold_the_second)
        camera.give(picture)
        assert moody.called.wait(10)
        for _ in range(3):
            camera.give(picture)
        moody.released.set()
        wait_until(lambda: len(seen) == 2 and len(moody.batches) == 3)
        exchange = threading.Thread(target=line.exchange, args=(fresh,), daemon=True)
        exchange.start()
        wait_until(lambda: len(line._next) == 1)
        going_on.set()
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 4)
        exchange.join(10)
        moody.close()
    assert [message["bundle"]["id"] for message in messages(tmp_path, "verdict")] == [
        *[old] * 3,
        fresh.bundle.id,
    ]


@pytest.mark.parametrize(("camera", "ahead"), [("hand", 2), ("watched", 0)])
def test_a_slow_disk_holds_a_camera_and_not_what_it_showed(camera: str, ahead: int) -> None:
    """A frame is judged while its trigger is synced; its camera goes on for two more, and for a
    share of the overruns. One that never gives an image twice waits for each."""
    pending: list[Future[None]] = []

    def trigger(_verdict_id: str, _record: TriggerRecord) -> Future[None]:
        pending.append(Future())
        return pending[-1]

    disk: Any = SimpleNamespace(trigger=trigger)
    intake = Intake(disk, 1000, lambda frame: None, {"watched"})  # type: ignore[arg-type, return-value]
    shown = frame(pictures()[Disposition.PASS], camera=camera)

    def give(number: int, what: Frame | Fault) -> threading.Thread:
        def run() -> None:
            for _ in range(number):
                intake.deliver(what)

        giver = threading.Thread(target=run, daemon=True)
        giver.start()
        return giver

    dropped = Fault(camera, "Die01", "t", None, None, "dropped", Reason.OVERRUN, shown.time)
    overruns = give(65, dropped)
    wait_until(lambda: intake.waiting == 65)
    assert intake.holds(camera)
    pending[0].set_result(None)
    overruns.join(10)
    assert not intake.holds(camera)
    for synced in pending[1:]:
        synced.set_result(None)
    seen = give(ahead + 1, shown)
    wait_until(lambda: intake.waiting == 66 + ahead)
    assert intake.holds(camera)
    pending[65].set_result(None)
    seen.join(10)
    assert not intake.holds(camera)
    assert [item.event for item in intake.take(100)][-1] is shown
    for late in pending[66:]:
        late.set_exception(PublishError("the disk is gone"))
    assert intake.refused == ahead


def test_each_camera_cuts_its_own_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that takes long to find holds back no part before another camera."""
    slow, quick = HandCamera("slow"), HandCamera("quick")
    going_on = threading.Event()
    picture = pictures()[Disposition.PASS]

    def cut(pixels: Any, *arguments: Any) -> View:
        if pixels is shown_slow.pixels:
            going_on.wait(10)
        return view(pixels, *arguments)

    monkeypatch.setattr(inspecting, "view", cut)
    settings = LineTable(queue=64, drain_s=0.01, part_dies=())
    with running_line(tmp_path, slow, quick, line=settings):
        assert quick.started.wait(10)
        shown_slow = frame(picture, camera="slow")
        giver = threading.Thread(target=slow._deliver, args=(shown_slow,), daemon=True)
        giver.start()
        for _ in range(3):
            quick.give(picture)
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 3)
        going_on.set()
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 4)
    assert [message["camera"] for message in messages(tmp_path, "verdict")] == [
        *["quick"] * 3,
        "slow",
    ]


def test_a_stop_waits_for_a_view_that_is_being_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trigger is accepted: the verdict comes in this run, and not as a restart in the next."""
    camera, shown = HandCamera(), pictures()[Disposition.PASS]
    cutting, going_on = threading.Event(), threading.Event()

    def cut(*arguments: Any) -> View:
        cutting.set()
        going_on.wait(10)
        return view(*arguments)

    monkeypatch.setattr(inspecting, "view", cut)
    with running_line(tmp_path, camera) as line:
        assert camera.started.wait(10)
        threading.Thread(target=camera.give, args=(shown,), daemon=True).start()
        assert cutting.wait(10)
        # The line is told to stop at the end of this block, and the view takes longer.
        threading.Timer(1.0, going_on.set).start()
    assert line.intake.waiting == 0
    assert [message["reason"] for message in messages(tmp_path, "verdict")] == ["decided"]


def test_a_view_that_another_bundle_cut_is_cut_again(tmp_path: Path) -> None:
    """The next bundle may look elsewhere: its engine gets no view of the one before."""
    camera = HandCamera()
    settings = LineTable(queue=64, drain_s=0.01, part_dies=())
    with running_line(tmp_path, camera, line=settings) as line:
        assert camera.started.wait(10)
        moody = line.inspection.engine = Moody(line.inspection.engine)
        fresh = open_inspection(make_bundle(tmp_path / "fresh", batch=1, version=2))
        prepared: list[Frame] = []
        prepare = fresh.prepare

        def noted(shown: Frame) -> Prepared:
            prepared.append(shown)
            return prepare(shown)

        fresh.prepare = noted  # type: ignore[method-assign]
        for _ in range(4):
            camera.give(pictures()[Disposition.PASS])
        assert moody.called.wait(10)
        exchange = threading.Thread(target=line.exchange, args=(fresh,), daemon=True)
        exchange.start()
        wait_until(lambda: len(line._next) == 1)
        moody.released.set()
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 4)
        exchange.join(10)
        moody.close()
    said = [message["bundle"]["id"] for message in messages(tmp_path, "verdict")]
    assert 1 <= said.count(fresh.bundle.id) == len(prepared)


def test_a_line_that_waits_for_the_broker_at_its_end_is_not_taken_for_one_that_hangs(
    tmp_path: Path,
) -> None:
    camera = HandCamera()
    settings = LineTable(queue=64, drain_s=3, part_dies=())
    with running_line(tmp_path, camera, line=settings) as line:
        assert camera.started.wait(10)
        camera.give(pictures()[Disposition.PASS])
        wait_until(lambda: len(messages(tmp_path, "verdict")) == 1)
        line._failure = "for the test"
        wait_until(lambda: camera.stats.state is CameraState.STOPPED)
        time.sleep(1.0)
        turns = line.turns
        wait_until(lambda: line.turns >= turns + 2)


def test_a_camera_at_its_end_is_said_in_the_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing more is judged of it: RUNNING alone would hide that."""
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.random.default_rng(0).integers(30, 220, (8, 8), np.uint8))
    table = CameraTable.model_validate(
        {"name": "north", "source": f"file://{images}", "die": "Die01"}
    )
    caplog.set_level("INFO", "edge_qc.line.heartbeat")
    with running_line(tmp_path, Camera(table)) as line:
        wait_until(lambda: line.state is State.DEGRADED)
    assert "DEGRADED: at its end, no more pictures will come: north" in caplog.text
    assert len(messages(tmp_path, "verdict")) == 1


def test_a_heartbeat_says_how_fast_each_camera_gives_pictures(tmp_path: Path) -> None:
    """Frames of the beats before are not counted again."""
    camera, beats = HandCamera(), list[HealthContent]()
    settings = LineTable(drain_s=0.01, part_dies=("Die01",), health_every_s=0.2)
    with running_line(tmp_path, camera, line=settings) as line:
        line.tell_figures(beats.append)
        camera.started.wait(5)
        wait_until(lambda: len(beats) > 1)
        for _ in range(7):
            camera.give(pictures()[Disposition.PASS])
        enough = len(beats) + 3
        wait_until(lambda: len(beats) >= enough)
    found = 0.0
    for before, beat in pairwise(beats):
        rate = beat.cameras["hand"].rate_per_s
        assert rate is not None
        found += rate * (beat.time - before.time).total_seconds()
    assert found == pytest.approx(7, rel=0.2)
    assert beats[-1].cameras["hand"].rate_per_s == 0
