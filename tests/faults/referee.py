"""The referee: knows every trigger, hears every verdict, and says what must not be.

Pure of processes: it reads the journal that the sabotaged station keeps, and takes messages from
whoever heard them (a subscriber, a recorder, a ledger).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.load import FORBIDS_A_DECISION, shown

GOOD, PASS, NOT_JUDGED = "GOOD", "PASS", "NOT_JUDGED"


@dataclass(frozen=True, slots=True)
class Heard:
    """One verdict, as far as it matters here. content: the whole of it but for ``historical``."""

    verdict_id: str
    epoch: str
    seq: int
    trigger_id: str
    image: str | None
    label: str
    disposition: str
    reason: str
    time: str
    content: int


@dataclass
class Journal:
    """What the station was asked, by the harness's own book-keeping in its process. asked: trigger
    id and image by verdict id. durable: verdict ids of accepted triggers. code: where each of its
    processes had its ``edge_qc`` from."""

    asked: dict[str, tuple[str, str]] = field(default_factory=dict)
    durable: set[str] = field(default_factory=set)
    code: set[Path] = field(default_factory=set)

    @classmethod
    def read(cls, *files: Path) -> Journal:
        """What these files hold."""
        journal = cls()
        for file in files:
            for line in file.read_text().splitlines() if file.exists() else ():
                match line.split():
                    case ["asked", verdict_id, trigger_id, image]:
                        journal.asked[verdict_id] = trigger_id, image
                    case ["durable", verdict_id]:
                        journal.durable.add(verdict_id)
                    case ["code", *_]:
                        journal.code.add(Path(line.partition(" ")[2]).parent.resolve())
        return journal


class Book:
    """Every message that was heard, deduplicated, with what contradicted itself."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Heard] = {}
        self.parts: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.repetitions = 0
        self.numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._owners: dict[tuple[str, str, int], int] = {}
        self._faults: list[str] = []
        self._doubts: list[str] = []

    def hear(self, kind: str, payload: bytes) -> None:
        """Take one message of topic ``…/<kind>``."""
        if kind not in ("verdict", "part", "event"):
            return
        try:
            message = json.loads(payload)
        except ValueError:
            self._faults.append(f"a {kind} is no JSON: {payload[:80]!r}")
            return
        content = hash(payload.rpartition(b',"historical":')[0] or payload)
        epoch, seq = message["epoch"], message["seq"]
        if self._owners.setdefault((epoch, kind, seq), content) != content:
            self._faults.append(f"{kind} {seq} of epoch {epoch[:8]} was said twice, differently")
        if kind == "verdict":
            self._hear_verdict(message, content)
        elif seq not in self.numbers[epoch, kind]:
            (self.parts if kind == "part" else self.events).append(message)
        self.numbers[epoch, kind].add(seq)

    def _hear_verdict(self, message: dict[str, Any], content: int) -> None:
        heard = Heard(
            message["verdict_id"],
            message["epoch"],
            message["seq"],
            message["trigger_id"],
            message["image"],
            message["label"],
            message["disposition"],
            message["reason"],
            message["time"],
            content,
        )
        before = self.verdicts.setdefault(heard.verdict_id, heard)
        if before is heard:
            return
        self.repetitions += 1
        if before.content != heard.content:
            said = f"verdict {heard.verdict_id} was said twice, differently"
            # A ledger put back from before cannot know what was judged since; that it may say.
            late = self._doubts if heard.reason == "restart" else self._faults
            late.append(said)

    def contradictions(self, losses_announced: bool) -> list[str]:
        """What was heard that cannot all be true."""
        return self._faults if losses_announced else self._faults + self._doubts


def breaches(
    journal: Journal,
    book: Book,
    *,
    whole: bool = True,
    losses_announced: bool = False,
) -> Iterator[str]:
    """Every invariant that does not hold, in words.

    whole: nothing may be missing. losses_announced: the disk was damaged on purpose: what is gone
    may be gone if a ``ledger-gap`` event says that something is.
    """
    told = any(event["event"] == "ledger-gap" for event in book.events)
    yield from book.contradictions(losses_announced and told)
    missing = journal.durable - set(book.verdicts)
    if whole and missing and not (losses_announced and told):
        yield _several("accepted triggers without a verdict", missing)
    if invented := set(book.verdicts) - set(journal.asked):
        yield _several("verdicts on triggers that were never asked", invented)
    by_trigger: dict[str, str] = {}
    for verdict in book.verdicts.values():
        if by_trigger.setdefault(verdict.trigger_id, verdict.verdict_id) != verdict.verdict_id:
            yield f"trigger {verdict.trigger_id} has two verdicts"
        trigger_id, image = journal.asked.get(verdict.verdict_id, ("", ""))
        if trigger_id and (verdict.trigger_id, verdict.image or "-") != (trigger_id, image):
            yield f"verdict {verdict.verdict_id} names another trigger or image than it was asked"
        elif fault := wrong(verdict):
            yield fault
    for (epoch, kind), seen in book.numbers.items():
        if whole and not losses_announced and (gaps := set(range(1, max(seen) + 1)) - seen):
            yield f"epoch {epoch[:8]}: {kind}s {_shown(sorted(gaps))} are missing of {max(seen)}"
    for part in book.parts:
        truth = shown(part["part_id"])
        forbidden = truth.label != GOOD or truth.fault in FORBIDS_A_DECISION
        if forbidden and GOOD_SAID & {part["label"], part["disposition"]}:
            yield f"part {part['part_id']} is said to be {part['label']}, {part['disposition']}"


GOOD_SAID = {GOOD, PASS}


def wrong(verdict: Heard) -> str | None:
    """What the truth or a fault forbids of one verdict; None where it may be said."""
    what = f"{verdict.image or verdict.trigger_id}: {verdict.label}, {verdict.disposition}"
    if (verdict.label == NOT_JUDGED) is (verdict.reason == "decided"):
        return f"{what}, though its reason is {verdict.reason}"
    if verdict.label == NOT_JUDGED:
        return f"{what}, though not judged" if verdict.disposition == PASS else None
    if verdict.image is None:
        return f"{what}, though nothing was seen"
    truth = shown(verdict.image)
    if truth.fault in FORBIDS_A_DECISION:
        return f"{what}, though {truth.fault} forbids a decision"
    if verdict.label != truth.label:
        return f"{what}, though it shows {truth.label}"
    if (verdict.disposition == PASS) is not (verdict.label == GOOD):
        return f"{what}: the disposition does not follow"
    return None


def _several(what: str, ids: Iterable[str]) -> str:
    named = sorted(ids)
    return f"{len(named)} {what}: {', '.join(named[:3])}{'…' if len(named) > 3 else ''}"


def _shown(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + ("…" if len(numbers) > 5 else "")
