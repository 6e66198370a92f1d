"""What a notifier knows across a restart: which conditions were noticed, and when others ended."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_qc.system.whole_file import write_whole

Key = tuple[str, str, str]
"""``site/station``, or the broker's address; the camera, or empty for the whole station; and the
name of the condition."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a station said something. seq: its number within the epoch; 0 for the epoch's start.
    time: by the station's clock, with a zone."""

    epoch: str
    seq: int
    time: datetime


@dataclass(frozen=True, slots=True)
class Memory:
    """noticed: what lasts, with the event that said so; None if it was no event, or is unknown.
    ended: when a condition was last said to be over."""

    noticed: Mapping[Key, Moment | None] = field(default_factory=dict)
    ended: Mapping[Key, Moment] = field(default_factory=dict)


def recall(file: Path | None) -> Memory:
    """What ``keep`` wrote; nothing if the file is missing or damaged."""
    if file is None:
        return Memory()
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, list):
            # As it was before cameras had conditions of their own: station and name.
            return Memory({(str(station), "", str(name)): None for station, name in found})
        noticed = {_key(row): _moment(row) for row in found["noticed"]}
        ended = {_key(row): _moment(row) for row in found["ended"]}
        return Memory(noticed, {key: moment for key, moment in ended.items() if moment})
    return Memory()


def keep(file: Path, memory: Memory) -> None:
    """Write what a restart must know; a disk that refuses is logged."""
    found = {
        "noticed": [_row(key, moment) for key, moment in memory.noticed.items()],
        "ended": [_row(key, moment) for key, moment in memory.ended.items()],
    }
    try:
        write_whole(file, json.dumps(found).encode())
    except OSError as error:
        log.warning("%s: %s; a restart may repeat notices", file, error)


def _row(key: Key, moment: Moment | None) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(("station", "camera", "condition"), key, strict=True))
    if moment is not None:
        row |= {"epoch": moment.epoch, "seq": moment.seq, "time": moment.time.isoformat()}
    return row


def _key(row: Mapping[str, Any]) -> Key:
    return str(row["station"]), str(row["camera"]), str(row["condition"])


def _moment(row: Mapping[str, Any]) -> Moment | None:
    if "epoch" not in row:
        return None
    time = datetime.fromisoformat(row["time"])
    if time.tzinfo is None:
        raise ValueError(f"time {row['time']!r} has no zone")
    return Moment(str(row["epoch"]), int(row["seq"]), time)
