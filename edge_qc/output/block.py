"""The block: what a controller sees of one camera or of the part, and what its numbers mean.

``layout`` assigns the addresses.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from edge_qc.parts import Disposition, Reason
from edge_qc.system.state import State

REJECTED, PASSED = 0, 1
"""The register ``disposition``. There is no third: what is not PASS is rejected."""

STATES: Mapping[State, int] = {
    State.DEAD: 0,
    State.STARTING: 1,
    State.BUILDING: 2,
    State.READY: 3,
    State.RUNNING: 4,
    State.DEGRADED: 5,
    State.FAULT: 6,
    State.STOPPING: 7,
}
"""The register ``state``."""

REASONS: Mapping[Reason, int] = {
    Reason.DECIDED: 0,
    Reason.CAMERA: 1,
    Reason.FRAME: 2,
    Reason.ENGINE: 3,
    Reason.OVERRUN: 4,
    Reason.RESTART: 5,
    Reason.STATE: 6,
}
"""The register ``reason``: why a view was not judged."""


class Fault(enum.IntFlag):
    """The bits of the register ``fault``: why this result is REJECT though nobody found a defect,
    and what a person should look at."""

    NONE = 0
    LATE = 1
    """It came after its deadline."""
    SUPERSEDED = 2
    """Results before this one were never shown; ``counter`` says how many."""
    NOT_JUDGED = 4
    """There is no verdict: see ``reason``."""
    INCOMPLETE = 8
    """A view of the part is missing."""
    REVIEW = 16
    """A person has to look at the part."""
    WITHHELD = 32
    """The station came to FAULT after the verdict, or stops."""


@dataclass(frozen=True, slots=True)
class Block:
    """All values of one block at one moment. counter: of this result, from 1 on; 0 before the
    first. passed, toggle, ready: the coils."""

    heartbeat: int = 0
    state: int = STATES[State.STARTING]
    fault: int = 0
    counter: int = 0
    disposition: int = REJECTED
    label: int = 0
    reason: int = 0
    part_number: int = 0
    trigger_number: int = 0
    part: str = ""
    trigger: str = ""
    passed: bool = False
    toggle: bool = False
    ready: bool = False


MEANING: Mapping[str, str] = {
    "heartbeat": "counts up with every heartbeat; standing still means dead: reject",
    "state": ", ".join(f"{number} {state.value}" for state, number in STATES.items()),
    "fault": "bits: "
    + ", ".join(f"{int(bit)} {bit.name}" for bit in Fault if bit is not Fault.NONE),
    "counter": "this result's number; a number left out is a part that was rejected",
    "disposition": f"{PASSED} {Disposition.PASS.value}, {REJECTED} everything else",
    "label": "the label's number, 0 for none",
    "reason": "why there is no verdict: "
    + ", ".join(f"{number} {reason.value}" for reason, number in REASONS.items()),
    "part_number": "the last digits of the part's id",
    "trigger_number": "the last digits of the trigger's id",
    "part": "the part's id, text padded with zeros",
    "trigger": "the trigger's id, text padded with zeros",
    "acknowledged": "written by the controller: the counter that it has taken",
    "passed": "1 for PASS, 0 for everything else; set last, together with toggle",
    "toggle": "flips with each result; a result is there when it has flipped",
    "ready": "1 while the station takes triggers and judges",
}
"""What each value of a block means, in words for the register map."""
