"""A network camera over a real socket, through FFmpeg: it freezes, falls silent, drops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_qc.camera import CameraState, Fault, open_source
from edge_qc.errors import CameraError
from edge_qc.parts import Frame, Reason
from tests.rig.cameras import Start
from tests.rig.rtsp_server import RtspServer


@pytest.fixture
def server() -> Iterator[RtspServer]:
    server = RtspServer()
    yield server
    server.close()


def test_a_network_camera_freezes_falls_silent_and_drops_and_comes_back_each_time(
    start: Start, server: RtspServer
) -> None:
    """Each failure is told as what it is, without the password, and mended by reopening."""
    watched = start(server.uri, timeout_s=1.0)
    for frame in watched.frames(3):
        assert frame.pixels.shape == (120, 160, 3)

    for spoil, repeats, detail in (
        (lambda: setattr(server, "mode", "frozen"), True, "frozen"),
        (lambda: setattr(server, "mode", "silent"), False, "hangs, gave no frame within 1.0 s"),
        (server.drop, False, "stopped giving frames"),
    ):
        spoil()
        fault = watched.fault()
        while repeats and "repeated" in fault.detail:
            fault = watched.fault()
        server.mode = "fresh"
        assert fault.reason is Reason.CAMERA
        assert detail in fault.detail
        assert "secret" not in fault.detail
        watched.frames(2)
    assert watched.camera.stats.reopened == 3
    assert server.clients == 4


def test_a_network_camera_that_is_away_is_one_fault_and_does_not_touch_the_others(
    start: Start, server: RtspServer
) -> None:
    away = RtspServer()
    away.close()
    lost = start(away.uri, name="south")
    running = start(server.uri)
    fault = lost.next()
    assert isinstance(fault, Fault)
    assert "inspector:***@127.0.0.1" in fault.detail
    running.frames(20)
    assert lost.camera.stats.state is CameraState.LOST
    assert lost.events.empty()


def test_triggers_to_a_network_camera_are_answered_from_fresh_frames(
    start: Start, server: RtspServer
) -> None:
    watched = start(server.uri, triggered=True, latency_ms=5)
    for i in range(4):
        watched.camera.trigger(f"t{i}", "part")
        frame = watched.next()
        assert isinstance(frame, Frame)
        assert (frame.trigger_id, frame.part_id) == (f"t{i}", "part")


def test_a_source_can_be_read_without_a_process_of_its_own(server: RtspServer) -> None:
    """``open_source`` reads in the caller's own process, and says without the password why not."""
    source = open_source(server.uri, die="Die01")
    try:
        assert source.live
        grab = source.read(1.0)
        assert grab is not None
        assert grab.die == "Die01"
    finally:
        source.close()
    server.close()
    with pytest.raises(CameraError, match=r"inspector:\*\*\*@127"):
        open_source(server.uri, die="Die01")
