"""The pre-flight: what NVIDIA's compiler says of a graph is told, and what it refuses is not
written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edge_qc.errors import EdgeQCError, UsageError
from edge_qc_export.preflight import ARCHITECTURES, check_types, preflight, require_compiler
from edge_qc_export.preflight.tensor_types import count_casts, node_types
from edge_qc_export.release import release
from edge_qc_export.release.manifest import ReleaseSettings
from edge_qc_export.release.report import REPORT
from tests.conformance.rtx import VERSION, rtx_site
from tests.export.release.test_release import SETTINGS

pytestmark = pytest.mark.torch


def graph(second: str = "Relu") -> onnx.ModelProto:
    """Half in the middle of FP32: two casts, and weights that are cast once."""
    nodes = [
        helper.make_node("Cast", ["weight"], ["wide"], name="widen", to=TensorProto.FLOAT),
        helper.make_node("Add", ["view", "wide"], ["sum"], name="add"),
        helper.make_node("Cast", ["sum"], ["half"], name="down", to=TensorProto.FLOAT16),
        helper.make_node(second, ["half"], ["kept"], name="middle"),
        helper.make_node("Cast", ["kept"], ["out"], name="up", to=TensorProto.FLOAT),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("view", TensorProto.FLOAT, (1, 4, 4))],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [helper.make_tensor("weight", TensorProto.FLOAT16, (1,), [1.0])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


def layers(**changed: str) -> list[dict[str, Any]]:
    """``graph`` as a compiler tells it. changed: the type that a layer gives."""
    flow = [("add", "FLOAT"), ("down", "HALF"), ("middle", "HALF"), ("up", "FLOAT")]
    told, before = [], "FLOAT"
    for name, kind in flow:
        gives = changed.get(name, kind)
        told.append(
            {
                "name": name,
                "kind": "CAST" if name in ("down", "up") else "ELEMENTWISE",
                "inputs": [before],
                "outputs": [gives],
                "constant": False,
            }
        )
        before = gives
    return told


def test_casts_of_weights_cost_no_answer_anything() -> None:
    assert count_casts(graph()) == 2
    assert node_types(graph())["middle"] == "HALF"
    assert node_types(graph())["add"] == "FLOAT"


def test_types_as_declared_are_taken() -> None:
    check_types(graph(), layers())


def test_a_layer_of_another_type_is_named() -> None:
    with pytest.raises(EdgeQCError, match="middle is FLOAT, wanted HALF"):
        check_types(graph(), layers(middle="FLOAT"))


def test_a_cast_more_than_the_graph_has_is_counted() -> None:
    more = {"name": "of its own", "kind": "CAST", "constant": False}
    with pytest.raises(EdgeQCError, match="3 casts between half and FP32, wanted 2"):
        check_types(graph(), [*layers(), {**more, "inputs": ["FLOAT"], "outputs": ["HALF"]}])


def test_without_the_compiler_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_qc_export.preflight.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'edge-qc-export\[preflight\]'"):
        require_compiler()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT for RTX, as the extra ``preflight`` installs it."""
    site = str(rtx_site())
    monkeypatch.setenv("PYTHONPATH", site)
    monkeypatch.syspath_prepend(site)


@pytest.mark.conformance
@pytest.mark.usefixtures("compiler")
def test_nvidias_compiler_says_what_it_read_and_built() -> None:
    report = preflight(graph())
    assert report.compiler == f"TensorRT for RTX {VERSION}"
    assert report.architectures == ARCHITECTURES
    assert report.casts == 2
    assert report.layers["HALF"] == 2
    assert "It ran nothing" in report.sentence


@pytest.mark.conformance
@pytest.mark.usefixtures("compiler")
def test_what_nvidias_compiler_refuses_is_no_bundle(
    run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(EdgeQCError, match="refuses this graph for SM86") as refused:
        preflight(graph("Det"))
    assert f"TensorRT for RTX {VERSION} cannot read" in str(refused.value)
    assert "node middle (Det): TensorRT does not have this operator" in str(refused.value)
    monkeypatch.setattr(
        "edge_qc_export.release.preflight", lambda graph_of_run: preflight(graph("Det"))
    )
    with pytest.raises(EdgeQCError, match="no bundle is written"):
        release(run, tmp_path / "bundle", ReleaseSettings(fit=SETTINGS.fit, preflight=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.conformance
@pytest.mark.usefixtures("compiler")
def test_the_bundles_report_tells_and_holds_nothing_of_nvidias(
    run: Any,
    tmp_path: Path,
) -> None:
    settings = ReleaseSettings(fit=SETTINGS.fit, fp16=True, preflight=True)
    made = release(run, tmp_path / "bundle", settings)
    told = json.loads((made.bundle.path / REPORT).read_text())["graph"]
    assert told["preflight"] == {
        "compiler": f"NVIDIA TensorRT for RTX {VERSION}",
        "read_and_built_for": list(ARCHITECTURES),
        "layers": told["preflight"]["layers"],
        "casts": told["casts"],
        "ran": False,
    }
    assert told["preflight"]["layers"]["fp16"] > 5
    assert told["casts"] > 0
    found = [file for file in made.bundle.path.rglob("*") if file.is_file()]
    files = {file.name for file in found if file.suffix != ".png"}
    expected = {"model.onnx", "golden.npz", "parts.npz", "export.json"}
    assert files == expected | {"manifest.json", "manifest.sha256"}
