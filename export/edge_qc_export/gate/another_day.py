"""What a bundle would do on a session that it has not seen, beside what it does within sessions.

Each fold's parts are judged by a gate that was set on the other folds alone, from scores by what
had not learned from them. With whole sessions in each fold, that foretells another day, lot or
shift; with folds across the sessions, more parts of the same ones. Only the gate is asked, not the
costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_qc.errors import DataError
from edge_qc_export.gate.calibration import below, fit_gate, scores_by
from edge_qc_export.gate.scored import Scored
from edge_qc_export.gate.threshold import Wish


@dataclass(frozen=True, slots=True)
class Foretold:
    """Of ``good`` GOOD parts, ``stopped`` are; of ``bad`` parts, ``passed`` pass."""

    good: int
    stopped: int
    bad: int
    passed: int

    @property
    def overkill(self) -> float:
        """NaN without a GOOD part."""
        return self.stopped / self.good if self.good else float("nan")


@dataclass(frozen=True, slots=True)
class AnotherDay:
    """Parts of unseen sessions and parts within the same ones, judged alike; by_session the former
    once more."""

    unseen: Foretold
    within: Foretold
    by_session: dict[str, Foretold]


def judged_by_others(
    parts: Scored, folds: NDArray[np.intp], wish: Wish
) -> NDArray[np.bool_] | None:
    """(n,): which parts pass a gate that the other folds set. None where these are too few for
    one."""
    passes = np.zeros(len(parts), np.bool_)
    for fold in range(int(folds.max()) + 1):
        rows = np.flatnonzero(folds == fold)
        try:
            gate = fit_gate(parts.chosen(np.flatnonzero(folds != fold)), wish)
        except DataError:
            return None
        own = parts.chosen(rows)
        passes[rows] = below(gate.threshold, own.dies, scores_by(gate.tails, own))
    return passes


def foretell(
    unseen: tuple[Scored, NDArray[np.intp]],
    within: tuple[Scored, NDArray[np.intp]],
    sessions: Sequence[str],
    wish: Wish,
) -> AnotherDay | None:
    """From scores and folds: ``unseen`` with whole sessions in each, ``within`` across them.
    sessions: n names. None where a fold leaves too few parts to set a gate."""
    good, names = unseen[0].good, np.asarray(sessions)
    apart, alike = judged_by_others(*unseen, wish), judged_by_others(*within, wish)
    if apart is None or alike is None:
        return None

    def counted(passes: NDArray[np.bool_], rows: NDArray[np.bool_]) -> Foretold:
        return Foretold(
            good=int((good & rows).sum()),
            stopped=int((good & rows & ~passes).sum()),
            bad=int((~good & rows).sum()),
            passed=int((~good & rows & passes).sum()),
        )

    everything = np.ones(len(good), np.bool_)
    return AnotherDay(
        unseen=counted(apart, everything),
        within=counted(alike, everything),
        by_session={name: counted(apart, names == name) for name in sorted(set(sessions))},
    )


def document(found: AnotherDay | None, several: bool) -> dict[str, Any]:
    """As it stands in ``report/export.json``. several: whether there were several sessions."""
    return {"says": _sentences(found, several), **({} if found is None else asdict(found))}


def _sentences(found: AnotherDay | None, several: bool) -> list[str]:
    if found is None:
        why = (
            "too few parts in each session to set a gate without it"
            if several
            else "the images name no session, or one alone"
        )
        return [f"another day, lot or shift: not known, {why}"]
    worst = max(
        (name for name, one in found.by_session.items() if one.good),
        key=lambda name: found.by_session[name].overkill,
    )
    hardest = found.by_session[worst]
    return [
        f"on a session that it has not seen ({len(found.by_session)} were tried): "
        f"{_told(found.unseen)}; within sessions: {_told(found.within)}",
        f"the worst was {worst}: {hardest.stopped} of {hardest.good} GOOD parts stopped",
    ]


def _told(one: Foretold) -> str:
    stopped = f"{one.overkill:.1%} of {one.good} GOOD parts stopped"
    return f"{stopped}, {one.passed} of {one.bad} bad parts pass" if one.bad else stopped
