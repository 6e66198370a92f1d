"""TensorRT for RTX, NVIDIA's own compiler: TensorRT's sibling, which builds without a GPU.

Its wheels come from the package index when a test first asks for them, and stay in the user's cache
beside this environment, never in it. It is not TensorRT, and it runs nothing here: what it builds
wants a driver.
"""

from __future__ import annotations

import fcntl
import platform
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conformance.bindings import cache, download

VERSION = "1.7.1.116"
ARCHITECTURES = ("SM86", "SM89", "SM120")
_WHEELS = ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu12-libs")


def rtx_site() -> Path:
    """A folder for PYTHONPATH in which ``tensorrt_rtx_bindings`` lies; skips the test where it
    cannot be had. 80 MB to fetch, once."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("needs Linux on x86-64, for TensorRT for RTX")
    folder = cache() / f"rtx-{VERSION}-py{sys.version_info[0]}{sys.version_info[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            wheels = folder / "wheels"
            shutil.rmtree(wheels, ignore_errors=True)
            names = [f"{name}=={VERSION}" for name in _WHEELS]
            download(wheels, "--only-binary=:all:", *names)
            for wheel in wheels.glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder / "site")
            shutil.rmtree(wheels)
            (folder / "ready").touch()
    return folder / "site"
