"""Single flipped bits in a ledger, its log and its mark, each followed by a start of the outbox.

``python -m tests.faults.ledger_fuzz --flips 14000`` names each flip that broke a promise; a seed
and its flip's number find it again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_qc.errors import EdgeQCError, PublishError
from edge_qc.publisher import Outbox
from tests.rig.publishing import judge, open_outbox, record, sent

_PAGE = 4096
FILES = ("outbox.sqlite", "outbox.sqlite-wal", "outbox.sqlite.mark")


@dataclass(frozen=True)
class Flip:
    """One bit of one file of the ledger."""

    file: str
    byte: int
    bit: int


@dataclass(frozen=True)
class Outcome:
    """What a start made of it. breach: the promise that it broke, in words, or None."""

    flip: Flip
    told: bool
    breach: str | None


class Ledger:
    """A ledger of messages that were delivered, messages that were not, and triggers without a
    verdict: as a kill leaves it, with a log, and as a stop does, all in one file."""

    def __init__(self, folder: Path) -> None:
        self.killed, self.stopped = folder / "killed", folder / "stopped"
        with open_outbox(self.stopped) as outbox:
            delivered = judge(outbox, 20)
            outbox.delivered([message.row for message in outbox.waiting(0, 100)])
            judge(outbox, 1)
        with open_outbox(self.stopped) as outbox:
            judge(outbox, 20)
            self.open = [f"00000000-0000-4000-8000-{number:012}" for number in range(8)]
            for verdict_id in self.open:
                outbox.trigger(verdict_id, record(verdict_id[-4:])).result(10)
            self.owed = {m["verdict_id"]: m for m in sent(outbox) if "verdict_id" in m}
            self.killed.mkdir()
            for name in FILES:
                shutil.copy(self.stopped / name, self.killed)
        assert not self.owed.keys() & set(delivered)

    def flips(self, count: int, seed: int) -> Iterator[Flip]:
        """Every other one in the first page of the whole file, where SQLite keeps the names of
        its tables; the others anywhere. Bytes that are zero are mostly unused, and left out."""
        dice = random.Random(seed)
        used = {
            file: [at for at, byte in enumerate(file.read_bytes()) if byte]
            for folder in (self.killed, self.stopped)
            for file in map(folder.joinpath, FILES)
            if file.exists()
        }
        first = [at for at in used[self.stopped / FILES[0]] if at < _PAGE]
        for number in range(count):
            file = dice.choice(list(used))
            at = dice.choice(used[file])
            if number % 2:
                file, at = self.stopped / FILES[0], dice.choice(first)
            yield Flip(f"{file.parent.name}/{file.name}", at, dice.randrange(8))

    def start(self, flip: Flip, folder: Path) -> Outcome:
        """A start on a copy with that bit flipped, in ``folder``, which is new."""
        kept, _, name = flip.file.partition("/")
        shutil.copytree(self.killed.parent / kept, folder)
        data = bytearray((folder / name).read_bytes())
        data[flip.byte] ^= 1 << flip.bit
        (folder / name).write_bytes(data)
        try:
            with open_outbox(folder) as outbox:
                return self._outcome(flip, outbox)
        except PublishError as error:
            # It may be what it says: a ledger of a later edge-qc, which must not be touched.
            later = "this edge-qc reads up to" in str(error)
            return Outcome(flip, told=True, breach=None if later else f"does not start: {error}")
        except Exception as error:
            return Outcome(flip, told=False, breach=f"does not start: {error!r}")

    def _outcome(self, flip: Flip, outbox: Outbox) -> Outcome:
        try:
            judge(outbox, 1)
            messages = sent(outbox)
            # What was found damaged while it was read is told behind it.
            outbox.event("fuzz").result(10)
        except (EdgeQCError, ValueError) as error:
            return Outcome(flip, told=False, breach=f"cannot go on: {error!r}")
        told = any(m.get("event") == "ledger-gap" for m in (*messages, *sent(outbox)))
        verdicts = {m["verdict_id"]: m for m in messages if "verdict_id" in m}
        lost = [one for one in (*self.owed, *self.open) if one not in verdicts]
        altered = [
            one for one, message in self.owed.items() if verdicts.get(one, message) != message
        ]
        judged = [
            one for one in self.open if one in verdicts and verdicts[one]["reason"] != "restart"
        ]
        invented = len(verdicts.keys() - self.owed.keys() - set(self.open)) - 1
        breach = None
        if lost and not told:
            breach = f"{len(lost)} lost in silence"
        elif altered or judged:
            breach = f"{(altered or judged)[0]} is not what it was"
        elif invented > 0 and not told:
            breach = f"{invented} verdicts on nobody's trigger"
        return Outcome(flip, told, breach)


def fuzz(folder: Path, flips: int, seed: int) -> list[Outcome]:
    """So many single flips, each in a fresh copy of one ledger."""
    ledger = Ledger(folder)
    outcomes = []
    for flip in ledger.flips(flips, seed):
        copy = folder / "copy"
        outcomes.append(ledger.start(flip, copy))
        shutil.rmtree(copy)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description="Flip single bits of a ledger.")
    parser.add_argument("--flips", type=int, default=14_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = fuzz(Path(folder), options.flips, options.seed)
    broken = [outcome for outcome in outcomes if outcome.breach is not None]
    for outcome in broken:
        sys.stdout.write(f"{outcome.flip}: {outcome.breach}\n")
    files = Counter(outcome.flip.file for outcome in outcomes if outcome.told)
    sys.stdout.write(
        f"{len(outcomes)} flips, told of {dict(files)}, {len(broken)} broke a promise\n"
    )
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
