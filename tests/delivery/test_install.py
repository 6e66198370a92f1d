"""install.sh and the unit, on a machine with a real systemd: what an operator goes through.

The tests of this file are one story on one machine, in their order.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.delivery.conftest import SETTINGS, carry, with_version
from tests.delivery.machine import Machine

pytestmark = [pytest.mark.systemd, pytest.mark.xdist_group("machine")]
UNIT = "edge-qc.service"
VERSIONS = "readlink /opt/edge-qc/current /opt/edge-qc/previous; ls /opt/edge-qc/versions"


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def restarts(machine: Machine) -> int:
    return int(machine.show(UNIT, "NRestarts")["NRestarts"])


def restarted(machine: Machine, times: int) -> bool:
    return restarts(machine) > times and active(machine)


def active(machine: Machine) -> bool:
    return machine.show(UNIT, "ActiveState")["ActiveState"] == "active"


def main_pid(machine: Machine) -> str:
    return machine.show(UNIT, "MainPID")["MainPID"]


def test_a_first_installation_waits_for_a_person(bare: Machine, wheelhouse: Path) -> None:
    """Without a network: everything is there, the unit is enabled and not started, and what to do
    next is said."""
    install = carry(bare, wheelhouse, "first")
    done = bare.run(install, "--offline")
    assert "sudo systemctl start edge-qc" in done.stderr
    assert "fill in /etc/edge-qc/station.toml" in done.stderr
    assert "edge-qc doctor" in done.stderr
    assert bare.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    assert not active(bare)
    assert bare.shell("edge-qc --version").strip().endswith("0.1.0")
    modes = bare.shell(
        "stat -c '%a %U %G' /etc/edge-qc /etc/edge-qc/station.toml /etc/edge-qc/credentials "
        "/var/lib/edge-qc"
    )
    assert modes.splitlines() == [
        "750 root edge-qc",
        "640 root edge-qc",
        "700 root root",
        "750 edge-qc edge-qc",
    ]
    assert "video" in bare.shell("id -nG edge-qc").split()


def test_again_changes_nothing(bare: Machine) -> None:
    before = bare.shell("readlink /opt/edge-qc/current; ls /opt/edge-qc/versions")
    bare.shell("echo '# mine' >> /etc/edge-qc/station.toml")
    done = bare.run("/srv/shared/first/install.sh", "--offline")
    assert "was installed already" in done.stderr
    assert bare.shell("readlink /opt/edge-qc/current; ls /opt/edge-qc/versions") == before
    assert "# mine" in bare.shell("cat /etc/edge-qc/station.toml")


def test_an_installation_that_was_cut_off_is_made_whole(bare: Machine) -> None:
    """Under a umask of root's, too, that hides from others what it makes: the station starts."""
    bare.shell("rm -rf /opt/edge-qc/current/.complete /opt/edge-qc/current/lib/python*/*/click")
    bare.run("bash", "-c", "umask 077 && /srv/shared/first/install.sh --offline")
    bare.run("runuser", "-u", "edge-qc", "--", "edge-qc", "--version")
    bare.run("edge-qc", "--version")


def test_ready_comes_after_acceptance(bare: Machine) -> None:
    """`systemctl start` comes back when the engine reproduced the bundle's golden answers and the
    station judges, with the password that only the unit was handed."""
    bare.write("/etc/edge-qc/station.toml", SETTINGS, "640")
    bare.write("/etc/edge-qc/credentials/mqtt.password", "secret\n", "600")
    bare.shell(
        "chgrp edge-qc /etc/edge-qc/station.toml\n"
        "cp -r /srv/shared/bundle /var/lib/edge-qc/ && chown -R edge-qc: /var/lib/edge-qc"
    )
    bare.run("systemctl", "start", UNIT)
    shown = bare.show(UNIT, "ActiveState", "SubState", "StatusText", "User")
    assert shown["SubState"] == "running"
    assert shown["StatusText"].startswith("judging with onnxruntime")
    assert shown["User"] == "edge-qc"
    journal = bare.journal(UNIT)
    assert journal.index("accepted on") < journal.index("Started edge-qc")
    watch = bare.run("edge-qc", "watch", "--config", "/etc/edge-qc/station.toml", "--count", "3")
    assert watch.stdout.count(" cam ") >= 3


def test_engine_and_line_go_first_and_keeping_images_last(bare: Machine) -> None:
    """Under the unit's own limits, without a privilege. A container may not be able to raise a
    limit: then they go on without."""
    of = f"/proc/{main_pid(bare)}"
    granted = int(bare.shell(f"awk '/nice priority/ {{print $4}}' {of}/limits"))
    seen = bare.shell(f"cut -d ' ' -f 19 {of}/task/*/stat").split()
    assert bare.show(UNIT, "LimitNICE")["LimitNICE"] == "30"
    assert seen.count("-10") == (2 if granted == 30 else 0)
    assert seen.count("10") == 1
    assert set(seen) <= {"-10", "0", "10"}


def test_bad_images_on_the_line_do_not_stop_it(bare: Machine) -> None:
    """A truncated file is one NOT_JUDGED, and the unit runs on."""
    bare.shell("head -c 60 /srv/images/00.png > /srv/images/00b.png")
    bare.run("systemctl", "restart", UNIT)
    seen = bare.shell("edge-qc watch --config /etc/edge-qc/station.toml --count 25")
    assert "NOT_JUDGED" in seen
    bare.shell("rm /srv/images/00b.png")


def test_a_hang_is_killed_and_comes_back(bare: Machine) -> None:
    bare.write(
        "/etc/systemd/system/edge-qc.service.d/quick.conf",
        "[Service]\nWatchdogSec=2\nTimeoutAbortSec=2\nRestartSec=0.2\n",
    )
    bare.shell("systemctl daemon-reload; systemctl restart edge-qc")
    before, pid = restarts(bare), main_pid(bare)
    bare.shell(f"kill -STOP {pid}")
    until(lambda: restarts(bare) > before and active(bare), "the watchdog")
    assert "Watchdog timeout" in bare.journal(UNIT)
    assert main_pid(bare) != pid


def test_a_fault_that_passes_never_makes_systemd_give_up(bare: Machine) -> None:
    """Eight deaths in a few seconds: past every default limit, and it runs again."""
    before = restarts(bare)
    while (seen := restarts(bare)) < before + 8:
        bare.shell(f"kill -KILL {main_pid(bare)}")
        until(functools.partial(restarted, bare, seen), "a restart")
    assert active(bare)


def test_sigterm_drains(bare: Machine) -> None:
    """`systemctl stop` ends in order: nothing waits, no trigger is open."""
    bare.run("systemctl", "stop", UNIT)
    shown = bare.show(UNIT, "Result", "ExecMainStatus", "ActiveState")
    assert shown == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}
    status = bare.shell("edge-qc outbox status --config /etc/edge-qc/station.toml --json")
    document = json.loads(status)
    assert not document["waiting"]
    assert not document["open_triggers"]


def test_what_a_person_must_mend_stays_down(bare: Machine) -> None:
    """Exit status 78: one start, no restart, the fault in the journal."""
    bare.shell("sed -i 's/fps = 10/fsp = 10/' /etc/edge-qc/station.toml")
    assert bare.run("systemctl", "start", UNIT, check=False).returncode != 0
    pause = time.monotonic() + 3
    until(lambda: time.monotonic() > pause, "a restart that must not come")
    shown = bare.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    assert "did you mean 'fps'" in bare.journal(UNIT)
    bare.shell("sed -i 's/fsp = 10/fps = 10/' /etc/edge-qc/station.toml")
    bare.run("systemctl", "start", UNIT)


def test_secrets_are_the_units_alone(bare: Machine) -> None:
    """Root's file at its source, and a copy that only the unit's user may read."""
    bare.shell("id alice >/dev/null 2>&1 || useradd -m alice")
    for path in (
        "/etc/edge-qc/credentials/mqtt.password",
        "/run/credentials/edge-qc.service/mqtt.password",
    ):
        assert bare.shell(f"cat {path}") == "secret\n"
        refused = bare.run("runuser", "-u", "alice", "--", "cat", path, check=False)
        assert "Permission denied" in refused.stderr
    assert "secret" not in bare.journal(UNIT)
    assert "secret" not in bare.shell(
        f"systemctl show edge-qc.service; tr '\\0' '\\n' < /proc/{main_pid(bare)}/environ"
    )


def test_the_station_listens_nowhere(bare: Machine) -> None:
    pids = set(bare.shell("cat /sys/fs/cgroup/system.slice/edge-qc.service/cgroup.procs").split())
    assert main_pid(bare) in pids
    sockets = bare.shell("ss -H -ltnup")
    assert "mosquitto" in sockets
    assert not [line for line in sockets.splitlines() if any(f"pid={pid}," in line for pid in pids)]


def test_each_denial_holds(bare: Machine) -> None:
    """What the probe can do as root outside, it cannot do inside the unit's own settings."""
    bare.shell(
        "mkdir -p /home/alice && echo mine > /home/alice/plan.txt && chmod -R a+rX /home/alice\n"
        "echo mine > /tmp/alice.txt\n"
        "mknod -m 666 /srv/device c 1 11\n"
        "mount -o remount,rw,bind /proc/sys\n"
        "ip address add 203.0.113.5/32 dev lo\n"
        "systemd-run -q --unit=elsewhere /usr/bin/python3 -m http.server 7777 -b 203.0.113.5\n"
        "install -m 755 /srv/shared/probe.py /srv/probe.py\n"
        "cd /usr/local/lib/systemd/system\n"
        "sed -e 's|^ExecStart=.*|ExecStart=/usr/bin/python3 /srv/probe.py /var/lib/edge-qc/probed|'"
        " -e 's/^Type=.*/Type=oneshot/' -e '/^Restart=/d' -e '/^WatchdogSec=/d'"
        " -e '/^NotifyAccess/d' edge-qc.service > edge-qc-probe.service\n"
        "cp -r /etc/systemd/system/edge-qc.service.d /etc/systemd/system/edge-qc-probe.service.d\n"
        "rm /etc/systemd/system/edge-qc-probe.service.d/quick.conf\n"
        "systemctl daemon-reload"
    )
    until(lambda: "7777" in bare.shell("ss -H -ltn"), "the other server")
    bare.run("/usr/bin/python3", "/srv/probe.py", "/srv/outside")
    outside = json.loads(bare.shell("cat /srv/outside"))
    bare.run("systemctl", "start", "edge-qc-probe.service")
    inside = json.loads(bare.shell("cat /var/lib/edge-qc/probed"))
    assert inside.pop("secret") == "secret\n"
    assert not {name: how for name, how in outside.items() if how != "done"}
    wrong = {
        name: how
        for name, how in inside.items()
        if (how == "done") is not name.startswith("allowed")
    }
    assert not wrong
    # Refused for the reason that the unit gives, and not because something else was amiss.
    assert inside["network: reach an address nobody allowed"] == "TimeoutError"
    assert inside["network: listen"] == "EPERM"
    assert inside["network: ask the kernel's tables"] == "EAFNOSUPPORT"
    assert inside["files: write the system"] == "EROFS"
    assert inside["devices: open one that is no camera"] == "EPERM"


def test_the_rules_for_cameras_are_read(bare: Machine) -> None:
    """udev takes every line of ours."""
    done = bare.run("udevadm", "test", "/sys/devices/virtual/mem/null", check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "edge-qc" in line]
    assert any("Reading rules file" in line for line in said)
    assert len(said) == 1, said


def test_an_upgrade_keeps_what_was(bare: Machine, newer: Path) -> None:
    """A running station comes back on the new version; the old one stays, settings and records
    are as they were."""
    install = carry(bare, newer, "second")
    old = bare.shell("readlink /opt/edge-qc/current").strip()
    settings = bare.shell("sha256sum /etc/edge-qc/station.toml")
    done = bare.run(install, "--offline")
    assert "is ready" in done.stderr
    assert bare.shell("edge-qc --version").strip().endswith("9.9.9")
    assert bare.shell("readlink /opt/edge-qc/previous").strip() == old
    assert bare.shell("sha256sum /etc/edge-qc/station.toml") == settings
    assert active(bare)
    assert f"/opt/edge-qc/{bare.shell('readlink /opt/edge-qc/current').strip()}/" in bare.shell(
        f"tr '\\0' ' ' < /proc/{main_pid(bare)}/cmdline"
    )


def test_rollback_and_forth(bare: Machine) -> None:
    done = bare.run("/srv/shared/second/install.sh", "--rollback")
    assert "is ready" in done.stderr
    assert bare.shell("edge-qc --version").strip().endswith("0.1.0")
    bare.run("/srv/shared/second/install.sh", "--rollback")
    assert bare.shell("edge-qc --version").strip().endswith("9.9.9")
    assert active(bare)


def test_a_release_that_does_not_start_is_left_again(
    bare: Machine, wheelhouse: Path, tmp_path: Path
) -> None:
    """Exit status 1, and the station is as before: it runs, and a rollback is still possible."""
    before = bare.shell(VERSIONS)
    bad = with_version(wheelhouse, "10.0.0", tmp_path / "bad", broken=True)
    install = carry(bare, bad, "third")
    bare.write(
        "/etc/systemd/system/edge-qc.service.d/quick.conf",
        "[Service]\nTimeoutStartSec=10\nRestartSec=0.2\n",
    )
    bare.run("systemctl", "daemon-reload")
    done = bare.run(install, "--offline", check=False)
    assert done.returncode == 1
    assert "did not get ready" in done.stderr
    assert "10.0.0" in done.stderr.partition("is not taken: 9.9.9")[0]
    assert "is back and runs" in done.stderr
    assert bare.shell("edge-qc --version").strip().endswith("9.9.9")
    assert active(bare)
    assert bare.shell(VERSIONS) == before
    # One that was stopped stays stopped, and what was asked for is refused all the same.
    bare.run("systemctl", "stop", UNIT)
    done = bare.run(install, "--offline", "--now", check=False)
    assert done.returncode == 1
    assert bare.shell(VERSIONS) == before
    assert bare.show(UNIT, "ActiveState")["ActiveState"] in ("inactive", "failed")
    bare.run("systemctl", "start", UNIT)


def test_a_rollback_that_does_not_start_is_left_again(bare: Machine) -> None:
    before = bare.shell(VERSIONS)
    daemon = "/opt/edge-qc/previous/lib/python*/site-packages/edge_qc/station/daemon.py"
    bare.shell(f"cp {daemon} /srv/daemon.py && echo 'raise RuntimeError' > $(echo {daemon})")
    done = bare.run("/srv/shared/second/install.sh", "--rollback", check=False)
    assert done.returncode == 1
    assert "is not taken: 9.9.9" in done.stderr
    assert bare.shell(VERSIONS) == before
    assert active(bare)
    bare.shell(f"cp /srv/daemon.py $(echo {daemon})")
    bare.run("/srv/shared/second/install.sh", "--rollback")
    bare.run("/srv/shared/second/install.sh", "--rollback")
    assert bare.shell(VERSIONS) == before


def test_bad_calls_are_refused(bare: Machine, tmp_path: Path) -> None:
    assert bare.run("/srv/shared/first/install.sh", "--ofline", check=False).returncode == 2
    assert bare.run("/srv/shared/first/install.sh", "--purge", check=False).returncode == 2
    bare.shell("cp /srv/shared/first/install.sh /srv/lone.sh")
    lone = bare.run("/srv/lone.sh", "--offline", check=False)
    assert lone.returncode == 1
    assert "--offline wants /srv/wheels" in lone.stderr
    old = bare.run(
        "/srv/shared/first/install.sh", "--offline", "--python", "/usr/bin/perl", check=False
    )
    assert old.returncode == 1
    assert active(bare)


def test_a_wheel_that_was_altered_is_refused(bare: Machine) -> None:
    """The lock file's hash, not the folder, says what is installed."""
    bare.shell(
        "cp -r /srv/shared/first /srv/altered\n"
        "cd /srv/altered/wheels && printf x >> click-*.whl && rm -rf /opt/edge-qc/versions/0.1.0-*"
    )
    done = bare.run("/srv/altered/install.sh", "--offline", check=False)
    assert done.returncode == 1
    assert "HASH" in done.stderr.upper()
    assert bare.shell("edge-qc --version").strip().endswith("9.9.9")
    assert active(bare)


def test_uninstall_leaves_what_was_recorded(bare: Machine) -> None:
    """And the units of the plant's programs, where these are on the same machine."""
    units = "/usr/local/lib/systemd/system"
    bare.shell(f"touch {units}/edge-qc-record.service; rm {units}/edge-qc-probe.service")
    bare.run("/srv/shared/second/install.sh", "--uninstall")
    assert not active(bare)
    left = bare.shell("ls -d /opt/edge-qc /usr/local/bin/edge-qc 2>/dev/null || true")
    assert left == ""
    assert bare.shell(f"ls {units} | grep edge-qc") == "edge-qc-record.service\n"
    assert "outbox.sqlite" in bare.shell("ls /var/lib/edge-qc /etc/edge-qc/station.toml")
    bare.run("/srv/shared/second/install.sh", "--uninstall", "--purge")
    gone = bare.run("bash", "-c", "ls -d /etc/edge-qc /var/lib/edge-qc; id edge-qc", check=False)
    assert gone.stdout == ""
