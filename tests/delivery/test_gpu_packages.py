"""TensorRT and pycuda: extras that resolve for a workstation, JetPack's own on a Jetson."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
INSTALL = (ROOT / "deploy" / "install.sh").read_text(encoding="utf-8")


def resolved(extra: str, python: str, machine: str) -> dict[str, str]:
    """Name and version of all that ``pip install 'edge-qc[EXTRA]'`` would bring there."""
    environment = dict(os.environ)
    if index := environment.get("PIP_INDEX_URL"):
        environment.setdefault("UV_DEFAULT_INDEX", index)
    done = subprocess.run(
        [
            find_uv_bin(), "pip", "compile", ROOT / "pyproject.toml", "--quiet", "--no-header",
            "--no-annotate", "--no-config", "--extra", extra, "--python-version", python,
            "--python-platform", f"{machine}-manylinux_2_28",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )  # fmt: skip
    if done.returncode and "No solution found" not in done.stderr:
        pytest.skip(f"needs a package index: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_a_workstation_with_a_gpu_resolves(python: str) -> None:
    found = resolved("tensorrt", python, "x86_64")
    assert {"tensorrt", "pycuda", "numpy", "opencv-python-headless", "paho-mqtt"} <= set(found)
    major, minor = map(int, found["tensorrt"].split(".")[:2])
    assert (10, 3) <= (major, minor) < (12, 0)


def test_a_jetson_gets_no_tensorrt_from_the_index() -> None:
    found = resolved("tensorrt", "3.10", "aarch64")
    assert "pycuda" in found
    assert not [name for name in found if name.startswith("tensorrt")]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment, as far as install.sh looks at it; packages go into ``packages``."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "packages").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{tmp_path / "packages"}" exec "{sys.executable}" -S "$@"\n'
    )
    python.chmod(0o755)
    return tmp_path


def said(environment: Path, kind: str, pip: str = "say building; exit 9") -> str:
    """What install.sh's step for pycuda says on a machine of that kind. pip: what stands for it;
    by itself it must not be called."""
    (step,) = re.findall(r"^pycuda\(\).*?^}$", INSTALL, re.MULTILINE | re.DOTALL)
    script = (
        'set -euo pipefail\nsay() { echo "$*"; }\ndie() { say "$*"; exit 1; }\n'
        f"gpu_kind() {{ echo {kind}; }}\npip_of() {{ {pip}; }}\n"
        f'HERE=/nowhere CACHE=/nowhere offline=no\n{step}\npycuda "$1"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "-", environment], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installer_says_which_tensorrt_a_jetson_uses(environment: Path) -> None:
    packages = environment / "packages"
    assert "apt install python3-libnvinfer, JetPack's own, then run this" in said(
        environment, "jetson"
    )
    assert "-m pip install tensorrt, then run this again" in said(environment, "nvidia")
    assert said(environment, "") == ""
    (packages / "tensorrt.py").write_text('__version__ = "10.3.0"\n')
    (packages / "pycuda.py").touch()
    assert said(environment, "jetson") == (
        f"TensorRT 10.3.0 of {packages / 'tensorrt.py'} is used; none is fetched\n"
    )


def test_without_a_compiler_the_installer_takes_nvidias_wheel(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with one it builds pycuda."""
    (environment / "packages" / "tensorrt.py").write_text('__version__ = "10.3.0"\n')
    tools = environment / "tools"
    tools.mkdir()
    for name in ("bash", "sed"):
        (tools / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tools))
    told = said(environment, "jetson", 'say "pip $*"')
    assert "cuda-bindings is taken in pycuda's place" in told
    assert "--require-hashes -r /nowhere/constraints/cuda-bindings.txt" in told
    for name in ("nvcc", "g++"):
        (tools / name).symlink_to("/bin/true")
    told = said(environment, "jetson", 'say "pip $*"; case $2 in wheel) exit 0 ;; esac')
    assert "building pycuda" in told
    assert "cuda-bindings" not in told
