"""The station's state, as a pure state machine: the next state follows from the situation alone.

    STARTING ─► BUILDING ─► READY ─► RUNNING ◄─► DEGRADED
        │           │         │         ▲            ▲
        └───────────┴─────────┴──► FAULT┴────────────┘      any ─► STOPPING ─► DEAD

RUNNING and DEGRADED judge, and STOPPING judges what was triggered before it; no other state does.
The broker publishes DEAD as the last will; nothing here enters it. A station leaves FAULT when the
causes are gone, STOPPING never.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

STOP_REQUESTED = "stop requested"
"""The reason for a stop that no fault caused."""

STOPPED = "stopped by an operator"
"""Why a station is DEAD after such a stop."""


class State(str, enum.Enum):
    """The station's state, as published on ``…/state``."""

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
    """What determines the state. faults: why nothing may be judged. troubles: what is wrong while
    the station still judges. Both in words for a person."""

    accepted: bool = False
    building: bool = False
    running: bool = False
    stopping: bool = False
    faults: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


def next_state(now: State, situation: Situation) -> tuple[State, str]:
    """Return the next state and its reason, in words."""
    if now in (State.STOPPING, State.DEAD):
        return now, "; ".join(situation.faults) or STOP_REQUESTED
    if situation.stopping:
        return State.STOPPING, "; ".join(situation.faults) or STOP_REQUESTED
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
