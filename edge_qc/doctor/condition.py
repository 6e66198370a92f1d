"""How a board is at one moment: heat, power mode, clocks, what it draws. Read from /sys and /proc;
off a Jetson much of it is empty."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_qc.line.health import available_memory, temperatures
from edge_qc.system.machine import ROOT, this_machine


def condition(root: Path = ROOT) -> dict[str, Any]:
    """The condition as JSON holds it; never fails. Clocks in MHz, rails in mV and mA, cooling as
    the kernel's own steps (0: not needed), over_current as counts since the start."""
    hwmon = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "power_mode": this_machine(root).power_mode,
        "temperatures_c": temperatures(root / "sys/class/thermal"),
        "cooling": {
            f"{_text(device / 'type')} ({device.name})": _number(device / "cur_state")
            for device in sorted((root / "sys/class/thermal").glob("cooling_device*"))
        },
        "clocks_mhz": {
            device.name: {
                name: _scaled(device / f"{name}_freq", 1_000_000) for name in ("min", "cur", "max")
            }
            for device in sorted((root / "sys/class/devfreq").glob("*gpu*"))
        },
        "rails": {
            _text(label): {
                "mv": _number(label.with_name(label.name.replace("label", "input"))),
                "ma": _number(
                    label.with_name(label.name.replace("in", "curr", 1).replace("label", "input"))
                ),
            }
            for folder in hwmon
            for label in sorted(folder.glob("in*_label"))
        },
        "over_current": {
            file.name.removesuffix("_event_cnt"): _number(file)
            for folder in hwmon
            for file in sorted(folder.glob("oc*_event_cnt"))
        },
        "memory_available_bytes": available_memory(root),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _scaled(file: Path, by: int) -> int | None:
    value = _number(file)
    return None if value is None else value // by


def _number(file: Path) -> int | None:
    try:
        return int(_text(file))
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
