"""What controllers and pins need: installed where station.toml names one, and there alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL = (ROOT / "deploy" / "install.sh").read_text(encoding="utf-8")
LOCKS = ROOT / "deploy" / "constraints"


def installed(folder: Path, settings: str | None) -> str:
    """What install.sh's step has pip do beside this station.toml."""
    if settings is not None:
        (folder / "station.toml").write_text(settings)
    python = folder / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    (step,) = re.findall(r"^outputs\(\).*?^}$", INSTALL, re.MULTILINE | re.DOTALL)
    script = (
        'set -euo pipefail\nsay() { :; }\npip_of() { echo "$*"; }\n'
        f'HERE=/here ETC={folder}\n{step}\noutputs "$1"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "-", folder],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "line",
    [
        'target = "modbus://192.0.2.20:502"',
        "target = 'opcua://plc:4840'",
        'trigger = "gpio:/dev/gpiochip0/17"',
    ],
)
def test_what_station_toml_names_is_installed_by_its_hash(tmp_path: Path, line: str) -> None:
    told = installed(tmp_path, f"[[output]]\n{line}\n")
    assert "--require-hashes -r /here/constraints/outputs.txt" in told


@pytest.mark.parametrize("settings", [None, "", '# target = "modbus://192.0.2.20:502"\n'])
def test_a_station_without_outputs_gets_nothing(tmp_path: Path, settings: str | None) -> None:
    assert installed(tmp_path, settings) == ""


def test_the_lock_stands_beside_the_stations_own() -> None:
    """No package twice, and all three that an output may name."""

    def names(lock: str) -> set[str]:
        text = (LOCKS / lock).read_text(encoding="utf-8")
        return set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))

    assert {"gpiod", "pymodbus", "asyncua"} <= names("outputs.txt")
    assert not names("outputs.txt") & names("station.txt")
