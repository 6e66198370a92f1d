"""A secret in a camera's address appears in no output of the station: all of them are searched."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.rig.fake_broker import FakeBroker
from tests.rig.publishing import wait_until
from tests.rig.tiny_bundle import make_bundle
from tests.rig.trained import EDGE_QC

TRIED = [
    "rtsp://admin:Sekr@3t1@127.0.0.1:1/x",
    "rtsp://127.0.0.1:1/user=admin_password=Sekr3t1_channel=1",
    "rtsp://127.0.0.1:1/x?user=a&password=Sekr3t1",
    "rtsp://127.0.0.1:1/x?token=Sekr3t1",
]
REFUSED = [
    "rtsp://admin:Sekr/3t1@127.0.0.1:1/x",
    "gst: rtspsrc location=rtsp://127.0.0.1:1/x user-id=admin user-pw=Sekr3t1 ! decodebin ! sink",
    "rstp://admin:Sekr3t1@127.0.0.1:1/x",
]


def station_toml(folder: Path, port: int, *sources: str) -> Path:
    bundle = folder / "bundle"
    if not bundle.exists():
        make_bundle(bundle)
    file = folder / "station.toml"
    file.write_text(
        f'[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n[bundle]\npath = "{bundle}"\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n[line]\nhealth_every_s = 0.2\n'
        + "".join(
            f'[[camera]]\nname = "c{at}"\nsource = "{source}"\ndie = "Die01"\n'
            for at, source in enumerate(sources)
        )
    )
    return file


def said(*words: object) -> str:
    done = subprocess.run(
        [*EDGE_QC, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    return f"{words}\n{done.stdout}\n{done.stderr}"


def require_hidden(text: str) -> None:
    assert "Sekr" not in text
    assert "3t1" not in text


def test_a_running_station_gives_no_secret_away(tmp_path: Path) -> None:
    """Log, verdicts, states, files, control socket, check, doctor, and every command line."""
    with FakeBroker() as broker:
        settings = station_toml(tmp_path, broker.address[1], *TRIED)
        log = (tmp_path / "log").open("w")
        station = subprocess.Popen(
            [*EDGE_QC, "run", "--config", str(settings)], stdout=log, stderr=log
        )
        try:
            lines: set[bytes] = set()

            def all_heard() -> bool:
                lines.update(_bytes(entry / "cmdline") for entry in Path("/proc").glob("[0-9]*"))
                return len(broker.taken) >= len(TRIED)

            wait_until(all_heard, 90)
            for options in (("check",), ("check", "--json"), ("doctor",), ("doctor", "--json")):
                shown = said(*options, "--config", settings)
                require_hidden(shown)
                assert "c0" in shown
            require_hidden(said("golden-part", "--config", settings, "--die", "Die01"))
            # Processes of cameras that cannot be reached live for a moment each.
            ours = [line for line in lines if b"edge_qc" in line]
            assert any(b"edge_qc.camera.child" in line for line in ours)
            require_hidden(b"\n".join(ours).decode(errors="replace"))
        finally:
            station.send_signal(signal.SIGTERM)
            station.wait(30)
            log.close()
        details = b"\n".join(broker.taken).decode()
    assert "rtsp://admin:***@127.0.0.1:1/x" in details
    require_hidden(details)
    require_hidden(b"\n".join(broker.states).decode())
    require_hidden((tmp_path / "log").read_text())
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file():
            require_hidden(file.read_bytes().decode(errors="replace"))


@pytest.mark.parametrize("source", REFUSED)
def test_a_source_that_is_refused_is_named_without_its_secret(tmp_path: Path, source: str) -> None:
    settings = station_toml(tmp_path, 1, source)
    for words in (("check",), ("run",), ("doctor", "--json")):
        shown = said(*words, "--config", settings)
        assert "Traceback" not in shown
        require_hidden(shown)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
