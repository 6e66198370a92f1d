"""A station that judges some views a second, by the clock, to be killed: ``FOLDER HOST PORT``.

It writes to standard output once it judges.
"""

from __future__ import annotations

import sys
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

from edge_qc.system.state import State
from tests.rig.publishing import content, open_outbox, open_publisher, record


def main() -> None:
    folder, host, port = sys.argv[1:]
    outbox = open_outbox(Path(folder))
    publisher = open_publisher(outbox, Path(folder), (host, int(port)))
    publisher.state(State.RUNNING, "judging")
    print("judging", flush=True)  # noqa: T201
    while True:
        verdict_id = str(uuid.uuid4())
        outbox.trigger(verdict_id, record()).result(10)
        outbox.verdict(verdict_id, content(time=datetime.now(timezone.utc)))
        time.sleep(0.1)


main()
