"""The real pycuda, built from its source, on a machine without CUDA.

Source and CUDA's headers come from the package index. The build takes minutes, so what it makes
stays in the user's cache. What it links against is ``cuda_driver.c``, a driver on host memory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from bindings import cache, download

PYCUDA = "2026.1"
CUDA = "13.2.86"
CUDA_BINDINGS = "12.9.10"
_FORM = "1"

_DRIVER = Path(__file__).with_name("cuda_driver.c")

_PROFILER_HEADER = """\
#include <cuda.h>
extern "C" {
typedef enum { CU_OUT_KEY_VALUE_PAIR = 0, CU_OUT_CSV = 1 } CUoutput_mode;
CUresult cuProfilerInitialize(const char *file, const char *output, CUoutput_mode mode);
CUresult cuProfilerStart(void);
CUresult cuProfilerStop(void);
}
"""
"""The package of headers leaves this one out, and pycuda's source names it."""


def pycuda_site() -> Path:
    """A folder for PYTHONPATH in which ``import pycuda.driver`` finds the real one.

    Skips the test where there is no compiler or the package index does not answer.
    """
    for tool in ("gcc", "g++", "nm"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: apt install build-essential")
    python = f"py{sys.version_info[0]}{sys.version_info[1]}"
    folder = cache() / f"pycuda-{PYCUDA}-{python}-{_FORM}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            _build(folder)
            (folder / "ready").touch()
    return folder / "site"


def cuda_bindings_site() -> Path:
    """A folder for PYTHONPATH with NVIDIA's cuda-bindings, the version that stations are pinned
    to. Skips the test where the package index does not answer."""
    folder = cache() / f"cuda-bindings-{CUDA_BINDINGS}-py{sys.version_info[0]}{sys.version_info[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            wheels = folder / "wheels"
            names = (f"cuda-bindings=={CUDA_BINDINGS}", "cuda-pathfinder>=1.1,<2")
            download(wheels, "--only-binary=:all:", *names)
            for wheel in wheels.glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder / "site")
            (folder / "ready").touch()
    return folder / "site"


def driver_library(folder: Path, pycuda: Path | None) -> Path:
    """``libcuda.so.1`` in the folder: our driver, and *not supported* for all else that the pycuda
    of a site links against. cuda-bindings links against nothing."""
    symbols: list[str] = []
    if pycuda is not None:
        (extension,) = (pycuda / "pycuda").glob("_driver*.so")
        symbols = subprocess.run(
            ["nm", "-D", "--undefined-only", extension], capture_output=True, text=True, check=True
        ).stdout.split()
    rest = folder / "rest.c"
    rest.write_text(
        "".join(
            f"int __attribute__((weak)) {name}(void) {{ return 801; }}\n"
            for name in symbols
            if name.startswith("cu")
        )
    )
    library = folder / "libcuda.so.1"
    subprocess.run(
        [
            "gcc",
            "-O1",
            "-shared",
            "-fPIC",
            "-Wl,-soname,libcuda.so.1",
            "-o",
            library,
            _DRIVER,
            rest,
            "-ldl",
        ],
        check=True,
    )
    return library


def _build(folder: Path) -> None:
    fetched = folder / "fetched"
    shutil.rmtree(fetched, ignore_errors=True)
    download(fetched, "--no-binary=:all:", "--no-build-isolation", f"pycuda=={PYCUDA}")
    download(fetched, "--only-binary=:all:", f"nvidia-cuda-runtime=={CUDA}")
    (sdist,) = fetched.glob("pycuda-*.tar.gz")
    (headers,) = fetched.glob("nvidia_cuda_runtime-*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(fetched)
    with zipfile.ZipFile(headers) as wheel:
        wheel.extractall(fetched / "cuda")
    (include,) = (fetched / "cuda").rglob("include")
    (include / "cudaProfiler.h").write_text(_PROFILER_HEADER)
    # Linking needs a library of that name, whatever it holds.
    subprocess.run(
        [
            "gcc",
            "-shared",
            "-fPIC",
            "-Wl,-soname,libcuda.so.1",
            "-o",
            fetched / "libcuda.so",
            _DRIVER,
            "-ldl",
        ],
        check=True,
    )
    source = fetched / f"pycuda-{PYCUDA}"
    (source / "siteconf.py").write_text(
        f"CUDA_ROOT = {str(include.parent)!r}\n"
        f"CUDA_INC_DIR = [{str(include)!r}]\n"
        "CUDA_ENABLE_CURAND = False\n"
        f"CUDADRV_LIB_DIR = [{str(fetched)!r}]\n"
    )
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "wheel", source],
        # What matters is that it runs, not how fast.
        env={**os.environ, "CFLAGS": "-O0 -g0 -w"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    (wheel_file,) = (folder / "wheel").glob("pycuda-*.whl")
    shutil.rmtree(folder / "site", ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", folder / "site", wheel_file],
        check=True,
        capture_output=True,
    )
    # The station's numpy is the one to prove it with.
    for numpy in (folder / "site").glob("numpy*"):
        shutil.rmtree(numpy)
    shutil.rmtree(fetched)
