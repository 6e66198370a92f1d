"""A consumer that knows nothing but the kept schemas can read all that a running daemon says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_qc.publisher import Received, Subscription
from edge_qc.settings import MqttTable
from tests.rig.trained import EDGE_QC, ROOT, Trained

HERE = ROOT / "docs" / "mqtt"


def _hear(subscription: Subscription, until: str, seconds: float = 30) -> list[Received]:
    """All that comes until a state does."""
    heard: list[Received] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        received = subscription.read(0.5)
        if received is not None:
            heard.append(received)
            if json.loads(received.payload).get("state") == until and "/state" in received.topic:
                return heard
    raise AssertionError(f"no state {until} in {seconds} s")


@pytest.mark.torch
@pytest.mark.broker
def test_all_that_a_daemon_publishes_keeps_the_contract(
    trained: Trained, mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    """From its first state over verdicts, parts and heartbeats to its death and its next end."""
    host, port = mosquitto
    images = sorted((trained.data / "input_test").glob("*.png"))[:12]
    table = ["filename,lib,part"]
    table += [f"{image.name},Die0{i % 4 + 1},p{i // 4}" for i, image in enumerate(images)]
    (tmp_path / "parts.csv").write_text("\n".join(table))
    (tmp_path / "station.toml").write_text(
        '[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
        f'[bundle]\npath = "{trained.bundle}"\n[mqtt]\nhost = "{host}"\nport = {port}\n'
        "[line]\nhealth_every_s = 0.2\n"
        f'[[camera]]\nname = "c"\nsource = "file://{trained.data}/input_test"\n'
        'table = "parts.csv"\nfps = 30\n'
    )
    command = [*EDGE_QC, "run", "--config", str(tmp_path / "station.toml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subscription = Subscription(MqttTable(host=host, port=port), ["edge-qc/#"])
    try:
        daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        heard = _hear(subscription, "RUNNING")
        time.sleep(1)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait(10)
        heard += _hear(subscription, "DEAD")
        again = subprocess.run(
            [*command, "--until-end"], env=environment, stderr=subprocess.PIPE, check=False
        )
        assert again.returncode == 0, again.stderr
        heard += _hear(subscription, "DEAD")
    finally:
        subscription.close()
    levels: Counter[str] = Counter()
    for received in heard:
        level = received.topic.rpartition("/")[2]
        levels[level] += 1
        schema: dict[str, Any] = json.loads((HERE / f"{level}.schema.json").read_text("utf-8"))
        jsonschema.Draft202012Validator(schema).validate(json.loads(received.payload))
    assert levels["verdict"] >= 12
    assert levels["part"] >= 3
    assert levels["health"] >= 2
    assert levels["state"] >= 6
