"""Which alarms of the stations are open. Pure.

An alarm stands until the event that ends it, whatever a page shows; one that nothing ends, or whose
end was never heard, for eight hours.
"""

from __future__ import annotations

from edge_qc.publisher import Severity

OPEN_S = 28_800.0
"""A shift: who comes after it has the handover."""

_MOST = 32
"""Different alarms of one station that are kept, so that invented names take no memory."""

_ENDS = {
    "output-back": ("output-away",),
    "output-acknowledged": ("output-fault", "output-unconfirmed"),
    "golden-part-passed": ("golden-part-failed",),
    "bundle-accepted": ("bundle-rolled-back",),
}
_END = "-over"
"""``NAME-over`` ends ``NAME``."""


class OpenAlarms:
    """The alarms of all stations. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, float]] = {}
        self._ended: dict[str, dict[str, float]] = {}

    def note(self, station: str, event: str, severity: Severity, time_s: float) -> None:
        """Note an event, in any order of time."""
        for alarm in (*_ENDS.get(event, ()), event.removesuffix(_END)):
            if alarm == event:
                continue
            _keep_latest(self._ended.setdefault(station, {}), alarm, time_s)
            if self._open.get(station, {}).get(alarm, time_s + 1) <= time_s:
                del self._open[station][alarm]
        if severity is Severity.ALARM and self._ended.get(station, {}).get(event, 0) <= time_s:
            _keep_latest(self._open.setdefault(station, {}), event, time_s)

    def of(self, station: str, now_s: float) -> list[str]:
        """The names of a station's open alarms, the newest first."""
        found = self._open.get(station, {})
        return [
            name
            for name, time_s in sorted(found.items(), key=lambda one: -one[1])
            if now_s - time_s < OPEN_S
        ]

    def forget(self, station: str) -> None:
        """A station that is gone."""
        self._open.pop(station, None)
        self._ended.pop(station, None)


def _keep_latest(times: dict[str, float], name: str, time_s: float) -> None:
    times[name] = max(time_s, times.get(name, time_s))
    while len(times) > _MOST:
        del times[min(times, key=times.__getitem__)]
