"""TensorRT's real Python bindings on a machine without TensorRT.

The wheels come from the package index when a test first asks for them, and stay in the user's
cache. The libraries that they want are stubs whose functions answer null: enough to import the
package, to look at every name and enum in it, and to make type stubs; no engine can be built.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.type_stubs import repaired
from tests.rig.programs import need

_FORM = "1"
"""Raised when what is made from a wheel changes."""

_FUNCTIONS = {
    "libnvinfer.so": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvonnxparser.so": (
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
    ),
    "libnvinfer_plugin.so": ("initLibNvInferPlugins",),
}


@dataclass(frozen=True)
class Bindings:
    """One version, for one Python. site: a folder for PYTHONPATH; libraries: one for
    LD_LIBRARY_PATH; stubs: one for MYPYPATH, empty for another Python than this one."""

    version: str
    python: str
    site: Path
    libraries: Path
    stubs: Path

    def environment(self) -> dict[str, str]:
        """Of a process in which ``import tensorrt`` finds the real bindings."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.site),
            "LD_LIBRARY_PATH": str(self.libraries),
        }


def cache() -> Path:
    """Where what was fetched and made stays between runs."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "edge-qc" / "conformance"


def bindings(
    name: str, version: str, manylinux: str, python: tuple[int, int] = sys.version_info[:2]
) -> Bindings:
    """The bindings of the distribution ``name`` for a Python that is on this machine; skips the
    test where they cannot be had."""
    need("cc")
    own = python == sys.version_info[:2]
    program = sys.executable if own else _interpreter(python)
    folder = cache() / f"{version}-py{python[0]}{python[1]}-{_FORM}"
    made = Bindings(version, program, folder / "site", folder / "lib", folder / "stubs")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            _fetch(name, version, manylinux, folder, python)
            for library, functions in _FUNCTIONS.items():
                _stub_library(
                    made.libraries, f"{library}.{version.split('.', maxsplit=1)[0]}", functions
                )
            if own:
                _type_stubs(made, folder)
            (folder / "ready").touch()
    return made


def _interpreter(python: tuple[int, int]) -> str:
    """Another Python of this machine's; skips the test where there is none."""
    wanted = f"{python[0]}.{python[1]}"
    # On a machine with pyenv, what the PATH has may be a name alone.
    found = [shutil.which(f"python{wanted}")]
    found += map(str, Path.home().glob(f".pyenv/versions/{wanted}.*/bin/python"))
    for program in filter(None, found):
        if not subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode:
            return program
    pytest.skip(f"needs Python {wanted} on the PATH: apt install python{wanted}")


def missing_names(
    module: str, names: list[str], environment: dict[str, str], python: str = sys.executable
) -> list[str]:
    """Those of the dotted names that the module has not, under its real import in ``python``."""
    code = (
        "import functools, importlib, json, sys\n"
        "module = importlib.import_module(sys.argv[1])\n"
        "def has(name):\n"
        "    try: functools.reduce(getattr, name.split('.'), module)\n"
        "    except AttributeError: return False\n"
        "    return True\n"
        "print(json.dumps([name for name in json.load(sys.stdin) if not has(name)]))"
    )
    done = subprocess.run(
        [python, "-c", code, module],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    missing: list[str] = json.loads(done.stdout)
    return missing


def download(folder: Path, *arguments: str) -> None:
    """``pip download`` into the folder; skips the test where the index does not answer."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"needs pip download {arguments[-1]}: {done.stderr.strip()[-300:]}")


def _fetch(name: str, version: str, manylinux: str, folder: Path, python: tuple[int, int]) -> None:
    wheels = folder / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    download(
        wheels,
        "--only-binary=:all:",
        f"--python-version={python[0]}{python[1]}",
        "--abi=none",
        f"--platform={manylinux}_x86_64",
        f"{name}=={version}",
    )
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    package = folder / "site" / "tensorrt"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )


def _stub_library(folder: Path, soname: str, functions: tuple[str, ...]) -> None:
    folder.mkdir(exist_ok=True)
    source = folder / f"{soname}.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
    subprocess.run(
        ["cc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", folder / soname, source],
        check=True,
    )


def _type_stubs(made: Bindings, folder: Path) -> None:
    raw = folder / "raw"
    subprocess.run(
        [
            Path(sys.executable).with_name("pybind11-stubgen"),
            "tensorrt_bindings",
            "-o",
            raw,
            "--ignore-all-errors",
        ],
        env=made.environment(),
        capture_output=True,
        check=True,
    )
    stub = (raw / "tensorrt_bindings" / "tensorrt.pyi").read_text(encoding="utf-8")
    package = made.stubs / "tensorrt"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.pyi").write_text(repaired(stub), encoding="utf-8")
