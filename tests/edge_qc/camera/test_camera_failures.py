"""Camera processes that die, hang or are left behind: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from edge_qc.camera import SCHEMES, CameraState, Event, Fault
from edge_qc.parts import Frame, Reason
from tests.rig.cameras import SOON_S, Start, lives, steps, wait_until

# Failures of the process


def test_a_station_out_of_descriptors_tries_again(
    start: Start, video_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = os.pipe2, [True, True]

    def pipe2(flags: int) -> tuple[int, int]:
        if failures:
            failures.pop()
            raise OSError(24, "Too many open files")
        return real(flags)

    monkeypatch.setattr(os, "pipe2", pipe2)
    watched = start(f"file://{video_file}")
    assert "cannot be started ([Errno 24] Too many open files)" in watched.fault().detail
    watched.frames(1)


@pytest.mark.parametrize("kind", ["SIGKILL", "SIGSTOP"])
def test_a_killed_or_hanging_process_is_replaced_and_no_frame_is_lost(
    start: Start, video_file, kind
):
    """The replay goes on at the very next frame; in between there is one fault of the camera."""
    seen = threading.Semaphore(0)
    go_on = threading.Event()

    def hold_the_tenth(_: Event) -> None:
        seen.release()
        if watched.camera.stats.frames == 10:
            go_on.wait(SOON_S)

    watched = start(f"file://{video_file}", timeout_s=0.4, fps=500, deliver=hold_the_tenth)
    for _ in range(10):
        assert seen.acquire(timeout=SOON_S)
    os.kill(watched.camera.stats.pid, getattr(signal, kind))
    go_on.set()
    events = watched.to_end()
    faults = [event for event in events if isinstance(event, Fault)]
    assert [fault.reason for fault in faults] == [Reason.CAMERA]
    assert ("killed by signal 9" if kind == "SIGKILL" else "hangs") in faults[0].detail
    events.remove(faults[0])
    assert steps(events) == list(range(30))
    assert watched.camera.stats.reopened == 1


def test_a_source_that_hangs_in_opening_is_killed_while_others_go_on(
    start: Start, tmp_path, image_folder
):
    """OpenCV waits for ever on a pipe into which nobody writes."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    hanging = start(f"file://{pipe}", open_timeout_s=1.0, name="south")
    other = start(f"file://{image_folder}", loop=True, fps=50)
    fault = hanging.fault()
    assert fault.reason is Reason.CAMERA
    assert "south" in fault.detail
    assert "hangs" in fault.detail
    other.frames(other.events.qsize() + 20)
    assert hanging.camera.stats.state is CameraState.LOST
    assert hanging.events.empty(), "one loss, one fault"


def test_a_camera_that_crashes_is_reopened_again_and_again(start: Start, tmp_path):
    """Its faults tell the losses, its statistics the reopenings."""
    watched = start(f"scripted:{tmp_path}/count?3 crash|2 crash|1 fail|")
    kinds = [type(watched.next()) for _ in range(12)]
    assert kinds == [Frame] * 3 + [Fault] + [Frame] * 2 + [Fault] + [Frame, Fault] + [Frame] * 3
    assert watched.camera.stats.reopened == 3


def test_a_missing_device_is_one_fault_until_it_is_there(start: Start, tmp_path):
    watched = start(f"scripted:{tmp_path}/count?missing|missing|missing|")
    fault = watched.next()
    assert isinstance(fault, Fault)
    assert "no such device" in fault.detail
    assert watched.frames(2)[0].sequence == 0
    assert (tmp_path / "count").read_text().count("opened") == 4


def test_a_file_that_crashes_its_decoder_twice_is_left_out(start: Start, image_folder, monkeypatch):
    """By name of the source and number, and what follows is judged."""
    monkeypatch.setitem(SCHEMES, "folder", "scripted_camera:PoisonedFolder")
    events = start(f"file://{image_folder}").to_end()
    assert [type(event) for event in events] == [Frame] * 2 + [Fault] * 2 + [Frame] * 3
    assert [event.reason for event in events[2:4]] == [Reason.CAMERA, Reason.FRAME]
    assert "item 3 of" in events[3].detail


def test_when_the_station_dies_its_camera_processes_die_too(tmp_path, image_folder):
    """SIGKILL of the station leaves no process behind, not even one whose source hangs."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    script = textwrap.dedent(f"""
        import time
        from edge_qc.camera import Camera
        from edge_qc.settings import CameraTable
        cameras = [
            Camera(CameraTable(name=f"c{{i}}", source=f"file://{{path}}", die="Die01", loop=True,
                               fps=20))
            for i, path in enumerate(({str(image_folder)!r}, {str(pipe)!r}))
        ]
        for camera in cameras:
            camera.start(lambda event: None)
        while cameras[0].stats.frames == 0 or cameras[1].stats.pid is None:
            time.sleep(0.01)
        print(*(camera.stats.pid for camera in cameras), flush=True)
        time.sleep(60)
    """)
    station = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert station.stdout is not None
    pids = [int(pid) for pid in station.stdout.readline().split()]
    assert len(pids) == 2
    station.kill()
    station.wait()
    station.stdout.close()
    wait_until(lambda: not any(lives(pid) for pid in pids))


def test_stopping_leaves_no_process_and_no_descriptor(start: Start, image_folder):
    """A camera that is started and stopped many times holds nothing."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        watched = start(f"file://{image_folder}", loop=True)
        watched.frames(8)
        pid = watched.camera.stats.pid
        assert watched.camera.stop()
        assert not lives(pid)
        assert watched.camera.stats.state is CameraState.STOPPED
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_error_in_the_line_fails_the_camera_loudly(start: Start, image_folder, monkeypatch):
    """It does not go on as if its frames had arrived."""
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def broken(_: Event) -> None:
        raise RuntimeError("the line is broken")

    watched = start(f"file://{image_folder}", deliver=broken)
    wait_until(lambda: bool(raised))
    assert watched.camera.stop()
    assert watched.camera.stats.state is CameraState.FAILED
    assert "the line is broken" in str(raised[0].exc_value)
