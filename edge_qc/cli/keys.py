"""The keys of ``edge-qc watch`` and what they select.

``Choice`` is pure; ``keyboard`` reads the terminal; ``screen`` draws.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from edge_qc.cli.tally import Tally
from edge_qc.publisher import VerdictMessage

Row = tuple[str, VerdictMessage]

HELP = "q quit  space pause  ↑↓ choose  enter open  s station  d die  v verdict "
HELP += " n not passed  c all"
"""The end is cut first where a terminal is narrow."""
_NAMES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "k": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "j": "down",
    "\r": "enter",
    "\n": "enter",
    " ": "pause",
    "p": "pause",
    "\x1b": "back",
    "\x7f": "back",
    "q": "quit",
}


@dataclass(slots=True)
class Choice:
    """The user's selection. held: the verdicts when the list was paused; chosen: the id of the
    marked one; full: whether it is shown in full."""

    station: str | None = None
    die: str | None = None
    label: str | None = None
    refused: bool = False
    held: tuple[Row, ...] | None = None
    chosen: str | None = None
    full: bool = False
    over: bool = False
    arrived: int = field(default=0)

    def rows(self, tally: Tally) -> list[Row]:
        """The last verdicts that match the selection, oldest first."""
        return [
            (name, verdict)
            for name, verdict in (tally.last if self.held is None else self.held)
            if self.station in (None, name)
            and self.die in (None, verdict.die or "-")
            and self.label in (None, verdict.label)
            and not (self.refused and verdict.disposition.value == "PASS")
        ]

    def verdict(self, tally: Tally) -> Row | None:
        """The marked verdict."""
        return next(
            (row for row in self.rows(tally) if row[1].verdict_id == self.chosen),
            None,
        )

    def words(self, tally: Tally) -> str:
        """The selection in words; empty if everything is shown."""
        words = [word for word in (self.station, self.die, self.label) if word is not None]
        words += ["not passed"] if self.refused else []
        if self.held is not None:
            words.append(f"paused, {tally.verdicts - self.arrived} more arrived")
        return ", ".join(words)

    def press(self, key: str, tally: Tally) -> None:
        """Apply one key; unknown keys change nothing."""
        if key == "pause":
            self._hold(tally, self.held is None)
        elif key in ("up", "down"):
            self._move(tally, -1 if key == "up" else 1)
        elif key == "enter":
            if self.verdict(tally) is None:
                self._move(tally, -1)
            self.full = self.verdict(tally) is not None
        elif key == "back":
            if self.full:
                self.full = False
            else:
                self._hold(tally, False)
        elif key == "quit":
            self.over, self.full = not self.full, False
        elif key == "s":
            self.station = _next(self.station, sorted(tally.stations))
        elif key == "d":
            self.die = _next(self.die, sorted({die for _, die in tally.counts}))
        elif key == "v":
            self.label = _next(self.label, sorted({label for label, _ in tally.counts}))
        elif key == "n":
            self.refused = not self.refused
        elif key == "c":
            self.station = self.die = self.label = None
            self.refused = False

    def _hold(self, tally: Tally, hold: bool) -> None:
        self.held = tuple(tally.last) if hold else None
        self.arrived = tally.verdicts
        if not hold:
            self.chosen = None

    def _move(self, tally: Tally, step: int) -> None:
        """Mark another row, and pause the list so that the marked row stays."""
        if self.held is None:
            self._hold(tally, True)
        ids = [verdict.verdict_id for _, verdict in self.rows(tally)]
        if not ids:
            return
        at = ids.index(self.chosen) + step if self.chosen in ids else len(ids) - 1
        self.chosen = ids[min(max(at, 0), len(ids) - 1)]


def _next(now: str | None, choices: Sequence[str]) -> str | None:
    """The choice after this one; None, for all, after the last."""
    if now is None:
        return choices[0] if choices else None
    later = [choice for choice in choices if choice > now]
    return later[0] if later else None


def split(data: str) -> list[str]:
    """Names of the keys in what a terminal sent: arrows come as several letters."""
    keys = []
    while data:
        size = 3 if data[:2] in ("\x1b[", "\x1bO") else 1
        keys.append(_NAMES.get(data[:size], data[:size]))
        data = data[size:]
    return keys


@contextmanager
def keyboard() -> Iterator[Callable[[], list[str]]]:
    """Yield a function that returns the keys pressed since its last call, without waiting. The
    terminal is restored afterwards. If standard input is no terminal, there are no keys."""
    if not sys.stdin.isatty():
        yield list
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def pressed() -> list[str]:
        data = b""
        while select.select([number], [], [], 0)[0]:
            some = os.read(number, 1024)
            if not some:
                break
            data += some
        return split(data.decode("utf-8", "replace"))

    try:
        tty.setcbreak(number)
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
