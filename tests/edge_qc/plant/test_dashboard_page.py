"""The dashboard in a real browser, before a real broker and daemon: what a person sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("selenium", reason="needs selenium: pip install selenium")

from selenium.webdriver.common.by import By

from edge_qc.publisher import Kind
from edge_qc.publisher.messages import EventContent, Severity, StateContent
from edge_qc.publisher.wire import as_sent, stamped
from edge_qc.system.state import State
from tests.edge_qc.cli.test_watch import RUNNING, publish, verdict
from tests.edge_qc.plant.test_dashboard_server import PASSWORD, dashboard
from tests.rig.brokers import running_broker
from tests.rig.browsers import show_as
from tests.rig.publishing import content, good
from tests.rig.tiny_bundle import make_bundle
from tests.rig.trained import EDGE_QC

pytestmark = pytest.mark.broker

HOSTILE = "<img src=x onerror=document.title='owned'>\"'><script>document.title='owned'</script>"


class Page:
    """A page in headless Chromium, 1280 pixels wide unless told otherwise."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        show_as(self.driver, width, height)
        self.driver.get(address)

    def text(self, selector: str) -> str:
        return str(self.run(f"return document.querySelector({json.dumps(selector)}).innerText"))

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def until(self, true: Callable[[], object], seconds: float = 20) -> None:
        until_s = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until_s, self.text("body")
            time.sleep(0.1)

    def rows(self) -> list[str]:
        """The stream of verdicts, as text."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll('#stream tbody tr')].map(row => row.innerText)"
        )
        return found

    def colours(self, selector: str) -> tuple[str, str]:
        """Of the text, and of what is behind it."""
        return tuple(
            self.run(
                "let at = document.querySelector(arguments[0]); const ink = getComputedStyle(at)"
                ".color; let ground; do { ground = getComputedStyle(at).backgroundColor; "
                "at = at.parentElement; } while (ground === 'rgba(0, 0, 0, 0)'); "
                "return [ink, ground]".replace("arguments[0]", json.dumps(selector))
            )
        )


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    """Nothing may be said on the console but what the network itself says."""
    browser.get_log("browser")
    yield Page(browser)
    said = [
        entry
        for entry in browser.get_log("browser")
        if entry["source"] != "network" and entry["level"] in ("WARNING", "SEVERE")
    ]
    browser.get("about:blank")
    assert not said


def station_settings(folder: Path, broker: tuple[str, int]) -> Path:
    """Settings of a station that judges noise with a network of a few nodes."""
    make_bundle(folder / "bundle")
    (folder / "images").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number:02d}.png"), pixels)
    file = folder / "station.toml"
    file.write_text(
        '[station]\nsite = "s"\nname = "real"\nstate_dir = "state"\n[bundle]\npath = "bundle"\n'
        f'[mqtt]\nhost = "{broker[0]}"\nport = {broker[1]}\nkeepalive_s = 2\n'
        "[line]\nhealth_every_s = 0.5\n"
        f'[[camera]]\nname = "north"\nsource = "file://{folder}/images"\n'
        'die = "Die01"\nfps = 10\nloop = true\n'
    )
    return file


def test_a_station_lives_and_dies_before_the_eyes(
    page: Page, mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    """A real daemon, killed: shown dead by its last will, and the broker's own end is told too."""
    with dashboard(mosquitto) as running:
        page.open(f"http://127.0.0.1:{running.port}/")
        page.until(lambda: "No station has reported yet" in page.text("#sentence"))
        daemon = subprocess.Popen(
            [*EDGE_QC, "run", "--config", str(station_settings(tmp_path, mosquitto))],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            page.until(lambda: page.text("#sentence") == "s/real is running", 40)
            page.until(lambda: len(page.rows()) > 10)
            tile = page.text(".station")
            assert "RUNNING" in tile
            assert "last verdict" in tile
            assert page.run("return document.querySelectorAll('.station svg').length") == 1
            page.driver.find_element(By.CSS_SELECTOR, "#stream tbody tr").click()
            page.until(lambda: page.run("return document.querySelector('#full').open"))
            assert "Die01" in page.text("#full .sentence")
            assert "it costs" in page.text("#full .cost")
            assert "verdict_id" not in page.text("#full")
            page.driver.find_element(By.CSS_SELECTOR, "#full summary").click()
            assert "verdict_id" in page.text("#full")
            page.driver.find_element(By.CSS_SELECTOR, "#full header button").click()
            assert not page.run("return document.querySelector('#full').open")
        finally:
            daemon.send_signal(signal.SIGKILL)
            daemon.wait(10)
        page.until(lambda: page.text("#sentence") == "s/real is dead", 15)
        tile = page.text(".station")
        assert "DEAD" in tile
        assert "journalctl" in tile
        assert "rate\n–" in tile
        assert "DEAD connection lost" in page.text("#events")
        running.process.send_signal(signal.SIGSTOP)
        try:
            page.until(lambda: "does not answer" in page.text("#trouble"), 12)
        finally:
            running.process.send_signal(signal.SIGCONT)
        page.until(lambda: page.run("return document.querySelector('#trouble').hidden"))


def test_a_rejected_part_is_shown_where_its_station_shares_what_it_kept(
    page: Page, mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    """A real daemon keeps the image; the page shows its view and heat map beside the verdict."""
    settings = station_settings(tmp_path, mosquitto)
    evidence = tmp_path / "state" / "evidence"
    evidence.mkdir(parents=True)
    with dashboard(mosquitto, "--evidence", str(evidence)) as running:
        page.open(f"http://127.0.0.1:{running.port}/?show=refused")
        daemon = subprocess.Popen(
            [*EDGE_QC, "run", "--config", str(settings)],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            page.until(lambda: list(evidence.glob("*/*/verdict.json")), 40)
            page.until(page.rows)
            # The keeper does not keep every one.
            kept = {file.parent.name[-36:] for file in evidence.glob("*/*/verdict.json")}
            opened = (
                "const row = [...document.querySelectorAll('#stream tbody tr')]"
                f".find(row => {json.dumps(sorted(kept))}.includes(row.dataset.id));"
                "if (row) row.click(); return Boolean(row)"
            )
            page.until(lambda: page.run(opened))
        finally:
            daemon.send_signal(signal.SIGKILL)
            daemon.wait(10)
        widths = (
            "return [...document.querySelectorAll('.pictures img')].map(one => one.naturalWidth)"
        )
        page.until(lambda: page.run(widths) == [8, 8])
        assert page.run("return document.querySelector('#full').scrollTop") == 0
        assert page.text(".pictures") == "what the network saw\nunusual areas"
        for path in ("frame.png?id=" + "0" * 36, "heat.png?id=../..", "verdict.json", "x.png"):
            assert running.ask(f"/picture/{path}")[0] == 404, path
        if folder := os.environ.get("SCREENSHOTS"):
            page.driver.save_screenshot(f"{folder}/kept-pictures.png")


def test_a_station_that_is_stopped_is_grey(
    page: Page, mosquitto: tuple[str, int], tmp_path: Path
) -> None:
    """An operator's stop is no death."""
    with dashboard(mosquitto) as running:
        page.open(f"http://127.0.0.1:{running.port}/")
        daemon = subprocess.Popen(
            [*EDGE_QC, "run", "--config", str(station_settings(tmp_path, mosquitto))],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            page.until(lambda: page.text("#sentence") == "s/real is running", 40)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
        page.until(lambda: page.text("#sentence") == "s/real is stopped", 15)
        assert page.run("return document.querySelector('.station').dataset.tone") == "none"


def test_a_broker_that_is_away_is_told_of_until_it_is_back(page: Page) -> None:
    """What is shown stays, and a banner says from when it is. No station is called dead."""
    with ExitStack() as stack:
        with running_broker("mosquitto") as broker:
            running = stack.enter_context(dashboard(broker))
            page.open(f"http://127.0.0.1:{running.port}/")
            publish(broker, ("verdict", verdict(1)), ("state", RUNNING))
            page.until(lambda: len(page.rows()) == 1)
        page.until(lambda: "No connection to the broker since" in page.text("#sentence"))
        assert page.text("#sentence").endswith("; states unknown")
        assert "These figures are from" in page.text("#trouble")
        assert "UNKNOWN" in page.text(".station")
        assert page.run("return document.querySelector('.station').dataset.tone") == "none"
        assert len(page.rows()) == 1
        with running_broker("mosquitto", broker[1]):
            page.until(lambda: page.run("return document.querySelector('#trouble').hidden"))
            publish(broker, ("verdict", verdict(2)))
            page.until(lambda: len(page.rows()) == 2)


def test_a_bar_filters_the_list(page: Page, mosquitto: tuple[str, int]) -> None:
    """By mouse and by keyboard; what is chosen stands at the list, and ends there."""
    with dashboard(mosquitto) as running:
        page.open(f"http://127.0.0.1:{running.port}/")
        page.until(lambda: page.run("return Number(document.body.dataset.ticks ?? 0)") > 0)
        now = datetime.now(timezone.utc)
        sent = []
        labels = ["Missing", "Missing", "Flat", "GOOD"]
        for seq, label in enumerate(labels, 1):
            die = f"Die0{seq % 2 + 1}"
            text = stamped(
                Kind.VERDICT,
                content(good(label), time=now, die=die).model_dump_json(),
                epoch="e1",
                site="s",
                station="n",
                seq=seq,
                verdict_id=f"e1-{seq}",
            )
            sent.append(("verdict", as_sent(text, False)))
        publish(mosquitto, *sent)
        page.until(lambda: len(page.rows()) == 4)
        assert page.text("#pareto .row .figure") == "2 · 66.6 %"
        added = page.run("return document.querySelector('.cumulated').ariaLabel")
        assert added == "Shares added up: 66.6 %, 100 %"
        page.driver.find_element(By.CSS_SELECTOR, "#pareto .row .track").click()
        page.until(lambda: len(page.rows()) == 2)
        assert page.text("#only-label") == "Missing ✕"
        page.run("[...document.querySelectorAll('#dies button')].find(b => b.innerText === "
                 "'Die02').focus()")  # fmt: skip
        page.driver.switch_to.active_element.send_keys("\n")
        page.until(lambda: len(page.rows()) == 1)
        page.driver.find_element(By.ID, "only-label").click()
        page.driver.find_element(By.ID, "only-die").click()
        page.until(lambda: len(page.rows()) == 4)


def _hostile_plant(address: tuple[str, int]) -> None:
    """Verdicts that passed, one that did not, one that came late, a gap, and names that attack."""
    now = datetime.now(timezone.utc)

    def sent(kind: Kind, said: Any, seq: int | None = None, late: bool = False) -> bytes:
        text = stamped(
            kind,
            said.model_dump_json(),
            epoch=HOSTILE,
            site=HOSTILE,
            station=HOSTILE,
            seq=seq,
            verdict_id=f"{HOSTILE}{seq}" if kind is Kind.VERDICT else None,
        )
        return text.encode() if seq is None else as_sent(text, late)

    messages = [
        ("state", sent(Kind.STATE, StateContent(state=State.RUNNING, time=now, why=HOSTILE))),
        (
            "event",
            sent(
                Kind.EVENT,
                EventContent(event=HOSTILE, severity=Severity.ALARM, time=now, detail=HOSTILE),
                1,
            ),
        ),
    ]
    for seq in (1, 2, 3, 7):
        names = dict.fromkeys(("camera", "die", "part_id", "image"), HOSTILE)
        said = content(good(HOSTILE if seq == 3 else "GOOD"), time=now, **names)
        messages.append(("verdict", sent(Kind.VERDICT, said, seq)))
    late = content(good(), time=now - timedelta(minutes=20))
    messages.append(("verdict", sent(Kind.VERDICT, late, 8, True)))
    publish(address, *messages)


def test_names_command_nothing(page: Page, mosquitto: tuple[str, int]) -> None:
    """Every free text of every message as HTML that would run a script: shown as text. Filters by
    such a name work, gaps and late verdicts are shown."""
    with dashboard(mosquitto) as running:
        page.open(f"http://127.0.0.1:{running.port}/")
        page.until(
            lambda: "All" not in page.text("#sentence") and page.text("#sentence") != "Connecting …"
        )
        _hostile_plant(mosquitto)
        page.until(lambda: len(page.rows()) == 5)
        for part in ("#stream", "#pareto", "#dies", "#events", ".station", "#drift", "#gaps"):
            assert "<img" in page.text(part), part
        assert "3 verdicts, numbers 4 to 6" in page.text("#gaps")
        assert "3 messages missing" in page.text(".station")
        assert ["sent late" in row for row in page.rows()] == [False] * 4 + [True]
        page.driver.find_element(By.CSS_SELECTOR, "#stream tbody tr").click()
        page.until(lambda: page.run("return document.querySelector('#full').open"))
        page.driver.find_element(By.CSS_SELECTOR, "#full summary").click()
        page.until(lambda: page.text("#full").count("<script>") > 3)
        page.run("document.querySelector('#full').close()")
        page.run(
            "const s = document.querySelector('select[name=label]'); s.value = [...s.options]"
            ".find(o => o.value.includes('<')).value; s.dispatchEvent(new Event('change', "
            "{bubbles: true}))"
        )
        page.until(lambda: len(page.rows()) == 1)
        page.driver.refresh()
        page.until(lambda: len(page.rows()) == 1)
        assert page.driver.title != "owned"
        assert page.run("return document.querySelectorAll('main img, main script').length") == 0


WORDS = (
    *("#sentence", ".station .state", ".station .wrong b", ".note"),
    *("td.PASS", "td.REJECT", "dt.REVIEW", "dt.NONE", "li.REJECT"),
)


def _luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_it_reads_in_light_and_dark_on_a_phone_and_on_a_wall(
    page: Page, mosquitto: tuple[str, int]
) -> None:
    """Contrast of 4.5 to 1 (WCAG 2.1, 1.4.3); nothing wider than a phone; on a wall's screen the
    yield and the states have letters that are read at five metres. No verdict by colour alone."""
    with dashboard(mosquitto) as running:
        address = f"http://127.0.0.1:{running.port}/"
        page.open(address)
        page.until(lambda: page.run("return Number(document.body.dataset.ticks ?? 0)") > 0)
        _hostile_plant(mosquitto)
        grounds = set()
        for theme in ("light", "dark"):
            page.open(f"{address}?theme={theme}")
            page.until(lambda: len(page.rows()) == 5)
            for selector in WORDS:
                ink, ground = page.colours(selector)
                one, other = sorted((_luminance(ink), _luminance(ground)))
                assert (other + 0.05) / (one + 0.05) >= 4.5, (theme, selector, ink, ground)
            grounds.add(page.colours("body")[1])
            assert page.run(
                "return [...document.querySelectorAll('#stream tbody td:first-child, .station "
                ".state, #counts dt')].every(e => e.querySelector('svg') && e.innerText.trim())"
            )
        assert len(grounds) == 2
        page.open(address, 390, 844)
        page.until(lambda: len(page.rows()) == 5)
        assert page.run("return document.documentElement.scrollWidth") <= 390
        page.run("document.querySelector('#stream tbody tr').click()")
        page.until(lambda: page.run("return document.querySelector('#full').open"))
        shut = page.run(
            "return JSON.stringify(document.querySelector('#full header button')"
            ".getBoundingClientRect())"
        )
        assert json.loads(shut)["top"] < 60, "close is at the top"
        assert json.loads(shut)["right"] <= 390
        assert page.run("return document.querySelector('#full').scrollWidth") <= 390
        page.open(f"{address}?view=wall", 1920, 1080)
        page.until(lambda: page.text("#yield") not in ("", "–"))
        size = "return parseFloat(getComputedStyle(document.querySelector('{}')).fontSize)"
        assert page.run(size.format("#yield")) >= 150
        assert page.run(size.format("#sentence")) >= 56
        assert page.run(size.format(".station .state")) >= 55
        if folder := os.environ.get("SCREENSHOTS"):
            page.driver.save_screenshot(f"{folder}/wall.png")
        assert page.run("return document.documentElement.scrollHeight") <= 1080


def test_a_login_in_the_browser(page: Page, mosquitto: tuple[str, int], tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    with dashboard(mosquitto, "--host", "0.0.0.0", "--login-file", str(file)) as running:
        page.open(f"http://127.0.0.1:{running.port}/")

        def enter(password: str) -> None:
            page.driver.find_element(By.ID, "password").send_keys(password + "\n")

        assert "Wrong name or password" not in page.text("body")
        enter("a wrong one")
        page.until(lambda: "Wrong name or password" in page.text("body"))
        enter(PASSWORD)
        page.until(lambda: "No station" in page.text("body"))
        page.driver.find_element(By.CSS_SELECTOR, "#logout button").click()
        page.until(lambda: "Password" in page.text("body"))
