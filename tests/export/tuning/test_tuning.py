"""Sliders over a bundle: what they foretell is what the saved bundle does, part by part."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install ./export")

from edge_qc.bundle.slots import Slots
from edge_qc.bundle.verification import open_bundle
from edge_qc.engine import open_engine
from edge_qc.errors import DataError
from edge_qc.evidence.serving import LocalServer
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.data.dataset import read_samples
from edge_qc_export.evaluation import judge
from edge_qc_export.recalibration import Begun, begin
from edge_qc_export.tuning.site import SHOWN, Tuner
from tests.rig.browsers import show_as, texts
from tests.rig.publishing import wait_until
from tests.rig.trained import EDGE_QC, Trained

pytestmark = pytest.mark.torch

OWN = {"escape": 1, "overkill": 1, "confusion": 1, "max_escape": 0.01, "good": 0.95}
LOOSE = {**OWN, "max_escape": 0.15}


@pytest.fixture(scope="module")
def begun(trained: Trained) -> Begun:
    return begin(trained.bundle, trained.data, part="test")


@contextmanager
def tuner(begun: Begun, out: Path) -> Iterator[Tuner]:
    engine = open_engine(begun.bundle)
    try:
        yield Tuner(begun, engine, out)
    finally:
        engine.close()


def judged(bundle: Path, data: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Truth and label of each part, as a station says them."""
    opened = open_bundle(bundle)
    labels = (*opened.manifest.classes, DRIFT)
    samples = read_samples(data, "test", opened.manifest.dies, labels)
    found = judge(opened, samples)
    return found.labels, found.predicted


def test_what_the_sliders_foretell_is_what_the_saved_bundle_does(
    begun: Begun, trained: Trained, tmp_path: Path
) -> None:
    """A bound, costs and a mix at once; every count of the page, and every part that changes."""
    setting = {**LOOSE, "good": 0.8, "escape": 0.02, "overkill": 3, "confusion": 2}
    with tuner(begun, tmp_path / "tuned") as site:
        told = site.move(setting)
        saved = Path(site.save(setting)["path"])
        plain = site.move(OWN)
    truth, before = judged(trained.bundle, trained.data)
    _, after = judged(saved, trained.data)
    for name, labels in (("before", before), ("now", after)):
        pairs = list(zip(truth, labels, strict=True))
        figures = told["figures"]["given"][name]
        stopped = sum(true == GOOD != said for true, said in pairs)
        passed = sum(true != GOOD == said for true, said in pairs)
        assert (figures["overkill"]["count"], figures["escapes"]["count"]) == (stopped, passed)
        assert figures["reviewed"]["count"] == sum(said == DRIFT for said in labels)
        assert figures["overkill"]["of"] + figures["escapes"]["of"] == len(truth)
    changed = sum(
        (old == GOOD) is not (new == GOOD) for old, new in zip(before, after, strict=True)
    )
    assert 0 < changed == told["pictured"], "the case shows parts that change sides"
    manifest = open_bundle(saved).manifest
    assert manifest.gate is not None
    assert manifest.gate.bound is not None
    assert manifest.gate.mix[GOOD] == pytest.approx(0.8)
    assert manifest.gate.bound.max_escape == 0.15
    old = begun.bundle.manifest.costs
    assert manifest.costs["Missing"][GOOD] == pytest.approx(0.02 * old["Missing"][GOOD])
    assert manifest.costs[GOOD]["Missing"] == pytest.approx(3 * old[GOOD]["Missing"])
    assert manifest.costs["Missing"][DRIFT] == pytest.approx(2 * old["Missing"][DRIFT])
    assert plain["figures"] != told["figures"]
    assert saved.name == "tuned"


def test_the_parts_that_change_sides_come_with_pictures_the_gravest_first(
    begun: Begun, tmp_path: Path
) -> None:
    with tuner(begun, tmp_path / "tuned") as site:
        told = site.move(LOOSE)
        kinds = [one["kind"] for one in told["shown"]]
        order = ["escape", "overkill", "stopped", "released"]
        assert {"escape", "released"} <= set(kinds), "the case shows both"
        assert kinds == sorted(kinds, key=order.index)
        assert len(kinds) == min(SHOWN, told["pictured"])
        for one in told["shown"]:
            assert (one["label"] == GOOD) is (one["kind"] in ("overkill", "released"))
            assert (one["was"], one["is"])[one["kind"] in ("overkill", "stopped")] != "PASS"
            for name in ("view.png", "heat.png"):
                picture = site.get(f"{one['row']}/{name}")
                assert isinstance(picture, bytes)
                assert picture.startswith(b"\x89PNG")
        for path in ("view.png", f"{len(begun.pixels)}/view.png", "-1/view.png", "0/../x"):
            assert site.get(path) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_escape": 0}, "max_escape 0: wanted"),
        ({"good": 1}, "good 1: wanted"),
        ({"escape": 1e9}, r"escape 1e\+09: wanted"),
        ({"overkill": "much"}, "overkill 'much': wanted a number"),
        ({"confusion": True}, "confusion True: wanted a number"),
        ({"good": None}, "good None: wanted a number"),
    ],
)
def test_a_setting_that_is_none_is_refused(
    begun: Begun, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with tuner(begun, tmp_path / "tuned") as site:
        for does in (site.move, site.save):
            with pytest.raises(DataError, match=said):
                does({**OWN, **change})
    assert not (tmp_path / "tuned").exists()


def test_each_saving_is_a_bundle_of_its_own(begun: Begun, tmp_path: Path) -> None:
    with tuner(begun, tmp_path / "tuned") as site:
        first, second = (site.save(LOOSE) for _ in range(2))
    assert (Path(first["path"]).name, Path(second["path"]).name) == ("tuned", "tuned-2")
    slots = Slots(tmp_path / "slots")
    for saved in (begun.bundle.path, Path(first["path"]), Path(second["path"])):
        slots.may_follow(open_bundle(saved))
        with slots.locked():
            slots.switch(slots.bring(saved))
    assert f"edge-qc install {first['path']}" in first["said"]


# The command


def test_the_command_prints_an_address_that_answers_and_refuses_what_it_cannot_tune(
    trained: Trained, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*EDGE_QC, "tune", str(trained.bundle), str(trained.data), "--split", "test"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        host, _, rest = process.stdout.readline().strip().removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("POST", f"/{rest}move", json.dumps(OWN))
        answer = json.loads(connection.getresponse().read())
        assert answer["figures"]["given"]["now"]["overkill"]["of"] > 0
        connection.close()
    finally:
        process.terminate()
        process.wait(10)
    for data, said in (
        (tmp_path / "nothing", "nothing there"),
        (trained.data, "holds all of its"),
    ):
        refused = subprocess.run(
            [*EDGE_QC, "tune", str(trained.bundle), str(data), "--split", "train"],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        assert refused.returncode == 1, refused.stderr
        assert said in " ".join(refused.stderr.split())


# In a browser


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_person_tunes_by_keyboard(
    begun: Begun, browser: Any, tmp_path: Path, width: int, theme: str
) -> None:
    """The arrow keys move a slider and the figures follow; r goes back, s saves."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    # A picture with heat takes the network, and a machine of two cores may be busy.
    soon = partial(wait_until, timeout_s=60.0)
    show_as(browser, width, 1400, theme)
    with tuner(begun, tmp_path / "tuned") as site, LocalServer(site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own, loose = (site.move(one)["figures"]["given"]["now"] for one in (OWN, LOOSE))
        browser.get_log("browser")
        browser.get(server.url)
        body = browser.find_element(By.TAG_NAME, "body")

        def counted(figures: dict[str, Any]) -> str:
            return f"{figures['overkill']['count']} of {figures['overkill']['of']};"

        def now() -> str:
            return next(iter(texts(browser, "#rates td.now")), "")

        assert counted(own) != counted(loose), "the case shows a change"
        soon(lambda: counted(own) in now())
        slider = browser.find_element(By.ID, "max_escape")
        while float(browser.find_element(By.ID, "max_escape-is").text.split()[0]) < 15:
            slider.send_keys(*[Keys.ARROW_RIGHT] * 20)
        soon(lambda: counted(own) not in now())
        assert "escapes at most" in browser.find_element(By.ID, "bound").text
        soon(
            lambda: browser.execute_script(
                "const all = [...document.images]; all.forEach(i => { i.loading = 'eager'; });"
                "return all.length > 1 && all.every(i => i.complete && i.naturalWidth > 0)"
            )
        )
        fits = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert browser.execute_script(fits)
        if folder := os.environ.get("SCREENSHOTS"):
            browser.save_screenshot(f"{folder}/tune-{theme}-{width}.png")
        body.send_keys("s")
        soon(lambda: "--shadow-parts" in browser.find_element(By.ID, "saved").text)
        assert open_bundle(tmp_path / "tuned").manifest.version > begun.bundle.manifest.version
        body.send_keys("r")
        soon(lambda: counted(own) in now())
        costs = browser.find_element(By.ID, "overkill-is")
        assert costs.text == "100"
        browser.find_element(By.ID, "overkill").send_keys(*[Keys.ARROW_RIGHT] * 40)
        assert "×" in costs.text
        said = [entry for entry in browser.get_log("browser") if entry["source"] != "network"]
        assert said == []
        server.shutdown()
