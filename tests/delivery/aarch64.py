"""An aarch64 root with Python, and how to run a command in it: qemu, without a container engine.

Debian's packages are fetched by apt into folders of their own and unpacked; this machine's apt and
its packages are not touched. bookworm's qemu crashes in ONNX Runtime, trixie's does not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PYTHON = "3.11"
_FORM = "1"
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PACKAGES = ("python3.11", "libstdc++6", "libgomp1", "coreutils", "dash")

# A mount of binfmt_misc of one's own, in a user name space of one's own: Linux 6.7 or newer.
_ENTER = r"""
set -e
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
echo ":edge-qc-aarch64:M::$magic:$mask:$QEMU:OCF" > /proc/sys/fs/binfmt_misc/register
mount --rbind /dev "$ROOT/dev"
mount --rbind /proc "$ROOT/proc"
mount --rbind "$SHARED" "$ROOT/srv"
exec chroot "$ROOT" "$@"
"""


def unavailable() -> str | None:
    """Why no aarch64 root can be had here."""
    for tool in ("apt-get", "dpkg-deb", "unshare"):
        if shutil.which(tool) is None:
            return f"needs {tool}, for a root of aarch64"
    if not Path(_KEYS).exists():
        return f"needs {_KEYS}: apt install debian-archive-keyring"
    return None


def root() -> tuple[Path, Path]:
    """The root's folder and qemu's program, made once and kept in the user's cache. Skips the test
    where Debian's packages cannot be fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-qc"
    folder = cache / f"aarch64-{_FORM}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            _fetch(folder / "qemu", "trixie", "amd64", "qemu-user")
            _fetch(folder / "root", "bookworm", "arm64", *_PACKAGES)
            for name in ("dev", "proc", "srv", "tmp", "opt/site"):
                (folder / "root" / name).mkdir(parents=True, exist_ok=True)
            (folder / "ready").touch()
    return folder / "root", folder / "qemu" / "usr/bin/qemu-aarch64"


def run(
    place: Path, qemu: Path, shared: Path, *command: str, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """A command in the root; ``shared`` is its /srv, and its PYTHONPATH is /opt/site."""
    return subprocess.run(
        ["unshare", "-Urm", "bash", "-c", _ENTER, "enter", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "QEMU": str(qemu),
            "QEMU_CPU": "cortex-a76",
            "ROOT": str(place),
            "SHARED": str(shared),
            "HOME": "/srv",
            "PYTHONPATH": "/opt/site",
            "OMP_NUM_THREADS": "1",
        },
    )


def _fetch(folder: Path, suite: str, machine: str, *packages: str) -> None:
    """Packages with all that they need, unpacked."""
    shutil.rmtree(folder, ignore_errors=True)
    work = folder.with_name(f"{folder.name}-apt")
    shutil.rmtree(work, ignore_errors=True)
    for name in ("lists/partial", "archives/partial", "etc/preferences.d"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    source = f"deb [signed-by={_KEYS}] http://deb.debian.org/debian {suite} main\n"
    (work / "sources.list").write_text(source, encoding="utf-8")
    options = {
        "Dir::Etc": work / "etc",
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work,
        "Dir::Cache::archives": work / "archives",
        "APT::Architecture": machine,
        "APT::Architectures": machine,
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", "-y", *(f"-o{name}={value}" for name, value in options.items())]
    install = [*apt, "--no-install-recommends", "--download-only", "install", *packages]
    for command in ([*apt, "update"], install):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = done.stderr.strip()[-300:]
            pytest.skip(f"needs Debian's packages, which cannot be fetched: {why}")
    folder.mkdir()
    for package in sorted((work / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    shutil.rmtree(work)
