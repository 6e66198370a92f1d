"""Who may look at the dashboard, and what it answers over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from edge_qc.errors import SettingsError, UsageError
from edge_qc.plant.dashboard.login import Login, is_loopback, require_login
from edge_qc.plant.recorder import Store, open_database
from tests.edge_qc.cli.test_watch import publish, verdict
from tests.rig.brokers import free_port
from tests.rig.recording import arrived
from tests.rig.recording import verdict as recorded
from tests.rig.trained import EDGE_QC

PASSWORD = "a long password"


class Running:
    """A dashboard in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def ask(
        self, path: str, method: str = "GET", body: str = "", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as link:
            link.request(method, path, body or None, headers)
            answer = link.getresponse()
            text = answer.read().decode() if "event-stream" not in str(answer.headers) else ""
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text

    def sections(self, path: str = "/live", **headers: str) -> dict[str, Any]:
        """The first message of the stream."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as link:
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            assert answer.status == 200
            while True:
                line = answer.readline().decode()
                if line.startswith("data: "):
                    found: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return found


@contextmanager
def dashboard(broker: tuple[str, int], *options: str) -> Iterator[Running]:
    """``edge-qc dashboard`` once it answers; it must end with status 0 at SIGTERM."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(*EDGE_QC, "dashboard", "--broker", f"mqtt://{broker[0]}:{broker[1]}"),
            *("--port", str(port), *options),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Running(process, port)
    try:
        until_s = time.monotonic() + 20
        while True:
            try:
                running.ask("/icon.svg")
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < until_s, "the dashboard does not answer"
                time.sleep(0.05)
        yield running
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 0, said
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()


@pytest.mark.broker
def test_it_shows_what_came_and_offers_no_way_to_change_it(mosquitto: tuple[str, int]) -> None:
    with dashboard(mosquitto) as running:
        publish(mosquitto, ("verdict", verdict(1, label="Missing")))
        until_s = time.monotonic() + 10
        while not (shown := running.sections("/live?show=refused")["verdicts"]):
            assert time.monotonic() < until_s
        assert isinstance(shown, list)
        assert shown[0]["label"] == "Missing"
        query = urlencode({"station": "s/n", "id": "e1-1"})
        status, headers, text = running.ask(f"/verdict?{query}")
        assert (status, json.loads(text)["verdict"]["probabilities"]["GOOD"]) == (200, 0.75)
        assert "script-src 'self'" in headers["content-security-policy"]
        assert running.ask("/verdict?station=s/n&id=none")[0] == 404
        assert running.ask("/live?window=1e9")[0] == 400
        for path in ("/", "/live", "/verdict", "/page.js"):
            for method in ("POST", "PUT", "DELETE"):
                assert running.ask(path, method)[0] == 405, (path, method)
        for path in ("/..%2f..%2fserver.py", "/%2e%2e/server.py", "/server.py", "/__init__.py"):
            assert running.ask(path)[0] == 404


@pytest.mark.broker
def test_a_page_elsewhere_cannot_have_a_browser_here_read_it(mosquitto: tuple[str, int]) -> None:
    """Without a password only those are answered who ask for this machine (DNS rebinding)."""
    with dashboard(mosquitto) as running:
        assert running.ask("/live", Host="evil.example")[0] == 421
        assert running.ask("/", Host=f"localhost:{running.port}")[0] == 200


@pytest.mark.broker
def test_pages_that_went_away_leave_room_for_others(mosquitto: tuple[str, int]) -> None:
    """More streams one after the other than may be open at once."""
    with dashboard(mosquitto) as running:
        for _ in range(220):
            assert "stations" in running.sections()


@pytest.mark.broker
def test_with_a_password_nothing_is_shown_without_it(
    mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    with dashboard(mosquitto, "--host", "0.0.0.0", "--login-file", str(file)) as running:
        assert running.ask("/")[1]["location"] == "/login.html"
        for path in ("/live", "/verdict?station=s/n&id=1", "/page.js", "/index.html"):
            assert running.ask(path)[0] == 401
            assert running.ask(path, Cookie="edge_qc_dashboard=9999999999.x.y")[0] == 401
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        began_s = time.monotonic()
        status, headers, _ = running.ask("/login", "POST", "password=wrong", **form)
        assert (status, headers["location"]) == (303, "/login.html#wrong")
        assert "set-cookie" not in headers
        assert time.monotonic() - began_s >= 1
        right = urlencode({"password": PASSWORD})
        status, headers, _ = running.ask("/login", "POST", right, **form)
        cookie = headers["set-cookie"]
        assert (status, headers["location"]) == (303, "/")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert running.ask("/login", "POST", "x" * 3000, **form)[0] == 413
        session = cookie.partition(";")[0]
        assert running.sections("/live", Cookie=session)["server"]["login"] is True
        assert running.ask("/", Cookie=session)[0] == 200
        assert (
            'edge_qc_dashboard=""'
            in running.ask("/logout", "POST", Cookie=session)[1]["set-cookie"]
        )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "plant.example", ""])
def test_it_is_not_exposed_without_a_password(host: str) -> None:
    with pytest.raises(UsageError, match="without a password"):
        require_login(host, None)
    require_login(host, Login.shared(PASSWORD))


def test_this_machine_alone_needs_none() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert is_loopback(host)
        require_login(host, None)


def test_a_password_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with pytest.raises(SettingsError, match="No such file"):
        Login.from_password_file(file)
    for text in ("", "\n", "short\n"):
        file.write_text(text)
        with pytest.raises(SettingsError, match="at least 10 characters"):
            Login.from_password_file(file)


def test_a_byte_order_mark_is_no_part_of_the_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("long enough\n", encoding="utf-8-sig")
    assert Login.from_password_file(file).check("", "long enough") is not None
    file.write_text("long enough\n", encoding="utf-16")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        Login.from_password_file(file)


@pytest.mark.parametrize("host", ["http://0.0.0.0", "127.0.0.1:8080", " localhost "])
def test_a_host_that_is_more_than_one_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="is more than a host"):
        require_login(host, None)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--host", "0.0.0.0"], 2, "others could see the plant without a password"),
        (["--https-cert-file", os.devnull], 2, "go together"),
        (["--broker", "http://127.0.0.1"], 2, "known schemes"),
        (["--broker", "mqtts://127.0.0.1"], 2, "--ca-file"),
        ([], 1, "Connection refused"),
    ],
)
def test_wrong_use_is_explained(options: list[str], status: int, said: str) -> None:
    broker = [] if "--broker" in options else ["--broker", "mqtt://127.0.0.1:1"]
    done = subprocess.run(
        [*EDGE_QC, "dashboard", *broker, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.broker
def test_a_port_that_is_taken_is_explained(mosquitto: tuple[str, int]) -> None:
    broker = f"{mosquitto[0]}:{mosquitto[1]}"
    done = subprocess.run(
        [*EDGE_QC, "dashboard", "--broker", broker, "--port", str(mosquitto[1])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "address already in use. Choose another --port" in done.stderr
    assert "edge-qc dashboard: http" not in done.stderr


@pytest.mark.broker
def test_a_wrong_folder_of_pictures_is_told_of_and_takes_its_pictures_alone(
    mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("line 3")
    options = ("--evidence", str(tmp_path), "--evidence", str(tmp_path / "away"))
    with dashboard(mosquitto, *options) as running:
        running.process.send_signal(signal.SIGTERM)
        said = running.process.communicate(timeout=10)[1]
        assert f"{tmp_path}: this is no evidence folder" in said
        assert f"{tmp_path}/away: no such folder" in said
        assert f"edge-qc dashboard: http://127.0.0.1:{running.port}\n" in said


@pytest.mark.broker
def test_a_host_that_is_unknown_is_explained(mosquitto: tuple[str, int], tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text(PASSWORD)
    done = subprocess.run(
        [
            *(*EDGE_QC, "dashboard", "--broker", f"{mosquitto[0]}:{mosquitto[1]}"),
            *("--host", "nowhere.invalid", "--login-file", str(login)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"cannot listen there: .*[Nn]ame.*a --host of this machine", done.stderr)
    assert "edge-qc dashboard: http" not in done.stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'uvicorn' else found(name, *a)\n"
        "sys.argv = ['edge-qc', 'dashboard', '--broker', 'localhost']\n"
        "from edge_qc.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs uvicorn. Install with: pip install " in done.stderr
    assert "'uvicorn>=" in done.stderr
    assert "in a clone of edge-qc: pip install '.[dashboard]'" in done.stderr


@pytest.mark.broker
def test_a_state_that_it_does_not_know_in_the_records_does_not_keep_it_from_the_broker(
    any_broker: tuple[str, int], tmp_path: Path
) -> None:
    """A newer recorder's word; the process must also end at SIGTERM, as ``dashboard`` asserts."""
    database = tmp_path / "records.sqlite"
    engine = open_database(str(database))
    Store(engine).record(arrived(recorded(1)))
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO state_change (station_id, time, epoch, state, why, observed, received)"
            f" SELECT station_id, '{now}', 'e', 'FLYING', '', '{now}', '{now}' FROM station"
        )
    engine.dispose()
    with dashboard(any_broker, "--database", str(database)) as running:
        publish(any_broker, ("verdict", verdict(7)))
        until_s = time.monotonic() + 10
        while not (shown := running.sections())["verdicts"] and time.monotonic() < until_s:
            time.sleep(0.1)
    assert [row["id"] for row in shown["verdicts"]] == ["e1-7"]
    assert "cannot be read" in shown["broker"]["records"]
