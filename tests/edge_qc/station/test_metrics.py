"""The heartbeat's figures for Prometheus: what its own parser reads in the file."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_qc.errors import SettingsError
from edge_qc.publisher import HealthContent
from edge_qc.settings import StationTable, read_settings
from edge_qc.station.metrics import MetricsFile, exposition
from edge_qc.system.state import State
from tests.edge_qc.plant.test_dashboard_page import station_settings
from tests.rig.publishing import wait_until
from tests.rig.trained import EDGE_QC

HEALTH = HealthContent.model_validate(
    {
        "time": datetime(2026, 3, 2, tzinfo=timezone.utc),
        "state": State.DEGRADED,
        "uptime_s": 100,
        "verdicts": {"GOOD": 7, 'odd "label"\\\n': 2},
        "rate_per_s": 1,
        "latency_ms": {"p50": 4, "p99": 12.5},
        "queue": 3,
        "last_verdict_age_s": 10,
        "cameras": {"north": {"state": "lost", "frames": 9, "faults": 1}},
        "outbox": {"waiting": 5, "open_triggers": 1, "free_bytes": 1 << 40, "space": "ok"},
        "memory_bytes": 123,
        "temperatures_c": {"gpu": 50.5},
    }
)
STATION = StationTable(site="s", name="n", state_dir=Path("/nowhere"))


def read(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by sample name and labels, without site and station."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert (labels.pop("site"), labels.pop("station")) == ("s", "n")
            found.setdefault(sample.name, {})[tuple(labels.values())] = sample.value
    return found


def test_every_figure_is_there_in_prometheus_units() -> None:
    found = read(exposition(HEALTH, "s", "n"))
    at = HEALTH.time.timestamp()
    assert found["edge_qc_state"]["DEGRADED",] == 1
    assert sum(found["edge_qc_state"].values()) == 1
    assert found["edge_qc_verdicts_total"] == {("GOOD",): 7, ('odd "label"\\\n',): 2}
    assert found["edge_qc_latency_seconds"] == {("0.50",): 0.004, ("0.99",): 0.0125}
    assert found["edge_qc_last_verdict_timestamp_seconds"][()] == at - 10
    assert found["edge_qc_start_timestamp_seconds"][()] == at - 100
    assert found["edge_qc_outbox_free_bytes"][()] == 1 << 40
    assert found["edge_qc_camera_faults_total"]["north",] == 1
    assert found["edge_qc_camera_state"]["north", "lost"] == 1
    assert found["edge_qc_temperature_celsius"]["gpu",] == 50.5


def test_what_is_not_known_is_left_out() -> None:
    health = HEALTH.model_copy(update={"last_verdict_age_s": None, "outbox": None, "cameras": {}})
    found = read(exposition(health, "s", "n"))
    assert "edge_qc_last_verdict_timestamp_seconds" not in found
    assert "edge_qc_outbox_free_bytes" not in found


def test_the_file_follows_the_heartbeat_and_goes_with_the_station(tmp_path: Path) -> None:
    file = tmp_path / "edge-qc.prom"
    metrics = MetricsFile(file, STATION)
    metrics.tell(HEALTH)
    wait_until(file.exists)
    metrics.tell(HEALTH.model_copy(update={"queue": 9}))
    wait_until(lambda: read(file.read_text())["edge_qc_queue_frames"][()] == 9)
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]
    metrics.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_told_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = MetricsFile(tmp_path / "none" / "edge-qc.prom", STATION)
    for _ in range(3):
        metrics.tell(HEALTH)
        wait_until(lambda: "No such file" in caplog.text)
    (tmp_path / "none").mkdir()
    metrics.tell(HEALTH)
    wait_until((tmp_path / "none" / "edge-qc.prom").exists)
    metrics.close()
    assert caplog.text.count("No such file") == 1


@pytest.mark.broker
def test_a_station_writes_it_and_opens_no_port(mosquitto: tuple[str, int], tmp_path: Path) -> None:
    settings = station_settings(tmp_path, mosquitto)
    with settings.open("a") as text:
        text.write('[metrics]\ntextfile = "edge-qc.prom"\n')
    file = tmp_path / "edge-qc.prom"
    daemon = subprocess.Popen(
        [*EDGE_QC, "run", "--config", str(settings)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        wait_until(file.exists, 30)
        wait_until(lambda: 'edge_qc_verdicts_total{site="s"' in file.read_text())
        sockets = set()
        for link in Path(f"/proc/{daemon.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # A file that was closed meanwhile.
                sockets.add(os.readlink(link))
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{daemon.pid}/net/{table}").read_text().splitlines()[1:]:
                state, inode = line.split()[3], line.split()[9]
                assert state != "0A" or f"socket:[{inode}]" not in sockets, "a port listens"
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0
    assert not file.exists()


def test_a_name_that_is_not_collected_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "station.toml"
    example = Path(__file__).parents[3] / "deploy" / "station.example.toml"
    file.write_text(example.read_text() + '\n[metrics]\ntextfile = "figures.txt"\n')
    with pytest.raises(SettingsError, match=r"must end in \.prom"):
        read_settings(file)
