"""A station of nothing but triggers and verdicts, to be killed: ``FOLDER HOST PORT``.

It writes the id of every trigger that is durable, and of every verdict handed over, to standard
output; every seventh trigger gets no verdict.
"""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path

from edge_qc.system.state import State
from tests.rig.publishing import content, open_outbox, open_publisher, record


def main() -> None:
    folder, host, port = sys.argv[1:]
    outbox = open_outbox(Path(folder))
    publisher = open_publisher(outbox, Path(folder), (host, int(port)))
    publisher.state(State.RUNNING, "judging")
    number = 0
    while True:
        number += 1
        verdict_id = str(uuid.uuid4())
        outbox.trigger(verdict_id, record()).result(10)
        print(verdict_id, flush=True)  # noqa: T201
        if number % 7:
            outbox.verdict(verdict_id, content())
        time.sleep(0.002)


main()
