"""The whole line on one machine: images, training, a bundle, a broker, four cameras, verdicts.

``make demo`` runs it. Every step is a command that a person could type; what it makes stays in the
folder that it is given. It ends with exit status 0 when every frame has its verdict.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from broker import running_broker

DIES = ("Die01", "Die02", "Die03", "Die04")
FILMED = "Die04"
EDGE_QC = [sys.executable, "-m", "edge_qc.cli"]

console = Console(stderr=True)


def main() -> int:
    """Run the demo; 0 when it worked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything is made")
    parser.add_argument("--train", type=int, default=900, help="training images")
    parser.add_argument("--test", type=int, default=300, help="test images, which the line judges")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn images")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    data, bundle = learn(folder, arguments.train, arguments.test, arguments.seed)

    step(4, "A broker, and the station's daemon on four cameras")
    frames = lay_out_cameras(data, folder)
    shutil.rmtree(folder / "state", ignore_errors=True)
    with running_broker() as (host, port):
        console.print(f"broker on {host}:{port}")
        settings = write_settings(folder, bundle, host, port)
        verdicts = run_line(settings, f"{host}:{port}", sum(map(len, frames.values())), folder)

    step(5, "The bundle's qualification: one page for whoever has to trust it")
    shutil.rmtree(folder / "qualification", ignore_errors=True)
    edge_qc("qualify", bundle, data, "--out", folder / "qualification")

    step(6, "What the line said, against what the parts are")
    truth = read_truth(data)
    missing = sum(map(len, frames.values())) - len(verdicts)
    show_summary(verdicts, frames, truth)
    console.print(
        f"\n{len(verdicts)} verdicts, {missing} missing, in {time.monotonic() - began:.0f} s. "
        f"Everything is in {folder}; look again with:\n"
        f"  .venv/bin/edge-qc inspect {os.path.relpath(bundle)}\n"
        f"and open {folder / 'qualification' / 'qualification.html'} in a browser.",
        highlight=False,
    )
    return 1 if missing else 0


def learn(folder: Path, train: int, test: int, seed: int) -> tuple[Path, Path]:
    """Draw so many images, train on them and export: the folders of the data and the bundle."""
    step(1, "Photographs of power dies, drawn in the challenge's layout")
    data = folder / "data"
    # As many of each class: so few images of the challenge's rare ones would teach nothing.
    edge_qc(
        "synth", data, "--train", train, "--test", test, "--seed", seed, "--balance", "even",
        "--force",
    )  # fmt: skip
    step(2, "Train: EfficientNet-Lite0 with ImageNet weights, of which the last blocks learn")
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    edge_qc("train", data, "--out", run)
    step(3, "Fit PaDiM and the gate to GOOD, calibrate, export one ONNX in FP16 in one bundle")
    bundle = folder / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    edge_qc("export", run, "--fp16", "--out", bundle)
    return data, bundle


def step(number: int, title: str) -> None:
    console.rule(f"[bold]{number}. {title}", align="left")


def edge_qc(*arguments: object) -> None:
    words = [str(word) for word in arguments]
    console.print(f"[dim]$ edge-qc {' '.join(words)}", highlight=False)
    done = subprocess.run([*EDGE_QC, *words], check=False)
    if done.returncode:
        sys.exit(f"edge-qc {words[0]} failed with exit status {done.returncode}")


def lay_out_cameras(data: Path, folder: Path) -> dict[str, list[str]]:
    """A folder and a table of images for each camera, a video for one of them; images by die."""
    with (data / "win_and_lib.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["filename"])
    frames: dict[str, list[str]] = {}
    for die in DIES:
        mine = [row["filename"] for row in rows if row["lib"] == die]
        if die == FILMED:
            # Frames of one video are of one size.
            shapes = {name: image_shape(data, name) for name in mine}
            largest = max(shapes.values())
            mine = [name for name in mine if shapes[name] == largest]
            film(data, mine, largest, folder / "die04.avi")
        else:
            seen = folder / die.lower()
            shutil.rmtree(seen, ignore_errors=True)
            seen.mkdir()
            for name in mine:
                shutil.copy(data / "input_test" / name, seen)
            with (folder / f"{die.lower()}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["filename", "lib", "part"])
                writer.writerows((name, die, f"part-{k:04d}") for k, name in enumerate(mine))
        frames[die.lower()] = mine
    return frames


def image_shape(data: Path, name: str) -> tuple[int, int]:
    image = cv2.imread(str(data / "input_test" / name), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image.shape[0], image.shape[1]


def film(data: Path, names: list[str], shape: tuple[int, int], file: Path) -> None:
    writer = cv2.VideoWriter(
        str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (shape[1], shape[0]), isColor=True
    )
    for name in names:
        image = cv2.imread(str(data / "input_test" / name), cv2.IMREAD_COLOR)
        assert image is not None
        writer.write(image)
    writer.release()


def write_settings(folder: Path, bundle: Path, host: str, port: int) -> Path:
    cameras = []
    for die in DIES:
        source = f"file://{folder}/{die.lower()}"
        which = f'table = "{die.lower()}.csv"'
        if die == FILMED:
            source, which = f"file://{folder}/die04.avi", f'die = "{die}"'
        cameras.append(
            f'[[camera]]\nname = "{die.lower()}"\nsource = "{source}"\n{which}\nfps = 20\n'
        )
    file = folder / "station.toml"
    file.write_text(
        "# Made by the demo; deploy/station.example.toml explains every key.\n"
        '[station]\nsite = "demo"\nname = "line-1"\nstate_dir = "state"\n\n'
        f'[bundle]\npath = "{bundle}"\n\n'
        f'[mqtt]\nhost = "{host}"\nport = {port}\n\n'
        '[line]\npart_dies = ["Die01", "Die02", "Die03"]\n\n' + "\n".join(cameras),
        encoding="utf-8",
    )
    return file


def run_line(settings: Path, broker: str, expected: int, folder: Path) -> list[dict[str, object]]:
    """Start a subscriber, a live view and the daemon; the verdicts that crossed the broker."""
    received = folder / "verdicts.jsonl"
    log = folder / "station.log"
    watch = [*EDGE_QC, "watch", "--broker", broker, "--count", str(expected), "--for", "240"]
    with received.open("w") as sink, log.open("w") as journal:
        recorder = subprocess.Popen([*watch, "--json"], stdout=sink)
        live = subprocess.Popen(watch)
        time.sleep(1.5)
        console.print(f"[dim]$ edge-qc run --config {os.path.relpath(settings)} --until-end")
        daemon = subprocess.Popen(
            [*EDGE_QC, "run", "--config", str(settings), "--until-end"],
            stdout=journal,
            stderr=subprocess.STDOUT,
        )
        status = daemon.wait(timeout=280)
        for watcher in (recorder, live):
            try:
                watcher.wait(timeout=10)
            except subprocess.TimeoutExpired:
                watcher.terminate()
                watcher.wait()
    if status:
        sys.exit(f"the station ended with exit status {status}:\n{log.read_text()}")
    messages = [json.loads(line) for line in received.read_text().splitlines()]
    return [message for message in messages if "verdict_id" in message]


def read_truth(data: Path) -> dict[str, str]:
    with (data / "Y_test_truth.csv").open(newline="", encoding="utf-8") as file:
        return {row["filename"]: row["Label"] for row in csv.DictReader(file)}


def show_summary(
    verdicts: list[dict[str, object]], frames: dict[str, list[str]], truth: dict[str, str]
) -> None:
    labels = Counter[tuple[str, str]]()
    passed = Counter[str]()
    filmed = iter(frames[FILMED.lower()])
    for verdict in sorted(verdicts, key=lambda message: int(str(message["seq"]))):
        name = verdict.get("image") or next(filmed)
        labels[truth[str(name)], str(verdict["label"])] += 1
        passed[truth[str(name)]] += verdict["disposition"] == "PASS"
    rows = sorted({row for row, _ in labels}, key=lambda name: (name != "GOOD", name))
    columns = sorted({column for _, column in labels}, key=lambda name: (name != "GOOD", name))
    table = Table("part is \\ verdict", *columns, title="Verdicts by truth")
    for row in rows:
        cells = []
        for column in columns:
            count = labels[row, column]
            escaped = column == "GOOD" and row != "GOOD" and count
            right = column.casefold() == row.casefold()
            style = "[bold red]" if escaped else "[green]" if right else ""
            cells.append(f"{style}{count}" if count else "")
        table.add_row(row, *cells)
    Console().print(table)
    bad = sum(count for (row, _), count in labels.items() if row != "GOOD")
    good = sum(count for (row, _), count in labels.items() if row == "GOOD")
    Console().print(
        f"good parts that pass: {passed['GOOD']} of {good}    "
        f"bad parts that pass: {sum(passed.values()) - passed['GOOD']} of {bad}"
    )


if __name__ == "__main__":
    sys.exit(main())
