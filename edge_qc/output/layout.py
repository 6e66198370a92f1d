"""The register map: where each value lies, how it is coded, and that nothing overlaps.

Addresses are Modbus' own, from 0 on, as they travel; a controller may show register 0 as 40001.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edge_qc.errors import SettingsError
from edge_qc.output.block import Block
from edge_qc.settings import OutputTable

Kind = Literal["word", "number", "text"]
COILS = ("passed", "toggle", "ready")
BEAT = 2
"""The first so many values of a block are written with each heartbeat."""
_FIRST = 65_536
_AT_ONCE = 123
"""Registers that one Modbus request can write (Modbus Application Protocol 1.1b3, section 6.12)."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value of registers. at: from its area's first register."""

    name: str
    kind: Kind
    at: int
    words: int


@dataclass(frozen=True, slots=True)
class Area:
    """Fields that lie one behind the other. written: by whom, ``station`` or ``controller``. of:
    the block's name; None for what the controller counts. coil: the block's first."""

    title: str
    written: Literal["station", "controller"]
    register: int
    fields: tuple[Field, ...]
    of: str | None = None
    coil: int | None = None

    @property
    def words(self) -> int:
        return sum(field.words for field in self.fields)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its values, the coils last."""
        return (*(field.name for field in self.fields), *(COILS if self.coil is not None else ()))

    def field(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """Where everything lies. acknowledged: by block, the register that the controller writes, where
    that is wanted. trigger, confirm: what the controller counts, if it does."""

    table: OutputTable
    blocks: tuple[Area, ...]
    acknowledged: dict[str, Area]
    trigger: Area | None
    confirm: Area | None

    def areas(self) -> Iterator[Area]:
        """All of them, in the order of their addresses."""
        extra = [area for area in (self.trigger, self.confirm) if area is not None]
        found = [*self.blocks, *self.acknowledged.values(), *extra]
        yield from sorted(found, key=lambda area: area.register)

    def block(self, name: str) -> Area:
        return next(area for area in self.blocks if area.of == name)


def register_map(table: OutputTable, blocks: Sequence[str], *, triggers: bool) -> RegisterMap:
    """Where an output's values lie. blocks: those that it shows; triggers: its controller triggers
    cameras. Raises SettingsError if areas overlap, or have no room."""
    layout = _block_fields(table)
    words = sum(field.words for field in layout) + (table.acknowledge_ms is not None)
    register, coil = table.register_, table.coil
    areas, acknowledged = [], {}
    for name in blocks:
        place = table.blocks.get(name)
        first = register if place is None else place.register_
        first_coil = coil if place is None else place.coil
        if place is None:
            register, coil = register + words, coil + len(COILS)
        area = Area(f"block {name}", "station", first, layout, name, first_coil)
        areas.append(area)
        if table.acknowledge_ms is not None:
            field = Field("acknowledged", "word", 0, 1)
            acknowledged[name] = Area(
                f"acknowledgement of {name}", "controller", first + area.words, (field,), name
            )
    trigger = confirm = None
    register = max(area.register + words for area in areas)
    if triggers:
        first = register if table.trigger_register is None else table.trigger_register
        trigger = Area("trigger", "controller", first, trigger_fields(table))
        register += trigger.words if table.trigger_register is None else 0
    if table.confirm == "count":
        first = register if table.confirm_register is None else table.confirm_register
        confirm = Area("confirmation", "controller", first, (Field("confirmed", "word", 0, 1),))
    found = RegisterMap(table, tuple(areas), acknowledged, trigger, confirm)
    _check(found)
    return found


def trigger_fields(table: OutputTable) -> tuple[Field, ...]:
    """What the controller writes for a trigger, the count last."""
    return _laid(
        ("part_number", "number", table.number_registers),
        ("part", "text", table.text_registers),
        ("lot", "text", table.text_registers),
        ("serial", "text", table.text_registers),
        ("count", "word", 1),
    )


def _block_fields(table: OutputTable) -> tuple[Field, ...]:
    return _laid(
        ("heartbeat", "word", 1),
        ("state", "word", 1),
        ("fault", "word", 1),
        ("counter", "number", table.counter_registers),
        ("disposition", "word", 1),
        ("label", "word", 1),
        ("reason", "word", 1),
        ("part_number", "number", table.number_registers),
        ("trigger_number", "number", table.number_registers),
        ("part", "text", table.text_registers),
        ("trigger", "text", table.text_registers),
    )


def _laid(*rows: tuple[str, Kind, int]) -> tuple[Field, ...]:
    found, at = [], 0
    for name, kind, words in rows:
        if words:
            found.append(Field(name, kind, at, words))
            at += words
    return tuple(found)


def _check(found: RegisterMap) -> None:
    where = f"output {found.table.name}"
    for area in found.areas():
        if area.words > _AT_ONCE:
            raise SettingsError(
                f"{where}: {area.title} takes {area.words} registers, and one request carries "
                f"{_AT_ONCE}. Make text_registers smaller"
            )
    _spans_apart(where, [(area, area.title) for area in found.areas()])


def check_apart(maps: Sequence[RegisterMap]) -> None:
    """All outputs of a station: no two have the same register, coil or node of one controller.
    Raises SettingsError."""
    shared: dict[str, list[tuple[Area, str]]] = {}
    nodes: dict[tuple[str, str], str] = {}
    for found in maps:
        table, where = found.table, found.table.where
        for area in found.areas():
            title = f"{area.title} of output {table.name}"
            if where.kind == "modbus":
                unit = f"modbus://{where.host}:{where.port}, unit {table.unit}"
                shared.setdefault(unit, []).append((area, title))
            elif where.kind == "opcua":
                for name in area.names:
                    _node_apart(nodes, f"opcua://{where.host}:{where.port}", table, area, name)
    for unit, areas in shared.items():
        _spans_apart(unit, areas)


def _node_apart(
    nodes: dict[tuple[str, str], str], controller: str, table: OutputTable, area: Area, name: str
) -> None:
    node, whose = node_of(table.node, area, name), f"{area.title} of output {table.name}"
    other = nodes.setdefault((controller, node), whose)
    if other != whose:
        raise SettingsError(
            f"{controller}: {node} would be {name} of {other} and of {whose}. Give one output "
            "another node, or let of name other blocks"
        )


def node_of(node: str, area: Area, field: str) -> str:
    """The id of a value's OPC UA node. node: as the output's table has it."""
    return node.replace("{block}", area.of or area.title).replace("{field}", field)


def _spans_apart(where: str, areas: Sequence[tuple[Area, str]]) -> None:
    """The areas, each with its title, share no register and no coil."""
    _apart(where, "register", [(area.register, area.words, title) for area, title in areas])
    coils = [(area.coil, len(COILS), title) for area, title in areas if area.coil is not None]
    _apart(where, "coil", coils)


def _apart(where: str, what: str, found: Sequence[tuple[int, int, str]]) -> None:
    """found: for each its first address, how many, and its title."""
    spans = [(first, first + count, title) for first, count, title in found]
    spans.sort(key=lambda span: span[0])
    for first, end, title in spans:
        if end > _FIRST:
            raise SettingsError(
                f"{where}: {title} would end at {what} {end - 1}, the last one is {_FIRST - 1}. "
                f"Let it begin at {first - (end - _FIRST)} or before"
            )
    for (first, end, title), (then, _, other) in itertools.pairwise(spans):
        if then < end:
            raise SettingsError(
                f"{where}: {title} ({what}s {first} to {end - 1}) and {other} (from {then} on) "
                f"overlap. Let {other} begin at {end} or later"
            )


def words_of(area: Area, block: Block, table: OutputTable, count: int | None = None) -> list[int]:
    """The registers of a block, coded; count: of its first so many values."""
    found: list[int] = []
    for field in area.fields[:count]:
        value = getattr(block, field.name)
        found += coded(value, field, table)
    return found


def coded(value: int | str, field: Field, table: OutputTable) -> list[int]:
    """A value in its registers, by the output's order of words and bytes."""
    if isinstance(value, str):
        text = value.encode("ascii", "replace")[: 2 * field.words].ljust(2 * field.words, b"\0")
        return [
            int.from_bytes(text[at : at + 2], table.byte_order) for at in range(0, len(text), 2)
        ]
    words = [(value >> (16 * place)) & 0xFFFF for place in range(field.words)]
    return words if table.word_order == "little" else words[::-1]


def number_of(words: Sequence[int], field: Field, table: OutputTable) -> int:
    """A number out of the registers of its area."""
    own = list(words[field.at : field.at + field.words])
    if table.word_order == "little":
        own.reverse()
    total = 0
    for word in own:
        total = (total << 16) | word
    return total


def text_of(words: Sequence[int], field: Field, table: OutputTable) -> str:
    """A text out of the registers of its area, to its first zero."""
    own = words[field.at : field.at + field.words]
    raw = b"".join(word.to_bytes(2, table.byte_order) for word in own)
    text = raw.partition(b"\0")[0].decode("ascii", "replace").strip()
    return "".join(sign if sign.isprintable() else "?" for sign in text)
