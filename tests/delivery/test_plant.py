"""plant.sh and its two units, on a machine with a real systemd that has a broker and a station too.

The tests of this file are one story on one machine, in their order.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from deploy.wheelhouse import pack
from tests.delivery.conftest import SETTINGS, carry, system_python
from tests.delivery.machine import Machine
from tests.delivery.test_install import until

pytestmark = [pytest.mark.systemd, pytest.mark.xdist_group("machine")]
RECORD, DASHBOARD = "edge-qc-record.service", "edge-qc-dashboard.service"
UNITS = (RECORD, DASHBOARD)
HANDED = "/run/credentials/{unit}/mqtt.password"
RECORDS = "/var/lib/edge-qc-record/records.sqlite"
COUNT = (
    f'import sqlite3; database = sqlite3.connect("{RECORDS}"); '
    'print(*database.execute("SELECT count(*) FROM verdict").fetchone())'
)
OPTIONS = "OPTIONS=--broker 127.0.0.1 --username line --password-file {handed}\n"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make wheelhouse WITH=--plant`` packs for this machine's system Python."""
    folder = tmp_path_factory.mktemp("plant") / "wheelhouse"
    return pack(folder, system_python(), platform.machine(), "plant.txt")


def pid(machine: Machine, unit: str) -> str:
    shown = machine.show(unit, "MainPID", "ActiveState")
    return shown["MainPID"] if shown["ActiveState"] == "active" else "0"


def recorded(machine: Machine) -> int:
    """How many verdicts the recorder's database has."""
    return int(machine.shell(f"runuser -u edge-qc-record -- /usr/bin/python3 -c '{COUNT}'"))


def test_a_server_in_one_command(bare: Machine, packed: Path) -> None:
    """Without a network: both units are there, neither runs, and what to do next is said."""
    install = carry(bare, packed, "plant")
    done = bare.run(install.replace("install.sh", "plant.sh"), "--offline")
    assert "fill in /etc/edge-qc-plant/record.conf" in done.stderr
    for unit in UNITS:
        assert pid(bare, unit) == "0"
    modes = bare.shell("stat -c '%a %U' /etc/edge-qc-plant/credentials /etc/edge-qc-plant/*.conf")
    assert modes.splitlines() == ["700 root", "644 root", "644 root"]


def test_unfilled_settings_stay_down(bare: Machine) -> None:
    """One start, and the journal says what is missing."""
    for unit in UNITS:
        bare.run("systemctl", "start", unit, check=False)
        until(
            lambda unit=unit: bare.show(unit, "ActiveState")["ActiveState"] == "failed",  # type: ignore[misc]
            f"the end of {unit}",
        )
        assert bare.show(unit, "ExecMainStatus", "NRestarts") == {
            "ExecMainStatus": "2",
            "NRestarts": "0",
        }
        assert "--broker" in bare.journal(unit)


def test_what_a_station_says_is_recorded_and_shown(bare: Machine, wheelhouse: Path) -> None:
    bare.write("/etc/edge-qc-plant/credentials/mqtt.password", "secret\n", "600")
    for unit, name in ((RECORD, "record"), (DASHBOARD, "dashboard")):
        text = OPTIONS.format(handed=HANDED.format(unit=unit))
        bare.write(f"/etc/edge-qc-plant/{name}.conf", text)
    bare.run("systemctl", "enable", "--now", *UNITS)
    bare.run(carry(bare, wheelhouse, "station"), "--offline")
    settings = SETTINGS.replace("[mqtt]", "[mqtt]\nrecorder = true")
    bare.write("/etc/edge-qc/station.toml", settings, "640")
    bare.write("/etc/edge-qc/credentials/mqtt.password", "secret\n", "600")
    bare.shell(
        "chgrp edge-qc /etc/edge-qc/station.toml\n"
        "cp -r /srv/shared/bundle /var/lib/edge-qc/ && chown -R edge-qc: /var/lib/edge-qc"
    )
    bare.run("systemctl", "start", "edge-qc.service")
    until(lambda: recorded(bare) >= 20, "twenty verdicts in the database")
    # What is recorded is acknowledged: the station need not keep it.
    status = bare.shell("edge-qc outbox status --config /etc/edge-qc/station.toml --json")
    assert sum(json.loads(status)["waiting"].values()) < recorded(bare)
    live = bare.shell("timeout 3 curl -sN http://127.0.0.1:8080/live || true")
    assert '"line"' in live or "plant/line" in live
    assert "<html" in bare.shell("curl -s http://127.0.0.1:8080/")


def test_killed_both_come_back_and_nothing_is_missing(bare: Machine) -> None:
    before = {unit: pid(bare, unit) for unit in UNITS}
    for unit in UNITS:
        bare.run("kill", "-KILL", before[unit])
    for unit in UNITS:
        until(lambda unit=unit: pid(bare, unit) not in ("0", before[unit]), unit)  # type: ignore[misc]
    count = recorded(bare)
    until(lambda: recorded(bare) > count + 10, "more verdicts in the database")
    gaps = bare.shell(
        "runuser -u edge-qc-record -- /opt/edge-qc-plant/current/bin/edge-qc query gaps --json "
        f"--database {RECORDS}"
    )
    assert json.loads(gaps) == []
    assert "<html" in bare.shell("curl -s --retry 20 --retry-connrefused http://127.0.0.1:8080/")


def test_they_are_shut_in(bare: Machine) -> None:
    """The recorder listens nowhere, the dashboard on this machine alone; neither is root, and the
    secrets are each unit's own."""
    sockets = bare.shell("ss -H -ltnp").splitlines()
    assert not [line for line in sockets if f"pid={pid(bare, RECORD)}," in line]
    (shown,) = [line for line in sockets if f"pid={pid(bare, DASHBOARD)}," in line]
    assert "127.0.0.1:8080" in shown
    bare.shell("id alice >/dev/null 2>&1 || useradd -m alice")
    for unit in UNITS:
        assert bare.shell(f"stat -c %u /proc/{pid(bare, unit)}").strip() != "0"
        handed = HANDED.format(unit=unit)
        assert bare.run("runuser", "-u", "alice", "--", "cat", handed, check=False).returncode != 0
        assert "secret" not in bare.journal(unit)
        # In the unit's own view of the files.
        inside = ["nsenter", "-t", pid(bare, unit), "-m", "--"]
        refused = bare.run(*inside, "touch", "/etc/probe", check=False)
        assert "Read-only" in refused.stderr
        assert bare.run(*inside, "ls", "/home/alice", check=False).returncode != 0


def test_again_keeps_what_was(bare: Machine) -> None:
    look = "readlink /opt/edge-qc-plant/current; cat /etc/edge-qc-plant/*.conf"
    before, count = bare.shell(look), recorded(bare)
    done = bare.run("/srv/shared/plant/plant.sh", "--offline")
    assert "was installed already" in done.stderr
    assert bare.shell(look) == before
    until(lambda: recorded(bare) > count, "records to go on")


def test_uninstall_leaves_what_was_recorded(bare: Machine) -> None:
    bare.run("/srv/shared/plant/plant.sh", "--uninstall")
    for unit in UNITS:
        assert pid(bare, unit) == "0"
    assert bare.shell("ls -d /opt/edge-qc-plant 2>/dev/null || true") == ""
    assert recorded(bare) > 0
    bare.run("/srv/shared/plant/plant.sh", "--uninstall", "--purge")
    gone = bare.run(
        "bash", "-c", "ls -d /etc/edge-qc-plant /var/lib/edge-qc-record; id edge-qc-record",
        check=False,
    )  # fmt: skip
    assert gone.stdout == ""
    # The station beside it is not touched.
    assert pid(bare, "edge-qc.service") != "0"
