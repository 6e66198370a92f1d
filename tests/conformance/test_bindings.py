"""The TensorRT engine against NVIDIA's real bindings, as far as a machine without a GPU can:
every name exists, every call type-checks, and misuse would be caught."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from bindings import Bindings, bindings, cache, missing_names  # noqa: E402
from likeness import protocols  # noqa: E402

pytestmark = pytest.mark.conformance

ENGINE = ROOT / "edge_qc" / "engine"
FAKES = ROOT / "tests" / "fakes"

VERSIONS = {
    "10.3.0": ("tensorrt-cu12-bindings", "manylinux_2_17"),  # JetPack 6.1 and 6.2
    "10.13.3.9": ("tensorrt-cu13-bindings", "manylinux_2_28"),  # JetPack 7.0 and 7.1
    "10.16.1.11": ("tensorrt-cu13-bindings", "manylinux_2_28"),  # the newest 10.x: JetPack 7.2's
    # A workstation; 11.4.1, which JetPack 7.2.2 takes, has no bindings on the index.
    "11.4.0.106": ("tensorrt-cu13-bindings", "manylinux_2_28"),
}

PYTHONS = {
    "JetPack 6": ("10.3.0", (3, 10)),
    "JetPack 7": ("10.16.1.11", (3, 12)),
    "JetPack 7.2.2 with TensorRT 11": ("11.4.0.106", (3, 12)),
}

MISUSE = {
    "precision by flag": "config.set_flag(trt.BuilderFlag.FP16)",
    "an old call": "context.execute_async_v2([1], 2)",
    "bindings by index": "engine.get_binding_shape(0)",
    "a workspace attribute": "config.max_workspace_size = 1 << 30",
    "an address that is no number": 'context.set_tensor_address("view", "0x10")',
    "a tensor by number": "context.set_tensor_address(0, 16)",
    "an ONNX that is text": 'parser.parse("model.onnx")',
    "a missing argument": "builder.build_serialized_network(network)",
    "an argument too many": "config.set_timing_cache(config.create_timing_cache(b''), False, 1)",
    "a level in words": 'config.builder_optimization_level = "fast"',
    "a flag that never was": "trt.NetworkDefinitionCreationFlag.STRONGLY_TYPE",
}
MISUSE_OF_11 = {"precision by flag"}


@pytest.fixture(scope="module", params=VERSIONS)
def real(request: pytest.FixtureRequest) -> Bindings:
    name, manylinux = VERSIONS[request.param]
    return bindings(name, request.param, manylinux)


def mypy(path: list[Path], *targets: Path | str, tmp_path: Path) -> str:
    """What mypy says of the targets, strictly; faults inside stubs are not ours."""
    # Each worker's own: two versions of the same modules would be mixed.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    config = tmp_path / "mypy.ini"
    config.write_text(
        "[mypy]\nstrict = true\npython_version = 3.12\nexplicit_package_bases = true\n"
        "[mypy-tensorrt.*]\nignore_errors = true\n"
        "[mypy-cuda.*,cv2.*,onnxruntime.*,tomli.*,zstandard.*]\nignore_missing_imports = true\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            f"--config-file={config}",
            f"--cache-dir={cache() / 'mypy' / worker}",
            "--no-error-summary",
            *map(str, targets),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": ":".join(map(str, path))},
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def stub_path(real: Bindings, tmp_path: Path) -> list[Path]:
    """The real TensorRT's stubs and, since pycuda has none, the stand-in for pycuda."""
    (tmp_path / "types").mkdir()
    (tmp_path / "types" / "pycuda").symlink_to(FAKES / "pycuda")
    return [real.stubs, tmp_path / "types"]


def names_used() -> list[str]:
    """Every ``trt.a.b`` in the engine's source, as ``a.b``."""
    found = set()
    for file in ENGINE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                root, _, rest = ast.unparse(node).partition(".")
                if root == "trt" and rest.replace(".", "").replace("_", "").isalnum():
                    found.add(rest)
    return sorted(found)


def test_every_name_that_the_engine_uses_exists(real: Bindings) -> None:
    """Under the real import; a name that types alone use counts too."""
    names = names_used()
    assert {"BuilderFlag.TF32", "Runtime", "DataType.UINT8", "__version__"} <= set(names)
    assert missing_names("tensorrt", names, real.environment()) == []


@pytest.mark.parametrize("platform", PYTHONS)
def test_every_name_exists_under_a_jetpacks_own_python(platform: str) -> None:
    version, python = PYTHONS[platform]
    name, manylinux = VERSIONS[version]
    real = bindings(name, version, manylinux, python)
    assert missing_names("tensorrt", names_used(), real.environment(), real.python) == []
    assert missing_names("tensorrt", ["Nothing"], real.environment(), real.python) == ["Nothing"]


def test_flags_that_are_written_as_numbers_elsewhere(real: Bindings) -> None:
    """STRONGLY_TYPED's value differs between versions, and both give a network that is."""
    code = (
        "import tensorrt as trt\n"
        "print(trt.__version__, int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED), "
        "'FP16' in trt.BuilderFlag.__members__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=real.environment(),
    )
    values = ["0", "False"] if real.version.startswith("11") else ["1", "True"]
    assert done.stdout.split() == [real.version, *values]


def test_the_engine_type_checks(real: Bindings, tmp_path: Path) -> None:
    assert mypy(stub_path(real, tmp_path), ENGINE, tmp_path=tmp_path) == ""


def test_misuse_would_be_caught(real: Bindings, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    allowed = MISUSE_OF_11 if real.version.startswith("10") else set()
    lines = {name: line for name, line in MISUSE.items() if name not in allowed}
    seeded = tmp_path / "seeded.py"
    seeded.write_text(
        "from __future__ import annotations\nimport tensorrt as trt\n"
        "def seeded(builder: trt.Builder, network: trt.INetworkDefinition, "
        "config: trt.IBuilderConfig, parser: trt.OnnxParser, engine: trt.ICudaEngine, "
        "context: trt.IExecutionContext) -> None:\n"
        + "".join(f"    {line}\n" for line in lines.values())
    )
    said = mypy([real.stubs], seeded, tmp_path=tmp_path)
    missed = [
        name
        for number, name in enumerate(lines, start=4)
        if not any(line.startswith(f"{seeded}:{number}: error") for line in said.splitlines())
    ]
    assert missed == []


def test_misuse_in_the_engine_itself_would_be_caught(real: Bindings, tmp_path: Path) -> None:
    """A copy of the runner that calls what TensorRT 10 dropped."""
    source = (ENGINE / "tensorrt.py").read_text(encoding="utf-8")
    assert source.count("execute_async_v3(") == 1
    copy = tmp_path / "altered.py"
    copy.write_text(source.replace("execute_async_v3(", "execute_async_v2("))
    said = mypy([*stub_path(real, tmp_path), ROOT], copy, tmp_path=tmp_path)
    assert 'no attribute "execute_async_v2"' in said


def test_the_stand_in_has_the_real_signatures(real: Bindings, tmp_path: Path) -> None:
    """So that what passes against it has called nothing that the real bindings refuse."""
    alike = tmp_path / "alike.py"
    stub = real.stubs / "tensorrt" / "__init__.pyi"
    alike.write_text(protocols(FAKES / "tensorrt" / "__init__.py", stub))
    assert mypy([FAKES], alike, tmp_path=tmp_path) == ""


def test_a_stand_in_with_a_wrong_signature_would_be_caught(real: Bindings, tmp_path: Path) -> None:
    source = (FAKES / "tensorrt" / "__init__.py").read_text(encoding="utf-8")
    altered = tmp_path / "fakes" / "tensorrt" / "__init__.py"
    altered.parent.mkdir(parents=True)
    altered.write_text(
        source.replace(
            "def set_tensor_address(self, name: str,", "def set_tensor_address(self, name: int,"
        )
    )
    alike = tmp_path / "alike.py"
    alike.write_text(protocols(altered, real.stubs / "tensorrt" / "__init__.pyi"))
    assert "set_tensor_address" in mypy([tmp_path / "fakes"], alike, tmp_path=tmp_path)


def test_a_stand_in_with_an_invented_name_would_be_caught(real: Bindings, tmp_path: Path) -> None:
    source = (FAKES / "tensorrt" / "__init__.py").read_text(encoding="utf-8")
    altered = tmp_path / "__init__.py"
    altered.write_text(source.replace("    TF32 = 7\n", "    TF32 = 7\n    TF64 = 8\n"))
    with pytest.raises(AssertionError, match=r"no BuilderFlag\.TF64"):
        protocols(altered, real.stubs / "tensorrt" / "__init__.pyi")
