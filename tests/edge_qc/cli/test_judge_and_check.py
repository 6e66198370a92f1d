"""``edge-qc judge`` and ``check`` say of a picture what the station says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_qc.cli.check import command as check
from edge_qc.cli.judge import command as judge
from edge_qc.errors import SettingsError
from edge_qc.parts import Frame
from tests.rig.cameras import Start, picture
from tests.rig.tiny_bundle import SIDE, make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", frame_sizes=[[SIDE, SIDE]])


def judged(bundle: Path, *images: Path) -> list[dict[str, Any]]:
    done = CliRunner().invoke(
        judge,
        [*map(str, images), "--die", "Die01", "--bundle", str(bundle), "--json"],
        standalone_mode=False,
    )
    assert done.exception is None, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_blank_picture_has_one_answer(
    bundle: Path, start: Start, tmp_path: Path, level: int
) -> None:
    """NOT_JUDGED for its frame, in the same words."""
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "blank.png"), np.full((SIDE, SIDE), level, np.uint8))
    (said,) = judged(bundle, folder / "blank.png")
    (fault,) = start(f"file://{folder}").to_end()
    assert (said["label"], said["reason"]) == ("NOT_JUDGED", "frame")
    assert not isinstance(fault, Frame)
    assert said["detail"] == fault.detail  # type: ignore[union-attr]
    assert "image blank.png is " in said["detail"]


def test_a_picture_of_a_size_that_was_not_learned_is_not_judged(
    bundle: Path, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "same.png"), picture(1, SIDE, SIDE))
    cv2.imwrite(str(tmp_path / "padded.png"), np.pad(picture(1, SIDE, SIDE), ((0, 6), (0, 4))))
    same, padded = judged(bundle, tmp_path / "same.png", tmp_path / "padded.png")
    assert same["reason"] == "decided"
    assert (padded["label"], padded["reason"]) == ("NOT_JUDGED", "frame")
    assert f"{SIDE + 4}x{SIDE + 6} pixels" in padded["detail"]
    assert f"from {SIDE}x{SIDE}" in padded["detail"]


def station_toml(folder: Path, bundle: Path, camera: str) -> Path:
    file = folder / "station.toml"
    file.write_text(
        f'[station]\nsite = "s"\nname = "n"\nstate_dir = "{folder / "state"}"\n'
        f'[bundle]\npath = "{bundle}"\n[mqtt]\nhost = "localhost"\n'
        f'[[camera]]\nname = "c"\ndie = "Die01"\n{camera}\n'
    )
    return file


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (
            'source = "v4l2:///dev/video0?width=1280&height=720"',
            f"camera 'c': its frame is 1280x720 pixels, the bundle learned this die from {SIDE}x",
        ),
        ('source = "rtsp://host/x"\ntrigger = "mqtt"', "State latency_ms"),
        ('source = "gst:videotestsrc ! appsink"\ntrigger = "mqtt"', "State latency_ms"),
        ('source = "file:///tmp/"\nlatency_ms = 5', "latency_ms is for rtsp://"),
    ],
)
def test_check_refuses_what_would_judge_another_picture(
    bundle: Path, tmp_path: Path, camera: str, message: str
) -> None:
    """Before the station starts: exit status 78."""
    settings = station_toml(tmp_path, bundle, camera)
    done = CliRunner().invoke(check, ["--config", str(settings)], standalone_mode=False)
    assert isinstance(done.exception, SettingsError)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    "camera",
    [
        f'source = "v4l2:///dev/video0?width={SIDE}&height={SIDE}"',
        'source = "v4l2:///dev/video0?width=1280"',
        'source = "rtsp://host/x"\ntrigger = "mqtt"\nlatency_ms = 250',
        'source = "rtsp://host/x"',
    ],
)
def test_check_takes_a_camera_that_is_as_the_bundle_learned(
    bundle: Path, tmp_path: Path, camera: str
) -> None:
    settings = station_toml(tmp_path, bundle, camera)
    done = CliRunner().invoke(check, ["--config", str(settings), "--json"], standalone_mode=False)
    assert done.exception is None
    assert json.loads(done.stdout)["camera"][0]["name"] == "c"
