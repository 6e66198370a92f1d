"""A pin of this machine: at its active level for PASS, at the other one for everything else.

Needs the package ``gpiod`` (libgpiod 2: the extra ``gpio``). When a pulse begins and ends is
decided by ``showing``. The level that the kernel leaves behind a process that was killed is not
ours to choose: see ``docs/outputs.md`` for the wiring that makes it safe.
"""

from __future__ import annotations

from typing import Any

from edge_qc.errors import OutputError
from edge_qc.output.block import Block
from edge_qc.output.layout import RegisterMap
from edge_qc.settings import OutputTable
from edge_qc.system.gpiod import require_gpiod


class PinConnection:
    """See ``Connection``. The pin is at its safe level from the kernel's request on."""

    def __init__(self, found: RegisterMap) -> None:
        self.check(found.table)
        import gpiod
        from gpiod.line import Bias, Direction, Value

        table = self._table = found.table
        pin = table.where.pin
        assert pin is not None
        self._high = {True: Value.ACTIVE, False: Value.INACTIVE}
        self._toggle = self._alive_now = False
        self._pin, self._alive = pin.line, table.alive
        config: dict[Any, Any] = {
            pin.line: gpiod.LineSettings(
                direction=Direction.OUTPUT,
                bias=Bias.AS_IS,
                output_value=self._high[table.active == "low"],
            )
        }
        if table.alive is not None:
            config[table.alive] = gpiod.LineSettings(
                direction=Direction.OUTPUT, output_value=self._high[False]
            )
        try:
            self._request = gpiod.request_lines(pin.chip, consumer="edge-qc", config=config)
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    @staticmethod
    def check(table: OutputTable) -> None:
        """Raises SettingsError if gpiod is missing."""
        require_gpiod(f"output {table.name}")

    def toggle(self, block: str) -> bool:
        return self._toggle

    def write(self, block: str, values: Block) -> None:
        """A pin has no registers."""

    def beat(self, block: str, values: Block) -> None:
        """The watchdog relay's pin changes with each heartbeat, while parts may pass."""
        if self._alive is not None and values.ready:
            self._alive_now = not self._alive_now
            self._set(self._alive, self._alive_now)

    def show(self, block: str, values: Block, within_s: float | None = None) -> None:
        self._set(self._pin, values.passed == (self._table.active == "high"))
        self._toggle = values.toggle

    def acknowledged(self, block: str) -> int:
        raise AssertionError("a pin acknowledges nothing")

    def close(self) -> None:
        self._request.release()

    def _set(self, line: int | str, high: bool) -> None:
        try:
            self._request.set_value(line, self._high[high])
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(
            f"output {self._table.name}: {self._table.target}: {error}. See that the chip and the "
            "pin exist (gpioinfo lists them), that no other program holds the pin, and that the "
            "station's user may open the chip (group gpio)"
        )
