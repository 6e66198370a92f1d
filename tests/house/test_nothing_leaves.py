"""What our programs write, and whom they speak with, unasked: nothing but what is documented.

A whole round runs in an empty home under strace, which sees libraries' own threads too: train,
export, judge, station, recorder, dashboard. ``docs/security.md`` names the exceptions.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig.brokers import free_port, running_broker
from tests.rig.pictures import write_challenge
from tests.rig.trained import EDGE_QC

pytestmark = [pytest.mark.torch, pytest.mark.broker]

SOON_S = 40.0


@dataclass(frozen=True)
class Round:
    """home: of all processes. work: their folder, and what they were told to write. calls: what
    strace saw, None where it cannot work here."""

    home: Path
    work: Path
    calls: list[str] | None
    ports: set[int]


def tracing(log: Path) -> list[str]:
    """What goes before a command to have it traced; empty where that cannot work."""
    strace = shutil.which("strace")
    if strace is None:
        return []
    command = [strace, "-f", "-qq", "--seccomp-bpf", "-s", "256"]
    command += ["-e", "trace=connect,sendto,sendmmsg,openat,open,creat", "-e", "signal=none"]
    probe = subprocess.run([*command, "-o", os.devnull, "true"], capture_output=True, check=False)
    return [*command, "-o", str(log)] if probe.returncode == 0 else []


@pytest.fixture(scope="module")
def whole_round(tmp_path_factory: pytest.TempPathFactory) -> Round:
    pytest.importorskip("torch", reason="needs torch: pip install ./export")
    for module in ("starlette", "uvicorn", "sqlalchemy"):
        pytest.importorskip(module, reason=f"needs {module}: pip install '.[dashboard,record]'")
    folder = tmp_path_factory.mktemp("round")
    home, work, traces = folder / "home", folder / "work", folder / "traces"
    for each in (home, work, traces, folder / "tmp"):
        each.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "ORT_", "MPL", "TORCH", "EDGE_QC"))
    } | {"HOME": str(home), "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}

    def command(*words: object) -> list[str]:
        name = f"{len(list(traces.iterdir()))}-{words[0]}"
        (traces / name).touch()
        return [*tracing(traces / name), *EDGE_QC, *map(str, words)]

    def run(*words: object) -> None:
        done = subprocess.run(
            command(*words), cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stderr}"

    @contextmanager
    def service(*words: object) -> Iterator[None]:
        process = subprocess.Popen(
            command(*words), cwd=work, env=environment, stderr=subprocess.PIPE, text=True
        )
        try:
            yield
        finally:
            # strace hands a signal of the terminal on, and ends with its program.
            os.kill(_program(process.pid), signal.SIGTERM)
            _, said = process.communicate(timeout=SOON_S)
        assert process.returncode == 0, said

    counts = {"GOOD": 40, "Boucle plate": 40, "Missing": 40}
    data = write_challenge(folder / "data", counts, {"GOOD": 2})
    images = sorted((data / "input_test").iterdir())
    learn = ("--network", "cnn-basic", "--size", 32, "--epochs", 1, "--out", "run")
    run("train", data, "--dies", data / "dies.json", *learn)
    run("export", "run", "--out", "bundle")
    subprocess.run(
        command("judge", *images, "--die", "Die01", "--bundle", "bundle"),
        cwd=work,
        env=environment,
        capture_output=True,
        check=False,
    )
    (work / "camera").mkdir()
    for image in images:
        shutil.copy(image, work / "camera")
    page = free_port()
    with running_broker() as (host, port):
        (work / "station.toml").write_text(
            '[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
            f'[bundle]\npath = "{work}/bundle"\n'
            f'[mqtt]\nhost = "{host}"\nport = {port}\n'
            f'[[camera]]\nname = "c"\nsource = "file://{work}/camera"\ndie = "Die01"\n'
        )
        address = f"{host}:{port}"
        with (
            service("record", "--broker", address, "--database", "sqlite:///records.sqlite"),
            service("dashboard", "--broker", address, "--port", page),
        ):
            _ask(f"http://127.0.0.1:{page}/")
            run("run", "--config", "station.toml", "--until-end")
    calls = [line for file in traces.iterdir() for line in file.read_text().splitlines()]
    return Round(home, work, calls if tracing(traces / "probe") else None, {port, page})


def _program(pid: int) -> int:
    """The traced program's own process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    return int(children[0]) if command.endswith(b"strace") else pid


def _ask(address: str) -> None:
    until_s = time.monotonic() + SOON_S
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).read()
            return
        except OSError:
            assert time.monotonic() < until_s, "the dashboard does not answer"
            time.sleep(0.1)


def test_an_empty_home_stays_empty(whole_round: Round) -> None:
    """No cache, no identifier of the machine, no configuration of a library."""
    assert sorted(whole_round.home.rglob("*")) == []
    written = {entry.name for entry in whole_round.work.iterdir()}
    told = {"run", "bundle", "camera", "state", "station.toml", "records.sqlite"}
    assert written - {"records.sqlite-wal", "records.sqlite-shm"} == told


def test_nothing_is_written_outside_of_what_was_named(whole_round: Round) -> None:
    """Files that are open to be written: below the folder of the commands, or temporary."""
    if whole_round.calls is None:
        pytest.skip("needs strace, and leave to trace: apt install strace")
    opened = [
        match[1]
        for call in whole_round.calls
        if re.search(r"O_CREAT|O_WRONLY|O_RDWR", call) and " = -1 " not in call
        for match in [re.search(r'"(.*?)"', call)]
        if match is not None
    ]
    allowed = (str(whole_round.work), str(whole_round.home.parent / "tmp"), "/dev/", "/proc/")
    outside = {name for name in opened if name.startswith("/") and not name.startswith(allowed)}
    assert outside == set()


def test_no_name_is_looked_up_and_nobody_is_spoken_with_unasked(whole_round: Round) -> None:
    """Only the broker and the page, on the loopback; the system's own sockets are no network."""
    if whole_round.calls is None:
        pytest.skip("needs strace, and leave to trace: apt install strace")
    assert len(whole_round.calls) > 1000, "strace saw hardly anything"
    asked = [call for call in whole_round.calls if re.search(r'"/etc/(resolv\.conf|hosts)"', call)]
    assert asked == [], "a name was looked up"
    addresses = [
        call
        for call in whole_round.calls
        if re.search(r"(connect|sendto|sendmmsg)\(.*AF_INET", call)
    ]
    assert addresses, "strace saw no connection to the broker"
    strangers = [
        call
        for call in addresses
        if 'inet_addr("127.0.0.1")' not in call
        or int(re.search(r"htons\((\d+)\)", call)[1]) not in whole_round.ports  # type: ignore[index]
    ]
    assert strangers == []
