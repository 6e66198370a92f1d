"""The lock files of stations and of a plant's server, made anew by uv: every package pinned, every
file by its hash.

    python deploy/lock.py [NAME.txt …]

One file serves Python 3.10 and newer on aarch64 and x86-64.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "deploy" / "constraints"


@dataclass(frozen=True)
class Lock:
    """What is pinned: this distribution with some of its extras, or another package. limit: on a
    version. beside: a lock whose packages are there already."""

    extras: tuple[str, ...] = ()
    package: str | None = None
    limit: str = ""
    beside: str | None = None


LOCKS = {
    "station.txt": Lock(),
    # Recorder, dashboard and notices.
    "plant.txt": Lock(("record", "dashboard", "notices")),
    # JetPack 6's modules and every OpenCV of apt's were built for numpy 1.
    "station-numpy1.txt": Lock(limit="numpy<2"),
    # Where station.toml names a controller or a pin.
    "outputs.txt": Lock(("gpio", "modbus", "opcua"), beside="station.txt"),
    "pycuda.txt": Lock(package="pycuda==2026.1", limit="numpy<2"),
    "cuda-bindings.txt": Lock(package="cuda-bindings>=12.9,<13"),
}


def entries(text: str) -> dict[str, list[str]]:
    """A lock's entries by the package's name."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text.rstrip("\n")):
        found.setdefault(re.split(r"[=<>; ]", entry)[0], []).append(entry)
    return found


def make(name: str, lock: Lock, scratch: Path) -> None:
    """Write one lock file. Raises CalledProcessError where nothing fits."""
    source, limits, out = scratch / "requirements.in", scratch / "limits.txt", CONSTRAINTS / name
    source.write_text(f"{lock.package}\n", encoding="utf-8")
    beside = "" if lock.beside is None else (CONSTRAINTS / lock.beside).read_text(encoding="utf-8")
    limits.write_text(f"{lock.limit}\n{beside}", encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--python-version", "3.10"]
    command += ["--constraint", str(limits), "--output-file", str(out)]
    for extra in lock.extras:
        command += ["--extra", extra]
    what = "pyproject.toml" if lock.package is None else str(source)
    subprocess.run([*command, what], check=True, cwd=ROOT)
    if beside:
        there = entries(beside)
        made = entries(out.read_text(encoding="utf-8"))
        kept = [entry for package in made if package not in there for entry in made[package]]
        out.write_text("\n".join(kept) + "\n", encoding="utf-8")
    sys.stdout.write(f"deploy/constraints/{name}\n")


def main() -> None:
    for name in sys.argv[1:] or LOCKS:
        with tempfile.TemporaryDirectory() as scratch:
            make(name, LOCKS[name], Path(scratch))


if __name__ == "__main__":
    main()
