"""What systemd says of the station's unit."""

from __future__ import annotations

import subprocess

UNIT = "edge-qc.service"


def shown(*properties: str) -> dict[str, str]:
    """The unit's properties by name; empty without systemd."""
    try:
        done = subprocess.run(
            ["systemctl", "show", UNIT, f"--property={','.join(properties)}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in pairs}
