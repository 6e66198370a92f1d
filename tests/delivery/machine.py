"""A machine with a real systemd as PID 1: an overlay of this one, booted by systemd-nspawn.

Nothing that happens in it reaches the file system beneath, and all of it is gone at the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.rig.programs import lacking

# nspawn's own system-call filter and capabilities would hide what a unit's own settings deny.
_BOOT = """
set -e
mount -t tmpfs -o size=4g tmpfs "$SCRATCH"
mkdir "$SCRATCH/upper" "$SCRATCH/work" "$SCRATCH/root"
cd "$SCRATCH"
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
rm -rf "$SCRATCH"/root/etc/systemd/system/*.wants "$SCRATCH"/root/var/log/journal
exec systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --capability=all \
  --console=pipe --machine="$NAME" --directory="$SCRATCH/root" "$@" --boot
"""
_BOOT_S = 60.0


def missing() -> str | None:
    """Why no machine can be booted here; None where one can."""
    if os.geteuid() != 0:
        return "needs root, to boot a machine"
    return lacking("systemd-nspawn", "unshare", "nsenter")


class Machine:
    """One that runs. shared: the folder of this machine that is its /srv/shared."""

    def __init__(self, leader: int, shared: Path) -> None:
        self._leader, self.shared = leader, shared

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A command as its root. Raises AssertionError with what it printed where it fails."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._leader), "-a", "--", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        if check:
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def shell(self, script: str, check: bool = True) -> str:
        """What a script prints on standard output."""
        return self.run("bash", "-c", script, check=check).stdout

    def show(self, unit: str, *properties: str) -> Mapping[str, str]:
        """``systemctl show``."""
        lines = self.run("systemctl", "show", unit, f"-p{','.join(properties)}").stdout
        return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """A file of its own."""
        self.shared.joinpath("written").write_text(text, encoding="utf-8")
        self.run("install", "-D", "-m", mode, "/srv/shared/written", path)


@contextlib.contextmanager
def booted(
    folder: Path, name: str = "edge-qc", *, private_network: bool = True
) -> Iterator[Machine]:
    """A machine for the ``with`` block. folder: an empty one, for its mounts and what is shared."""
    scratch, shared = folder / "scratch", folder / "shared"
    scratch.mkdir(parents=True)
    shared.mkdir()
    log = (folder / "console.log").open("wb")
    options = [f"--bind={shared}:/srv/shared"]
    options += ["--private-network"] if private_network else []
    process = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "bash", "-c", _BOOT, "boot", *options],
        env={
            **os.environ,
            "SCRATCH": str(scratch),
            "NAME": name,
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_SECCOMP": "0",
        },
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        machine = Machine(_leader(process, folder), shared)
        _await_boot(machine, folder)
        yield machine
    finally:
        # nspawn passes it on as an orderly shutdown, and a second one as a kill.
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break
        log.close()


def _leader(process: subprocess.Popen[bytes], folder: Path) -> int:
    """PID 1 of the machine, as seen from here."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until_s = time.monotonic() + _BOOT_S
    while time.monotonic() < until_s and process.poll() is None:
        for pid in children.read_text(encoding="utf-8").split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "systemd":
                    return int(pid)
        time.sleep(0.1)
    raise AssertionError(f"no machine: {(folder / 'console.log').read_text(errors='replace')}")


def _await_boot(machine: Machine, folder: Path) -> None:
    until_s = time.monotonic() + _BOOT_S
    state = ""
    while time.monotonic() < until_s:
        state = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.2)
    said = (folder / "console.log").read_text(errors="replace")
    raise AssertionError(f"the machine came no further than {state!r}: {said}")
