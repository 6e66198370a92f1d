"""What the gate's threshold bounds, as it stands in the manifest, and in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_qc.bundle.calibration import GateBound, Passed
from edge_qc_export.figures.exact import parts_needed, upper_bound
from edge_qc_export.gate.scored import Scored
from edge_qc_export.gate.threshold import Wish


def bound_of(
    parts: Scored,
    passes: NDArray[np.bool_],
    left_out: Mapping[str, float],
    wish: Wish,
    *,
    good_passed: float,
    added: NDArray[np.bool_] | None = None,
) -> GateBound | None:
    """Counted over the bad parts that neither trunk nor head had learned from; None where there
    was no defect.

    passes: (n,), whether the gate is open. left_out: by defect, the share that would pass had it
    never been seen. good_passed: the share of GOOD parts that passes, of those that the trunk had
    not learned from if there are any. added: (n,), the parts that a calibration brought.
    """
    bad, fresh = ~parts.good, ~parts.seen
    if not bad.any():
        return None

    def counted(rows: NDArray[np.bool_], name: str | None = None) -> Passed:
        images, passed = int(rows.sum()), int((rows & passes).sum())
        return Passed(
            images=images,
            passed=passed,
            at_most=upper_bound(passed, images, wish.confidence),
            left_out=left_out.get(name) if name is not None else None,
        )

    whole = counted(bad & fresh)
    seen = bad & parts.seen
    needed = parts_needed(wish.max_escape, whole.passed, wish.confidence)
    return GateBound(
        max_escape=wish.max_escape,
        confidence=wish.confidence,
        bad=whole,
        by_class={
            name: counted(parts.is_class(name) & fresh, name)
            for name in parts.classes
            if (parts.is_class(name) & bad).any()
        },
        needed=max(0, needed - whole.images),
        seen=int(seen.sum()),
        seen_passed=int((seen & passes).sum()),
        good=int((parts.good & fresh).sum() or parts.good.sum()),
        good_passed=good_passed,
        added=None if added is None or not (bad & added).any() else counted(bad & added, None),
    )
