"""What an output is opened with: the table of kinds, and what each of them can do.

``KINDS`` names the classes as ``module:class``; each is imported when it is opened. A static
``check`` refuses, without opening anything, what can never work.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from edge_qc.output.block import Block
from edge_qc.output.layout import RegisterMap
from edge_qc.settings import OutputTable


@dataclass(frozen=True, slots=True)
class Counted:
    """What the controller counts, as last read. count, confirmed: None if it does not count that.
    part, lot, serial: of the trigger, None if it names none."""

    count: int | None
    confirmed: int | None
    part: str | None = None
    lot: str | None = None
    serial: str | None = None


class Connection(Protocol):
    """An open output. Used from one thread; every method raises OutputError where the other side
    did not take it in time, and what it holds is then not known."""

    def toggle(self, block: str) -> bool:
        """The bit as it stands there, so that a new start does not flip it."""

    def write(self, block: str, values: Block) -> None:
        """The block's registers, without its coils."""

    def beat(self, block: str, values: Block) -> None:
        """Heartbeat and state alone, and whether the station is ready."""

    def show(self, block: str, values: Block, within_s: float | None = None) -> None:
        """``passed`` and ``toggle``, in one go. within_s: by when that must be answered, where that
        is sooner than usual; close the connection if it is not, so that it cannot come later."""

    def acknowledged(self, block: str) -> int:
        """The counter that the controller says it has taken."""

    def close(self) -> None:
        """Give it back; what it shows stays."""


class Counters(Protocol):
    """The controller's own counters, read on a connection of their own."""

    def read(self) -> Counted:
        """Raises OutputError."""

    def close(self) -> None:
        """Give it back."""


_HERE = "edge_qc.output"

KINDS: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "modbus": (
            f"{_HERE}.modbus:ModbusConnection",
            f"{_HERE}.modbus:ModbusCounters",
        ),
        "opcua": (f"{_HERE}.opcua:OpcUaConnection", f"{_HERE}.opcua:OpcUaCounters"),
        "gpio": (f"{_HERE}.pin:PinConnection", None),
    }
)
"""By kind: what shows a block, and what reads the controller's counters."""


def _loaded(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def check_output(table: OutputTable) -> None:
    """Refuse what can never work, without opening anything. Raises SettingsError."""
    table.password()
    _loaded(KINDS[table.where.kind][0]).check(table)


def open_connection(found: RegisterMap) -> Connection:
    """Raises OutputError for what may work later, SettingsError for what never will."""
    opened: Connection = _loaded(KINDS[found.table.where.kind][0])(found)
    return opened


def open_counters(found: RegisterMap) -> Counters:
    """As ``open_connection``."""
    name = KINDS[found.table.where.kind][1]
    assert name is not None
    opened: Counters = _loaded(name)(found)
    return opened
