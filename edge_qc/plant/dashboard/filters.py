"""What a page shows: the filter in its address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_qc.errors import UsageError

WINDOWS_S = (900, 3_600, 28_800)


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show. None: all. refused: only verdicts that did not pass."""

    station: str | None = None
    die: str | None = None
    label: str | None = None
    window_s: int = 3_600
    refused: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """The filter in a page's address. Raises UsageError."""
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
