"""One check's finding."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(str, enum.Enum):
    """GOOD: in order. BAD: repair it. NOTE: worth knowing. NONE: does not apply here."""

    GOOD = "good"
    BAD = "bad"
    NOTE = "note"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Finding:
    """seen: what was found. remedy: what to do about it; empty if nothing."""

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
AS_ROOT = "run it as root: sudo edge-qc doctor"


def remedy_of(error: Exception, otherwise: str) -> str:
    """What to do about an error: one that comes of a missing right wants root."""
    return AS_ROOT if isinstance(error.__cause__, PermissionError) else otherwise
