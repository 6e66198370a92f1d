"""A shift in a real browser: broker, daemon, recorder and dashboard, SQLite and PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="needs selenium: pip install selenium")

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from edge_qc.plant.dashboard.login import Role, write_account
from edge_qc.plant.recorder import open_database, truths
from edge_qc.plant.recorder.where import Where
from tests.edge_qc.plant.test_dashboard_page import Page, page, station_settings
from tests.edge_qc.plant.test_dashboard_server import dashboard
from tests.rig.trained import EDGE_QC

pytestmark = pytest.mark.broker
__all__ = ["page"]

ONE_CORE = {**os.environ, "OMP_NUM_THREADS": "1"}


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command until the end of the block."""
    process = subprocess.Popen([*EDGE_QC, *words], stderr=subprocess.DEVNULL, env=ONE_CORE)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def log_in(page: Page, address: str, name: str) -> None:
    page.open(address)
    page.until(lambda: page.run("return !document.querySelector('#named').hidden"))
    page.driver.find_element(By.ID, "name").send_keys(name)
    page.driver.find_element(By.ID, "password").send_keys(f"{name}'s long password\n")
    page.until(lambda: page.run("return Boolean(document.querySelector('#sentence'))"))


def label_first(page: Page, truth: str) -> None:
    """Open the first verdict and label it."""
    page.until(page.rows)
    page.run("document.querySelector('#stream tbody tr').click()")
    page.until(lambda: page.run("return Boolean(document.querySelector('#full .labelling'))"))
    Select(page.driver.find_element(By.CSS_SELECTOR, "#full select")).select_by_value(truth)
    page.driver.find_element(By.CSS_SELECTOR, "#full .labelling button").click()


def test_a_shift_its_handover_and_its_labels(
    page: Page, mosquitto: tuple[str, int], database: str, tmp_path: Path
) -> None:
    """A station judges and is recorded; the dashboard starts afterwards and knows all of it."""
    broker = f"{mosquitto[0]}:{mosquitto[1]}"
    accounts = tmp_path / "accounts"
    for name, role in (("ann", Role.LABEL), ("bob", Role.LABEL), ("eve", Role.LOOK)):
        write_account(accounts, name, role, f"{name}'s long password")
    options = ("--database", database, "--accounts-file", str(accounts))
    settings = station_settings(tmp_path, mosquitto)
    with running("record", "--broker", broker, "--database", database):
        with running("run", "--config", str(settings)) as daemon:
            engine = _tables(database)
            page.until(lambda: _recorded(engine) > 30, 60)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
        judged = _recorded(engine)
        # It was not there while they came.
        with dashboard(mosquitto, *options) as board:
            address = f"http://127.0.0.1:{board.port}/"
            log_in(page, address, "ann")
            page.until(lambda: f"of {judged} views passed" in page.text("#yield-note"))
            assert page.text("#sentence") == "s/real is stopped"
            page.open(f"{address}?window=shift&show=refused")
            page.until(lambda: f"of {judged} views passed, this shift" in page.text("#yield-note"))
            assert "RUNNING" in page.text("#events")
            label_first(page, "GOOD")
            page.until(lambda: "ann labelled it GOOD" in page.text("#full"))
            page.open(f"{address}handover")
            page.until(lambda: "Shift of" in page.text("#title"))
            assert str(judged) in page.text("#made")
            assert "stopped by an operator" in page.text("#downtime")
            assert page.text("#sentence") == "s/real is stopped"
            page.open(f"{address}handover", 390, 844)
            page.until(lambda: "Shift of" in page.text("#title"))
            assert page.run("return document.documentElement.scrollWidth") <= 390
        # Another person may not overrule; one who looks is not even asked.
        with dashboard(mosquitto, *options) as board:
            address = f"http://127.0.0.1:{board.port}/"
            page.driver.delete_all_cookies()
            log_in(page, address, "bob")
            page.open(f"{address}?window=shift&show=refused")
            label_first(page, "UNUSABLE")
            page.until(lambda: "bob may not overrule it" in page.text("#full"))
            page.driver.delete_all_cookies()
            log_in(page, address, "eve")
            page.open(f"{address}?window=shift&show=refused")
            page.until(page.rows)
            page.run("document.querySelector('#stream tbody tr').click()")
            page.until(lambda: "ann labelled it GOOD" in page.text("#full"))
            assert not page.run("return document.querySelectorAll('#full .labelling').length")
    (given,) = truths.history(engine, Where()).rows
    assert (given[1], given[2], "dashboard" in given) == ("ann", "overruled", True)
    engine.dispose()


def _tables(database: str) -> Any:
    import time

    until_s = time.monotonic() + 20
    while True:
        try:
            return open_database(database, create=False)
        except Exception:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.2)


def _recorded(engine: Any) -> int:
    import sqlalchemy as sa

    with engine.connect() as db:
        return int(db.execute(sa.text("SELECT count(*) FROM verdict")).scalar_one())
