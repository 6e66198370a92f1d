"""What one check found, and how it is told."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(str, enum.Enum):
    """GOOD: as it should be. BAD: mend it. NOTE: worth knowing. NONE: does not apply here."""

    GOOD = "good"
    BAD = "bad"
    NOTE = "note"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Finding:
    """seen: what is there. remedy: what a person can do about it, empty where nothing has to be
    done."""

    check: str
    status: Status
    seen: str
    remedy: str = ""


def good(check: str, seen: str) -> Finding:
    return Finding(check, Status.GOOD, seen)


def bad(check: str, seen: str, remedy: str) -> Finding:
    return Finding(check, Status.BAD, seen, remedy)


def note(check: str, seen: str, remedy: str = "") -> Finding:
    return Finding(check, Status.NOTE, seen, remedy)


def none(check: str, why: str) -> Finding:
    return Finding(check, Status.NONE, why)


NOT_A_JETSON = "not a Jetson"
NO_SETTINGS = "no station.toml"
