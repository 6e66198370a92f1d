"""Identifies the machine from its files: board, operating system, JetPack, power mode.

The acceptance report and ``doctor`` use it, also on machines that are not a Jetson. ``root``
replaces ``/`` in tests.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Machine:
    """l4t: the release of NVIDIA's Linux for Tegra, such as ``36.4.3``; None if this is no Jetson.
    jetpack: derived from it, in words. power_mode: the name of nvpmodel's mode, or None."""

    model: str
    arch: str
    cpu: str
    cores: int
    memory_bytes: int
    system: str
    kernel: str
    python: str
    l4t: str | None
    jetpack: str | None
    power_mode: str | None

    @property
    def is_jetson(self) -> bool:
        return self.l4t is not None


def this_machine(root: Path = ROOT) -> Machine:
    """Describe the machine whose files are under ``root``; never fails."""
    l4t = _l4t(root)
    model = _text(root / "proc/device-tree/model") or _text(root / "sys/class/dmi/id/product_name")
    return Machine(
        model=model or "unknown",
        arch=platform.machine(),
        cpu=_field(root / "proc/cpuinfo", r"^model name\s*: (.+)$") or platform.machine(),
        cores=os.cpu_count() or 1,
        memory_bytes=1024 * int(_field(root / "proc/meminfo", r"^MemTotal:\s+(\d+) kB") or 0),
        system=_field(root / "etc/os-release", r'^PRETTY_NAME="?([^"\n]+)') or platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        l4t=l4t,
        jetpack=None if l4t is None else jetpack_of(l4t),
        power_mode=_power_mode(root),
    )


def jetpack_of(l4t: str) -> str:
    """The JetPack of an L4T release; ``5 or older`` and ``6.0`` are too old."""
    release = tuple(int(part) for part in l4t.split("."))
    if release < (36,):
        return "5 or older"
    if release < (36, 4):
        return "6.0"
    if release < (36, 4, 3):
        return "6.1"
    if release < (37,):
        return "6.2"
    if release < (38, 4):
        return "7.0"
    return "7.1" if release < (38, 5) else "7.2 or newer"


def too_old(l4t: str) -> bool:
    """Whether the release's TensorRT is older than 10.3."""
    return tuple(int(part) for part in l4t.split(".")) < (36, 4)


def _l4t(root: Path) -> str | None:
    text = _text(root / "etc/nv_tegra_release")
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return None if found is None else f"{found[1]}.{found[2]}"


def _power_mode(root: Path) -> str | None:
    """nvpmodel stores the mode's number in one file and its name in another."""
    number = re.search(r"pmode:0*(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if number is None:
        return None
    name = _field(root / "etc/nvpmodel.conf", rf"^< POWER_MODEL ID={number[1]} NAME=(\S+)(?: .*)?>")
    return name or number[1]


def _field(file: Path, pattern: str) -> str | None:
    found = re.search(pattern, _text(file), re.MULTILINE)
    return None if found is None else found[1].strip()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
