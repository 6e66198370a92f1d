"""A folder that images are put into while the station runs."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_qc.camera import CameraState, Event, Fault
from edge_qc.camera.watched import Memory, remember, remembered
from edge_qc.errors import SettingsError
from edge_qc.parts import Frame, Reason
from tests.rig.cameras import Start, Watched, picture, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, seed: int = 1) -> None:
    cv2.imwrite(str(folder / name), picture(seed))


def remembering(start: Start, folder: Path, memory: Path) -> Watched:
    """A camera that has given ``a.png`` and will not give it again."""
    put(folder, "a.png")
    watched = start(f"file://{folder}", watch=True, memory=memory)
    watched.frames(1)
    wait_until(lambda: len(remembered(memory)) == 1)
    return watched


def test_each_new_image_is_judged_once_and_in_order(start: Start, folder: Path) -> None:
    """Those that are there at the start, and those that come; what is no image is passed over."""
    put(folder, "b.png", 1)
    os.utime(folder / "b.png", ns=(1, 1))
    put(folder, "a.png", 2)
    watched = start(f"file://{folder}", watch=True, timeout_s=0.5)
    assert [frame.image for frame in watched.frames(2)] == ["b.png", "a.png"]
    (folder / "notes.txt").write_text("no image")
    (folder / ".c.png").write_bytes((folder / "b.png").read_bytes())
    time.sleep(2.2)
    assert watched.events.empty(), "no image is no fault, and none is judged twice"
    assert watched.camera.stats.state is CameraState.RUNNING
    (folder / ".c.png").rename(folder / "c.png")
    assert [frame.image for frame in watched.frames(1)] == ["c.png"]
    put(folder, "a.png", 3)
    again = watched.frames(1)[0]
    assert (again.image, again.pixels.tolist()) == ("a.png", picture(3).tolist())


def test_an_image_that_is_still_being_written_waits(start: Start, folder: Path) -> None:
    """However slowly it is written; another goes before it."""
    put(folder, "slow.png", 4)
    data = (folder / "slow.png").read_bytes()
    (folder / "slow.png").unlink()
    watched = start(f"file://{folder}", watch=True)
    half = len(data) // 2
    with (folder / "slow.png").open("wb", buffering=0) as stream:
        stream.write(data[:half])
        time.sleep(1.5)
        put(folder, "quick.png", 5)
        assert [frame.image for frame in watched.frames(1)] == ["quick.png"]
        stream.write(data[half:])
    frame = watched.frames(1)[0]
    assert (frame.image, frame.pixels.tolist()) == ("slow.png", picture(4).tolist())
    assert watched.camera.stats.faults == 0


def test_an_image_that_could_not_be_recorded_is_read_again(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    """On a full disk it is refused, as what a live camera shows; but here it is there still."""
    memory = tmp_path / "state" / "north.seen"
    refused: list[Event] = []

    def deliver(event: Event) -> bool:
        if isinstance(event, Frame) and not refused:
            refused.append(event)
            return False
        return True

    put(folder, "a.png")
    watched = start(f"file://{folder}", watch=True, memory=memory, deliver=deliver)
    assert [frame.image for frame in watched.frames(1)] == ["a.png"]
    assert "a.png could not be recorded; it is read again" in watched.fault().detail
    assert remembered(memory) == []
    assert [frame.image for frame in watched.frames(1)] == ["a.png"]
    wait_until(lambda: len(remembered(memory)) == 1)
    assert watched.camera.stats.state is CameraState.RUNNING


def test_a_memory_that_a_full_disk_has_cut_stops_no_start(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "state" / "north.seen"
    assert remembering(start, folder, memory).camera.stop()
    (whole,) = memory.read_text().splitlines()
    memory.write_bytes(f'{whole}\n["b.png", 10, 1["c.png", 11, 2]\n["d\xe9'.encode("latin-1"))
    put(folder, "e.png", 2)
    watched = start(f"file://{folder}", watch=True, memory=memory)
    assert [frame.image for frame in watched.frames(1)] == ["e.png"]
    wait_until(lambda: [token.split('"')[1] for token in remembered(memory)] == ["a.png", "e.png"])
    assert watched.camera.stop()
    # Cut while the station runs, too: what comes next begins a line of its own.
    memory.write_bytes(memory.read_bytes() + b'["f.png", 1')
    remember(memory, whole)
    assert [token.split('"')[1] for token in remembered(memory)] == ["a.png", "e.png", "a.png"]


def test_a_memory_does_not_grow_while_the_station_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where whoever writes the images deletes them again: a station may run for years."""
    monkeypatch.setattr("edge_qc.camera.watched._GONE", 10)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    put(inbox, "stays.png", 1)
    memory = Memory(inbox, tmp_path / "north.seen")
    memory.add('["stays.png", 10, 1]')
    for number in range(100):
        memory.add(json.dumps([f"{number}.png", 10, number]))
    kept = remembered(tmp_path / "north.seen")
    assert len(kept) <= 11
    assert kept[0] == '["stays.png", 10, 1]'


def test_a_restart_judges_nothing_twice(start: Start, folder: Path, tmp_path: Path) -> None:
    """Of the station, or of the camera's process."""
    memory = tmp_path / "state" / "north.seen"
    assert remembering(start, folder, memory).camera.stop()
    put(folder, "b.png", 2)
    second = start(f"file://{folder}", watch=True, memory=memory)
    assert [frame.image for frame in second.frames(1)] == ["b.png"]
    pid = second.camera.stats.pid
    assert pid is not None
    os.kill(pid, 9)
    put(folder, "c.png", 3)
    events = [second.next(), second.next()]
    assert [type(event) for event in events] == [Fault, Frame]
    assert events[1].image == "c.png"  # type: ignore[union-attr]
    (folder / "a.png").unlink()
    assert second.camera.stop()
    start(f"file://{folder}", watch=True, memory=memory)
    assert [token.split('"')[1] for token in remembered(memory)] == ["b.png", "c.png"]


def test_an_image_that_stays_damaged_is_told(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and those behind it are judged meanwhile."""
    put(folder, "broken.png")
    data = (folder / "broken.png").read_bytes()
    (folder / "broken.png").write_bytes(data[: len(data) // 2])
    watched = start(f"file://{folder}", watch=True)
    put(folder, "whole.png", 2)
    assert [frame.image for frame in watched.frames(1)] == ["whole.png"]
    fault = watched.fault()
    assert fault.image == "broken.png"
    assert "truncated" in fault.detail


def test_many_damaged_images_neither_hang_the_camera_nor_hold_up_a_whole_one(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    """Together they take longer to refuse than a camera may be silent."""
    memory = tmp_path / "state" / "north.seen"
    twelve = np.full((1500, 2000), 4000, np.uint16)
    cv2.imwrite(str(folder / "d00.png"), twelve)
    for number in range(1, 80):
        os.link(folder / "d00.png", folder / f"d{number:02}.png")
    watched = start(f"file://{folder}", watch=True, memory=memory, timeout_s=0.2)
    put(folder, "whole.png", 2)
    events = [watched.next() for _ in range(81)]
    assert [event.image for event in events if isinstance(event, Frame)] == ["whole.png"]
    faults = [event for event in events if isinstance(event, Fault)]
    assert {fault.reason for fault in faults} == {Reason.FRAME}
    assert len({fault.image for fault in faults}) == 80


def test_a_process_that_is_killed_again_and_again_costs_no_image(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    """Nor is it said that one is left out."""
    memory = tmp_path / "state" / "north.seen"
    watched = start(f"file://{folder}", watch=True, memory=memory)
    wait_until(lambda: watched.camera.stats.state is CameraState.RUNNING)
    for times in (1, 2, 3):
        os.kill(watched.camera.stats.pid or 0, 9)
        wait_until(lambda: watched.camera.stats.state is CameraState.LOST)
        wait_until(lambda: watched.camera.stats.state is CameraState.RUNNING)
        assert watched.camera.stats.faults == 1, f"the loss of the camera, killed {times} times"
    put(folder, "a.png")
    assert watched.fault().reason is Reason.CAMERA
    assert [frame.image for frame in watched.frames(1)] == ["a.png"]


def test_a_memory_that_was_removed_is_made_anew(start: Start, folder: Path, tmp_path: Path) -> None:
    """By an engineer who wants the images judged again; and one that cannot be is no end."""
    memory = tmp_path / "state" / "north.seen"
    watched = remembering(start, folder, memory)
    shutil.rmtree(memory.parent)
    put(folder, "b.png", 2)
    assert [frame.image for frame in watched.frames(1)] == ["b.png"]
    wait_until(lambda: len(remembered(memory)) == 1)
    shutil.rmtree(memory.parent)
    memory.parent.write_text("no folder")
    put(folder, "c.png", 3)
    assert [frame.image for frame in watched.frames(1)] == ["c.png"]
    put(folder, "d.png", 4)
    assert [frame.image for frame in watched.frames(1)] == ["d.png"]
    assert watched.camera.stop()
    again = start(f"file://{folder}", watch=True, memory=memory)
    assert {frame.image for frame in again.frames(4)} == {"a.png", "b.png", "c.png", "d.png"}


def test_a_start_while_the_share_is_away_forgets_nothing(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "state" / "north.seen"
    assert remembering(start, folder, memory).camera.stop()
    folder.rename(tmp_path / "share")
    folder.mkdir()
    second = start(f"file://{folder}", watch=True, memory=memory)
    wait_until(lambda: second.camera.stats.state is CameraState.RUNNING)
    assert second.camera.stop()
    folder.rmdir()
    (tmp_path / "share").rename(folder)
    put(folder, "b.png", 2)
    third = start(f"file://{folder}", watch=True, memory=memory)
    assert [frame.image for frame in third.frames(1)] == ["b.png"]


def test_one_entry_that_cannot_be_looked_at_costs_itself_alone(start: Start, folder: Path) -> None:
    (folder / "loop.png").symlink_to(folder / "loop.png")
    watched = start(f"file://{folder}", watch=True)
    put(folder, "a.png")
    assert [frame.image for frame in watched.frames(1)] == ["a.png"]
    fault = watched.fault()
    assert (fault.image, fault.reason) == ("loop.png", Reason.FRAME)
    assert "symbolic links" in fault.detail


def test_a_stop_while_an_image_is_read_is_no_crash_of_its(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    """Stopped twice there, it would be left out as one that crashes its reader."""
    memory = tmp_path / "state" / "north.seen"
    big = np.random.default_rng(1).integers(0, 255, (6000, 8000), dtype=np.uint8)
    cv2.imwrite(str(folder / "huge.png"), big)
    reading = memory.with_suffix(".reading")
    for _ in range(3):
        watched = start(f"file://{folder}", watch=True, memory=memory)
        wait_until(reading.exists)
        assert watched.camera.stop()
        assert not reading.exists()


def test_a_folder_that_goes_away_is_lost_and_comes_back(start: Start, folder: Path) -> None:
    watched = start(f"file://{folder}", watch=True)
    wait_until(lambda: watched.camera.stats.state is CameraState.RUNNING)
    folder.rmdir()
    assert "cannot be listed" in watched.fault().detail
    folder.mkdir()
    put(folder, "a.png")
    assert [frame.image for frame in watched.frames(1)] == ["a.png"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"trigger": "mqtt"}, "neither loop nor a trigger"),
        ({"loop": True}, "neither loop nor a trigger"),
        ({"source": "file:///no/such/"}, "wants a folder that is there"),
        ({"source": "rtsp://host/x"}, "is for a folder"),
    ],
)
def test_what_a_watched_folder_cannot_do_is_refused(
    start: Start, folder: Path, keys: dict[str, object], message: str
) -> None:
    source = str(keys.pop("source", f"file://{folder}"))
    with pytest.raises(SettingsError, match=message):
        start(source, watch=True, **keys)
