"""One output and its thread: what the line offers is shown there, in time or as REJECT.

The queue in front of it is one for each block: what the thread has not taken when the next result
comes is never shown, and its part is a REJECT. A controller that is slow or dead holds up nobody.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence

from edge_qc.errors import OutputError
from edge_qc.output.confirmation import Confirmation
from edge_qc.output.connection import Connection
from edge_qc.output.news import Bulletin
from edge_qc.output.result import Result
from edge_qc.output.schedule import Due, Schedule
from edge_qc.output.showing import Showing
from edge_qc.settings import PART, OutputTable
from edge_qc.system.state import State

log = logging.getLogger(__name__)

_RETRY_S = (0.05, 2.0)
_TURN_S = 5.0
"""It goes round as often at least, for the watchdog."""
_CLOSE_S = 5.0
_UNKNOWN = "not connected yet"


class Outlet:
    """turns: how often its thread went round, for the watchdog. superseded, unsent, unconfirmed:
    as in ``OutputFigures``."""

    def __init__(
        self,
        table: OutputTable,
        blocks: Sequence[str],
        connect: Callable[[], Connection],
        news: Bulletin,
    ) -> None:
        """connect: opens it, and is called again whenever it was lost."""
        self.turns = self.superseded = self.unsent = self.unconfirmed = 0
        self.table, self.blocks = table, tuple(blocks)
        self.showing = Showing(table, blocks, news)
        self._away: str | None = _UNKNOWN
        self._connect, self._news = connect, news
        self._changed = threading.Condition()
        self._slots: dict[str, Due] = {}
        self._counters = dict.fromkeys(self.blocks, 0)
        self._skipped = dict.fromkeys(self.blocks, False)
        self._schedule = Schedule(table)
        self._edges_lost: str | None = None
        self._numbers = itertools.count()
        self._new_state = self._closing = False
        self._confirms = PART if PART in self.blocks else self.blocks[0]
        self._confirmation: Confirmation | None = None
        if table.confirm is not None:
            self._confirmation = Confirmation(
                table.confirm_after_ms / 1e3, table.confirm_within_ms / 1e3
            )
        self._thread = threading.Thread(target=self._run, name=f"output-{table.name}", daemon=True)

    def start(self) -> None:
        """Show REJECT everywhere, and go on from there."""
        self._thread.start()

    @property
    def connected(self) -> bool:
        return self._away is None

    @property
    def results(self) -> int:
        """How many were offered."""
        return sum(self._counters.values())

    @property
    def trouble(self) -> str | None:
        """What is missing, in words; None while all is well."""
        if self._away is not None:
            return f"output {self.table.name} is away, its parts are rejected: {self._away}"
        encoder = self._schedule.encoder_trouble
        if encoder is not None:
            name = self.table.name
            return f"output {name}: its parts are rejected, the encoder cannot be read: {encoder}"
        if self.showing.unacknowledged:
            blocks = ", ".join(sorted(self.showing.unacknowledged))
            return f"output {self.table.name}: the controller does not acknowledge {blocks}"
        return None

    def offer(self, result: Result) -> None:
        """From any thread, at once: show this result, as soon as the output can."""
        now_s, name = time.monotonic(), result.block
        with self._changed:
            edge, at_s = self._schedule.when(result, now_s)
            self._counters[name] += 1
            before, skipped = self._slots.get(name), self._skipped[name]
            self._skipped[name] = False
            if before is not None:
                skipped = True
                self.superseded += 1
                self._expect(name, before.counter, now_s)
            self._slots[name] = Due(
                edge, at_s, next(self._numbers), self._counters[name], result, now_s, skipped
            )
            self._changed.notify()

    def edge(self, at_s: float) -> None:
        """From any thread: the belt's encoder gave an edge at ``at_s`` (``time.monotonic``)."""
        with self._changed:
            if self._schedule.edge(at_s):
                self._changed.notify()

    def edges_lost(self, why: str) -> None:
        """From any thread: edges of the encoder were missed. Nobody knows where the parts under way
        are, and they are rejected."""
        with self._changed:
            self._schedule.edges_lost()
            self._edges_lost = why
            self._changed.notify()

    def encoder_trouble(self, why: str | None) -> None:
        """From any thread: why the encoder cannot be read; None when it can."""
        with self._changed:
            before, self._schedule.encoder_trouble = self._schedule.encoder_trouble, why
            if why is None:
                self._schedule.edges_lost()
        if why is not None and before is None:
            self.edges_lost(why)

    def station(self, state: State) -> None:
        """From any thread, at once: what the station is doing from now on."""
        if state is not self.showing.state:
            with self._changed:
                self.showing.state, self._new_state = state, True
                self._changed.notify()

    def confirmed(self, at_s: float) -> None:
        """From any thread: the ejector moved at ``at_s`` (``time.monotonic``)."""
        if self._confirmation is None:
            return
        with self._changed:
            known = self._confirmation.edge(at_s) is not None
        if not known and self.connected:
            self.miss("the ejector moved, and no part was rejected for it")

    def miss(self, what: str) -> None:
        """From any thread: a confirmation that did not come, or one that nobody expected."""
        self.unconfirmed += 1
        self._news.alarm("output-unconfirmed", what)
        if self.table.on_unconfirmed == "fault":
            self._news.fault(what)

    def close(self) -> None:
        """Show REJECT everywhere, and give the output back."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S + 2 * self.table.timeout_ms / 1e3)

    # From the thread alone.

    def _run(self) -> None:
        attempt = 0
        while not self._closing:
            self.turns += 1
            connection = None
            try:
                connection = self._connect()
                self._begin(connection)
                attempt = 0
                self._serve(connection)
                self.showing.closing = True
                self.showing.make_safe(connection)
            except OutputError as error:
                self._lost(str(error))
            except Exception as error:
                log.exception("output %s", self.table.name)
                self._lost(f"it failed: {error!r}")
            finally:
                if connection is not None:
                    self._give_back(connection)
            with self._changed:
                delay_s = min(_RETRY_S[0] * 2**attempt, _RETRY_S[1])
                self._changed.wait_for(lambda: self._closing, delay_s)
            attempt += 1

    def _begin(self, connection: Connection) -> None:
        """REJECT everywhere; so is what waited while the output was away."""
        with self._changed:
            waited = [*self._slots.values(), *self._schedule.clear()]
            self._slots.clear()
            for due in waited:
                self._skipped[due.result.block] = True
            if self._confirmation is not None:
                self._confirmation.forget()
        self.unsent += len(waited)
        self.showing.make_safe(connection)
        before, self._away = self._away, None
        if before not in (None, _UNKNOWN):
            self._news.info("output-back", f"it was away: {before}")

    def _lost(self, why: str) -> None:
        if self._away in (None, _UNKNOWN):
            self._news.alarm("output-away", f"{why}; its parts are rejected until it is back")
        self._away = why

    def _give_back(self, connection: Connection) -> None:
        try:
            connection.close()
        except Exception as error:
            log.warning("output %s could not be closed: %s", self.table.name, error)

    def _serve(self, connection: Connection) -> None:
        while True:
            with self._changed:
                while not (self._closing or self._slots or self._new_state or self._edges_lost):
                    left_s = self._next_s() - time.monotonic()
                    if left_s <= 0:
                        break
                    self._changed.wait(min(left_s, _TURN_S))
                    self.turns += 1
                if self._closing:
                    return
                self._new_state = False
                if self._edges_lost is not None:
                    why, self._edges_lost = self._edges_lost, None
                    raise OutputError(f"output {self.table.name}: edges of its encoder: {why}")
                for due in self._slots.values():
                    self.superseded += self._schedule.add(due)
                self._slots.clear()
            self.turns += 1
            self._show_due(connection)
            self.showing.take_back(connection)
            if not self._slots:
                # Before a heartbeat, what waits.
                self.showing.beat(connection)
            self._look_for_confirmations()
            if self.table.acknowledge_ms is not None:
                self.showing.look_for_acknowledgements(connection)

    def _show_due(self, connection: Connection) -> None:
        while True:
            with self._changed:
                due = None if self._edges_lost else self._schedule.take()
            if due is None:
                return
            try:
                self.showing.show(
                    connection,
                    due,
                    lambda at_s, due=due: self._rejected(due, at_s),  # type: ignore[misc]
                )
            except Exception:
                with self._changed:
                    self._skipped[due.result.block] = True
                self.unsent += 1
                raise

    def _next_s(self) -> float:
        moments = [self.showing.next_s(), self._schedule.next_s()]
        if self._confirmation is not None:
            moments.append(self._confirmation.next_s())
        return min(moments)

    def _rejected(self, due: Due, at_s: float) -> None:
        with self._changed:
            self._expect(due.result.block, due.counter, at_s)

    def _expect(self, name: str, counter: int, at_s: float) -> None:
        # While it is away, nobody knows what the controller tells the ejector.
        if self._confirmation is not None and name == self._confirms and self.connected:
            self._confirmation.expect(counter, at_s)

    def _look_for_confirmations(self) -> None:
        if self._confirmation is None:
            return
        with self._changed:
            silent = self._confirmation.overdue(time.monotonic())
        for counter in silent:
            self.miss(
                f"result {counter} of {self._confirms} is a REJECT, and the ejector did not move "
                f"within {self.table.confirm_within_ms:g} ms: a bad part may have passed"
            )
