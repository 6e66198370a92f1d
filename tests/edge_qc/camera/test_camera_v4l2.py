"""V4L2 cameras as far as they can be tested without one: a fake VideoCapture in its place."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_qc.camera import BadImage, Grab, SourceRequest, open_source
from edge_qc.camera.opencv import V4l2Source
from edge_qc.camera.sources import SOFTWARE
from edge_qc.errors import CameraError
from tests.rig.cameras import picture


class FakeCapture:
    """What OpenCV's V4L2 backend answers: a buffer's time in milliseconds, and a size that it
    applies once both of its sides were set."""

    stamp_s = 0.0
    largest = (1280, 960)
    jpeg = b""
    opened: tuple[Any, ...] = ()

    def __init__(self, *arguments: Any) -> None:
        type(self).opened = arguments
        self.properties: dict[int, float] = {
            cv2.CAP_PROP_FRAME_WIDTH: 640,
            cv2.CAP_PROP_FRAME_HEIGHT: 480,
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV"),
        }
        self.asked = [0.0, 0.0]

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, key: int, value: float) -> bool:
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        if key not in sides:
            self.properties[key] = value
            return True
        # As cap_v4l.cpp: one side alone waits for the other.
        self.asked[sides.index(key)] = value
        if all(self.asked):
            for side, wanted, most in zip(sides, self.asked, self.largest, strict=True):
                self.properties[side] = min(wanted, most)
            self.asked = [0.0, 0.0]
        return True

    def get(self, key: int) -> float:
        return self.stamp_s * 1e3 if key == cv2.CAP_PROP_POS_MSEC else self.properties[key]

    def read(self) -> tuple[bool, np.ndarray]:
        if self.jpeg and self.properties.get(cv2.CAP_PROP_CONVERT_RGB) == 0:
            return True, np.frombuffer(self.jpeg, np.uint8)[np.newaxis]
        return True, np.zeros((4, 6, 3), np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    (tmp_path / "video0").write_bytes(b"")
    (tmp_path / "usb-camera-index0").symlink_to("video0")
    return tmp_path / "usb-camera-index0"


def test_the_drivers_own_time_of_a_frame_is_kept(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that waited two seconds in the driver is two seconds old."""
    source = open_source(f"v4l2://{device}", die="Die01")
    monkeypatch.setattr(FakeCapture, "stamp_s", time.monotonic() - 2.0)
    grab = source.read(1.0)
    assert isinstance(grab, Grab)
    assert time.monotonic() - grab.monotonic_s == pytest.approx(2.0, abs=0.5)
    assert time.time() - grab.time.timestamp() == pytest.approx(2.0, abs=0.5)


def test_a_driver_on_another_clock_is_not_believed(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(f"v4l2://{device}", die="Die01")
    for stamp_s in (time.time(), 0.0):
        monkeypatch.setattr(FakeCapture, "stamp_s", stamp_s)
        monkeypatch.setattr(time, "monotonic", lambda: 90_000.0)
        grab = source.read(1.0)
        assert isinstance(grab, Grab)
        assert grab.monotonic_s == 90_000.0
        monkeypatch.undo()


def test_the_backend_is_named_and_the_options_reach_the_driver(device: Path) -> None:
    source = open_source(f"v4l2://{device}?width=640&height=480&fourcc=GREY", die="Die01", fps=30)
    assert FakeCapture.opened[:2] == (str(device.resolve()), cv2.CAP_V4L2)
    properties = source._capture.properties  # type: ignore[attr-defined]
    assert properties[cv2.CAP_PROP_FRAME_WIDTH] == 640
    assert properties[cv2.CAP_PROP_FRAME_HEIGHT] == 480
    assert properties[cv2.CAP_PROP_FPS] == 30


def test_a_size_is_read_back_once_all_of_it_was_set(device: Path) -> None:
    """A camera that starts at 640x480 and applies 1280x720 as a whole."""
    source = open_source(f"v4l2://{device}?width=1280&height=720", die="Die01")
    properties = source._capture.properties  # type: ignore[attr-defined]
    assert properties[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert properties[cv2.CAP_PROP_FRAME_HEIGHT] == 720


def test_a_size_that_the_camera_refuses_is_told(device: Path) -> None:
    with pytest.raises(CameraError) as caught:
        open_source(f"v4l2://{device}?width=4000&height=3000", die="Die01")
    assert "width 4000 was refused, the camera gives 1280" in str(caught.value)
    assert "height 3000 was refused, the camera gives 960" in str(caught.value)
    assert "v4l2-ctl" in str(caught.value)


def test_a_damaged_jpeg_of_a_camera_is_not_judged(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV would fill what is missing: the JPEG is taken as it came."""
    whole = cv2.imencode(".jpg", cv2.GaussianBlur(picture(1, 128, 96), (0, 0), 2))[1].tobytes()
    source = open_source(f"v4l2://{device}?fourcc=MJPG", die="Die01")
    monkeypatch.setattr(FakeCapture, "jpeg", whole + bytes(64))
    grab = source.read(1.0)
    assert isinstance(grab, Grab)
    assert np.array_equal(grab.pixels, cv2.imdecode(np.frombuffer(whole, np.uint8), -1))
    half = len(whole) // 2
    monkeypatch.setattr(FakeCapture, "jpeg", whole[:half] + whole[half + 200 :])
    bad = source.read(1.0)
    assert isinstance(bad, BadImage)
    assert "damaged" in bad.detail


def test_a_triggered_camera_must_tell_when_it_took_a_frame(device: Path) -> None:
    """Or its latency must be stated: a frame that only arrived after the trigger is no answer."""
    request = SourceRequest(f"v4l2://{device}", "Die01", trigger=SOFTWARE)
    with pytest.raises(CameraError, match="State latency_ms"):
        V4l2Source(request).read(1.0)
    grab = V4l2Source(replace(request, latency_s=0.25)).read(1.0)
    assert isinstance(grab, Grab)
    assert time.monotonic() - grab.monotonic_s == pytest.approx(0.25, abs=0.2)
