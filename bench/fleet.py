"""Fifty simulated stations, one mosquitto, one recorder, for a minute: ``python bench/fleet.py``.

Each station is a client of its own that publishes verdicts of real size and shape at QoS 1, window
64, without an outbox: what is measured is the plant's side. Lag is from sending a verdict to the
recorder's acknowledgement, which comes once it is committed. Everything is on the loopback and
stops by itself. Figures go to bench/results/fleet.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "deploy" / "demo"))

from broker import free_port, running_broker  # noqa: E402

LABELS = ("GOOD", "Boucle plate", "Lift-off blanc", "Lift-off noir", "Missing", "Short circuit MOS")
TICK_S = 0.05


class Station:
    """Publishes verdicts, counts acknowledgements."""

    def __init__(self, number: int, host: str, port: int) -> None:
        self.name, self.epoch = f"line-{number}", str(uuid.uuid4())
        self.root = f"edge-qc/v1/load/{self.name}"
        self.seq, self.acknowledged = 0, 0
        self.sent_s: dict[int, float] = {}
        self.lag_s: list[float] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, self.name, protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(64)
        self._client.on_message = self._heard
        self._client.connect(host, port)
        self._client.subscribe(f"{self.root}/ack", 1)
        self._client.loop_start()
        self._publish("state", {"state": "RUNNING", "why": "judging"}, retain=True)

    def verdict(self) -> int:
        """Sends one; its size in bytes."""
        self.seq += 1
        self.sent_s[self.seq] = time.monotonic()
        return self._publish(
            "verdict",
            {
                "seq": self.seq,
                "historical": False,
                "verdict_id": str(uuid.uuid4()),
                "camera": "die01",
                "die": "Die01",
                "part_id": f"P{self.seq // 4}",
                "trigger_id": uuid.uuid4().hex,
                "label": "GOOD",
                "disposition": "PASS",
                "reason": "decided",
                "probabilities": {**dict.fromkeys(LABELS, 0.0001), "GOOD": 0.9994, "DRIFT": 1e-4},
                "drift": {
                    "score": 1.93,
                    "p_value": 0.4137,
                    "threshold": 0.01,
                    "witness": "padim",
                    "witnesses": {"padim": 0.4137, "embedding": 0.6},
                },
                "expected_cost": dict.fromkeys((*LABELS, "DRIFT"), 99.93),
                "bundle": {"id": "0" * 64, "version": 7},
                "engine": "tensorrt 10.3.0 Orin fp16",
                "latency_ms": {"wait": 0.4, "view": 0.1, "infer": 3.1, "decide": 0.1},
                "image": None,
                "detail": "",
            },
        )

    def _publish(self, level: str, content: dict[str, object], retain: bool = False) -> int:
        stamp = {
            "schema": f"edge-qc/{level}/1",
            "epoch": self.epoch,
            "site": "load",
            "station": self.name,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        payload = json.dumps(stamp | content)
        self._client.publish(f"{self.root}/{level}", payload, 1, retain)
        return len(payload)

    def _heard(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        ack = json.loads(message.payload)
        if ack["kind"] != "verdict" or ack["epoch"] != self.epoch:
            return
        now_s = time.monotonic()
        for seq in range(self.acknowledged + 1, ack["upto"] + 1):
            self.lag_s.append(now_s - self.sent_s.pop(seq))
        self.acknowledged = max(self.acknowledged, ack["upto"])

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mosquitto_pid() -> int:
    """Of the broker that this process started."""
    ours = ["pgrep", "-P", str(os.getpid()), "mosquitto"]
    return int(subprocess.run(ours, capture_output=True, text=True, check=True).stdout)


def measure(
    stations: int, rate: float, seconds: float, saving: str, folder: Path
) -> dict[str, object]:
    database = folder / "records.sqlite"
    # TLS is each station's own cost, and not in here.
    lines = ["set_tcp_nodelay true", "persistence true", f"persistence_location {folder}/"]
    if saving == "every message":
        lines += ["autosave_on_changes true", "autosave_interval 1"]
    with contextlib.ExitStack() as stack:
        port = free_port()
        host, _ = stack.enter_context(running_broker("mosquitto", port, lines))
        broker = mosquitto_pid()
        command = [sys.executable, "-m", "edge_qc.cli", "record", "--broker", f"{host}:{port}"]
        recorder = subprocess.Popen(
            [*command, "--database", str(database)], stderr=subprocess.PIPE, text=True
        )
        stack.callback(recorder.wait)
        stack.callback(recorder.terminate)
        assert recorder.stderr is not None
        if not recorder.stderr.readline().startswith("recording"):
            raise SystemExit(f"the recorder does not start: {recorder.stderr.read()}")
        fleet = [Station(number, host, port) for number in range(stations)]
        before = cpu_s(broker), cpu_s(recorder.pid), time.process_time()
        began_s = time.monotonic()
        sent = size = 0
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            while sent < elapsed_s * rate * stations:
                size = fleet[sent % stations].verdict()
                sent += 1
            time.sleep(TICK_S)
        sending_s = time.monotonic() - began_s
        until_s = time.monotonic() + 60
        while any(one.acknowledged < one.seq for one in fleet) and time.monotonic() < until_s:
            time.sleep(0.05)
        settled_s = time.monotonic() - began_s
        after = cpu_s(broker), cpu_s(recorder.pid), time.process_time()
        for one in fleet:
            one.close()
        lag = sorted(lag for one in fleet for lag in one.lag_s)
        acknowledged = sum(one.acknowledged for one in fleet)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM verdict").fetchone()
    return {
        "broker_saves": saving,
        "stations": stations,
        "wanted_per_s": rate * stations,
        "sent_per_s": sent / sending_s,
        "sent": sent,
        "acknowledged": acknowledged,
        "recorded": rows,
        "bytes_each": size,
        "lag_p50_s": statistics.median(lag),
        "lag_p99_s": lag[int(0.99 * len(lag))],
        "lag_max_s": lag[-1],
        "settled_after_s": settled_s - sending_s,
        "database_bytes": database.stat().st_size,
        "cores_of": {
            name: (end - start) / sending_s
            for name, start, end in zip(
                ("broker", "recorder", "the stations"), before, after, strict=True
            )
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Fifty simulated stations on this machine.")
    parser.add_argument("--stations", type=int, default=50)
    parser.add_argument("--rate", type=float, default=4.0, help="verdicts a second, of each")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--saving",
        choices=("every message", "now and then"),
        default="now and then",
        help="when the broker writes its queues to disk: as deploy/mosquitto, or its default",
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edge-qc-fleet-"))
    try:
        figures = measure(options.stations, options.rate, options.seconds, options.saving, folder)
    finally:
        shutil.rmtree(folder)
    load = os.getloadavg()[0]
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}"
    file = ROOT / "bench" / "results" / "fleet.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    kept[f"{options.saving}, {options.rate * options.stations:.0f} a second"] = figures
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
