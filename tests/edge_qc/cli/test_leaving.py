"""How a process ends whose threads are still at work."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A station that was told to stop while a slow disk still takes an image; here it never ends.
STILL_WRITING = """
import atexit, threading
import click, cv2, numpy as np
from edge_qc import cli
from edge_qc.errors import EdgeQCError

picture = np.random.default_rng(0).integers(0, 256, (900, 900), np.uint8)
begun = threading.Semaphore(0)

def write():
    while True:
        begun.release()
        cv2.imencode(".png", picture)

def app(standalone_mode):
    for _ in range(4):
        threading.Thread(target=write, daemon=True).start()
        begun.acquire()
    print("stopped")
    {ending}

atexit.register(print, "flushed")
cli.app = app
cli.main()
"""


@pytest.mark.parametrize(
    ("ending", "status"), [("return 0", 0), ("raise EdgeQCError('the camera is gone')", 1)]
)
def test_a_process_keeps_its_exit_status_while_an_image_is_being_written(
    ending: str, status: int
) -> None:
    code = STILL_WRITING.replace("{ending}", ending)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == "stopped\nflushed\n"
    assert "terminate" not in ended.stderr
