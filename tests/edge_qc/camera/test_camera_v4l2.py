"""V4L2 cameras as far as they can be tested without one: a fake VideoCapture in its place."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_qc.camera import Grab, open_source
from edge_qc.errors import CameraError


class FakeCapture:
    """What OpenCV's V4L2 backend answers: a buffer's time in milliseconds, properties as set."""

    stamp_s = 0.0
    widest = 1280
    opened: tuple[Any, ...] = ()

    def __init__(self, *arguments: Any) -> None:
        type(self).opened = arguments
        self.properties: dict[int, float] = {}

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, key: int, value: float) -> bool:
        self.properties[key] = min(value, self.widest)
        return True

    def get(self, key: int) -> float:
        return self.stamp_s * 1e3 if key == cv2.CAP_PROP_POS_MSEC else self.properties[key]

    def read(self) -> tuple[bool, np.ndarray]:
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


def test_a_size_that_the_camera_refuses_is_told(device: Path) -> None:
    with pytest.raises(CameraError, match="width 4000 was refused, the camera gives 1280"):
        open_source(f"v4l2://{device}?width=4000", die="Die01")
