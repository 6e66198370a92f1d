"""Every loop that a verdict depends on is watched."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from edge_qc.camera import CameraState
from edge_qc.parts import Disposition
from edge_qc.system.watchdog import Watch
from tests.rig.cameras import wait_until
from tests.rig.stations import put_in, running_station, settings_in
from tests.rig.tiny_bundle import make_bundle


@pytest.mark.parametrize(
    ("name", "hangs_after_s"),
    [("line", 2.0), ("outbox", 60.0), ("camera die01", 60.0), ("publisher", 300.0)],
)
def test_each_loop_has_its_patience(name: str, hangs_after_s: float) -> None:
    """The line's is short; a name server may hold up the publisher for minutes."""
    watch = Watch(line_s=2.0)
    names = ("line", "outbox", "camera die01", "publisher")
    loops: dict[str, int | None] = {}
    for second in range(400):
        loops = {other: 7 if other == name else second for other in names}
        hung = watch.hung(loops, float(second))
        assert hung == ([name] if second > hangs_after_s else []), second
    assert watch.hung(loops | {name: 8}, 400.0) == []


def test_a_loop_that_may_rest_does_not_hang() -> None:
    watch = Watch(line_s=2.0, others_s=2.0)
    assert [watch.hung({"camera a": None}, float(second)) for second in range(9)] == [[]] * 9
    assert watch.hung({"camera a": 5}, 9.0) == []
    assert watch.hung({"camera a": 5}, 12.0) == ["camera a"]


def test_an_idle_station_advances_everywhere(tmp_path: Path) -> None:
    """Without a frame, and with a broker that is away: every loop goes round by itself."""
    settings = settings_in(tmp_path)
    put_in(settings, make_bundle(tmp_path / "v1"))
    with (
        mock.patch("edge_qc.publisher.ledger.writer._TURN_S", 0.05),
        running_station(settings) as station,
    ):
        first = station.line.loops()
        assert set(first) == {"line", "publisher", "outbox", "camera hand"}
        time.sleep(1.0)
        later = station.line.loops()
        for name in ("line", "publisher", "outbox"):
            assert later[name] != first[name], name


def test_each_thread_that_hangs_is_seen(tmp_path: Path) -> None:
    """The outbox's writer hangs on its disk: it stands still, the camera that waits for it is
    excused, and the loop goes round."""
    settings = settings_in(tmp_path)
    put_in(settings, make_bundle(tmp_path / "v1"))
    held = threading.Event()
    with running_station(settings) as station:
        writer = station.line._outbox._writer
        real = writer._commit
        with (
            mock.patch.object(writer, "_commit", lambda *given: (held.wait(20), real(*given))),
            station.feed(Disposition.PASS),
        ):
            wait_until(lambda: station.line._intake.holds("hand"))
            time.sleep(0.1)
            first = station.line.loops()
            time.sleep(0.5)
            later = station.line.loops()
            held.set()
        assert later["outbox"] == first["outbox"]
        assert later["line"] != first["line"]
        assert later["camera hand"] is None


def test_a_camera_thread_that_died_is_not_excused(tmp_path: Path) -> None:
    """FAILED is a bug of ours, and a restart mends it; a folder at its end is no failure."""
    settings = settings_in(tmp_path)
    put_in(settings, make_bundle(tmp_path / "v1"))
    with running_station(settings) as station:
        for state, excused in ((CameraState.FAILED, False), (CameraState.ENDED, True)):
            station.camera._state = state
            assert (station.line.loops()["camera hand"] is None) is excused
        station.camera._state = CameraState.RUNNING
