"""The control: a publisher as most people write it, ``JOURNAL HOST PORT``.

paho, QoS 1, its own network thread, reconnecting by itself; no outbox. What it loses, the referee
must find.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from datetime import datetime, timezone

import paho.mqtt.client as paho

from tests.faults.load import NO_FAULT, PROTOTYPES


def main() -> None:
    journal, host, port = sys.argv[1:]
    fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.reconnect_delay_set(1, 1)
    client.connect(host, int(port), 2)
    client.loop_start()
    epoch = str(uuid.uuid4())
    seq = 0
    while True:
        seq += 1
        label = PROTOTYPES[seq % len(PROTOTYPES)][0]
        verdict = {
            "verdict_id": str(uuid.uuid4()),
            "epoch": epoch,
            "seq": seq,
            "trigger_id": uuid.uuid4().hex,
            "time": datetime.now(timezone.utc).isoformat(),
            "image": f"{epoch}-{seq}~{seq % len(PROTOTYPES)}~{NO_FAULT}",
            "label": label,
            "disposition": "PASS" if label == "GOOD" else "REJECT",
            "reason": "decided",
            "historical": False,
        }
        names = f"{verdict['verdict_id']} {verdict['trigger_id']} {verdict['image']}"
        os.write(fd, f"asked {names}\ndurable {verdict['verdict_id']}\n".encode())
        client.publish("edge-qc/v1/s/n/verdict", json.dumps(verdict), qos=1)
        time.sleep(0.002)


main()
