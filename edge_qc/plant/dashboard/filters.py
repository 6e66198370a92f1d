"""What a page shows: the filter in its address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_qc.errors import UsageError

WINDOWS_S = (900, 3_600, 28_800)
PERIODS = ("shift", "day", "week")
"""Of the records; the current one of each."""
KINDS = ("parts", "views")


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show. None: all.

    period: of the records, in place of the last window_s seconds. counting: parts or views; None:
    parts, if any are published. refused: only verdicts that did not pass.
    """

    station: str | None = None
    die: str | None = None
    label: str | None = None
    window_s: int = 3_600
    refused: bool = False
    period: str | None = None
    counting: str | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filter:
        """The filter in a page's address. Raises UsageError."""
        window = query.get("window", "3600")
        if window not in (*map(str, WINDOWS_S), *PERIODS):
            wanted = (*WINDOWS_S, *PERIODS)
            raise UsageError(f"window: got {window[:40]!r}, wanted one of {wanted}")
        of = query.get("of") or None
        if of not in (None, *KINDS):
            raise UsageError(f"of: got {of[:40]!r}, wanted one of {KINDS}")
        return cls(
            station=query.get("station") or None,
            die=query.get("die") or None,
            label=query.get("label") or None,
            window_s=28_800 if window in PERIODS else int(window),
            refused=query.get("show") == "refused",
            period=window if window in PERIODS else None,
            counting=of,
        )
