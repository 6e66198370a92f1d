"""Draws the pages' pictures: the wiring with its safe level, and timing from measured traces.

    python docs/outputs/draw.py             draw again from the kept traces
    python docs/outputs/draw.py --measure   measure anew on this machine, then draw

A trace is what a real Modbus server on the loopback was told, and when.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TRACES = HERE / "traces.json"
_INK, _PALE, _GOOD, _BAD = "#1b1f24", "#8a939c", "#1a7f37", "#cf222e"


def measure() -> list[dict[str, Any]]:
    """Scenes: name, deadline, moments of triggers and verdicts, and every write, in ms."""
    sys.path[:0] = [str(ROOT), str(ROOT / "deploy" / "demo")]
    from edge_qc.parts import Disposition
    from tests.rig.controllers import ModbusController, modbus_controller
    from tests.rig.outlets import result, running_outputs

    deadline_ms = 80
    found = []

    def scene(name: str, deeds: Sequence[tuple[float, float, str]]) -> None:
        """deeds: at which ms a trigger comes, after how many its verdict, and which."""
        with modbus_controller() as controller, tempfile.TemporaryDirectory() as folder:
            found.append(_scene(name, deeds, controller, Path(folder)))

    def _scene(
        name: str,
        deeds: Sequence[tuple[float, float, str]],
        controller: ModbusController,
        folder: Path,
    ) -> dict[str, Any]:
        table = {"target": controller.target, "of": ["part"], "deadline_ms": deadline_ms}
        table |= {"hold_ms": 60, "heartbeat_ms": 60_000}
        with running_outputs(folder, table) as rig:
            rig.wait(lambda: controller.coils[2])
            time.sleep(0.2)
            controller.writes.clear()
            began_s = time.monotonic()
            for at_ms, after_ms, disposition in deeds:
                if disposition == "away":
                    time.sleep(max(0.0, began_s + at_ms / 1e3 - time.monotonic()))
                    controller.stop()
                    continue
                time.sleep(max(0.0, began_s + (at_ms + after_ms) / 1e3 - time.monotonic()))
                age_s = time.monotonic() - began_s - at_ms / 1e3
                rig.outputs.offer(result(Disposition(disposition), age_s=age_s))
            time.sleep(0.2)
            writes = [
                {
                    "ms": round((write.at_s - began_s) * 1e3, 2),
                    "coils": write.coils,
                    "values": list(write.values[:2]) if write.coils else [],
                }
                for write in controller.writes
            ]
        return {"name": name, "deadline_ms": deadline_ms, "deeds": deeds, "writes": writes}

    scene("PASS, in time, and taken back", [(10, 30, "PASS")])
    scene("REJECT: the toggle flips, PASS stays 0", [(10, 30, "REJECT")])
    scene("PASS, too late: shown as REJECT", [(10, 95, "PASS")])
    scene("PASS, then REJECT of the next part", [(10, 25, "PASS"), (55, 25, "REJECT")])
    return found


def timing(scenes: Sequence[dict[str, Any]]) -> str:
    """One strip for each scene."""
    rows = ("trigger", "verdict", "registers", "toggle", "passed")
    width, left, strip, step = 860, 150, 210, 30
    scale = (width - left - 30) / 180

    def x(ms: float) -> float:
        return left + ms * scale

    parts = [_head(width, strip * len(scenes) + 20)]
    for number, scene in enumerate(scenes):
        top = 30 + number * strip
        parts.append(_text(left, top - 10, scene["name"], size=15, weight="bold"))
        for row, name in enumerate(rows):
            parts.append(_text(left - 12, top + 16 + row * step, name, anchor="end"))
            parts.append(
                _line(left, top + 20 + row * step, width - 30, top + 20 + row * step, _PALE)
            )
        for at_ms, after_ms, disposition in scene["deeds"]:
            good = _GOOD if disposition == "PASS" else _BAD
            parts.append(_line(x(at_ms), top + 2, x(at_ms), top + 20, _INK, 3))
            parts.append(
                _line(x(at_ms + after_ms), top + 32, x(at_ms + after_ms), top + 50, good, 3)
            )
            parts.append(_text(x(at_ms + after_ms) + 6, top + 45, disposition, color=good))
            limit = x(at_ms + scene["deadline_ms"])
            parts.append(_line(limit, top, limit, top + 140, _BAD, 1, "4 4"))
            parts.append(_text(limit + 4, top + 10, "deadline", size=11, color=_BAD))
        for write in scene["writes"]:
            if not write["coils"] and 0 <= write["ms"] <= 180:
                parts.append(_line(x(write["ms"]), top + 62, x(write["ms"]), top + 80, _INK, 3))
        coils = [w for w in scene["writes"] if w["coils"] and len(w["values"]) == 2]
        for at, base, color in ((1, top + 110, _INK), (0, top + 140, _GOOD)):
            parts.append(_level([(w["ms"], w["values"][at]) for w in coils], base, x, color))
        for ms in range(0, 181, 20):
            parts.append(_line(x(ms), top + 150, x(ms), top + 155, _PALE))
            parts.append(_text(x(ms), top + 168, f"{ms} ms", size=11, anchor="middle", color=_PALE))
    return "\n".join([*parts, "</svg>", ""])


def _level(changes: Sequence[tuple[float, int]], base: float, x: Any, color: str) -> str:
    points, now = [(x(0), base)], 0
    for ms, value in changes:
        if ms > 180:
            break
        points += [(x(ms), base - 18 * now), (x(ms), base - 18 * value)]
        now = value
    points.append((x(180), base - 18 * now))
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'


def wiring() -> str:
    """A pin, its pull-down, a watchdog relay and the PASS relay in series."""
    parts = [_head(860, 330)]
    parts += _box(30, 40, 190, 190, "station", ("pin 27: PASS, active high", "pin 22: alive"))
    parts += _box(330, 30, 190, 70, "PASS relay", ("closed while pin 27 is high",))
    parts += _box(
        330, 160, 190, 70, "watchdog relay", ("opens 1 s after", "the last change of pin 22")
    )
    gate = ("24 V: lets the part pass", "0 V: rejects")
    parts += _box(640, 90, 190, 80, "gate at the ejector", gate)
    parts.append(_line(220, 65, 330, 65, _GOOD, 2))
    parts.append(_line(220, 195, 330, 195, _INK, 2))
    # The pull-down resistor that holds the safe level where nobody drives the pin.
    parts.append(_line(270, 65, 270, 88, _GOOD, 2))
    parts.append('<rect x="263" y="88" width="14" height="34" fill="none" stroke="#1b1f24"/>')
    parts.append(_line(270, 122, 270, 136, _INK, 2))
    parts.append(_line(258, 136, 282, 136, _INK, 3))
    parts.append(_text(284, 110, "10 kΩ", size=12))
    # 24 V through both contacts, one behind the other.
    parts.append(_text(560, 40, "24 V", size=13, weight="bold"))
    parts.append(_line(575, 46, 575, 62, _BAD, 2))
    parts.append(_line(520, 62, 575, 62, _BAD, 2))
    parts.append(_line(425, 100, 425, 160, _BAD, 2))
    parts.append(_text(432, 134, "in series", size=12))
    parts.append(_line(520, 195, 590, 195, _BAD, 2))
    parts.append(_line(590, 195, 590, 130, _BAD, 2))
    parts.append(_line(590, 130, 640, 130, _BAD, 2))
    for row, line in enumerate(
        (
            "Safe level: pin low, both contacts open, gate at 0 V, the part is rejected.",
            "Start, stop, late, in doubt: the station sets pin 27 low itself.",
            "SIGKILL: pin 27 may stay as it was. Pin 22 stands still: the relay opens 1 s later,",
            "and systemd's ExecStopPost= sets pin 27 low. Cable off, power off: low.",
        )
    ):
        parts.append(_text(30, 262 + row * 20, line, size=13))
    return "\n".join([*parts, "</svg>", ""])


def _head(width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>'
    )


def _text(x: float, y: float, text: str, **more: Any) -> str:
    size, weight = more.get("size", 13), more.get("weight", "normal")
    anchor, color = more.get("anchor", "start"), more.get("color", _INK)
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{color}">{text}</text>'
    )


def _line(
    x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1, dash: str = ""
) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
        f'stroke-width="{width}"{dashed}/>'
    )


def _box(
    x: float, y: float, width: float, height: float, title: str, lines: Sequence[str]
) -> Iterator[str]:
    yield (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#f6f8fa" '
        f'stroke="{_INK}"/>'
    )
    yield _text(x + 12, y + 22, title, size=14, weight="bold")
    spread = max(18.0, (height - 60) / max(1, len(lines) - 1)) if height > 100 else 17.0
    first = y + 42
    for row, line in enumerate(lines):
        at = first if row == 0 else first + row * spread
        yield _text(x + 12, min(at, y + height - 10), line, size=12)


def main() -> None:
    """Measure where asked, and draw."""
    if "--measure" in sys.argv:
        TRACES.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    scenes = json.loads(TRACES.read_text(encoding="utf-8"))
    (HERE / "timing.svg").write_text(timing(scenes), encoding="utf-8")
    (HERE / "wiring.svg").write_text(wiring(), encoding="utf-8")


if __name__ == "__main__":
    main()
