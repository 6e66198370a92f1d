"""A controller in a process of its own: notes when each result's coils came, until its input ends.

Prints its port, then, at the end, the moments (``time.monotonic``) as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from tests.rig.controllers import modbus_controller  # noqa: E402


def main() -> None:
    """One controller; its results are writes of two coils."""
    with modbus_controller() as controller:
        print(controller.port, flush=True)
        sys.stdin.read()
        moments = [write.at_s for write in controller.writes if write.coils]
        both = [len(write.values) == 2 for write in controller.writes if write.coils]
        print(json.dumps([at for at, own in zip(moments, both, strict=True) if own]))


if __name__ == "__main__":
    main()
