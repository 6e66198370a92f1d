"""The TensorRT engine on the real pycuda and on NVIDIA's cuda-bindings: contexts, pinned and mapped
memory, streams, graphs.

pycuda is built here from source. Under both is ``cuda_driver.c``, a driver on host memory that
counts what is alive; in TensorRT's place stands the stand-in, whose work runs inside the CUDA
stream.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FAKES = ROOT / "tests" / "fakes"
sys.path.insert(0, str(HERE))

from bindings import missing_names  # noqa: E402
from pycuda_build import cuda_bindings_site, driver_library, pycuda_site  # noqa: E402

from tests.rig.tiny_bundle import make_bundle  # noqa: E402

pytestmark = [pytest.mark.conformance, pytest.mark.slow]

NOTHING = dict.fromkeys(("pinned", "device", "streams", "events", "contexts", "graphs"), 0)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(name))
        for name in ("pycuda", "cuda-bindings")
    ],
)
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Of a process with one of the two libraries, our driver, and the stand-in for TensorRT."""
    is_pycuda = request.param == "pycuda"
    site = pycuda_site() if is_pycuda else cuda_bindings_site()
    folder = tmp_path_factory.mktemp("driver")
    driver_library(folder, site if is_pycuda else None)
    (folder / "python").mkdir()
    (folder / "python" / "tensorrt").symlink_to(FAKES / "tensorrt")
    return {
        **os.environ,
        "PYTHONPATH": f"{site}:{folder / 'python'}:{ROOT}",
        "LD_LIBRARY_PATH": str(folder),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


def run(
    scenario: str, bundle: Path, plans: Path, environment: dict[str, str], clean: bool = True
) -> Any:
    """What the scenario printed. clean: pycuda may not complain about anything left behind."""
    done = subprocess.run(
        [sys.executable, HERE / "on_pycuda.py", scenario, bundle, plans],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not clean or "PyCUDA WARNING" not in done.stderr, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def names_of_the_stand_in() -> list[str]:
    """Its public classes, enum members, functions and methods, dotted."""
    own = {"Fake", "Stream.put", "Stream.run"}
    found: list[str] = []
    tree = ast.parse((FAKES / "pycuda" / "driver.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        found.append(node.name)
        for part in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(part, ast.FunctionDef):
                found.append(f"{node.name}.{part.name}")
            elif isinstance(part, ast.Assign):
                found.append(f"{node.name}.{ast.unparse(part.targets[0])}")
    return [
        name
        for name in found
        if name not in own and not name.startswith("Fake.") and "__" not in name
    ]


@pytest.mark.parametrize("environment", ["pycuda"], indirect=True)
def test_the_real_pycuda_has_every_name_of_the_stand_in(environment: dict[str, str]) -> None:
    names = names_of_the_stand_in()
    assert {"Context.pop", "host_alloc_flags.DEVICEMAP", "mem_alloc"} <= set(names)
    assert missing_names("pycuda.driver", names, environment) == []


def test_every_mode_answers_right_and_leaves_nothing(
    bundle: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    seen = run("answers", bundle, tmp_path / "plans", environment)
    assert set(seen) == {"mapped calls", "mapped graph", "copied calls", "copied graph"}
    for mode, result in seen.items():
        assert result["worst"] < 1e-5, mode
        assert result["left"] == NOTHING, mode
        assert result["held"]["pinned"] == 5, mode
        assert result["held"]["device"] == (5 if "copied" in mode else 0), mode
        # Two threads with four golden views each, and acceptance with two batches.
        assert (result["launches"] > 0) == ("graph" in mode), mode


def test_failures_become_engine_errors(
    bundle: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    # An engine that failed is left to the process's end: freeing would wait for a hung GPU.
    seen = run("failures", bundle, tmp_path / "plans", environment, clean=False)
    full = {name: said for name, said in seen.items() if name.startswith("full")}
    assert len(full) == 10
    for name, (text, left) in full.items():
        assert "memory is full" in text, name
        assert left == NOTHING, name
    assert "no answer in 0.05 s" in seen["hang"]
    assert "must be opened again" in seen["after the hang"]
    assert "cuGraphLaunch failed: unspecified launch failure" in seen["launch failed"]
    assert "must be opened again" in seen["after the failure"]


def test_a_hundred_thousand_answers_allocate_nothing(
    bundle: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Nothing pinned or on the device, and of Python less than one object an answer would take."""
    seen = run("endurance", bundle, tmp_path / "plans", environment)
    assert seen["held_after"] == seen["held_before"]
    assert seen["left"] == NOTHING
    assert seen["grown_bytes"] < 2 << 20
