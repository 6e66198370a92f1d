"""The MQTT contract's kept files: made from the types, and never less than what was released."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from edge_qc.publisher.messages import MESSAGES

ROOT = Path(__file__).parents[2]
HERE = ROOT / "docs" / "mqtt"
LEVELS = sorted(path.name.partition(".")[0] for path in HERE.glob("*.schema.json"))


def _load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


contract = _load("contract", HERE / "contract.py")


def test_the_kept_files_are_what_the_types_make() -> None:
    made = contract.files()
    stale = [
        path.name
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    kept = {*HERE.glob("*.json"), *(HERE / "examples").glob("*.json")}
    assert not stale, "run: python docs/mqtt/contract.py"
    assert kept == set(made), "delete what no type makes any more"


def test_every_message_has_its_channel() -> None:
    assert {kind.value for kind in MESSAGES} <= {channel.level for channel in contract.CHANNELS}


@pytest.mark.parametrize("level", LEVELS)
def test_the_examples_are_valid(level: str) -> None:
    schema = json.loads((HERE / f"{level}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    examples = sorted((HERE / "examples").glob(f"{level}*.json"))
    assert examples
    for example in examples:
        document = json.loads(example.read_text(encoding="utf-8"))
        validator.validate(document)
        assert document["schema"] == f"edge-qc/{level}/1"


def test_nothing_that_was_released_is_broken() -> None:
    """Every released schema against today's: fields are added, none is changed."""
    released = sorted(contract.RELEASED.glob("*.schema.json"))
    assert released
    channels = {channel.level: channel for channel in contract.CHANNELS}
    for file in released:
        channel = channels[file.name.partition(".")[0]]
        was = json.loads(file.read_text(encoding="utf-8"))
        assert not contract.breaks(was, contract.schema(channel), incoming=channel.incoming)


def _renamed(schema: dict[str, Any]) -> None:
    schema["properties"]["verdict"] = schema["properties"].pop("label")


def _retyped(schema: dict[str, Any]) -> None:
    schema["properties"]["seq"]["type"] = "string"


def _optional(schema: dict[str, Any]) -> None:
    schema["required"].remove("epoch")


def _deep(schema: dict[str, Any]) -> None:
    del schema["$defs"]["DriftFields"]["properties"]["p_value"]["maximum"]


def _widened(schema: dict[str, Any]) -> None:
    schema["$defs"]["Disposition"]["enum"].append("SCRAP")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_renamed, "message.label: is gone"),
        (_retyped, 'message.seq.type: was "integer", is "string"'),
        (_optional, "epoch may now be missing"),
        (_deep, "maximum: was 1, is null"),
        (_widened, "disposition.enum: was"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_is_seen(change: Callable[[dict[str, Any]], None], said: str) -> None:
    was = json.loads((HERE / "verdict.schema.json").read_text(encoding="utf-8"))
    now = copy.deepcopy(was)
    change(now)
    assert any(said in fault for fault in contract.breaks(was, now)), contract.breaks(was, now)


def test_a_field_that_is_added_breaks_nobody() -> None:
    """Unless a station demands it of what others send."""
    was = json.loads((HERE / "verdict.schema.json").read_text(encoding="utf-8"))
    now = copy.deepcopy(was)
    now["properties"]["rework"] = {"type": "string"}
    assert contract.breaks(was, now) == []
    now["required"].append("rework")
    assert contract.breaks(was, now) == []
    assert contract.breaks(was, now, incoming=True) == ["message: rework is now demanded"]
