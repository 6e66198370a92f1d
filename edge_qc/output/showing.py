"""What stands at the other side of an output, and how a result comes to stand there.

Registers first, coils last; in doubt the coils first, and REJECT. Used from the output's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from edge_qc.output.block import PASSED, REASONS, REJECTED, STATES, Block, Fault
from edge_qc.output.connection import Connection
from edge_qc.output.deadline import Moment, Times, doubts, passes
from edge_qc.output.news import Bulletin
from edge_qc.output.result import id_number
from edge_qc.output.schedule import LONG_AGO, Due
from edge_qc.settings import OutputTable
from edge_qc.system.state import State, may_judge

_NEVER = float("inf")


@dataclass(slots=True)
class _Shown:
    """A block as it stands. taken_back_s: when its PASS is over; acknowledge_s: by when the
    controller has to repeat its counter."""

    block: Block = field(default_factory=Block)
    taken_back_s: float = _NEVER
    acknowledge_s: float = _NEVER


class Showing:
    """state: what the station is doing; may be set from any thread. unacknowledged: the blocks
    whose last results the controller did not take."""

    def __init__(self, table: OutputTable, blocks: Sequence[str], news: Bulletin) -> None:
        self.state = State.STARTING
        self.closing = False
        self.times = Times()
        self.count = self.passed = 0
        self.unacknowledged: set[str] = set()
        self._table, self._news = table, news
        self._shown = {name: _Shown() for name in blocks}
        self._beat_s = 0.0
        self._told: tuple[int, bool] | None = None

    @property
    def open(self) -> bool:
        """Whether a part may pass at all."""
        return may_judge(self.state) and not self._news.faulted()

    def make_safe(self, connection: Connection) -> None:
        """REJECT everywhere, the coils first."""
        for shown in self._shown.values():
            shown.taken_back_s = shown.acknowledge_s = _NEVER
        for name, shown in self._shown.items():
            shown.block = replace(
                shown.block,
                state=self._state_number(),
                disposition=REJECTED,
                passed=False,
                toggle=connection.toggle(name),
                ready=False,
            )
            connection.show(name, shown.block)
        for name, shown in self._shown.items():
            connection.write(name, shown.block)
            connection.beat(name, shown.block)
        self._beat_s, self._told = 0.0, None

    def next_s(self) -> float:
        """When there is something to do without a new result."""
        moments = [self._beat_s, *(shown.taken_back_s for shown in self._shown.values())]
        if any(shown.acknowledge_s != _NEVER for shown in self._shown.values()):
            moments.append(time.monotonic() + self._table.poll_ms / 1e3)
        return min(moments)

    def show(self, connection: Connection, due: Due, rejected: Callable[[float], None]) -> None:
        """One result. rejected: called with when the part was rejected, if it was."""
        result, name = due.result, due.result.block
        shown = self._shown[name]
        began_s, limit_s = time.monotonic(), self._limit_s(due)
        moment = Moment(began_s, 0.0, limit_s, self.open)
        fault = doubts(result, moment) | (Fault.SUPERSEDED if due.skipped else Fault.NONE)
        block = self._block(due, fault, passes(result, fault, moment), shown.block)
        connection.write(name, block)
        if block.passed:
            # The coil takes as long as the registers took, and the station may have come to FAULT.
            now_s = time.monotonic()
            moment = Moment(now_s, now_s - began_s, limit_s, self.open)
            fault |= doubts(result, moment)
            if not passes(result, fault, moment):
                block = self._block(due, fault, False, shown.block)
                connection.write(name, block)
        within_s = None
        if block.passed and limit_s is not None:
            within_s = max(limit_s - time.monotonic(), 1e-3)
        connection.show(name, block, within_s)
        done_s = time.monotonic()
        shown.block, shown.taken_back_s = block, _NEVER
        self.count += 1
        if block.passed:
            self.passed += 1
            if self._table.shown_ms:
                shown.taken_back_s = done_s + self._table.shown_ms / 1e3
        else:
            rejected(max(done_s, due.at_s))
        if self._table.acknowledge_ms is not None:
            shown.acknowledge_s = done_s + self._table.acknowledge_ms / 1e3
        self._time(due, fault, done_s, limit_s)

    def take_back(self, connection: Connection) -> None:
        """End the PASS of those whose time is over."""
        for name, shown in self._shown.items():
            if time.monotonic() >= shown.taken_back_s:
                shown.block = replace(shown.block, passed=False, disposition=REJECTED)
                shown.taken_back_s = _NEVER
                connection.show(name, shown.block)
                connection.write(name, shown.block)

    def beat(self, connection: Connection) -> None:
        """Count the heartbeat if it is time, and tell the state where it changed."""
        now_s = time.monotonic()
        due = now_s >= self._beat_s
        told = self._state_number(), self.open and self.state is not State.STOPPING
        if not due and told == self._told:
            return
        for name, shown in self._shown.items():
            heartbeat = (shown.block.heartbeat + due) & 0xFFFF
            shown.block = replace(shown.block, heartbeat=heartbeat, state=told[0], ready=told[1])
            connection.beat(name, shown.block)
        self._told = told
        if due:
            self._beat_s = now_s + self._table.heartbeat_ms / 1e3

    def look_for_acknowledgements(self, connection: Connection) -> None:
        """Where the controller shall repeat each counter."""
        for name, shown in self._shown.items():
            if shown.acknowledge_s == _NEVER:
                continue
            if connection.acknowledged(name) == shown.block.counter & 0xFFFF:
                shown.acknowledge_s = _NEVER
                self.unacknowledged.discard(name)
            elif time.monotonic() > shown.acknowledge_s:
                shown.acknowledge_s = _NEVER
                if name not in self.unacknowledged:
                    self.unacknowledged.add(name)
                    self._news.alarm(
                        "output-unacknowledged",
                        f"result {shown.block.counter} of {name} was not acknowledged within "
                        f"{self._table.acknowledge_ms:g} ms",
                    )

    def _limit_s(self, due: Due) -> float | None:
        """By when a PASS must have arrived."""
        triggered_s = due.result.triggered_s
        if triggered_s is None:
            return None
        deadline_s = triggered_s + self._table.deadline_ms / 1e3
        if not self._table.at_ejector:
            return deadline_s
        if due.known_s > deadline_s:
            return LONG_AGO
        # At the ejector: a pulse that comes later than half its width meets the next part.
        return due.at_s + self._table.pulse_ms / 2e3

    def _block(self, due: Due, fault: Fault, passed: bool, before: Block) -> Block:
        result = due.result
        return Block(
            heartbeat=before.heartbeat,
            state=self._state_number(),
            fault=int(fault),
            counter=due.counter,
            disposition=PASSED if passed else REJECTED,
            label=result.number,
            reason=REASONS[result.reason],
            part_number=id_number(result.part_id, self._table.number_registers),
            trigger_number=id_number(result.trigger_id, self._table.number_registers),
            part=result.part_id or "",
            trigger=result.trigger_id,
            passed=passed,
            toggle=not before.toggle,
            ready=before.ready,
        )

    def _time(self, due: Due, fault: Fault, done_s: float, limit_s: float | None) -> None:
        result = due.result
        if result.triggered_s is None or limit_s is None:
            return
        late = bool(fault & Fault.LATE) or done_s > limit_s
        known = self._table.at_ejector and due.at_s > LONG_AGO
        since_s = due.at_s if known else result.triggered_s
        took_ms = (done_s - since_s) * 1e3
        self.times.add(took_ms, late=late)
        if not late:
            return
        self._news.often(
            "output-late",
            f"part {result.part_id or '?'}, trigger {result.trigger_id}, block {result.block}: "
            f"{took_ms:.1f} ms, wanted at most {self._table.deadline_ms:g} ms; rejected",
        )
        if self.times.in_a_row >= self._table.late_in_a_row:
            self._news.fault(f"{self.times.in_a_row} results in a row came late")
            self.times.in_a_row = 0

    def _state_number(self) -> int:
        if self.closing:
            return STATES[State.DEAD]
        return STATES[State.FAULT if self._news.faulted() else self.state]
