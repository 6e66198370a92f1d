"""The heartbeat's figures as a Prometheus text file, for node_exporter's textfile collector.

It is a file so that the station opens no port. The format is Prometheus' (exposition_formats, text
version 0.0.4); ``line.health`` provides the figures.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_qc.publisher import HealthContent
from edge_qc.settings import StationTable
from edge_qc.system.state import State

log = logging.getLogger(__name__)

Sample = tuple[Mapping[str, str], float | None]


def exposition(health: HealthContent, site: str, station: str) -> str:
    """The file's text. Every sample carries ``site`` and ``station``."""
    lines = []
    for name, kind, words, samples in _families(health):
        known = [(labels, value) for labels, value in samples if value is not None]
        if not known:
            continue
        lines += [f"# HELP edge_qc_{name} {words}", f"# TYPE edge_qc_{name} {kind}"]
        for labels, value in known:
            shown = ",".join(
                f'{key}="{_escaped(text)}"'
                for key, text in {"site": site, "station": station, **labels}.items()
            )
            lines.append(f"edge_qc_{name}{{{shown}}} {value:.17g}")
    return "\n".join([*lines, ""])


def _families(health: HealthContent) -> Iterator[tuple[str, str, str, list[Sample]]]:
    now_s, outbox = health.time.timestamp(), health.outbox
    age_s = health.last_verdict_age_s
    yield (
        *("state", "gauge", "1 for the current state, 0 for all others."),
        [({"state": state.value}, float(state is health.state)) for state in State],
    )
    yield (
        *("verdicts_total", "counter", "Verdicts since the start, by label."),
        [({"label": label}, count) for label, count in sorted(health.verdicts.items())],
    )
    yield (
        *("latency_seconds", "gauge", "From frame to verdict, over the last minute."),
        [
            ({"quantile": name.replace("p", "0.")}, value / 1000)
            for name, value in health.latency_ms.items()
            if name.startswith("p") and name[1:].isdigit()
        ],
    )
    gauges: list[tuple[str, str, float | None]] = [
        ("heartbeat_timestamp_seconds", "When these figures were taken.", now_s),
        ("start_timestamp_seconds", "When the station started.", now_s - health.uptime_s),
        (
            "last_verdict_timestamp_seconds",
            "When the last verdict was made.",
            None if age_s is None else now_s - age_s,
        ),
        ("queue_frames", "Frames that wait for the engine.", health.queue),
        ("resident_memory_bytes", "Memory of the station's process.", health.memory_bytes),
    ]
    if outbox is not None:
        gauges += [
            (
                "outbox_waiting_messages",
                "Messages in the outbox, not yet acknowledged.",
                outbox.waiting,
            ),
            ("outbox_open_triggers", "Triggers that have no verdict yet.", outbox.open_triggers),
            ("outbox_free_bytes", "Free space on the outbox's disk.", outbox.free_bytes),
        ]
    for name, words, value in gauges:
        yield name, "gauge", words, [({}, value)]
    yield from _outputs(health)
    cameras = sorted(health.cameras.items())
    yield (
        *("camera_frames_total", "counter", "Frames since the start."),
        [({"camera": name}, camera.frames) for name, camera in cameras],
    )
    yield (
        *("camera_faults_total", "counter", "Faults since the start."),
        [({"camera": name}, camera.faults) for name, camera in cameras],
    )
    yield (
        *("camera_state", "gauge", "1, with the camera's state as a label."),
        [({"camera": name, "state": camera.state}, 1.0) for name, camera in cameras],
    )
    yield (
        *("temperature_celsius", "gauge", "By thermal zone."),
        [({"zone": zone}, value) for zone, value in sorted(health.temperatures_c.items())],
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _outputs(health: HealthContent) -> Iterator[tuple[str, str, str, list[Sample]]]:
    outputs = sorted(health.outputs.items())
    yield (
        *("output_connected", "gauge", "1 while the output accepts verdicts."),
        [({"output": name}, float(output.connected)) for name, output in outputs],
    )
    for field, words in _OUTPUT_COUNTS.items():
        yield (
            *(f"output_{field}_total", "counter", words),
            [({"output": name}, getattr(output, field)) for name, output in outputs],
        )
    yield (
        *("output_latency_seconds", "gauge", "From trigger to output; quantile 1 is the worst."),
        [
            ({"output": name, "quantile": _QUANTILES[key]}, value / 1000)
            for name, output in outputs
            for key, value in output.latency_ms.items()
            if key in _QUANTILES
        ],
    )


_QUANTILES = {"p50": "0.50", "p99": "0.99", "worst": "1"}
_OUTPUT_COUNTS = {
    "results": "Results handed to the output.",
    "passed": "Results shown as PASS; all others were rejected.",
    "late": "Results that came after their deadline.",
    "superseded": "Results replaced before the output took them.",
    "unsent": "Results that were not shown because the output was away.",
    "unconfirmed": "Times that the ejector was silent, or moved unasked.",
}


class MetricsFile:
    """Updates the file with each heartbeat, on its own thread, so that a hanging disk cannot delay
    the line. The file is removed at the end, so that nobody mistakes old figures for new."""

    def __init__(self, file: Path, station: StationTable) -> None:
        self._file, self._station = file, station
        self._new = threading.Event()
        self._health: HealthContent | None = None
        self._closing = False
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._write, name="metrics", daemon=True)
        self._thread.start()

    def tell(self, health: HealthContent) -> None:
        """Write these figures next. Returns at once."""
        self._health = health
        self._new.set()

    def close(self, timeout_s: float = 2.0) -> None:
        self._closing = True
        self._new.set()
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while True:
            self._new.wait()
            self._new.clear()
            if self._closing:
                break
            health = self._health
            assert health is not None
            text = exposition(health, self._station.site, self._station.name)
            # The draft must be in the same folder to be renamed, and must not end in .prom, or the
            # collector would read it half written.
            draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
            try:
                draft.write_text(text, encoding="utf-8")
                draft.chmod(0o644)
                draft.replace(self._file)
                self._trouble = None
            except OSError as error:
                if self._trouble is None:
                    log.warning(
                        "metrics.textfile: %s; the station continues without metrics", error
                    )
                self._trouble = str(error)
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("metrics.textfile: %s: remove it by hand", error)
