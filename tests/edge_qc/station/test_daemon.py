"""What a service manager sees of the daemon: readiness, the watchdog, exit statuses."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from edge_qc.cli.run import command as run_command
from edge_qc.errors import AcceptanceError, DeviceError, EngineError, SettingsError, UsageError
from edge_qc.inspection.inspecting import Inspection, open_inspection
from edge_qc.parts import Reading
from edge_qc.station import daemon
from edge_qc.station.daemon import run
from edge_qc.station.opening import open_station
from tests.rig.lines import pictures
from tests.rig.stations import put_in, settings_in
from tests.rig.tiny_bundle import make_bundle
from tests.rig.trained import EDGE_QC, Trained


def service_manager(folder: Path) -> tuple[socket.socket, str]:
    """What systemd listens on."""
    address = str(folder / "notify")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.settimeout(0.5)
    return listener, address


def said(listener: socket.socket, seconds: float) -> list[str]:
    lines: list[str] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            lines += listener.recv(4096).decode().splitlines()
        except TimeoutError:
            continue
    return lines


def trained_settings_in(folder: Path, trained: Trained, port: int) -> Path:
    file = folder / "station.toml"
    file.write_text(
        '[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
        f'[bundle]\npath = "{trained.bundle}"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'
        "[line]\ndrain_s = 0.2\n"
        f'[[camera]]\nname = "c"\nsource = "file://{trained.data}/input_test"\n'
        f'table = "{trained.data}/win_and_lib.csv"\nloop = true\nfps = 20\n'
    )
    return file


@pytest.fixture
def nobody() -> int:
    """A port on which no broker listens: the watchdog must not depend on one."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@pytest.mark.torch
def test_ready_watchdog_and_stopping(trained: Trained, tmp_path: Path, nobody: int) -> None:
    """READY=1 once, after acceptance; WATCHDOG=1 while it runs; STOPPING=1 on SIGTERM; status 0."""
    listener, address = service_manager(tmp_path)
    process = subprocess.Popen(
        [*EDGE_QC, "run", "--config", trained_settings_in(tmp_path, trained, nobody)],
        env={**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"},
        stderr=subprocess.PIPE,
        text=True,
    )
    before: list[str] = []
    until = time.monotonic() + 120
    while before.count("WATCHDOG=1") < 3 and time.monotonic() < until:
        before += said(listener, 0.5)
    process.send_signal(signal.SIGTERM)
    after = said(listener, 2)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert before.count("READY=1") == 1
    assert before.count("WATCHDOG=1") >= 3
    assert before.index("READY=1") < before.index("WATCHDOG=1")
    assert "STOPPING=1" in after
    assert log.index("accepted on") < log.index("running:")


def test_root_does_not_run_the_station_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What root makes there, the station's user could not change on any day after."""
    state = tmp_path / "state"
    state.mkdir()
    if os.geteuid() == 0:
        os.chown(state, 65534, -1)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    file = tmp_path / "station.toml"
    file.write_text(
        f'[station]\nsite = "s"\nname = "n"\nstate_dir = "{state}"\n[bundle]\npath = "{tmp_path}"\n'
        f'[mqtt]\nhost = "127.0.0.1"\n[[camera]]\nname = "c"\nsource = "file://{tmp_path}"\n'
        'die = "Die01"\n'
    )
    with pytest.raises(UsageError, match=r"belongs to \w+, and you are root.*sudo -u"):
        CliRunner().invoke(run_command, ["--config", str(file)], catch_exceptions=False)
    assert list(state.iterdir()) == []


def test_a_loop_that_hangs_is_not_vouched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WATCHDOG=1 comes only while the line's loop goes round."""
    listener, address = service_manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    line = SimpleNamespace(turns=0)
    line.loops = lambda: {"line": line.turns}
    turning = threading.Event()

    def turn() -> None:
        while not turning.wait(0.01):
            line.turns += 1

    thread = threading.Thread(target=turn)
    thread.start()
    with daemon._watchdog(line):  # type: ignore[arg-type]
        alive = said(listener, 0.6)
        turning.set()
        thread.join()
        said(listener, 0.3)
        hung = said(listener, 0.6)
    assert "WATCHDOG=1" in alive
    assert hung == []


def test_no_readiness_without_acceptance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: int
) -> None:
    """A bundle whose golden answers do not come out: systemd never hears READY=1, and a daemon that
    may not judge is not watched either."""
    listener, address = service_manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    settings = settings_in(tmp_path / "state", mqtt={"host": "127.0.0.1", "port": nobody})
    put_in(settings, make_bundle(tmp_path / "bad", shift=1.0))
    with pytest.raises(AcceptanceError):
        run(settings)
    assert not {"READY=1", "WATCHDOG=1"} & set(said(listener, 0.3))


class Broken:
    """An engine that passed its acceptance and fails from then on."""

    name = "broken"

    def __init__(self, real: Inspection) -> None:
        self._real = real.engine

    def infer(self, views: NDArray[np.uint8]) -> tuple[Reading, ...]:
        raise EngineError("the device fell off the bus")

    def close(self) -> None:
        self._real.close()


def test_an_engine_that_keeps_failing_ends_in_a_restart(
    tmp_path: Path, nobody: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every frame until then is NOT_JUDGED `engine`, none is GOOD, and the daemon ends with the
    exit status that has systemd start it again."""
    images = tmp_path / "images"
    images.mkdir()
    for kind, pixels in pictures().items():
        cv2.imwrite(str(images / f"{kind.value}.png"), pixels)
    settings = settings_in(
        tmp_path / "state",
        camera=[
            {"name": "c", "source": f"file://{images}", "die": "Die01", "loop": True, "fps": 50}
        ],
        mqtt={"host": "127.0.0.1", "port": nobody},
    )
    put_in(settings, make_bundle(tmp_path / "v1"))

    def broken(*arguments: Any, **options: Any) -> Inspection:
        inspection = open_inspection(*arguments, **options)
        inspection.engine = Broken(inspection)
        return inspection

    monkeypatch.setattr("edge_qc.station.changeover.open_inspection", broken)
    with pytest.raises(DeviceError, match="failed 5 times in a row") as caught:
        run(settings)
    assert caught.value.exit_status == 1
    database = sqlite3.connect(tmp_path / "state" / "outbox.sqlite")
    payloads = database.execute("SELECT payload FROM message WHERE kind = 'verdict'").fetchall()
    database.close()
    assert len(payloads) >= 5
    assert all('"label":"NOT_JUDGED"' in text and '"engine"' in text for (text,) in payloads)


def test_a_state_folder_that_is_a_file_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    """Exit 78, since no restart mends it."""
    (tmp_path / "state").write_text("mine")
    settings = settings_in(tmp_path / "state")
    with (
        pytest.raises(SettingsError, match=r"is a file\. Name a folder"),
        open_station(settings, threading.Event()),
    ):
        pass
    assert (tmp_path / "state").read_text() == "mine"
