"""Tries what a station must not be able to do, and prints as JSON how each try ended.

It runs twice: as root, where each try must come through, and in the unit's sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
ELSEWHERE = ("203.0.113.5", 7777)


def call(function: str, *arguments: object) -> None:
    """A function of libc. Raises OSError."""
    if getattr(LIBC, function)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write(path: str) -> None:
    Path(path).write_text("x")
    Path(path).unlink()


def connect(address: tuple[str, int]) -> None:
    with socket.create_connection(address, 3):
        pass


def listen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()


def open_socket(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


def writable_and_executable() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def set_user_id_bit(folder: str) -> None:
    file = Path(folder) / "suid"
    file.touch()
    try:
        file.chmod(0o4755)
    finally:
        file.unlink()


TRIES: dict[str, Callable[[], object]] = {
    "allowed: write its own state": lambda: write("/var/lib/edge-qc/probe"),
    "allowed: read its settings": lambda: Path("/etc/edge-qc/station.toml").read_text(),
    "allowed: reach a broker on this machine": lambda: connect(("127.0.0.1", 1883)),
    "files: write its settings": lambda: write("/etc/edge-qc/probe"),
    "files: write its own program": lambda: write("/opt/edge-qc/current/probe"),
    "files: write the system": lambda: write("/usr/lib/probe"),
    "files: read the secrets at their source": lambda: Path(
        "/etc/edge-qc/credentials/mqtt.password"
    ).read_text(),
    "files: read a user's home": lambda: Path("/home/alice/plan.txt").read_text(),
    "files: read another's temporary file": lambda: Path("/tmp/alice.txt").read_text(),
    "files: see another's process": lambda: Path("/proc/1/comm").read_text(),
    "files: make a set-user-id program": lambda: set_user_id_bit("/var/lib/edge-qc"),
    "devices: open one that is no camera": lambda: Path("/srv/device").open("rb").close(),
    "devices: make one": lambda: call("mknod", b"/var/lib/edge-qc/node", 0o20666, 0x10B),
    "network: reach an address nobody allowed": lambda: connect(ELSEWHERE),
    "network: listen": listen,
    "network: capture packets": lambda: open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "network: ask the kernel's tables": lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "kernel: mount": lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "kernel: make a name space": lambda: call("unshare", 0x10000000),
    "kernel: trace a process": lambda: call("ptrace", 0, 0, None, None),
    "kernel: write a tunable": lambda: Path("/proc/sys/kernel/domainname").write_text("x"),
    "kernel: choose its processors": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "kernel: memory to write and execute": writable_and_executable,
}


def main() -> None:
    ended: dict[str, str] = {}
    for name, attempt in TRIES.items():
        try:
            attempt()
            ended[name] = "done"
        except OSError as error:
            ended[name] = errno.errorcode.get(error.errno or 0, type(error).__name__)
    handed = os.environ.get("CREDENTIALS_DIRECTORY")
    if handed is not None:
        ended["secret"] = (Path(handed) / "mqtt.password").read_text()
    Path(sys.argv[1]).write_text(json.dumps(ended))


if __name__ == "__main__":
    main()
