"""Detects which of the station's loops hang. ``station.daemon`` then stops notifying systemd, which
kills the station and restarts it."""

from __future__ import annotations

from collections.abc import Mapping

LINE = "line"
PUBLISHER = "publisher"

_PATIENCE_S = 60.0
_PUBLISHER_S = 300.0
"""A silent name server blocks the publisher for minutes, but delays no verdict."""


class Watch:
    """Remembers when each loop last advanced."""

    def __init__(self, line_s: float, others_s: float = _PATIENCE_S) -> None:
        """line_s: how long the line's loop may stand still. others_s: any other loop."""
        self._line_s, self._others_s = line_s, others_s
        self._seen: dict[str, tuple[int | None, float]] = {}

    def hung(self, loops: Mapping[str, int | None], now_s: float) -> list[str]:
        """The loops that stand still. loops: by name, how many turns each has made; None for one
        that may rest now."""
        for name, turns in loops.items():
            before, _ = self._seen.get(name, (None, now_s))
            if turns is None or turns != before:
                self._seen[name] = turns, now_s
        return [name for name in loops if now_s - self._seen[name][1] > self._patience_of(name)]

    def _patience_of(self, name: str) -> float:
        if name == LINE:
            return self._line_s
        return _PUBLISHER_S if name == PUBLISHER else self._others_s
