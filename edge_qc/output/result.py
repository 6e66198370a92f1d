"""What the line hands to the outputs: one verdict on a view or a part, and when its time began."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_qc.parts import Disposition, Reason

INCOMPLETE = "INCOMPLETE"
_LAST_NUMBER = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True, slots=True)
class Result:
    """block: the camera's name, or ``part``. number: the label's, see ``label_number``.
    triggered_s: when the trigger came (``time.monotonic``); of a part, its first one; None if
    nobody knows, and such a result never passes."""

    block: str
    disposition: Disposition
    label: str
    number: int
    reason: Reason
    trigger_id: str
    part_id: str | None
    triggered_s: float | None

    @property
    def passes(self) -> bool:
        return self.disposition is Disposition.PASS


def label_number(label: str, labels: tuple[str, ...]) -> int:
    """A label as a number: 1 for the bundle's first class, and so on in the bundle's order, its
    DRIFT last; 0 for what is no label of the bundle (NOT_JUDGED, INCOMPLETE)."""
    return labels.index(label) + 1 if label in labels else 0


def id_number(text: str | None, words: int = 2) -> int:
    """An id as a number for registers: its last run of digits, cut to their width (its low bits); 0
    if there is none."""
    found = _LAST_NUMBER.search(text or "")
    return int(found[1]) % (1 << (16 * words)) if found else 0
