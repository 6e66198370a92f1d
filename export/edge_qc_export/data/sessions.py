"""Sessions: the day, lot or shift in which pictures were taken.

Light, focus and lots differ more between days than within one. So whole sessions lie on one side of
a split and of a fold, and what a bundle does on a day that it has not seen can be foretold. Where a
picture's session is read from is the user's to say (``Rule``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_qc.parts import GOOD
from edge_qc_export.data.sample import Sample
from edge_qc_export.data.tables import Fault

Rule = Literal["column", "folder", "day", "none"]
"""column: the column ``session`` of the table, if it has one. folder: the folder below the
die's. day: of the file's last change, in UTC. none: sessions are not known."""
RULES: tuple[Rule, ...] = get_args(Rule)

Say = Callable[[str], None]


def with_sessions(samples: Sequence[Sample], rule: Rule, faults: list[Fault]) -> list[Sample]:
    """The samples with the session that ``rule`` gives each; faults are appended."""
    if rule == "none":
        return [replace(sample, session=None) for sample in samples]
    if rule == "day":
        return [replace(sample, session=_day_of(sample.file)) for sample in samples]
    if rule == "folder":
        samples = [replace(sample, session=_folder_of(sample)) for sample in samples]
    for sample in samples:
        if sample.session == "":
            text = f"{sample.filename} has no session; wanted its day, lot or shift"
            if rule == "folder":
                text += " as a folder: CLASS/DIE/SESSION/, or another --session"
            else:
                text += ". Name it, or take the column out"
            faults.append(Fault(sample.table, sample.line, text))
    return list(samples)


def _day_of(file: Path) -> str | None:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).date().isoformat()
    except OSError:  # told where the picture is read
        return None


def _folder_of(sample: Sample) -> str:
    """SESSION of ``CLASS/DIE/SESSION/…``; empty if there is none."""
    below = PurePosixPath(sample.filename).parts[1 + sample.held_out : -1]
    return below[1] if len(below) > 1 else ""


def several_sessions(samples: Sequence[Sample]) -> bool:
    """Whether GOOD parts were seen in at least two groups of ``session_groups``."""
    if any(sample.session is None for sample in samples):
        return False
    groups = session_groups(samples)
    return len({int(g) for s, g in zip(samples, groups, strict=True) if s.label == GOOD}) > 1


def session_groups(samples: Sequence[Sample]) -> NDArray[np.intp]:
    """(n,): a number for each sample, the same for those of one session, and of sessions that share
    a named group. Near-duplicates join no sessions: parts that lie still look alike every day."""
    leader: dict[str, str] = {}

    def led(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    first: dict[str, str] = {}
    for sample in samples:
        own = led(str(sample.session))
        if sample.group is not None:
            leader[own] = led(first.setdefault(sample.group, own))
    place: dict[str, int] = {}
    return np.array([place.setdefault(led(str(s.session)), len(place)) for s in samples], np.intp)


def split_sessions(
    samples: Sequence[Sample], seed: int, share: float, say: Say
) -> NDArray[np.bool_] | None:
    """Which samples are held out, (n,) bool: whole sessions, at least one with GOOD parts, and more
    while that brings the classes nearer to their ``share``. No class is left without an image to
    learn from; one of a single session may be without one that is held out, and that is said.

    None, and said, where every session holds a class that no other has.
    """
    groups = session_groups(samples)
    labels = sorted({str(sample.label) for sample in samples})
    # (labels, groups): images of each.
    counts = np.zeros((len(labels), int(groups.max()) + 1))
    for sample, group in zip(samples, groups, strict=True):
        counts[labels.index(str(sample.label)), group] += 1
    totals = counts.sum(axis=1)
    order = np.random.default_rng(seed).permutation(counts.shape[1]).tolist()
    held: list[int] = []

    def distance(chosen: Sequence[int]) -> float:
        return float(np.abs(counts[:, list(chosen)].sum(axis=1) / totals - share).sum())

    while True:
        open_ = [
            group
            for group in order
            if group not in held
            and (counts[:, [*held, group]].sum(axis=1) < totals).all()
            and (held or counts[labels.index(GOOD), group] > 0)
        ]
        best = min(open_, key=lambda group: distance([*held, group]), default=None)
        if best is None or (held and distance([*held, best]) >= distance(held)):
            break
        held.append(best)
    if not held:
        say(
            f"every session with {GOOD} images holds a class that no other has, so that none can "
            "be held out whole: images of each are on both sides. Add images of these classes from "
            "another session"
        )
        return None
    held_out = np.isin(groups, held)
    names = sorted({str(s.session) for s, out in zip(samples, held_out, strict=True) if out})
    say(
        f"{len({sample.session for sample in samples})} sessions, each kept on one side; held out: "
        + ", ".join(names)
    )
    return np.asarray(held_out, np.bool_)


def session_notes(samples: Sequence[Sample]) -> list[str]:
    """What a user should know of the sessions of pictures to learn from."""
    names = {sample.session for sample in samples}
    if names == {None} or not samples:
        return []
    if not several_sessions(samples):
        good = sorted({str(sample.session) for sample in samples if sample.label == GOOD})
        return [
            f"all {GOOD} images are of one session ({', '.join(good)}), or of sessions that share "
            "a group: what another one does is not known"
        ]
    if alone := _alone(samples):
        return [
            f"of one session alone: {alone}. How such parts look in another is not known, and they "
            "count there as a defect that was never seen"
        ]
    return []


def _alone(samples: Sequence[Sample]) -> str:
    """The classes that one session alone has, in words."""
    seen: dict[str, set[str]] = {}
    for sample in samples:
        seen.setdefault(str(sample.label), set()).add(str(sample.session))
    return ", ".join(f"{n} in {min(found)}" for n, found in sorted(seen.items()) if len(found) == 1)
