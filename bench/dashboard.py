"""The dashboard with 50 stations at 10 verdicts a second each, beside the same board in NiceGUI.

One mosquitto, made-up stations (``sides/drawn_plant.py``), one page in headless Chromium. Measured
for 20 s each, in turn: the server's CPU; how old the newest verdict is when the page has drawn it;
frames of the browser (requestAnimationFrame), which a page that draws too long makes late. Needs
mosquitto, chromium, chromium-driver and bench/requirements.txt. Everything stops by itself.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "deploy" / "demo"))

from broker import free_port, running_broker  # noqa: E402
from peers import beside  # noqa: E402
from sides.plant_side import await_page  # noqa: E402

STATIONS, RATE, SECONDS, RUNS = 50, 10, 20, 2
_TICKS = os.sysconf("SC_CLK_TCK")

_WATCH = """
window.frames_ = []; let last = performance.now();
requestAnimationFrame(function frame(now) {
  window.frames_.push(now - last); last = now; requestAnimationFrame(frame); });
window.ages_ = [];
const time = document.querySelector('tbody').closest('table');
const column = [...time.querySelectorAll('th')].findIndex(h => /^time$/i.test(h.innerText.trim()));
let seen = '';
new MutationObserver(() => {
  const text = time.querySelector('tbody tr:not(.q-table__middle)')?.children[column]?.innerText;
  if (!text || text === seen) return;
  seen = text;
  const at = text.includes('T') ? Date.parse(text)
    : new Date().setHours(...text.split(/[:.]/).slice(0, 3), 100 * Number(text.split('.')[1]));
  window.ages_.push(Date.now() - at);
}).observe(time, {subtree: true, childList: true, characterData: true});
"""


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _command(side: str, broker: str, port: int) -> list[str]:
    if side == "theirs":
        return [sys.executable, str(HERE / "sides" / "nicegui_board.py"), broker, str(port)]
    ours = [sys.executable, "-m", "edge_qc.cli", "dashboard"]
    return [*ours, "--broker", broker, "--port", str(port)]


def _measured(command: list[str], port: int) -> dict[str, float]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1920,1080"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        await_page(port)
        driver.get(f"http://127.0.0.1:{port}/")
        time.sleep(5)
        driver.execute_script(_WATCH)
        before_s, began_s = _cpu_s(server.pid), time.monotonic()
        time.sleep(SECONDS)
        cpu = (_cpu_s(server.pid) - before_s) / (time.monotonic() - began_s)
        frames = sorted(driver.execute_script("return window.frames_"))
        ages = sorted(driver.execute_script("return window.ages_"))
        resident_kb = int(
            Path(f"/proc/{server.pid}/status").read_text().partition("VmRSS:")[2].split()[0]
        )
    finally:
        driver.quit()
        server.terminate()
        server.wait(15)
    return {
        "server_cpu_share_of_a_core": cpu,
        "server_resident_mib": resident_kb / 1024,
        "frames_per_s": len(frames) / SECONDS,
        "frame_p99_ms": frames[int(0.99 * len(frames))],
        "frame_worst_ms": frames[-1],
        "age_median_ms": statistics.median(ages),
        "age_worst_ms": ages[-1],
    }


def figures() -> list[dict[str, Any]]:
    """Both sides in turn on one broker under one load."""
    needed = ("mosquitto", "chromium", "chromedriver", "nicegui")
    if not all(beside(peer, "dashboard_server_cpu") for peer in needed):
        return []
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    with running_broker("mosquitto", None, ["max_queued_messages 0"]) as (host, port):
        load = subprocess.Popen(
            [
                *(sys.executable, str(HERE / "sides" / "drawn_plant.py"), f"{host}:{port}"),
                *("--stations", str(STATIONS), "--rate", str(RATE)),
                *("--seconds", str(2 * RUNS * (SECONDS + 45))),
            ]
        )
        try:
            for _ in range(RUNS):
                for side, runs in sides.items():
                    listen = free_port()
                    runs.append(_measured(_command(side, f"{host}:{port}", listen), listen))
        finally:
            load.terminate()
            load.wait(15)
    medians = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for side, runs in sides.items()
    }
    ours, theirs = medians["ours"], medians["theirs"]
    said = ", ".join(f"{key} {ours[key]:.3g} / {theirs[key]:.3g}" for key in ours)
    return [
        {
            "name": "dashboard_server_cpu",
            "ratio": theirs["server_cpu_share_of_a_core"] / ours["server_cpu_share_of_a_core"],
            "ratio_is": "theirs/ours",
            "goal": "50 stations at 10 verdicts a second stay smooth",
            "ours_median_s": None,
            "theirs_median_s": None,
            "runs": RUNS,
            "note": f"one page open; ours draws charts too, NiceGUI's board none; ours / theirs: "
            f"{said}",
        }
    ]
