"""A controller on the loopback: a real Modbus server, its memory, and all that was written."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("pymodbus", reason="needs pymodbus: pip install '.[modbus]'")

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_qc.output.layout import Area, RegisterMap, number_of, text_of

ROOM = 1000
_WRITE_COILS, _WRITE_REGISTERS = (5, 15), (6, 16)


@dataclass(frozen=True, slots=True)
class Write:
    """One request that wrote. at_s: ``time.monotonic``; wall_s: ``time.time``."""

    at_s: float
    wall_s: float
    coils: bool
    address: int
    values: tuple[int, ...]


class ModbusController:
    """registers, coils: its memory. delay_s: how long each request waits. refuses: it answers
    every write with an error."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.registers = [0] * ROOM
        self.coils = [0] * ROOM
        self.writes: list[Write] = []
        self.delay_s = 0.0
        self.refuses = False
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def target(self) -> str:
        return f"modbus://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, again at the same port; what it remembers stays."""
        self._call(self._listen())

    def stop(self) -> None:
        """As if its power were cut: every connection ends."""
        self._call(self._hang_up())

    def set(self, address: int, *values: int) -> None:
        """The controller's own programme writes registers."""
        self._call(self._server.async_setValues(1, 16, address, list(values)))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def number(self, area: Area, name: str, found: RegisterMap) -> int:
        """A number as it stands there."""
        return number_of(self._own(area), area.field(name), found.table)

    def text(self, area: Area, name: str, found: RegisterMap) -> str:
        return text_of(self._own(area), area.field(name), found.table)

    def _own(self, area: Area) -> Sequence[int]:
        return self.registers[area.register : area.register + area.words]

    async def _listen(self) -> None:
        device = SimDevice(
            id=1,
            simdata=(
                [SimData(0, count=ROOM, values=False, datatype=DataType.BITS)],
                [SimData(0, count=ROOM, values=False, datatype=DataType.BITS)],
                [SimData(0, values=list(self.registers), datatype=DataType.REGISTERS)],
                [SimData(0, count=ROOM, values=0, datatype=DataType.REGISTERS)],
            ),
            action=self._asked,
        )
        self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        await self._server.serve_forever(background=True)
        self.port = self._server.transport.sockets[0].getsockname()[1]
        for address, value in enumerate(self.coils):
            if value:
                await self._server.async_setValues(1, 5, address, [True])

    async def _hang_up(self) -> None:
        await self._server.shutdown()

    async def _asked(
        self,
        code: int,
        _start: int,
        address: int,
        _count: int,
        _registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if values is None or code not in (*_WRITE_COILS, *_WRITE_REGISTERS):
            return None
        if self.refuses:
            return ExcCodes.ILLEGAL_ADDRESS
        coils = code in _WRITE_COILS
        own = tuple(int(value) for value in values)
        memory = self.coils if coils else self.registers
        memory[address : address + len(own)] = own
        self.writes.append(Write(time.monotonic(), time.time(), coils, address, own))
        return None

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


@contextlib.contextmanager
def modbus_controller() -> Iterator[ModbusController]:
    controller = ModbusController()
    try:
        yield controller
    finally:
        controller.close()
