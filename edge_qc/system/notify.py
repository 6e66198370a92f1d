"""Messages to systemd: READY=1, WATCHDOG=1, STATUS=, STOPPING=1 (sd_notify(3)). Does nothing if no
service manager listens."""

from __future__ import annotations

import os
import socket


def notify(*assignments: str) -> bool:
    """Send ``NAME=value`` assignments to the service manager; False if none listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall("\n".join(assignments).encode())
    except OSError:
        return False
    return True


def watchdog_interval_s() -> float | None:
    """How often WATCHDOG=1 is due, half of systemd's timeout; None without a watchdog."""
    raw, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not raw.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(raw) / 2e6
