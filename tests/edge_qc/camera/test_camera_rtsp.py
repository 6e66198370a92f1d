"""A network camera over a real socket, through FFmpeg: it freezes, falls silent, drops."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from edge_qc.camera import CameraState, Fault, Grab, SourceRequest, open_source
from edge_qc.camera.child import _Child
from edge_qc.camera.ffmpeg import RtspSource
from edge_qc.camera.ring import FreeSlots
from edge_qc.camera.sources import SOFTWARE
from edge_qc.errors import CameraError
from edge_qc.parts import Frame, Reason
from tests.rig.cameras import Start, wait_until
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
        # On a busy machine a frame may be stale before, or cut by the end of its connection.
        while fault.reason is Reason.FRAME or (repeats and "repeated" in fault.detail):
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


def test_a_picture_that_lost_a_packet_is_not_judged(start: Start, server: RtspServer) -> None:
    """It is told as lost on the way, and those around it are judged; the camera stays open."""
    watched = start(server.uri)
    watched.frames(3)
    server.mode = "lossy"
    for _ in range(3):
        fault = watched.fault()
        assert fault.reason is Reason.FRAME
        assert "lost on the way" in fault.detail or "damaged" in fault.detail
    server.mode = "fresh"
    wait_until(lambda: watched.events.qsize() > 40)
    assert watched.camera.stats.reopened == 0
    kinds = [type(watched.next()) for _ in range(40)]
    assert kinds[-10:] == [Frame] * 10


def test_what_was_exposed_before_the_trigger_is_no_answer(server: RtspServer) -> None:
    """It only arrived after it: by the latency that the settings state it shows the part before."""
    child, station = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = SourceRequest(server.uri, "Die01", trigger=SOFTWARE, latency_s=0.4)
    source = RtspSource(request)
    try:
        asked_s = time.monotonic()
        first = source.read(1.0)
        assert first is not None
        answer = _Child(child, server.uri, FreeSlots(-1))._fresh(source, first, asked_s, 5.0)
        arrived_s = time.monotonic()
    finally:
        source.close()
        child.close()
        station.close()
    assert isinstance(answer, Grab)
    assert answer.monotonic_s >= asked_s
    assert arrived_s - asked_s >= 0.4, "a frame that came sooner was exposed before"
