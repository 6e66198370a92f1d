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
from tests.rig.traced import Home
from tests.rig.trained import EDGE_QC, Trained

pytestmark = [pytest.mark.torch, pytest.mark.broker]

SOON_S = 40.0


@dataclass(frozen=True)
class Round:
    """homes: of all processes. work: folder of those of the line and the plant. told: where all of
    them may write. calls: what strace saw, None where it cannot work here. ports: of broker and
    page."""

    homes: tuple[Home, ...]
    work: Path
    told: tuple[Path, ...]
    calls: list[str] | None
    ports: set[int]


@pytest.fixture(scope="module")
def whole_round(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Round:
    """The README's synth, train and export, then judge, station, recorder and dashboard."""
    for module in ("starlette", "uvicorn", "sqlalchemy"):
        pytest.importorskip(module, reason=f"needs {module}: pip install '.[dashboard,record]'")
    folder = tmp_path_factory.mktemp("round")
    home, work = Home.made(folder), folder / "work"
    (work / "camera").mkdir(parents=True)

    def command(*words: object) -> list[str]:
        return home.traced([*EDGE_QC, *words])

    def run(*words: object) -> None:
        done = subprocess.run(
            command(*words),
            cwd=work,
            env=home.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stderr}"

    @contextmanager
    def service(*words: object) -> Iterator[None]:
        process = subprocess.Popen(
            command(*words), cwd=work, env=home.environment, stderr=subprocess.PIPE, text=True
        )
        try:
            yield
        finally:
            # strace hands a signal of the terminal on, and ends with its program.
            os.kill(_program(process.pid), signal.SIGTERM)
            _, said = process.communicate(timeout=SOON_S)
        assert process.returncode == 0, said

    images = sorted((trained.data / "input_test").iterdir())[:2]
    subprocess.run(
        command("judge", *images, "--die", "Die01", "--bundle", trained.bundle),
        cwd=work,
        env=home.environment,
        capture_output=True,
        check=False,
    )
    for image in images:
        shutil.copy(image, work / "camera")
    page = free_port()
    with running_broker() as (host, port):
        (work / "station.toml").write_text(
            '[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
            f'[bundle]\npath = "{trained.bundle}"\n'
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
    calls = [trained.home.calls, home.calls]
    return Round(
        (trained.home, home),
        work,
        (work, home.temporary, trained.data, trained.run, trained.bundle, trained.home.temporary),
        None if None in calls else [call for each in calls for call in each or ()],
        {port, page},
    )


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
    assert [home.left for home in whole_round.homes] == [[], []]
    written = {entry.name for entry in whole_round.work.iterdir()}
    told = {"camera", "state", "station.toml", "records.sqlite"}
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
    allowed = (*map(str, whole_round.told), "/dev/", "/proc/")
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
