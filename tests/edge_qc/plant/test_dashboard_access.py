"""Who may look at the dashboard and who may do more; what the plant's IT may ask."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest

from edge_qc.errors import SettingsError, UsageError
from edge_qc.plant.dashboard.login import SESSION_S, Account, Login, Role, write_account
from tests.edge_qc.plant.test_dashboard_server import PASSWORD, dashboard
from tests.rig.brokers import running_broker
from tests.rig.publishing import wait_until
from tests.rig.trained import EDGE_QC


def accounts(file: Path, **roles: Role) -> Login:
    for name, role in roles.items():
        write_account(file, name, role, f"{name}'s long password")
    return Login.from_accounts_file(file)


def test_a_session_ends_with_its_time_and_with_the_password() -> None:
    login = Login.shared(PASSWORD)
    account = login.check("anybody", PASSWORD)
    assert account is not None
    cookie = login.session(account, now_s=1000)
    assert login.of_session(cookie, now_s=1000 + SESSION_S - 1) == account
    assert login.of_session(cookie, now_s=1000 + SESSION_S + 1) is None
    assert Login.shared("another password").of_session(cookie, now_s=1000) is None
    named, until, *rest = cookie.split(".")
    assert login.of_session(".".join([named, str(int(until) * 10), *rest]), now_s=1000) is None
    for junk in ("", ".", "..", "x.y.z", "9" * 5000, "\u00e9.1.2.3"):
        assert login.of_session(junk) is None


def test_each_account_has_its_own_password_role_and_sessions(tmp_path: Path) -> None:
    file = tmp_path / "accounts"
    login = accounts(file, ann=Role.LABEL, bob=Role.DECIDE)
    ann = login.check("ann", "ann's long password")
    assert ann == Account("ann", Role.LABEL, ann.hashed if ann else "")
    assert login.check("ann", "bob's long password") is None
    assert login.check("eve", "ann's long password") is None
    assert login.check("", "") is None
    assert file.stat().st_mode & 0o077 == 0
    assert "long password" not in file.read_text()
    assert ann is not None
    cookie = login.session(ann)
    assert write_account(file, "bob", Role.LOOK, "another long password") is False
    again = Login.from_accounts_file(file)
    assert again.of_session(cookie) == ann
    write_account(file, "ann", Role.LABEL, "another long password")
    assert Login.from_accounts_file(file).of_session(cookie) is None


@pytest.mark.parametrize(
    "text", ["", "# only words\n", "ann label\n", "ann boss x$y\n", "ann look -\nann look -\n"]
)
def test_a_file_of_accounts_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "accounts"
    file.write_text(text)
    with pytest.raises(SettingsError, match=f"edge-qc account NAME.* --accounts-file {file}"):
        Login.from_accounts_file(file)
    for name, password in (("a b", "long enough"), ("ann", "short")):
        with pytest.raises(UsageError):
            write_account(file, name, Role.LOOK, password)


def test_the_command_writes_what_the_dashboard_reads(tmp_path: Path) -> None:
    file = tmp_path / "accounts"
    for role, said in (("label", "ann may label. Restart"), ("look", "ann may look (changed)")):
        done = subprocess.run(
            [*EDGE_QC, "account", "ann", "--role", role, "--accounts-file", str(file)],
            input="ann's long password\n",
            capture_output=True,
            text=True,
            check=True,
        )
        assert said in done.stdout
    found = Login.from_accounts_file(file).check("ann", "ann's long password")
    assert found is not None
    assert found.role is Role.LOOK


@pytest.mark.broker
def test_a_person_logs_in_by_name_and_only_a_known_role_may_label(
    mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    file = tmp_path / "accounts"
    accounts(file, ann=Role.LABEL)
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    with dashboard(mosquitto, "--accounts-file", str(file)) as running:
        assert running.ask("/live")[0] == 401
        assert running.ask("/login/names")[2] == "true"
        wrong = urlencode({"name": "bob", "password": "ann's long password"})
        assert running.ask("/login", "POST", wrong, **form)[1]["location"] == "/login.html#wrong"
        right = urlencode({"name": "ann", "password": "ann's long password"})
        session = running.ask("/login", "POST", right, **form)[1]["set-cookie"].partition(";")[0]
        server = running.sections("/live", Cookie=session)["server"]
        # Without records there is nothing to label.
        assert (server["who"], server["role"]) == ("ann", "look")
        asked = json.dumps({"id": "x", "label": "GOOD"})
        assert running.ask("/label", "POST", asked, Cookie=session)[0] == 403, "from another page"
        status, _, said = running.ask("/label", "POST", asked, Cookie=session, X_Edge_QC="1")
        assert (status, "need records" in said) == (400, True)


@pytest.mark.broker
def test_a_reverse_proxys_word_counts_and_nobody_elses(
    mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    file = tmp_path / "accounts"
    write_account(file, "ann", Role.DECIDE, None)
    options = ("--accounts-file", str(file), "--user-header", "X-Remote-User")
    with dashboard(mosquitto, *options, "--proxy", "127.0.0.1") as running:
        assert running.ask("/live", X_Forwarded_For="127.0.0.1")[0] == 401
        assert running.sections("/live", **{"X-Remote-User": "ann"})["server"]["who"] == "ann"
        # Somebody without an account here may look.
        status, _, said = running.ask("/label", "POST", "{}", X_Remote_User="eve", X_Edge_QC="1")
        assert (status, "eve may not do this" in said) == (403, True)
    with dashboard(mosquitto, *options, "--proxy", "192.0.2.1") as running:
        assert running.ask("/live", X_Remote_User="ann")[0] == 401


def test_health_is_for_anybody_and_names_nobody(tmp_path: Path) -> None:
    """200 while the broker is connected, 503 with what is broken; no login, no name."""
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    with ExitStack() as stack:
        broker = stack.enter_context(ExitStack())
        address = broker.enter_context(running_broker("mosquitto"))
        one = stack.enter_context(dashboard(address, "--login-file", str(file)))
        status, _, text = one.ask("/health")
        assert (status, json.loads(text)["ok"]) == (200, True)
        assert set(json.loads(text)) == {
            *("ok", "broken", "records", "stations", "last_message_age_s"),
        }
        broker.close()
        wait_until(lambda: one.ask("/health")[0] == 503)
        assert "broker" in str(json.loads(one.ask("/health")[2])["broken"])
