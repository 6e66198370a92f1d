"""The line's shares of the labels: what the decision weighs costs with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edge_qc.errors import UsageError
from edge_qc.parts import DRIFT, GOOD

USUAL_GOOD = 0.95
"""GOOD's share of a line if it is not stated: a training set is a collection of defects, and
its shares are not the line's."""


def read_mix(text: str) -> dict[str, float]:
    """``GOOD=0.95,flat=0.01`` by label. Raises UsageError."""
    mix: dict[str, float] = {}
    for item in text.split(","):
        name, sign, share = item.rpartition("=")
        name = name.strip()
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not sign or not name or not 0 <= value <= 1 or name in mix:
            raise UsageError(f"mix {item!r}: wanted LABEL=SHARE once each, such as GOOD=0.95")
        mix[name] = value
    return mix


def learned_shares(labels: Sequence[str]) -> dict[str, float]:
    """Each class's share of the labelled parts."""
    counts = Counter(labels)
    return {name: count / len(labels) for name, count in counts.items()}


def line_mix(
    stated: Mapping[str, float], learned: Mapping[str, float], prior: float
) -> dict[str, float]:
    """Every label's share of the line, adding up to 1.

    stated: shares by label; what is left is the other defects', as they share the labelled parts.
    prior: DRIFT's share if it is not stated. Raises UsageError where the shares cannot be.
    """
    defects = [name for name in learned if name != GOOD]
    unknown = sorted(set(stated) - {*learned, DRIFT})
    if unknown:
        raise UsageError(
            f"mix: no class {unknown[0]!r}; wanted {', '.join(sorted({*learned, DRIFT}))}"
        )
    mix = {DRIFT: prior, **stated}
    open_ = [name for name in defects if name not in mix]
    if GOOD not in mix:
        rest = sum(mix.values())
        mix[GOOD] = 1 - rest if not open_ else min(USUAL_GOOD, 1 - rest)
    left = 1 - sum(mix.values())
    weight = sum(learned[name] for name in open_)
    if left < -1e-9 or (not open_ and abs(left) > 1e-9) or not 0 < mix[GOOD] < 1:
        raise UsageError(
            f"mix: the shares of {', '.join(sorted(mix))} add up to {1 - left:g}, wanted 1 with "
            f"{GOOD} between 0 and 1"
        )
    for name in open_:
        mix[name] = max(left, 0.0) * learned[name] / weight
    return mix
