"""An MQTT broker for the demo and the tests: mosquitto where it is installed, else amqtt.

It listens on the loopback alone, keeps nothing, lets everybody in unless told otherwise, and dies
with the process that started it. A plant's broker looks otherwise: see ``deploy/mosquitto``.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
KINDS = ("mosquitto", "amqtt")

_START_S = 60.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

# Debian keeps daemons where an ordinary user's PATH does not look.
_ALSO = os.pathsep.join(("/usr/sbin", "/usr/local/sbin"))


class BrokerError(Exception):
    """The trial broker could not be started; the message says why and what to do."""


def find_mosquitto() -> str | None:
    """The path of the mosquitto daemon; None where there is none."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_ALSO)


def missing(kind: str) -> str | None:
    """Why a kind of broker cannot be started here; None where it can."""
    if kind == "mosquitto" and find_mosquitto() is None:
        return "mosquitto is not on the PATH; install Debian's package mosquitto"
    if kind == "amqtt" and importlib.util.find_spec("amqtt") is None:
        return "amqtt is not installed; pip install amqtt"
    return None


def free_port() -> int:
    """A port of the loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_broker(
    kind: str = "auto", port: int | None = None, extra: Sequence[str] = ()
) -> Iterator[tuple[str, int]]:
    """A broker, from the first accepted connection to the end of the ``with`` block; its host and
    port.

    kind: ``mosquitto``, ``amqtt``, or ``auto`` for the first of them that is installed. port: None
    for a free one. extra: lines for mosquitto.conf. Raises BrokerError.
    """
    if kind == "auto":
        kind = next((name for name in KINDS if missing(name) is None), KINDS[0])
    if (why := missing(kind)) is not None:
        raise BrokerError(f"no broker: {why}, or name a broker of your own in station.toml")
    port = free_port() if port is None else port
    _require_free(port)
    with tempfile.TemporaryDirectory(prefix="edge-qc-broker-") as folder:
        command = _command(kind, Path(folder), port, extra)
        log = Path(folder) / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdout=sink,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, nothing imported
            )
        try:
            _await(process, port, log)
            yield HOST, port
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _command(kind: str, folder: Path, port: int, extra: Sequence[str]) -> list[str]:
    if kind == "mosquitto":
        settings = folder / "mosquitto.conf"
        lines = [
            f"listener {port} {HOST}",
            "persistence false",
            "max_queued_messages 0",
            "set_tcp_nodelay true",  # as deploy/mosquitto has it
            *extra,
        ]
        if not any(line.startswith("allow_anonymous") for line in extra):
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            # It would become another user, who cannot read the folder.
            lines.append("user root")
        settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
        executable = find_mosquitto()
        assert executable is not None
        return [executable, "-c", str(settings)]
    settings = folder / "amqtt.yaml"
    settings.write_text(
        f"listeners:\n  default:\n    type: tcp\n    bind: {HOST}:{port}\n"
        "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n"
        "    allow_anonymous: true\n",
        encoding="utf-8",
    )
    return [sys.executable, __file__, str(settings)]


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BrokerError(
                f"port {port} of {HOST} cannot be had: {error.strerror}. Stop what listens there "
                f"(ss -ltnp 'sport = :{port}' names it), or choose another port"
            ) from error


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.02)
    ended = process.poll()
    how = f"ended with status {ended}" if ended is not None else f"not ready in {_START_S:.0f} s"
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    raise BrokerError(f"the broker {process.args!r} {how}:\n{said}")


def _run_amqtt(settings: str) -> None:
    """amqtt's own program, mended: it speaks MQTT 3.1.1 alone, and waits for ever for the rest of
    an MQTT 5 CONNECT instead of refusing its version, as MQTT-3.1.2-2 demands and clients expect.
    """
    from amqtt.mqtt.connect import ConnectPayload
    from amqtt.scripts.broker_script import main

    read = ConnectPayload.from_stream.__func__

    async def from_stream(cls: Any, reader: Any, fixed: Any, variable: Any) -> object:
        if variable.proto_level != 4:
            # Read to its end, or closing the socket would take the refusal with it.
            await reader.read(fixed.remaining_length - variable.bytes_length)
            return cls("of-another-version", will_topic="-", will_message=b"-")
        return await read(cls, reader, fixed, variable)

    ConnectPayload.from_stream = classmethod(from_stream)
    sys.argv = ["amqtt", "-c", settings]
    main()


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    _run_amqtt(sys.argv[1])
