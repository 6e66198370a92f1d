"""The lock files of stations and of a plant's server, made anew by uv: every package pinned, every
file by its hash.

    python deploy/lock.py

One file serves Python 3.10 and newer on aarch64 and x86-64.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "deploy" / "constraints"
LOCKS = {
    "station.txt": (Path("pyproject.toml"), ""),
    # Recorder and dashboard.
    "plant.txt": (Path("pyproject.toml"), ""),
    # JetPack 6's modules and every OpenCV of apt's were built for numpy 1.
    "station-numpy1.txt": (Path("pyproject.toml"), "numpy<2"),
    "pycuda.txt": ("pycuda==2026.1", "numpy<2"),
    "cuda-bindings.txt": ("cuda-bindings>=12.9,<13", ""),
}
EXTRAS = {"plant.txt": ("record", "dashboard")}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, (what, constraint) in LOCKS.items():
            source = Path(scratch) / "requirements.in"
            source.write_text(f"{what}\n", encoding="utf-8")
            limits = Path(scratch) / "constraints.txt"
            limits.write_text(f"{constraint}\n", encoding="utf-8")
            command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
            command += [
                "--generate-hashes",
                "--no-header",
                "--no-annotate",
                "--python-version",
                "3.10",
            ]
            command += ["--constraint", str(limits), "--output-file", str(CONSTRAINTS / name)]
            for extra in EXTRAS.get(name, ()):
                command += ["--extra", extra]
            subprocess.run(
                [*command, str(what if isinstance(what, Path) else source)], check=True, cwd=ROOT
            )
            sys.stdout.write(f"deploy/constraints/{name}\n")


if __name__ == "__main__":
    main()
