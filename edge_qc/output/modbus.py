"""Registers and coils of a controller, over Modbus TCP. The station is the client.

Needs the package ``pymodbus`` (``pip install '.[modbus]'`` in a clone). Where a value lies is
``layout``'s.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

from edge_qc.errors import OutputError, SettingsError
from edge_qc.extras import how_to_install
from edge_qc.output.block import Block
from edge_qc.output.connection import Counted
from edge_qc.output.layout import BEAT, Area, RegisterMap, number_of, text_of, words_of
from edge_qc.settings import OutputTable


def _client(table: OutputTable) -> Any:
    _check(table)
    import pymodbus.client
    from pymodbus.exceptions import ModbusException

    # It logs as errors what the station reports as events.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    where = table.where
    client: Any = pymodbus.client.ModbusTcpClient(
        where.host, port=where.port, timeout=table.timeout_ms / 1e3, retries=0, name="edge-qc"
    )
    try:
        connected = client.connect()
    except (OSError, ModbusException) as error:
        raise _away(table, error) from error
    if not connected or client.socket is None:
        raise _away(table, "no connection")
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Closed, the kernel sends nothing more: a PASS that waited in it would come after its deadline.
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return client


def _check(table: OutputTable) -> None:
    try:
        import pymodbus.client  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"output {table.name}: the package pymodbus is not installed ({error}). Install it "
            f"with: {how_to_install('modbus')}"
        ) from error


def _away(table: OutputTable, why: object) -> OutputError:
    return OutputError(
        f"output {table.name}: {table.target}: {why}. See that the controller runs its Modbus "
        "server, that this network reaches it, and that systemd's network.conf names it"
    )


class _Asked:
    """A client whose refusals and silences are OutputErrors."""

    def __init__(self, table: OutputTable) -> None:
        self._table = table
        self._client = _client(table)

    def ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        from pymodbus.exceptions import ModbusException

        try:
            answer = call(*arguments, device_id=self._table.unit, **more)
        except (OSError, ModbusException) as error:
            raise _away(self._table, error) from error
        if answer.isError():
            raise OutputError(
                f"output {self._table.name}: {self._table.target} refuses {call.__name__} at "
                f"address {arguments[0]} of unit {self._table.unit}: {answer}. See that its "
                "register map has room there: edge-qc output map"
            )
        return answer

    def registers(self, area: Area) -> list[int]:
        answer = self.ask(self._client.read_holding_registers, area.register, count=area.words)
        return list(answer.registers)

    def close(self) -> None:
        self._client.close()


class ModbusConnection(_Asked):
    """See ``Connection``."""

    def __init__(self, found: RegisterMap) -> None:
        super().__init__(found.table)
        self._map = found
        self._ready: dict[str, bool] = {}

    @staticmethod
    def check(table: OutputTable) -> None:
        """Raises SettingsError if pymodbus is missing."""
        _check(table)

    def toggle(self, block: str) -> bool:
        coil = self._map.block(block).coil
        return bool(self.ask(self._client.read_coils, coil, count=3).bits[1])

    def write(self, block: str, values: Block) -> None:
        area = self._map.block(block)
        self.ask(self._client.write_registers, area.register, words_of(area, values, self._table))

    def beat(self, block: str, values: Block) -> None:
        area = self._map.block(block)
        words = words_of(area, values, self._table, BEAT)
        self.ask(self._client.write_registers, area.register, words)
        if self._ready.get(block) != values.ready:
            assert area.coil is not None
            self.ask(self._client.write_coil, area.coil + 2, values.ready)
            self._ready[block] = values.ready

    def show(self, block: str, values: Block, within_s: float | None = None) -> None:
        coil = self._map.block(block).coil
        usual_s = self._client.comm_params.timeout_connect
        if within_s is not None:
            self._client.comm_params.timeout_connect = min(usual_s, within_s)
        try:
            self.ask(self._client.write_coils, coil, [values.passed, values.toggle])
        finally:
            self._client.comm_params.timeout_connect = usual_s

    def acknowledged(self, block: str) -> int:
        return self.registers(self._map.acknowledged[block])[0]


class ModbusCounters(_Asked):
    """See ``Counters``."""

    def __init__(self, found: RegisterMap) -> None:
        super().__init__(found.table)
        self._map = found

    def read(self) -> Counted:
        trigger, confirm = self._map.trigger, self._map.confirm
        confirmed = None if confirm is None else self.registers(confirm)[0]
        if trigger is None:
            return Counted(None, confirmed)
        words = self.registers(trigger)
        texts: dict[str, str | None] = {"part": None, "lot": None, "serial": None}
        for field in trigger.fields:
            if field.kind == "text":
                texts[field.name] = text_of(words, field, self._table) or None
        number = number_of(words, trigger.field("part_number"), self._table)
        if texts["part"] is None and number:
            texts["part"] = str(number)
        return Counted(words[trigger.field("count").at], confirmed, **texts)
