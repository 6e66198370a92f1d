"""The register map as a page that an automation engineer can print: Markdown, made of the settings.

The same words as in ``docs/outputs.md``, with this station's own addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_qc.output.block import MEANING
from edge_qc.output.layout import COILS, Area, RegisterMap, node_of

_TRIGGER = {
    "part_number": "the part's number; part's id where the text is empty and this is not 0",
    "part": "the part's id",
    "lot": "its lot, as it shall stand in every verdict",
    "serial": "its serial number, as it shall stand in every verdict",
    "count": "written last: counts up by one for each trigger",
    "confirmed": "counts up by one each time that the ejector has moved",
}


def page(found: RegisterMap, labels: Sequence[str] = ()) -> str:
    """The page. labels: of the installed bundle, in its order; empty if none is known."""
    return "\n".join(_lines(found, labels)) + "\n"


def _lines(found: RegisterMap, labels: Sequence[str]) -> Iterator[str]:
    table = found.table
    yield f"# Output {table.name}: {table.target}"
    yield ""
    yield (
        f"A part is REJECT until `passed` is 1 and `toggle` has flipped, within "
        f"{table.deadline_ms:g} ms of its trigger. A heartbeat that stands still for "
        f"{2 * table.heartbeat_ms:g} ms means dead: reject."
    )
    yield ""
    if table.where.kind == "modbus":
        yield (
            f"Modbus TCP, unit {table.unit}; addresses from 0 on (register 0 is shown as 40001, "
            f"coil 0 as 00001). Numbers of two registers: {table.word_order} word first. Text: two "
            f"ASCII characters a register, {table.byte_order} byte first. Registers are written "
            "before coils, `passed` and `toggle` in one request."
        )
    else:
        yield (
            f"OPC UA, one node for each value: `{table.node}`. Numbers are UInt32, `passed`, "
            "`toggle` and `ready` Boolean, texts String. `passed` and `toggle` are written last, "
            "in one request."
        )
    for area in found.areas():
        yield ""
        yield f"## {area.title.capitalize()}, written by the {area.written}"
        yield ""
        yield from _modbus(area) if table.where.kind == "modbus" else _nodes(area, table.node)
    yield ""
    yield "## Labels"
    yield ""
    yield "0: none (not judged, incomplete)"
    for number, label in enumerate(labels, 1):
        yield f"{number}: {label}"
    if not labels:
        yield "1 and on: the classes of the installed bundle in its order, DRIFT last"


def _modbus(area: Area) -> Iterator[str]:
    yield "| register | registers | value | meaning |"
    yield "|---:|---:|---|---|"
    for field in area.fields:
        meaning = _meaning(area, field.name)
        yield f"| {area.register + field.at} | {field.words} | `{field.name}` | {meaning} |"
    if area.coil is not None:
        yield ""
        yield "| coil | value | meaning |"
        yield "|---:|---|---|"
        for at, name in enumerate(COILS):
            yield f"| {area.coil + at} | `{name}` | {MEANING[name]} |"


def _nodes(area: Area, node: str) -> Iterator[str]:
    yield "| node | meaning |"
    yield "|---|---|"
    for name in area.names:
        yield f"| `{node_of(node, area, name)}` | {_meaning(area, name)} |"


def _meaning(area: Area, name: str) -> str:
    if area.of is None:
        return _TRIGGER[name]
    return MEANING[name]
