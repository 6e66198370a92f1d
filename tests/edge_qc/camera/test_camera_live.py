"""What live cameras do wrong, and cameras that answer triggers."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from edge_qc.camera import CameraState, Ended, Fault
from edge_qc.camera.ring import SLOTS
from edge_qc.errors import CameraError
from edge_qc.parts import Frame, Reason
from tests.rig.cameras import SOON_S, Start, lives, wait_until

# What live cameras do wrong


@pytest.mark.parametrize(
    ("word", "reason", "detail"),
    [
        ("black", Reason.FRAME, "lens cap"),
        ("white", Reason.FRAME, "saturated"),
        ("old", Reason.FRAME, "stale: 60"),
        ("same", Reason.CAMERA, "repeated"),
    ],
)
def test_a_frame_that_cannot_be_judged_is_a_fault(start: Start, tmp_path, word, reason, detail):
    """One fault for that frame; the camera stays open."""
    watched = start(f"scripted:{tmp_path}/count?2 {word} 2")
    watched.frames(2)
    fault = watched.next()
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.camera, fault.die) == (reason, "north", "Die01")
    assert detail in fault.detail
    watched.frames(2)
    assert watched.camera.stats.reopened == 0


def test_a_frozen_camera_is_reopened(start: Start, tmp_path):
    watched = start(f"scripted:{tmp_path}/count?2 same same same same same|3")
    kinds = [type(watched.next()) for _ in range(8)]
    assert kinds == [Frame] * 2 + [Fault] * 3 + [Frame] * 3
    assert watched.camera.stats.reopened == 1
    assert "frozen" in watched.camera.stats.detail


def test_dark_is_not_frozen(start: Start, tmp_path):
    """A lamp that is off is no reason to reopen a camera, however long it is off."""
    watched = start(f"scripted:{tmp_path}/count?{'black ' * 20} 1")
    faults = [watched.fault() for _ in range(20)]
    assert {fault.reason for fault in faults} == {Reason.FRAME}
    watched.frames(1)
    assert watched.camera.stats.reopened == 0


def test_a_live_camera_that_gives_nothing_hangs(start: Start, tmp_path):
    """Its process answers, but no frame comes: free-running, that is a fault."""
    watched = start(f"scripted:{tmp_path}/count?1 {'idle ' * 500}|", timeout_s=0.5)
    watched.frames(1)
    assert "hangs, gave no frame within 0.5 s" in watched.fault().detail
    watched.frames(1)


def test_a_live_camera_that_outruns_the_line_tells_every_dropped_frame(start: Start, tmp_path):
    """The frames that were accepted are kept; each dropped one is a fault of reason overrun."""
    gate = threading.Event()
    watched = start(f"scripted:{tmp_path}/count?", deliver=lambda _: gate.wait(SOON_S))
    wait_until(lambda: watched.camera.stats.frames > 0)
    time.sleep(0.5)
    gate.set()
    accepted = watched.frames(1 + SLOTS)
    assert [frame.sequence for frame in accepted] == list(range(1 + SLOTS))
    overrun = watched.next()
    assert isinstance(overrun, Fault)
    assert overrun.reason is Reason.OVERRUN
    wait_until(lambda: watched.camera.stats.frames > 1 + SLOTS)
    stats = watched.camera.stats
    assert stats.overruns == stats.faults
    assert stats.overruns >= 5


def test_frames_that_were_accepted_outlive_the_camera(start: Start, tmp_path):
    """A camera's process that is killed takes none of the frames with it that it handed over,
    though it left messages of the station's unread."""
    gate = threading.Semaphore(0)
    watched = start(f"scripted:{tmp_path}/count?", deliver=lambda _: gate.acquire(timeout=SOON_S))
    wait_until(lambda: watched.camera.stats.frames > 0)
    time.sleep(0.5)
    pid = watched.camera.stats.pid
    os.kill(pid, signal.SIGSTOP)
    gate.release(3)
    watched.frames(3)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not lives(pid))
    gate.release(100)
    watched.frames(SLOTS - 2)
    assert "signal 9" in watched.fault().detail


def test_fps_thins_a_live_camera_out(start: Start, tmp_path):
    watched = start(f"scripted:{tmp_path}/count?", fps=20)
    frames = watched.frames(8)
    assert frames[-1].monotonic_s - frames[0].monotonic_s >= 7 / 20 * 0.8
    assert watched.camera.stats.overruns == 0


# Triggers


def test_each_trigger_is_answered_by_one_frame_taken_after_it(start: Start, tmp_path):
    watched = start(f"scripted:{tmp_path}/count?", triggered=True)
    for i in range(5):
        asked_s = time.monotonic()
        watched.camera.trigger(f"t{i}", f"p{i}")
        (frame,) = watched.frames(1)
        assert (frame.trigger_id, frame.part_id, frame.sequence) == (f"t{i}", f"p{i}", i)
        assert frame.monotonic_s >= asked_s
    time.sleep(0.1)
    assert watched.events.empty()


def test_idle_is_health_under_a_trigger(start: Start, tmp_path):
    """Without triggers nothing is delivered and nothing is reopened, though no frame comes."""
    watched = start(f"scripted:{tmp_path}/count?{'idle ' * 150}", triggered=True, timeout_s=0.2)
    wait_until(lambda: watched.camera.stats.state is CameraState.RUNNING)
    pid = watched.camera.stats.pid
    time.sleep(1.8)
    assert watched.events.empty()
    assert watched.camera.stats.pid == pid
    assert watched.camera.stats.state is CameraState.RUNNING
    watched.camera.trigger("now")
    assert watched.next().trigger_id == "now"


def test_a_trigger_takes_the_next_image_of_a_folder(start: Start, image_folder):
    watched = start(f"file://{image_folder}", triggered=True)
    for i in range(6):
        watched.camera.trigger(f"t{i}", None)
    assert [(f.image, f.trigger_id) for f in watched.frames(6)] == [
        (f"{i}.png", f"t{i}") for i in range(6)
    ]
    watched.camera.trigger("one too many", None)
    fault = watched.next()
    assert isinstance(fault, Fault)
    assert fault.trigger_id == "one too many"
    assert isinstance(watched.next(), Ended)
    watched.camera.stop()
    with pytest.raises(CameraError, match="ended"):
        watched.camera.trigger("after the end", None)


@pytest.mark.parametrize("word", ["hang", "crash", "fail"])
def test_a_failing_camera_answers_every_trigger_with_a_fault_in_time(start: Start, tmp_path, word):
    """Those that wait when it fails, and those that come before it is back."""
    watched = start(f"scripted:{tmp_path}/count?{word}|hang", triggered=True, timeout_s=0.5)
    asked = [f"t{i}" for i in range(4)]
    answered = []
    for trigger_id in asked:
        watched.camera.trigger(trigger_id, "p")
        event = watched.next()
        assert isinstance(event, Fault)
        assert event.reason is Reason.CAMERA
        assert event.part_id == "p"
        answered.append(event.trigger_id)
    assert answered == asked


def test_a_frame_that_comes_too_late_is_no_second_answer(start: Start, tmp_path):
    """Its trigger has had its fault; the next trigger gets a frame of its own."""
    watched = start(f"scripted:{tmp_path}/count?idle slow", triggered=True, timeout_s=0.4)
    wait_until(lambda: watched.camera.stats.state is CameraState.RUNNING)
    watched.camera.trigger("early")
    fault = watched.next()
    assert isinstance(fault, Fault)
    assert fault.trigger_id == "early"
    assert "gave no frame within 0.4 s of the trigger" in fault.detail
    pid = watched.camera.stats.pid
    time.sleep(0.9)
    watched.camera.trigger("late")
    (frame,) = watched.frames(1)
    assert frame.trigger_id == "late"
    assert watched.camera.stats.pid == pid


def test_many_triggers_at_once_are_answered_in_order(start: Start, image_folder, cramped):
    """More than the socket between the processes holds."""
    watched = start(f"file://{image_folder}", triggered=True, loop=True, timeout_s=20)
    for i in range(200):
        watched.camera.trigger(f"t{i}")
    frames = watched.frames(200)
    assert [frame.trigger_id for frame in frames] == [f"t{i}" for i in range(200)]
    assert [frame.image for frame in frames] == [f"{i % 6}.png" for i in range(200)]


def test_a_black_live_camera_that_outruns_the_line_loses_no_count(start: Start, tmp_path, cramped):
    """Frames that are faults wait in no memory, and still none is lost without a word."""
    gate = threading.Event()
    script = "black " * 40
    watched = start(f"scripted:{tmp_path}/count?{script}", deliver=lambda _: gate.wait(SOON_S))
    wait_until(lambda: watched.camera.stats.faults > 0)
    time.sleep(1.2)
    gate.set()
    faults = []
    while isinstance(event := watched.next(), Fault):
        faults.append(event)
    assert len(faults) == 40
    assert {fault.reason for fault in faults} == {Reason.FRAME, Reason.OVERRUN}


def test_a_stale_buffer_is_no_answer_to_a_trigger(start: Start, tmp_path):
    """Frames from before the trigger are passed over; a camera with nothing newer has failed."""
    watched = start(f"scripted:{tmp_path}/count?old old old 1", triggered=True)
    asked_s = time.monotonic()
    watched.camera.trigger("t")
    (frame,) = watched.frames(1)
    assert frame.monotonic_s >= asked_s


def test_triggers_that_wait_when_the_camera_stops_get_their_fault(start: Start, tmp_path):
    watched = start(f"scripted:{tmp_path}/count?hang", triggered=True)
    watched.camera.trigger("a")
    watched.camera.trigger("b")
    watched.camera.trigger("a")
    assert watched.camera.stop()
    assert {watched.next().trigger_id, watched.next().trigger_id} == {"a", "b"}
    assert watched.events.empty()


def test_a_free_running_camera_takes_no_trigger(start: Start, image_folder):
    watched = start(f"file://{image_folder}", loop=True)
    with pytest.raises(CameraError, match="free-running"):
        watched.camera.trigger("t")
