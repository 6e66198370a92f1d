"""Cameras that replay folders and videos, and settings that can never work."""

from __future__ import annotations

import os
import threading
import time

import cv2
import numpy as np
import pytest

from edge_qc.camera import Camera, CameraState, Fault
from edge_qc.errors import SettingsError
from edge_qc.parts import Frame, Reason
from edge_qc.settings import CameraTable
from tests.rig.cameras import SOON_S, Start, picture, steps

# Folders


def test_a_folder_gives_each_image_once_in_order_and_ends(start: Start, image_folder):
    """Pixels, name, die, part, trigger id and sequence are right, whatever the image's size."""
    (image_folder / "4.png").unlink()
    watched = start(f"file://{image_folder}", table=image_folder.parent / "table.csv")
    frames = watched.to_end()
    assert [frame.image for frame in frames] == ["0.png", "1.png", "2.png", "3.png", "5.png"]
    for frame in frames:
        i = int(frame.image[0])
        assert np.array_equal(frame.pixels, cv2.imread(str(image_folder / frame.image), -1))
        assert (frame.die, frame.part_id) == (f"Die0{i % 4 + 1}", f"part-{i // 2}")
        assert frame.camera == "north"
        assert not frame.pixels.flags.writeable
    assert [frame.sequence for frame in frames] == list(range(5))
    assert len({frame.trigger_id for frame in frames}) == 5
    assert watched.camera.stats.state is CameraState.ENDED
    assert watched.camera.stats.frames == 5


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(start: Start, tmp_path):
    """Latin-1 out of an archive: its image is judged like any other."""
    _, png = cv2.imencode(".png", picture(0))
    (tmp_path / "images").mkdir()
    with open(os.fsencode(tmp_path / "images") + b"/Pi\xe8ce.png", "wb") as file:
        file.write(png.tobytes())
    (frame,) = start(f"file://{tmp_path}/images", die="Die01").to_end()
    assert isinstance(frame, Frame)
    assert frame.image == "Pi?ce.png"


def test_a_bad_image_is_a_fault_that_names_it_and_the_others_are_judged(start: Start, image_folder):
    """Truncated, not in the table, of an unknown die, black: each its own fault, in its place."""
    whole = (image_folder / "0.png").read_bytes()
    (image_folder / "0.png").write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(image_folder / "1.png"), np.full((48, 64), 3, np.uint8))
    watched = start(
        f"file://{image_folder}",
        table=image_folder.parent / "table.csv",
        dies=("Die01", "Die02", "Die04"),
    )
    events = watched.to_end()
    assert [event.image for event in events] == [f"{i}.png" for i in range(6)]
    faults = [event for event in events if isinstance(event, Fault)]
    wrong = dict.fromkeys(("0.png", "1.png", "2.png", "4.png"))
    assert {fault.image: None for fault in faults} == wrong
    for fault, word in zip(faults, ("truncated", "black", "Die03", "table"), strict=True):
        assert fault.reason is Reason.FRAME
        assert fault.image in fault.detail
        assert word in fault.detail
    assert (faults[0].die, faults[0].part_id) == ("Die01", "part-0")
    assert watched.camera.stats.faults == 4


def test_a_folder_waits_for_a_slow_line_and_drops_nothing(start: Start, image_folder, cramped):
    """Each is larger than the one before, so that the shared memory is exchanged meanwhile."""
    gate = threading.Event()
    watched = start(
        f"file://{image_folder}", loop=True, deliver=lambda _: gate.wait(SOON_S), timeout_s=0.5
    )
    time.sleep(1.5)
    assert watched.events.qsize() == 0
    gate.set()
    frames = watched.frames(60)
    assert [frame.image for frame in frames] == [f"{i % 6}.png" for i in range(60)]
    assert all(
        np.array_equal(f.pixels, cv2.imread(str(image_folder / f.image), -1)) for f in frames[:12]
    )
    assert watched.camera.stats.overruns == 0


def test_a_line_slower_than_the_reading_gets_the_last_images_too(start: Start, image_folder):
    """The reader has ended, its last images are still on the way."""
    watched = start(f"file://{image_folder}", deliver=lambda _: time.sleep(0.15))
    assert [event.image for event in watched.to_end()] == [f"{i}.png" for i in range(6)]
    assert watched.camera.stats.faults == 0


def test_a_picture_that_is_played_is_taken_when_its_turn_comes(start: Start, image_folder):
    """Not when it was read: at a slow pace it would be too old to judge."""
    watched = start(f"file://{image_folder}", loop=True, fps=4)
    first, second, third = (frame.monotonic_s for frame in watched.frames(3))
    assert second - first > 0.2
    assert third - second > 0.2


def test_the_pace_is_kept_to_fps(start: Start, image_folder):
    watched = start(f"file://{image_folder}", loop=True, fps=50)
    frames = watched.frames(12)
    assert frames[11].monotonic_s - frames[5].monotonic_s >= 0.8 * 6 / 50


def test_one_image_shown_twice_in_a_folder_is_no_frozen_camera(start: Start, tmp_path):
    for name in "abcdef":
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(1))
    events = start(f"file://{tmp_path}").to_end()
    assert [type(event) for event in events] == [Frame] * 6


# Videos


def test_a_video_gives_every_frame_once_and_ends(start: Start, video_file):
    events = start(f"file://{video_file}").to_end()
    assert steps(events) == list(range(30))


def test_a_looped_video_starts_again(start: Start, video_file):
    frames = start(f"file://{video_file}", loop=True).frames(70)
    assert steps(frames) == [i % 30 for i in range(70)]


def test_a_truncated_video_says_so(start: Start, video_file):
    data = video_file.read_bytes()
    video_file.write_bytes(data[: len(data) // 2])
    events = start(f"file://{video_file}").to_end()
    assert isinstance(events[-1], Fault)
    assert "truncated" in events[-1].detail
    assert events[-1].reason is Reason.FRAME
    assert len(events) < 30


# What can never work


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"source": "ftp://host/x", "die": "Die01"}, "unknown scheme 'ftp'"),
        ({"source": "/data/images", "die": "Die01"}, "unknown scheme"),
        ({"source": "file:///no/such/folder/", "die": "Die01"}, "No such file"),
        ({"source": "file:///no/such.mp4", "die": "Die01"}, "there is no file"),
        ({"source": "file://images", "die": "Die01"}, "three slashes"),
        ({"source": "file:///dev/", "table": "/no/such.csv"}, "no image"),
        ({"source": "rtsp:///stream", "die": "Die01"}, "rtsp://"),
        ({"source": "v4l2:///dev/video0?height=tall", "die": "Die01"}, "height=tall"),
        ({"source": "rtsp://host/x", "table": "/no/such.csv"}, "give die instead"),
    ],
)
def test_settings_that_can_never_work_are_refused_at_the_start(keys, message):
    camera = Camera(CameraTable.model_validate({"name": "north", **keys}))
    with pytest.raises(SettingsError, match=message):
        camera.start(lambda event: None)
    assert camera.stop()


def test_a_die_that_the_bundle_does_not_know_is_refused_at_the_start(start: Start, image_folder):
    with pytest.raises(SettingsError, match="knows Die01"):
        start(f"file://{image_folder}", die="Die09", dies=("Die01",))
