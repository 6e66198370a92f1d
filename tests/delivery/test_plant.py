"""plant.sh and its units, on a machine with a real systemd that has a broker and a station too.

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
NOTIFY = "edge-qc-notify.service"
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
    """Without a network: both units are there, neither runs, and what to do next is said. Root's
    umask may hide from others what root makes: the services start below."""
    install = carry(bare, packed, "plant").replace("install.sh", "plant.sh")
    done = bare.run("bash", "-c", f"umask 077 && {install} --offline")
    assert "fill in /etc/edge-qc-plant/record.conf" in done.stderr
    for unit in UNITS:
        assert pid(bare, unit) == "0"
    modes = bare.shell("stat -c '%a %U' /etc/edge-qc-plant/credentials /etc/edge-qc-plant/*.conf")
    assert modes.splitlines() == ["700 root", "644 root", "644 root", "644 root"]


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


def test_https_and_a_password(bare: Machine) -> None:
    """As dashboard.conf's own example has it: the key and the password are credentials."""
    bare.shell(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=plant -out /etc/edge-qc-plant/https.pem "
        "-keyout /etc/edge-qc-plant/credentials/https.key 2>/dev/null\n"
        "chmod 644 /etc/edge-qc-plant/https.pem"
    )
    bare.write("/etc/edge-qc-plant/credentials/login", "a long password\n", "600")
    handed = f"/run/credentials/{DASHBOARD}"
    plain = bare.shell("cat /etc/edge-qc-plant/dashboard.conf")
    bare.write(
        "/etc/edge-qc-plant/dashboard.conf",
        f"{plain.rstrip()} --host 0.0.0.0 --login-file {handed}/login "
        f"--https-cert-file /etc/edge-qc-plant/https.pem --https-key-file {handed}/https.key\n",
    )
    # It comes back once pages are answered: nothing to wait for.
    bare.run("systemctl", "restart", DASHBOARD)
    page = "https://127.0.0.1:8080"
    outside = bare.shell(f"curl -sk -o /dev/null -w '%{{http_code}} %{{redirect_url}}' {page}/")
    assert outside.startswith("303")
    assert outside.endswith("/login.html")
    bare.shell(f"curl -sk -c /tmp/jar -d 'password=a+long+password' {page}/login")
    live = bare.shell(f"timeout 3 curl -skN -b /tmp/jar {page}/live || true")
    assert '"line"' in live or "plant/line" in live
    bare.write("/etc/edge-qc-plant/dashboard.conf", plain)
    bare.run("systemctl", "restart", DASHBOARD)


def test_postgresql_by_its_password(bare: Machine) -> None:
    """The password is a credential; what comes from then on is in that database."""
    data = "/var/lib/edge-qc-trial"
    bare.shell(
        'set -e; programs=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | tail -1)")\n'
        f"install -d -o postgres {data} /run/postgresql\n"
        f"echo 'secret of records' > {data}/asked && chown postgres {data}/asked\n"
        f"runuser -u postgres -- $programs/initdb -D {data}/db -A scram-sha-256 "
        f"--pwfile={data}/asked >/dev/null\n"
        f"runuser -u postgres -- $programs/pg_ctl -w -D {data}/db -l {data}/log start >/dev/null"
    )
    bare.write(
        "/etc/edge-qc-plant/credentials/pgpass", "127.0.0.1:*:*:postgres:secret of records\n", "600"
    )
    plain = bare.shell("cat /etc/edge-qc-plant/record.conf")
    url = "postgresql://postgres@127.0.0.1/postgres"
    bare.write("/etc/edge-qc-plant/record.conf", f"{plain.rstrip()}\nEDGE_QC_DATABASE={url}\n")
    done = bare.run("systemctl", "restart", RECORD, check=False)
    assert done.returncode == 0, bare.journal(RECORD)
    ask = (
        "PGPASSWORD='secret of records' psql -h 127.0.0.1 -U postgres -tAc "
        "'SELECT count(*) FROM verdict'"
    )
    until(lambda: int(bare.shell(ask) or 0) >= 10, "ten verdicts in PostgreSQL")
    bare.write("/etc/edge-qc-plant/record.conf", plain)
    bare.run("systemctl", "restart", RECORD)


def test_people_are_told_and_a_restart_repeats_nothing(bare: Machine) -> None:
    """The broker goes and comes back: a webhook hears of both, once each."""
    bare.write(
        "/srv/hook.py",
        "import http.server, json\n"
        "class Hook(http.server.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        told = json.loads(self.rfile.read(int(self.headers['Content-Length'])))\n"
        "        print(told['title'], '|', told['message'], file=open('/srv/heard', 'a'))\n"
        "        self.send_response(200); self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', 8099), Hook).serve_forever()\n",
    )
    bare.shell("systemd-run -q --unit=hook /usr/bin/python3 /srv/hook.py")
    bare.write("/etc/edge-qc-plant/credentials/targets", "json://127.0.0.1:8099\n", "600")
    handed = HANDED.format(unit=NOTIFY)
    options = OPTIONS.format(handed=handed).replace("OPTIONS=", "OPTIONS=--after 1 ")
    bare.write("/etc/edge-qc-plant/notify.conf", options)

    def heard() -> list[str]:
        return bare.shell("cat /srv/heard 2>/dev/null || true").splitlines()

    bare.run("systemctl", "start", NOTIFY)
    until(lambda: "watching" in bare.journal(NOTIFY), "notices")
    bare.shell("systemctl stop broker")
    until(lambda: len(heard()) == 1, "a notice")
    bare.run("systemctl", "restart", NOTIFY)
    bare.shell("systemd-run -q --unit=broker mosquitto -c /etc/mosquitto/edge-qc.conf")
    until(lambda: len(heard()) >= 2, "that it is over")
    assert len([line for line in heard() if "broker" in line]) == 2, heard()
    assert "json://" not in bare.journal(NOTIFY)
    bare.run("systemctl", "stop", NOTIFY)


def test_again_keeps_what_was(bare: Machine) -> None:
    look = "readlink /opt/edge-qc-plant/current; cat /etc/edge-qc-plant/*.conf"
    before, count = bare.shell(look), recorded(bare)
    done = bare.run("/srv/shared/plant/plant.sh", "--offline")
    assert "was installed already" in done.stderr
    assert bare.shell(look) == before
    until(lambda: recorded(bare) > count, "records to go on")


def test_an_upgrade_takes_the_place_of_what_runs(bare: Machine, packed: Path) -> None:
    before, count = bare.shell("readlink /opt/edge-qc-plant/current"), recorded(bare)
    carry(bare, packed, "newer")
    bare.shell("echo '# newer' >> /srv/shared/newer/constraints/plant.txt")
    bare.run("/srv/shared/newer/plant.sh", "--offline")
    assert bare.shell("readlink /opt/edge-qc-plant/current") != before
    assert len(bare.shell("ls /opt/edge-qc-plant/versions").split()) == 1
    until(lambda: recorded(bare) > count, "records to go on")


def test_a_version_that_does_not_get_ready_gives_way_to_the_one_before(
    bare: Machine, packed: Path
) -> None:
    before, count = bare.shell("readlink /opt/edge-qc-plant/current"), recorded(bare)
    carry(bare, packed, "sick")
    unit = "/srv/shared/sick/systemd/plant/edge-qc-dashboard.service"
    bare.shell(f"sed -i 's/edge-qc dashboard/edge-qc no-such-command/' {unit}")
    done = bare.run("/srv/shared/sick/plant.sh", "--offline", check=False)
    assert done.returncode == 1
    assert "did not get ready" in done.stderr
    assert bare.shell("readlink /opt/edge-qc-plant/current") == before
    assert len(bare.shell("ls /opt/edge-qc-plant/versions").split()) == 1
    until(lambda: recorded(bare) > count, "records to go on")
    assert "<html" in bare.shell("curl -s --retry 20 --retry-connrefused http://127.0.0.1:8080/")


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
