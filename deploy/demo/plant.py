"""A plant on one machine: two stations, recorder and dashboard, a drift that begins, an outage.

``make demo-plant`` runs it for a minute and prints the dashboard's address. It takes the data and
the bundle of ``make demo``, or makes them first. Everything ends with it; what it recorded stays in
the folder.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).parent))
from broker import free_port, running_broker
from demo import EDGE_QC, console, learn, read_truth

STATIONS = ("line-1", "line-2")
DIES = ("Die01", "Die02", "Die03")
DRIFTING = ("line-2", "Die02")
PART_EVERY_S = 0.8
BAD = 0.06
"""Of the parts, whose every view is drawn from the defects."""
DRIFT_FROM, OUTAGE_FROM, OUTAGE_TO = 0.35, 0.6, 0.75
"""Shares of the time: when the lens over one die begins to get dirty; when a station is killed, and
when it starts again."""
_START_S = 60.0


def main() -> int:
    """Run the plant, and say what its records hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything is made")
    parser.add_argument("--seconds", type=float, default=60, help="how long it runs")
    parser.add_argument("--port", type=int, default=0, help="the dashboard's; by default any free")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    data, bundle = folder / "data", folder / "bundle"
    if not (bundle / "manifest.json").is_file():
        console.print("There is no bundle yet: make one as make demo does, in a few minutes")
        data, bundle = learn(folder, 900, 300, 1)
    plant = folder / "plant"
    shutil.rmtree(plant, ignore_errors=True)
    plant.mkdir(parents=True)
    port = arguments.port or free_port()
    try:
        with running_broker() as (host, broker_port), started(plant) as start:
            run(start, plant, data, bundle, f"{host}:{broker_port}", port, arguments.seconds)
    except KeyboardInterrupt:
        console.print("\nended early")
    summarize(plant / "records.sqlite")
    return 0


class Processes:
    """The commands that the plant runs, each with its journal in the plant's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __call__(self, name: str, *words: object) -> None:
        """Start a command under a name."""
        with (self._folder / f"{name}.log").open("ab") as journal:
            self._running[name] = subprocess.Popen(
                [*EDGE_QC, *map(str, words)],
                stdout=journal,
                stderr=journal,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def end(self, name: str, how: signal.Signals) -> None:
        process = self._running.pop(name)
        process.send_signal(how)
        process.wait(30)

    def end_all(self) -> None:
        # Stations first, so that what they say last is recorded.
        for name in [*(name for name in self._running if name in STATIONS), *self._running]:
            if name in self._running:
                self.end(name, signal.SIGTERM)
                time.sleep(0.5)


@contextmanager
def started(folder: Path) -> Iterator[Processes]:
    processes = Processes(folder)
    try:
        yield processes
    finally:
        processes.end_all()


def run(
    start: Processes, folder: Path, data: Path, bundle: Path, broker: str, port: int, seconds: float
) -> None:
    """Feed both stations for so long; one drifts, the other fails for a while."""
    records = folder / "records.sqlite"
    start("record", "record", "--broker", broker, "--database", records)
    settings = {name: lay_out(folder, name, bundle, broker) for name in STATIONS}
    wait_for(records)
    evidence = [word for name in STATIONS for word in ("--evidence", folder / name / "evidence")]
    start(
        "dashboard", "dashboard", "--broker", broker, "--port", port, "--database", records,
        *evidence,
    )  # fmt: skip
    for name in STATIONS:
        start(name, "run", "--config", settings[name])
    console.print(f"\n[bold]http://127.0.0.1:{port}[/]  open it; it runs for {seconds:.0f} s\n")
    views = Views(data)
    began_s, part, away = time.monotonic(), 0, ""
    while (share := (time.monotonic() - began_s) / seconds) < 1:
        if not away and OUTAGE_FROM < share < OUTAGE_TO:
            away = STATIONS[0]
            console.print(f"{away} loses its power")
            start.end(away, signal.SIGKILL)
        if away and share > OUTAGE_TO:
            console.print(f"{away} starts again")
            start(away, "run", "--config", settings[away])
            away = ""
        if share > DRIFT_FROM and part and not views.dirt:
            console.print(f"the lens over {DRIFTING[1]} of {DRIFTING[0]} gets dirty")
        views.dirt = max(0.0, (share - DRIFT_FROM) / (1 - DRIFT_FROM))
        part += 1
        for name in STATIONS:
            # A line whose station is away stands still.
            if name != away:
                views.put_part(folder / name, name, part)
        time.sleep(max(0.0, began_s + part * PART_EVERY_S - time.monotonic()))


class Views:
    """Photographs of parts, drawn from the demo's test images. dirt: on one lens, 0 to 1."""

    def __init__(self, data: Path) -> None:
        self._images, self._draw, self.dirt = data / "input_test", random.Random(1), 0.0
        truth = read_truth(data)
        self._names: dict[tuple[str, bool], list[str]] = {}
        with (data / "win_and_lib.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = row["lib"], truth[row["filename"]] == "GOOD"
                self._names.setdefault(key, []).append(row["filename"])

    def put_part(self, folder: Path, station: str, number: int) -> None:
        """One photograph into the folder of each camera."""
        good = self._draw.random() > BAD
        for die in DIES:
            source = self._images / self._draw.choice(self._names[die, good])
            image = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
            assert image is not None
            if (station, die) == DRIFTING and self.dirt:
                image = cv2.GaussianBlur(image, (0, 0), 0.1 + 6 * self.dirt)
                image = cv2.convertScaleAbs(image, alpha=1 - 0.5 * self.dirt)
            name = f"{number:05d}.png"
            camera = folder / die.lower()
            with (folder / f"{die.lower()}.csv").open("a", encoding="utf-8") as table:
                table.write(f"{name},{die},W1-{number:05d}\n")
            making = camera / f".{name}"
            making.write_bytes(cv2.imencode(".png", image)[1].tobytes())
            making.rename(camera / name)


def lay_out(folder: Path, name: str, bundle: Path, broker: str) -> Path:
    """A station's folder with a watched folder for each camera; its settings."""
    station = folder / name
    cameras = []
    for die in DIES:
        (station / die.lower()).mkdir(parents=True)
        (station / f"{die.lower()}.csv").write_text("filename,lib,part\n", encoding="utf-8")
        cameras.append(
            f'[[camera]]\nname = "{die.lower()}"\nsource = "file://{station}/{die.lower()}"\n'
            f'table = "{die.lower()}.csv"\nwatch = true\n'
        )
    (station / "evidence").mkdir()
    host, _, port = broker.rpartition(":")
    dies = ", ".join(f'"{die}"' for die in DIES)
    file = station / "station.toml"
    file.write_text(
        "# Made by the demo; deploy/station.example.toml explains every key.\n"
        f'[station]\nsite = "demo"\nname = "{name}"\nstate_dir = "state"\n\n'
        f'[bundle]\npath = "{bundle}"\n\n[engine]\nthreads = 1\n\n'
        f'[mqtt]\nhost = "{host}"\nport = {port}\nkeepalive_s = 2\nrecorder = true\n\n'
        f'[evidence]\nfolder = "evidence"\n\n[line]\npart_dies = [{dies}]\nhealth_every_s = 1.0\n\n'
        + "\n".join(cameras),
        encoding="utf-8",
    )
    return file


def wait_for(records: Path) -> None:
    until_s = time.monotonic() + _START_S
    while not records.exists():
        if time.monotonic() > until_s:
            sys.exit(f"the recorder did not start: see {records.parent / 'record.log'}")
        time.sleep(0.1)
    # It creates its tables just after the file.
    time.sleep(1.0)


def summarize(records: Path) -> None:
    """What the plant's records say of it."""
    if not records.exists():
        return
    for words in (("yield", "--of", "parts", "--by", "station"), ("yield", "--by", "class"),
                  ("downtime",)):  # fmt: skip
        console.print(f"[dim]$ edge-qc query {' '.join(words)} --database {records.name}")
        subprocess.run([*EDGE_QC, "query", *words, "--database", str(records)], check=False)


if __name__ == "__main__":
    sys.exit(main())
