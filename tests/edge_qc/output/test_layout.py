"""The register map: where values lie, how they are coded, and what may not be."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from edge_qc.errors import SettingsError
from edge_qc.output import Outputs
from edge_qc.output.block import MEANING, Block
from edge_qc.output.layout import (
    COILS,
    Field,
    coded,
    number_of,
    register_map,
    text_of,
    words_of,
)
from edge_qc.output.page import page
from edge_qc.output.result import id_number, label_number
from edge_qc.settings import OutputTable
from tests.rig.stations import settings_in


def table(**keys: Any) -> OutputTable:
    return OutputTable.model_validate(
        {"name": "plc", "target": "modbus://h", "deadline_ms": 80, **keys}
    )


def test_blocks_follow_each_other_and_nothing_overlaps() -> None:
    found = register_map(
        table(register=100, acknowledge_ms=50, confirm="count"), ("north", "part"), triggers=True
    )
    taken = [
        register
        for area in found.areas()
        for register in range(area.register, area.register + area.words)
    ]
    assert taken == list(range(100, 100 + len(taken)))
    assert [area.coil for area in found.blocks] == [0, len(COILS)]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"blocks": {"part": {"register": 10, "coil": 9}}},
            "north (registers 0 to 43) and bl",
        ),
        (
            {"blocks": {"part": {"register": 200, "coil": 2}}},
            "(coils 0 to 2) and block part (from",
        ),
        ({"trigger_register": 20}, "overlap"),
        ({"register": 65_500}, "the last one is 65535. Let it begin at 65492 or before"),
        ({"text_registers": 32, "register": 0}, None),
    ],
)
def test_overlaps_are_refused_with_both_names(keys: dict[str, Any], said: str | None) -> None:
    if said is None:
        register_map(table(**keys), ("north", "part"), triggers=True)
        return
    with pytest.raises(SettingsError) as error:
        register_map(table(**keys), ("north", "part"), triggers=True)
    assert said in str(error.value)


def two(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Two outputs of a station: what ``check`` looks at, and the station's start."""
    outputs = [
        {"name": name, "target": "modbus://h", "deadline_ms": 80, **keys}
        for name, keys in (("a", first), ("b", second))
    ]
    Outputs(settings_in(folder, output=outputs), lambda *event: None).close()


PART, HAND = {"of": ["part"]}, {"of": ["hand"]}
NODES = {"target": "opcua://h"}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            PART,
            HAND,
            "modbus://h:502, unit 1: block part of output a (registers 0 to 43) and block ",
        ),
        (PART, {**HAND, "register": 44}, "(coils 0 to 2) and block hand of output b (from 0 on)"),
        (PART, {**HAND, "register": 30, "coil": 3, "target": "modbus://H:502/"}, "begin at 44 or"),
        (NODES, {**NODES, **PART}, "=edge-qc.part.heartbeat would be heartbeat of block part of o"),
        (NODES, {**NODES, "target": "opcua://h:4840/path"}, "opcua://h:4840: ns=2;s=edge-qc.hand."),
    ],
)
def test_two_outputs_at_one_controller_have_nothing_in_common(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], said: str
) -> None:
    """Or a camera's GOOD would set the coil that lets the part pass."""
    with pytest.raises(SettingsError) as error:
        two(tmp_path, first, second)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (PART, {**HAND, "register": 44, "coil": 3}),
        (PART, {**HAND, "unit": 2}),
        (PART, {**HAND, "target": "modbus://other"}),
        (PART, {**HAND, "target": "modbus://h:503"}),
        ({**NODES, **PART}, {**NODES, **HAND}),
        (NODES, {**NODES, "node": "ns=2;s=line-2.{block}.{field}"}),
    ],
)
def test_two_outputs_that_are_apart_may_be(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    two(tmp_path, first, second)


@pytest.mark.parametrize("word_order", ["big", "little"])
@pytest.mark.parametrize("byte_order", ["big", "little"])
def test_what_is_coded_is_read_again(word_order: str, byte_order: str) -> None:
    own = table(word_order=word_order, byte_order=byte_order)
    number, text = Field("counter", "number", 0, 2), Field("part", "text", 2, 4)
    words = coded(0x0001_0002, number, own) + coded("W27-é1", text, own)
    assert words[:2] == ([1, 2] if word_order == "big" else [2, 1])
    assert words[2] == (0x5732 if byte_order == "big" else 0x3257)
    assert number_of(words, number, own) == 0x0001_0002
    assert text_of(words, text, own) == "W27-?1"


def test_a_text_too_long_is_cut_and_a_number_too_large_keeps_its_low_part() -> None:
    own = table(counter_registers=1, text_registers=2)
    area = register_map(own, ("part",), triggers=False).block("part")
    words = words_of(area, Block(counter=65_537, part="abcdefgh"), own)
    assert number_of(words, area.field("counter"), own) == 1
    assert text_of(words, area.field("part"), own) == "abcd"


def test_numbers_of_ids_and_labels() -> None:
    assert [id_number(text) for text in ("W27-004411", "plc-7.000411", "", None, "abc")] == [
        *(4411, 411, 0, 0, 0)
    ]
    assert id_number("70000", 1) == 70_000 - 65_536
    labels = ("GOOD", "flat", "DRIFT")
    assert [label_number(label, labels) for label in (*labels, "NOT_JUDGED")] == [1, 2, 3, 0]


def test_the_page_names_every_value_where_it_lies() -> None:
    found = register_map(table(register=7), ("north", "part"), triggers=True)
    shown = page(found, ("GOOD", "flat", "DRIFT"))
    for area in found.areas():
        for field in area.fields:
            assert f"| {area.register + field.at} | {field.words} | `{field.name}` |" in shown
    assert "2: flat" in shown
    assert {field.name for field in fields(Block)} <= set(MEANING)
