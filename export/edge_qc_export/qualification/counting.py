"""What the verdicts on labelled photographs prove: escapes and overkill, with exact intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edge_qc.parts import GOOD
from edge_qc_export.figures.exact import CONFIDENCE, Share, parts_needed, share, upper_bound
from edge_qc_export.judging import Judged

BOUNDS = (0.01, 0.003, 0.001)
"""Statements that people ask for: at most one bad part in 100, in 333, in 1000 passes."""


@dataclass(frozen=True, slots=True)
class Counts:
    """escapes: bad parts that passed, of the bad. overkill: good parts that did not pass, of the
    good. review: of all, how many wait for a person. not_judged: of all, how many have no verdict.
    named: bad parts stopped under their own name, of the bad that were stopped."""

    escapes: Share
    overkill: Share
    review: Share
    not_judged: Share
    named: Share

    @property
    def escape_bound(self) -> float:
        """The share of bad parts that is not exceeded with 95 % confidence."""
        return upper_bound(self.escapes.count, self.escapes.of)


@dataclass(frozen=True, slots=True)
class Tighter:
    """A statement: escapes at most ``bound``. parts: bad parts it takes in all when as many pass as
    passed here; missing: how many of them are not here yet; 0 if it holds already."""

    bound: float
    parts: int
    missing: int


def count(judged: Iterable[Judged]) -> Counts:
    """The counts of some photographs."""
    every = list(judged)
    good = [one for one in every if one.good]
    bad = [one for one in every if not one.good]
    stopped = [one for one in bad if not one.passed]
    return Counts(
        escapes=share(sum(one.escaped for one in bad), len(bad)),
        overkill=share(sum(one.overkilled for one in good), len(good)),
        review=share(sum(one.verdict.disposition.value == "REVIEW" for one in every), len(every)),
        not_judged=share(sum(not one.decided for one in every), len(every)),
        named=share(sum(not one.mistaken for one in stopped), len(stopped)),
    )


def count_by(judged: Sequence[Judged], key: Callable[[Judged], str]) -> dict[str, Counts]:
    """The counts of each group, GOOD first if it is one, then by name."""
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(key(one), []).append(one)
    return {name: count(groups[name]) for name in sorted(groups, key=lambda n: (n != GOOD, n))}


def tighter_statements(counts: Counts) -> list[Tighter]:
    """How many bad parts each of ``BOUNDS`` takes."""
    found = []
    for bound in BOUNDS:
        parts = parts_needed(bound, counts.escapes.count)
        found.append(Tighter(bound, parts, max(0, parts - counts.escapes.of)))
    return found


def sentence(counts: Counts) -> str:
    """The one sentence: what passed, and what that proves."""
    escapes, overkill = counts.escapes, counts.overkill
    said = []
    if overkill.of:
        passed = overkill.of - overkill.count
        said.append(f"passes {passed} of {overkill.of} good parts ({passed / overkill.of:.1%})")
    else:
        said.append("no good part was shown")
    if escapes.of:
        said.append(
            f"{escapes.count} of {escapes.of} bad ones: with {CONFIDENCE:.0%} confidence at most "
            f"{counts.escape_bound:.2%} of such bad parts pass"
        )
    else:
        said.append("no bad part was shown, so nothing bounds the escapes")
    return "; ".join(said)
