"""How a process ends whose threads are still at work."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.trained import EDGE_QC

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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_is_full_is_told_in_one_line() -> None:
    """``edge-qc inspect --json > file`` on a full disk."""
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*EDGE_QC, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == "edge-qc: error: the output cannot be written: No space left on device\n"


def test_a_letter_that_the_terminal_lacks_ends_nothing(tmp_path: Path) -> None:
    code = (
        "import click; from edge_qc import cli\n"
        "cli.app = lambda **_: click.echo('Pr\\u0416'); cli.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert (ended.returncode, ended.stdout) == (0, b"Pr\\u0416\n"), ended.stderr


def test_closed_streams_are_no_error() -> None:
    """A library that flushes them, as multiprocessing does, finds something to flush."""
    code = (
        "import sys; from edge_qc import cli\n"
        "cli.app = lambda **_: (sys.stdout.flush(), sys.stderr.flush()) and 0; cli.main()"
    )
    command = f"{shlex.join([sys.executable, '-c', code])} >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0
