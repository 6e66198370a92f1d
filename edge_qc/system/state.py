"""The station's state, as a pure machine: what it is doing follows from its situation alone.

    STARTING ─► BUILDING ─► READY ─► RUNNING ◄─► DEGRADED
        │           │         │         ▲            ▲
        └───────────┴─────────┴──► FAULT┴────────────┘      any ─► STOPPING ─► DEAD

RUNNING and DEGRADED judge; STOPPING still judges what was triggered before; nothing else does. DEAD
is never entered from here: the broker says it, as the last will. FAULT is left when its causes are
gone, STOPPING never.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(str, enum.Enum):
    """What the station is doing, as ``…/state`` says it."""

    STARTING = "STARTING"
    BUILDING = "BUILDING"
    READY = "READY"
    RUNNING = "RUNNING"
    DEGRADED = "DEGRADED"
    FAULT = "FAULT"
    STOPPING = "STOPPING"
    DEAD = "DEAD"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the state follows from. faults: why nothing may be judged. troubles: what is missing
    while the rest is judged. Both in words for a person."""

    accepted: bool = False
    building: bool = False
    running: bool = False
    stopping: bool = False
    faults: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


def next_state(now: State, situation: Situation) -> tuple[State, str]:
    """The state that follows, and why, in words."""
    if now in (State.STOPPING, State.DEAD):
        return now, "; ".join(situation.faults) or "asked to stop"
    if situation.stopping:
        return State.STOPPING, "; ".join(situation.faults) or "asked to stop"
    if situation.faults:
        return State.FAULT, "; ".join(situation.faults)
    if situation.building:
        return State.BUILDING, "building the engine's plan"
    if not situation.accepted:
        return State.STARTING, "the engine is not accepted yet"
    if not situation.running:
        return State.READY, "the engine was accepted"
    if situation.troubles:
        return State.DEGRADED, "; ".join(situation.troubles)
    return State.RUNNING, "judging"


def may_judge(state: State) -> bool:
    """Whether a verdict made in this state may be anything but NOT_JUDGED."""
    return state in (State.RUNNING, State.DEGRADED, State.STOPPING)
