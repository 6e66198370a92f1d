"""The check of a shift, and the running station's other commands, as a shift leader calls them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_qc.bundle.slots import Slots
from edge_qc.errors import EdgeQCError
from edge_qc.parts import Disposition
from edge_qc.settings import Settings
from edge_qc.system.control import connect
from edge_qc.system.state import State
from tests.rig.lines import frame, pictures
from tests.rig.stations import Station, put_in, running_station, settings_in
from tests.rig.tiny_bundle import make_bundle
from tests.rig.trained import EDGE_QC

PASS, REJECT = Disposition.PASS, Disposition.REJECT


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_in(tmp_path / "state")
    put_in(settings, make_bundle(tmp_path / "v1"))
    return settings


def check(settings: Settings, **request: Any) -> dict[str, Any]:
    client = connect(settings.station.state_dir, command="golden-part", **request)
    assert client is not None
    with client:
        return list(client.answers())[-1]


def test_a_shift_with_two_golden_parts(settings: Settings) -> None:
    """A good part and one with a known defect, recorded once; each passes as itself and fails as
    the other. A failure is an alarm and makes the station DEGRADED until the part passes."""
    with running_station(settings) as station:
        with station.feed(PASS):
            assert check(settings, record=True)["recorded"]
            (view,) = check(settings)["views"]
            assert view["as_expected"]
            assert view["drift"] == view["expected_drift"]
        with station.feed(REJECT):
            check(settings, name="red", record=True)
            assert check(settings, name="red")["passed"]
            failed = check(settings)
            assert not failed["passed"]
            assert failed["views"][0]["expected"] == "GOOD"
            station.wait_until(lambda: station.line.state is State.DEGRADED)
        with station.feed(PASS):
            assert check(settings)["passed"]
            station.wait_until(lambda: station.line.state is State.RUNNING)
    events = [(e["event"], e["severity"]) for e in station.said("event")][1:]
    assert events == [
        ("golden-part-recorded", "info"),
        ("golden-part-passed", "info"),
        ("golden-part-recorded", "info"),
        ("golden-part-passed", "info"),
        ("golden-part-failed", "alarm"),
        ("golden-part-passed", "info"),
    ]
    labels = {v["label"] for v in station.said("verdict")}
    assert len(labels) == 2, "the verdicts are what they would have been"


def test_a_failure_stands_until_a_check_passes_whatever_happens_between(
    settings: Settings,
) -> None:
    """A restart, and another record of the part."""
    with running_station(settings) as station:
        with station.feed(PASS):
            check(settings, record=True)
        with station.feed(REJECT):
            assert not check(settings)["passed"]
    for passes in (False, True):
        with running_station(settings) as station:
            station.wait_until(lambda: station.line.state is State.DEGRADED)
            assert "golden part golden failed: Die01 is " in station.line.why
            with station.feed(PASS):
                assert check(settings, record=True)["recorded"]
                assert station.line.state is State.DEGRADED
                if passes:
                    assert check(settings)["passed"]
                    station.wait_until(lambda: station.line.state is State.RUNNING)
    with running_station(settings) as station:
        assert station.line.state is State.RUNNING


def test_a_file_that_rotted_makes_the_station_degraded_until_it_is_removed(
    settings: Settings,
) -> None:
    """Nobody knows whether a part had failed."""
    file = settings.station.state_dir / "golden-parts.json"
    file.write_text("{")
    with running_station(settings) as station:
        station.wait_until(lambda: station.line.state is State.DEGRADED)
        assert f"{file} cannot be read" in station.line.why
        file.unlink()
        with station.feed(PASS):
            check(settings, record=True)
            station.wait_until(lambda: station.line.state is State.RUNNING)


def test_cameras_that_see_some_of_the_dies_can_record_a_golden_part(tmp_path: Path) -> None:
    """A bundle may know more dies than this station has cameras for."""
    settings = settings_in(tmp_path / "state", line={"drain_s": 0.01, "queue": 64})
    bundle = make_bundle(tmp_path / "v1")
    document = json.loads((bundle / "manifest.json").read_text())
    document["dies"]["Die02"] = document["dies"]["Die01"]
    raw = json.dumps(document).encode()
    (bundle / "manifest.json").write_bytes(raw)
    (bundle / "manifest.sha256").write_text(hashlib.sha256(raw).hexdigest())
    put_in(settings, bundle)
    with running_station(settings) as station, station.feed(PASS):
        assert check(settings, record=True)["recorded"]


def test_only_the_named_part_counts(settings: Settings) -> None:
    """On a line that names its parts, the others may go on."""
    with (
        running_station(settings) as station,
        station.feed(REJECT, PASS, part=lambda n: "golden-1" if n % 2 else f"part-{n}"),
    ):
        assert check(settings, record=True, part="golden-1")["views"][0]["label"] == "GOOD"
        assert check(settings, part="golden-1")["passed"]


def test_a_part_that_never_comes_fails(settings: Settings) -> None:
    with running_station(settings) as station:
        with station.feed(PASS):
            check(settings, record=True)
        result = check(settings, within_s=0.3)
        assert not result["passed"]
        assert result["views"][0]["label"] is None
        with pytest.raises(EdgeQCError, match="not recorded: no judged view of Die01"):
            check(settings, name="other", record=True, within_s=0.3)
        with pytest.raises(EdgeQCError, match=r"is not recorded \(recorded: golden"):
            check(settings, name="other")
        with pytest.raises(EdgeQCError, match=r"'../x': wanted a name of 1 to 64 letters"):
            check(settings, name="../x")
    assert "golden-part-failed" in [event["event"] for event in station.said("event")]


def test_a_picture_from_before_the_question_is_no_answer(settings: Settings) -> None:
    """What waited in the queue shows the part that was there before."""
    with running_station(settings) as station:
        earlier = dataclasses.replace(frame(pictures()[PASS]), monotonic_s=time.monotonic())
        given = threading.Timer(0.3, lambda: station.camera._deliver(earlier))
        given.start()
        with pytest.raises(EdgeQCError, match="no judged view of Die01"):
            check(settings, record=True, within_s=1.0)
        given.join()


@pytest.fixture
def station_file(settings: Settings, tmp_path: Path) -> Path:
    file = tmp_path / "station.toml"
    file.write_text(
        f'[station]\nsite = "s"\nname = "n"\nstate_dir = "{settings.station.state_dir}"\n'
        '[mqtt]\nhost = "127.0.0.1"\nport = 1\n'
        '[[camera]]\nname = "hand"\nsource = "file:///nowhere"\ndie = "Die01"\n'
    )
    return file


@pytest.fixture
def station(settings: Settings) -> Iterator[Station]:
    with running_station(settings) as station:
        yield station


def edge_qc(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGE_QC, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_on_the_command_line(station: Station, station_file: Path, tmp_path: Path) -> None:
    """golden-part, relearn, install with a shadow run, rollback: each in a process of its own."""
    config = ("--config", station_file)
    with station.feed(PASS):
        done = edge_qc("golden-part", "--record", *config)
        assert (done.returncode, done.stderr[:22]) == (0, "insert the golden part")
        assert done.stdout.splitlines()[-1] == "recorded"
    with station.feed(REJECT):
        done = edge_qc("golden-part", *config)
        assert done.returncode == 1
        assert "! Die01: " in done.stdout
        assert "expected GOOD" in done.stdout
        assert done.stdout.splitlines()[-1] == "FAILED"
        assert edge_qc("relearn", *config).stdout == "relearning: hand\n"
        done = edge_qc("relearn", "south", *config)
        assert (done.returncode, "'south'" in done.stderr) == (1, True)
        other = make_bundle(tmp_path / "v2", version=2, seed=5)
        shadow = ("install", other, *config, "--shadow-parts", 3, "--yes")
        done = edge_qc(*shadow)
        assert done.returncode == 1
        assert "would newly pass, now" in done.stderr
        assert "not switched" in done.stderr
        done = edge_qc(*shadow, "--allow-newly-good", "--json")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["live"]
        assert answer["bundle"]["version"] == 2
        assert answer["shadow"]["newly_good"] >= 3
    done = edge_qc("rollback", *config)
    assert done.stdout.startswith("bundle version 1 (")
    assert done.stdout.endswith("judges now\n")


def test_check_says_where_the_bundle_comes_from(
    settings: Settings, station_file: Path, tmp_path: Path
) -> None:
    """Installed or a folder of its own; the previous one; and what was given up, and why."""
    put_in(settings, make_bundle(tmp_path / "v2", version=2))
    slots = Slots.of_station(settings.station.state_dir)
    assert slots.give_up_current("it rotted")
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").touch()
    station_file.write_text(station_file.read_text().replace("/nowhere", str(images)))
    done = edge_qc("check", "--config", station_file, "--json")
    assert done.returncode == 0, done.stderr
    bundle = json.loads(done.stdout)["bundle"]
    assert (bundle["from"], bundle["version"], bundle["previous"]) == ("edge-qc install", 1, None)
    assert bundle["given up"] == {"version": 2, "why": "it rotted"}
    empty = station_file.read_text().replace(str(settings.station.state_dir), str(tmp_path / "new"))
    station_file.write_text(empty)
    done = edge_qc("check", "--config", station_file)
    assert done.returncode == 78
    assert "no bundle is installed. Install one with 'edge-qc install BUNDLE'" in done.stderr


def test_without_a_station(settings: Settings, station_file: Path) -> None:
    for command in ("golden-part", "relearn"):
        done = edge_qc(command, "--config", station_file)
        assert done.returncode == 1
        assert "no station is running here" in done.stderr
