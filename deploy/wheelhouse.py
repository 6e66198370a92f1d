"""A folder that installs without a network: wheels, install.sh, plant.sh and what they lay down.

    python deploy/wheelhouse.py OUT --python 3.10 --machine aarch64 --numpy1

What is in it is the lock file's (``deploy/constraints``), each wheel held to its hash. pip asks the
markers of the interpreter that runs it, not of the station's, so they are asked here.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "deploy" / "constraints"
PACKED = ("install.sh", "plant.sh", "station.example.toml", "constraints")

_GLIBC = (17, 24, 26, 27, 28, 31, 34)
"""Of manylinux wheels that run from JetPack 6's glibc 2.35 on."""


def requirements(lock: Path, python: str, machine: str) -> list[str]:
    """The lock's entries that a Linux station of that Python and machine needs, hashes included."""
    environment = {
        "python_full_version": f"{python}.99",
        "python_version": python,
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8"))
    wanted = []
    for entry in entries:
        requirement = Requirement(entry.split("\\")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            hashes = re.findall(r"--hash=\S+", entry)
            wanted.append(f"{requirement.name}{requirement.specifier} {' '.join(hashes)}")
    return wanted


def fetch(out: Path, python: str, machine: str, *locks: Path) -> None:
    """Every wheel of the locks for such a station. Raises CalledProcessError where one lacks."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "requirements.txt"
    lines = {line for lock in locks for line in requirements(lock, python, machine)}
    file.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    tags = [f"--platform=manylinux_2_{glibc}_{machine}" for glibc in _GLIBC]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", f"--python-version={python}"]
    command += [*tags, f"--platform=manylinux2014_{machine}", "--dest", str(out)]
    subprocess.run([*command, "--requirement", str(file)], check=True)
    file.unlink()


def pack(out: Path, python: str, machine: str, lock: str = "station.txt") -> Path:
    """The whole folder, made anew."""
    shutil.rmtree(out, ignore_errors=True)
    wheels = out / "wheels"
    locks = (lock,) if lock == "plant.txt" else (lock, "outputs.txt")
    fetch(wheels, python, machine, *(CONSTRAINTS / name for name in locks))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*build, str(wheels), str(ROOT)], check=True)
    for name in PACKED:
        source = ROOT / "deploy" / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, out / name)
    shutil.copytree(ROOT / "systemd", out / "systemd")
    return out


def main() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(description="Pack what installs a station without a network.")
    parser.add_argument("out", type=Path, help="the folder to make; it is made anew")
    parser.add_argument("--python", default=here, help="of the station, such as 3.10 (JetPack 6)")
    parser.add_argument("--machine", default=platform.machine(), choices=("aarch64", "x86_64"))
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--numpy1",
        dest="lock",
        action="store_const",
        const="station-numpy1.txt",
        help="numpy 1, which JetPack 6 and every OpenCV of apt's need",
    )
    which.add_argument(
        "--plant",
        dest="lock",
        action="store_const",
        const="plant.txt",
        help="recorder and dashboard, for a server of the plant: plant.sh",
    )
    options = parser.parse_args()
    pack(options.out, options.python, options.machine, options.lock or "station.txt")
    script = "plant.sh" if options.lock == "plant.txt" else "install.sh"
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    sys.stdout.write(
        f"{options.out}: {size / 1e6:.0f} MB for Python {options.python} on {options.machine}\n"
        f"there: sudo {options.out.name}/{script} --offline\n"
    )


if __name__ == "__main__":
    main()
