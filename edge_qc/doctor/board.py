"""The board: JetPack, power mode, clocks, temperatures and over-current, from /sys and /etc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_qc.doctor.finding import NOT_A_JETSON, Finding, bad, good, none, note
from edge_qc.line.health import temperatures
from edge_qc.settings import Settings
from edge_qc.system.machine import Machine, too_old

_HOT_C = 85.0


def jetpack(machine: Machine) -> Iterator[Finding]:
    """JetPack 6.1 or newer, which is the first with TensorRT 10.3."""
    if machine.l4t is None:
        yield none("JetPack", f"{NOT_A_JETSON}: {machine.model}, {machine.system}")
        return
    seen = f"JetPack {machine.jetpack}, L4T {machine.l4t} on {machine.model}"
    if too_old(machine.l4t):
        yield bad("JetPack", seen, "flash JetPack 6.1 or newer; it brings TensorRT 10.3")
    else:
        yield good("JetPack", seen)


def power_mode(machine: Machine, settings: Settings | None) -> Iterator[Finding]:
    """Whether nvpmodel's mode is the one the station was commissioned in."""
    wanted = None if settings is None else settings.station.power_mode
    if not machine.is_jetson:
        yield none("power mode", NOT_A_JETSON)
    elif machine.power_mode is None:
        yield note("power mode", "nvpmodel reports no mode", "sudo nvpmodel -q")
    elif wanted is None:
        yield note(
            "power mode",
            machine.power_mode,
            f'if this mode is right, record it: power_mode = "{machine.power_mode}" in [station]',
        )
    elif machine.power_mode == wanted:
        yield good("power mode", f"{wanted}, as commissioned")
    else:
        yield bad(
            "power mode",
            f"{machine.power_mode}, commissioned in {wanted}",
            f"latencies were accepted in {wanted}: return to it with sudo nvpmodel -m NUMBER, or "
            "run edge-qc accept again and correct power_mode in [station]",
        )


def clocks(machine: Machine, root: Path) -> Iterator[Finding]:
    """Whether the GPU's clock moves; a moving clock makes the first answer after a pause slow."""
    if not machine.is_jetson:
        yield none("clocks", NOT_A_JETSON)
        return
    for device in sorted((root / "sys/class/devfreq").glob("*gpu*")):
        low, high = _number(device / "min_freq"), _number(device / "max_freq")
        if low is None or high is None:
            continue
        if low == high:
            yield good("clocks", f"GPU fixed at {high // 1_000_000} MHz")
        else:
            yield note(
                "clocks",
                f"GPU between {low // 1_000_000} and {high // 1_000_000} MHz",
                "if the takt is short, fix the clocks: sudo jetson_clocks",
            )
        return
    yield note("clocks", "the kernel reports no GPU clock")


def heat(root: Path) -> Iterator[Finding]:
    """The hottest thermal zone."""
    zones = temperatures(root / "sys/class/thermal")
    if not zones:
        yield none("temperature", "the kernel reports no thermal zone")
        return
    name, hottest = max(zones.items(), key=lambda zone: zone[1])
    seen = f"{hottest:.0f} °C ({name}), the hottest of {len(zones)}"
    if hottest >= _HOT_C:
        yield bad("temperature", seen, "the board throttles: clean the fan and improve the airflow")
    else:
        yield good("temperature", seen)


def over_current(machine: Machine, root: Path) -> Iterator[Finding]:
    """How often the board drew too much current since it started."""
    if not machine.is_jetson:
        yield none("over-current", NOT_A_JETSON)
        return
    counters = {
        file.name.removesuffix("_event_cnt"): _number(file)
        for file in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))
    }
    events = {name: count for name, count in counters.items() if count}
    if not counters:
        yield note("over-current", "the kernel does not count over-current events")
    elif events:
        seen = ", ".join(f"{name}: {count} times" for name, count in events.items())
        yield bad(
            "over-current", seen, "the board throttled: use a stronger supply or a lower power mode"
        )
    else:
        yield good("over-current", f"none on {len(counters)} counters")


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
