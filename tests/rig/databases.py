"""A throw-away PostgreSQL of the machine's own programs, for as long as a test run needs it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.rig.programs import find

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@contextlib.contextmanager
def running_postgres(settings: dict[str, str] | None = None) -> Iterator[str]:
    """The URL of a database, empty, on the loopback; gone behind the ``with`` block."""
    initdb = find("initdb")
    assert initdb is not None
    # A link to it may stand alone where the others are not.
    programs = Path(initdb).resolve().parent
    with tempfile.TemporaryDirectory(prefix="edge-qc-pg-") as name:
        folder = Path(name)
        as_user: list[str] = []
        if os.geteuid() == 0:
            # A test run that is killed must leave no server behind.
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                       "--pdeathsig=INT"]  # fmt: skip
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        subprocess.run(
            [*as_user, programs / "initdb", "-D", data, "-U", "edge", "-A", "trust", "-N",
             "--locale=C.UTF-8", "-E", "UTF8"],
            check=True,
            capture_output=True,
            cwd=folder,
        )  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = {"unix_socket_directories": name, "listen_addresses": "127.0.0.1",
                   "max_connections": "20", **(settings or {})}  # fmt: skip
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*as_user, programs / "postgres", "-D", data, "-p", str(port),
                 *(word for key, value in options.items() for word in ("-c", f"{key}={value}"))],
                stdout=log,
                stderr=log,
                cwd=folder,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, nothing imported
            )  # fmt: skip
        try:
            _await(programs, port, server, folder / "log")
            yield f"postgresql://edge@127.0.0.1:{port}/postgres"
        finally:
            # Fast: what is connected is cut off.
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _await(programs: Path, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + 30
    ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(ready, check=False).returncode:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < until_s, log.read_text()
        time.sleep(0.05)
