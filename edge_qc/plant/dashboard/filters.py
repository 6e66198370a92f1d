"""What of a plant a page is to show: the choice that its address makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_qc.errors import UsageError

WINDOWS_S = (900, 3_600, 28_800)


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show. None: all. refused: verdicts that did not pass alone."""

    station: str | None = None
    die: str | None = None
    label: str | None = None
    window_s: int = 3_600
    refused: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """The filter that a page's address asks for. Raises UsageError."""
        window = query.get("window", "3600")
        if window not in map(str, WINDOWS_S):
            raise UsageError(f"window: got {window[:40]!r}, wanted one of {WINDOWS_S}")
        return cls(
            station=query.get("station") or None,
            die=query.get("die") or None,
            label=query.get("label") or None,
            window_s=int(window),
            refused=query.get("show") == "refused",
        )
