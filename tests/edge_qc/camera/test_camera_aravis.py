"""A GigE Vision camera without one: Aravis' own fake camera on the loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_qc.camera import SCHEMES, CameraState, Grab, SourceRequest, aravis, check_source
from edge_qc.camera.sources import open_named
from edge_qc.errors import SettingsError
from edge_qc.parts import Frame, Reason
from tests.rig.cameras import Start, wait_until
from tests.rig.programs import find, lacking


def _missing() -> str:
    """Why no camera can be played here; empty where one can."""
    if (why := lacking("arv-fake-gv-camera-0.8")) is not None:
        return why
    try:
        check_source(SourceRequest("aravis://any", "Die01"))
    except SettingsError as error:
        return f"needs Aravis in Python: {error}"
    return ""


FAKE = find("arv-fake-gv-camera-0.8")
URI = "aravis://127.0.0.1?width=256&height=128"
# One at a time: GigE Vision has one port.
real = [
    pytest.mark.aravis,
    pytest.mark.xdist_group("aravis"),
    pytest.mark.skipif(bool(_missing()), reason=_missing()),
]

BLUE, RED = 0, 2
"""Channels of BGR."""

Plug = Callable[[], "subprocess.Popen[bytes]"]


def marked(test: Callable[..., None]) -> Callable[..., None]:
    for mark in real:
        test = mark(test)
    return test


@pytest.fixture
def plug() -> Iterator[Plug]:
    """Plug the camera in; pulled out by ``kill``, or behind the test."""
    plugged = []

    def plug() -> subprocess.Popen[bytes]:
        assert FAKE is not None
        plugged.append(subprocess.Popen([FAKE, "-i", "127.0.0.1"]))
        return plugged[-1]

    yield plug
    for process in plugged:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("pixel_format", "mosaic"),
    [
        ("BayerRG8", "RGGB"),
        ("BayerBG8", "BGGR"),
        ("BayerGR8", "GRBG"),
        ("BayerGB8", "GBRG"),
        ("RGB8", None),
        ("BGR8", None),
    ],
)
def test_red_is_red_and_blue_is_blue(pixel_format: str, mosaic: str | None) -> None:
    """The left half of the part is red, its right half blue. GenICam names a mosaic by the colours
    of its first row, then its second."""
    part = np.zeros((16, 32, 3), np.uint8)
    part[:, :16, RED], part[:, 16:, BLUE] = 200, 100
    sent = part if pixel_format == "BGR8" else part[:, :, ::-1]
    if mosaic is not None:
        sent = np.zeros((16, 32), np.uint8)
        for place, colour in enumerate(mosaic):
            seen = part[:, :, "BGR".index(colour)]
            sent[place // 2 :: 2, place % 2 :: 2] = seen[place // 2 :: 2, place % 2 :: 2]
    pixels = aravis.unpacked(np.ascontiguousarray(sent).ravel(), pixel_format, 16, 32)
    inside = slice(4, 12)
    assert (pixels[inside, 4:12] == (0, 0, 200)).all()
    assert (pixels[inside, 20:28] == (100, 0, 0)).all()


@marked
def test_it_runs_freely_and_is_opened_again_after_it_went_away(start: Start, plug: Plug) -> None:
    fake = plug()
    watched = start(URI, timeout_s=2.0, fps=20)
    for frame in watched.frames(5):
        assert frame.pixels.shape == (128, 256)
        assert abs(time.monotonic() - frame.monotonic_s) < 30
    fake.kill()
    fake.wait()
    assert watched.fault().reason is Reason.CAMERA
    assert watched.camera.stats.state in (CameraState.LOST, CameraState.OPENING)
    plug()
    wait_until(lambda: watched.camera.stats.reopened >= 1)
    watched.frames(1)


@marked
def test_each_trigger_gets_its_own_picture_and_silence_is_health(start: Start, plug: Plug) -> None:
    """By the camera's software trigger: taken after the trigger, though others wait in no buffer.
    While the camera is away each trigger has its fault, and silence has none."""
    fake = plug()
    watched = start(URI, trigger="mqtt", timeout_s=1.5)
    wait_until(lambda: watched.camera.stats.state is CameraState.RUNNING)
    time.sleep(3.0)
    assert watched.events.empty()
    seen = []
    for number in range(3):
        asked_s = time.monotonic()
        watched.camera.trigger(f"t{number}", f"part-{number}")
        (frame,) = watched.frames(1)
        assert (frame.trigger_id, frame.part_id) == (f"t{number}", f"part-{number}")
        assert frame.monotonic_s >= asked_s
        seen.append(np.asarray(frame.pixels))
    assert not np.array_equal(seen[0], seen[1])
    fake.kill()
    fake.wait()
    watched.camera.trigger("gone")
    fault = watched.fault()
    assert (fault.trigger_id, fault.reason) == ("gone", Reason.CAMERA)
    wait_until(lambda: watched.camera.stats.state is CameraState.LOST)
    plug()
    wait_until(lambda: watched.camera.stats.state is CameraState.RUNNING)
    watched.camera.trigger("back")
    event = watched.next()
    assert isinstance(event, Frame)
    assert event.trigger_id == "back"
    assert watched.events.empty()


@marked
def test_a_picture_that_nobody_fetched_is_not_the_next_trigger_s(plug: Plug) -> None:
    plug()
    time.sleep(0.5)
    request = SourceRequest(URI, "Die01", trigger="Software")
    source = open_named(SCHEMES["aravis"], request)
    assert isinstance(source, aravis.AravisSource)
    source.ask()
    time.sleep(0.5)
    asked_s = time.monotonic()
    source.ask()
    grab = source.read(5.0)
    assert isinstance(grab, Grab)
    assert grab.monotonic_s >= asked_s
    source.close()


@marked
def test_a_camera_that_vanishes_while_nothing_is_triggered_is_noticed(
    start: Start, plug: Plug
) -> None:
    """At its own input, and asked by the station: control is lost within seconds."""
    fake = plug()
    watched = start(URI, trigger="line:Line0", timeout_s=0.5)
    wait_until(lambda: watched.camera.stats.state is CameraState.RUNNING)
    time.sleep(2.5)
    assert watched.events.empty()
    fake.kill()
    fault = watched.fault()
    assert "control was lost" in fault.detail


@marked
def test_an_input_that_the_camera_does_not_have_is_answered_with_those_it_has(
    start: Start, plug: Plug
) -> None:
    plug()
    watched = start(URI, trigger="line:Line7", timeout_s=0.5)
    assert "it has Line0, Software" in watched.fault().detail


@pytest.mark.parametrize(
    ("uri", "trigger", "message"),
    [
        ("aravis://", None, "wanted aravis://ID"),
        ("aravis://cam?exposure=3", None, "option exposure=3, wanted exposure_us=float"),
        ("aravis://cam?width=wide", None, "option width=wide"),
        ("v4l2:///dev/video0", "Line1", "which only an aravis:// source has"),
    ],
)
def test_what_can_never_work_is_refused(uri: str, trigger: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_source(SourceRequest(uri, "Die01", trigger=trigger))


def test_without_aravis_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(aravis, "_DIST_PACKAGES", tmp_path)
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(SettingsError, match=r"apt install python3-gi gir1\.2-aravis-0\.8"):
        check_source(SourceRequest("aravis://camera", "Die01"))
