"""One image from PNG to MQTT, and the daemon as an operator meets it."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_qc.bundle.verification import open_bundle
from edge_qc.engine import open_engine
from edge_qc.inspection import decision
from edge_qc.inspection.view import view
from edge_qc.publisher import json_schemas
from tests.rig.publishing import wait_until
from tests.rig.trained import EDGE_QC, Trained

pytestmark = [pytest.mark.broker, pytest.mark.torch]

FRESH = decision.Circumstances(frame_age_s=0.0, max_frame_age_s=1.0, accepted=True, running=True)


def station_toml(
    folder: Path, trained: Trained, broker: tuple[str, int], cameras: str, extra: str = ""
) -> Path:
    file = folder / "station.toml"
    file.write_text(
        f'[station]\nsite = "s"\nname = "n"\nstate_dir = "state"\n'
        f'[bundle]\npath = "{trained.bundle}"\n'
        f'[mqtt]\nhost = "{broker[0]}"\nport = {broker[1]}\n'
        f"[line]\ndrain_s = 5\n{extra}\n{cameras}",
        encoding="utf-8",
    )
    return file


def folder_camera(folder: Path, images: list[Path], die: str = "Die01", name: str = "cam") -> str:
    source = folder / name
    source.mkdir()
    for image in images:
        shutil.copy(image, source)
    return f'[[camera]]\nname = "{name}"\nsource = "file://{source}"\ndie = "{die}"\n'


def images_of(trained: Trained, die: str) -> list[Path]:
    with (trained.data / "win_and_lib.csv").open(newline="") as file:
        names = [row["filename"] for row in csv.DictReader(file) if row["lib"] == die]
    return [trained.data / "input_test" / name for name in sorted(names)]


@contextmanager
def watching(broker: tuple[str, int], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    watch = subprocess.Popen(
        [*EDGE_QC, "watch", "--broker", f"{broker[0]}:{broker[1]}", "--json", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.0)
    try:
        yield watch
    finally:
        watch.kill()
        watch.wait()


def heard_until(watch: subprocess.Popen[str], state: str) -> list[dict[str, Any]]:
    """All messages up to the station's being in this state, or until ``--for`` is over."""
    assert watch.stdout is not None
    heard: list[dict[str, Any]] = []
    for line in watch.stdout:
        heard.append(json.loads(line))
        if heard[-1].get("state") == state:
            break
    return heard


def run(settings: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGE_QC, "run", "--config", str(settings), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def verdicts_in(output: str) -> list[dict[str, Any]]:
    messages = [json.loads(line) for line in output.splitlines()]
    return [message for message in messages if message["schema"].startswith("edge-qc/verdict")]


def test_one_image_from_png_to_mqtt(
    trained: Trained, broker: tuple[str, int], tmp_path: Path
) -> None:
    """The message on the broker equals what view, ONNX Runtime and the decision say of the PNG,
    and what `edge-qc judge` prints."""
    images = images_of(trained, "Die02")[:3]
    settings = station_toml(tmp_path, trained, broker, folder_camera(tmp_path, images, "Die02"))
    with watching(broker, "--count", "3", "--for", "40") as watch:
        done = run(settings, "--until-end")
        assert done.returncode == 0, done.stderr
        output, _ = watch.communicate(timeout=30)
    messages = verdicts_in(output)
    judged = subprocess.run(
        [*EDGE_QC, "judge", *images, "--die", "Die02", "--bundle", trained.bundle, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    bundle = open_bundle(trained.bundle)
    engine = open_engine(bundle)
    spec = bundle.manifest.input
    assert [message["seq"] for message in messages] == [1, 2, 3]
    for image, message, said in zip(images, messages, json.loads(judged.stdout), strict=True):
        assert message["image"] == image.name
        for key in ("label", "disposition", "reason", "probabilities", "drift", "expected_cost"):
            assert message[key] == said[key], key
        pixels = np.asarray(Image.open(image))
        cut = view(pixels, bundle.manifest.dies["Die02"], (spec.height, spec.width))
        (reading,) = engine.infer(cut.pixels[np.newaxis])
        verdict = decision.judge(bundle, "Die02", reading, FRESH)
        assert message["label"] == verdict.label
        assert message["probabilities"] == pytest.approx(dict(verdict.probabilities), abs=1e-5)
        assert message["bundle"] == {"id": bundle.id, "version": bundle.manifest.version}


def test_every_message_keeps_its_schema(
    trained: Trained, any_broker: tuple[str, int], tmp_path: Path
) -> None:
    """State, health, event, part and verdict of a running daemon all validate."""
    jsonschema = pytest.importorskip("jsonschema")
    table = tmp_path / "table.csv"
    images = images_of(trained, "Die01")[:4]
    rows = [f"{image.name},Die01,part-{index}" for index, image in enumerate(images)]
    table.write_text("filename,lib,part\n" + "\n".join(rows) + "\n")
    camera = folder_camera(tmp_path, images).replace('die = "Die01"', f'table = "{table}"')
    settings = station_toml(
        tmp_path, trained, any_broker, camera, 'part_dies = ["Die01"]\nhealth_every_s = 0.2'
    )
    with watching(any_broker, "--for", "40") as watch:
        assert run(settings, "--until-end").returncode == 0
        heard = heard_until(watch, "DEAD")
    schemas = json_schemas()
    seen = set()
    for message in heard:
        kind = message["schema"].split("/")[1]
        jsonschema.validate(message, schemas[kind])
        seen.add(kind)
    assert {"verdict", "part", "state", "health"} <= seen


def test_bad_images_are_not_judged_and_the_rest_is(
    trained: Trained, any_broker: tuple[str, int], tmp_path: Path
) -> None:
    """A truncated image and a text file among good ones: NOT_JUDGED with the file named, nothing
    lost, exit status 0."""
    images = images_of(trained, "Die01")[:3]
    camera = folder_camera(tmp_path, images)
    source = tmp_path / "cam"
    (source / images[1].name).write_bytes(images[1].read_bytes()[:2000])
    (source / "zzz.png").write_text("not an image")
    with watching(any_broker, "--count", "4", "--for", "40") as watch:
        done = run(station_toml(tmp_path, trained, any_broker, camera), "--until-end")
        assert done.returncode == 0, done.stderr
        output, _ = watch.communicate(timeout=30)
    labels = {message["image"]: message for message in verdicts_in(output)}
    assert len(labels) == 4
    for name in (images[1].name, "zzz.png"):
        assert labels[name]["label"] == "NOT_JUDGED"
        assert labels[name]["reason"] == "frame"
        assert labels[name]["disposition"] == "REVIEW"
        assert name in labels[name]["detail"]
    assert labels[images[0].name]["reason"] == "decided"


def test_without_a_broker_nothing_is_lost(
    trained: Trained, broker: tuple[str, int], tmp_path: Path
) -> None:
    """The daemon judges without a broker and says so; the next start delivers, as historical."""
    images = images_of(trained, "Die01")[:3]
    camera = folder_camera(tmp_path, images)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = ("127.0.0.1", unused.getsockname()[1])
    done = run(
        station_toml(tmp_path, trained, nobody, camera).rename(tmp_path / "away.toml"),
        "--until-end",
    )
    assert done.returncode == 0
    assert "remain in the outbox" in done.stderr
    assert "Traceback" not in done.stderr
    settings = station_toml(tmp_path, trained, broker, camera)
    with watching(broker, "--count", "6", "--for", "40") as watch:
        assert run(settings, "--until-end").returncode == 0
        output, _ = watch.communicate(timeout=30)
    messages = verdicts_in(output)
    assert [message["historical"] for message in messages] == [True] * 3 + [False] * 3
    assert len({message["epoch"] for message in messages}) == 2
    assert len({message["verdict_id"] for message in messages}) == 6


def judged(folder: Path) -> int:
    """How many verdicts the station's outbox has counted."""
    file = folder / "state" / "outbox.sqlite"
    if not file.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        try:
            return int(database.execute("SELECT count(*) FROM message").fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return 0


def test_sigterm_drains(trained: Trained, any_broker: tuple[str, int], tmp_path: Path) -> None:
    """SIGTERM: what was triggered is judged and delivered, exit status 0, state DEAD said."""
    camera = folder_camera(tmp_path, images_of(trained, "Die01")[:3]) + "loop = true\nfps = 20\n"
    settings = station_toml(tmp_path, trained, any_broker, camera)
    with watching(any_broker, "--for", "40") as watch:
        daemon = subprocess.Popen(
            [*EDGE_QC, "run", "--config", settings], stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: judged(tmp_path) > 10, 25)
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=20)
        assert daemon.returncode == 0, errors
        messages = heard_until(watch, "DEAD")
    sequence = [m["seq"] for m in messages if m["schema"].startswith("edge-qc/verdict")]
    assert len(sequence) > 10
    assert sequence == list(range(1, len(sequence) + 1))
    states = [m["state"] for m in messages if m["schema"].startswith("edge-qc/state")]
    assert states[-1] == "DEAD"
    assert "RUNNING" in states
    assert "STOPPING" in states
    database = sqlite3.connect(tmp_path / "state" / "outbox.sqlite")

    def count(of: str) -> int:
        return int(database.execute(f"SELECT count(*) FROM {of}").fetchone()[0])

    assert count("message WHERE state = 0") == 0
    assert count("trigger") == 0
    assert count("message WHERE kind = 'verdict'") == len(sequence), "none came after DEAD"
    database.close()


def test_a_flipped_byte_in_the_bundle_stops_the_station(
    trained: Trained, any_broker: tuple[str, int], tmp_path: Path
) -> None:
    """FAULT on the broker, exit status 78, the file named, no traceback."""
    altered = replace(trained, folder=tmp_path)
    shutil.copytree(trained.bundle, altered.bundle)
    model = bytearray((altered.bundle / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (altered.bundle / "model.onnx").write_bytes(model)
    camera = folder_camera(tmp_path, images_of(trained, "Die01")[:1])
    settings = station_toml(tmp_path, altered, any_broker, camera)
    with watching(any_broker, "--for", "20") as watch:
        done = run(settings)
        states = heard_until(watch, "FAULT")
    assert done.returncode == 78
    assert "model.onnx was altered" in done.stderr
    assert "Traceback" not in done.stderr
    assert any(m.get("state") == "FAULT" and "altered" in m["why"] for m in states)


@pytest.mark.parametrize(
    ("die", "status", "message"),
    [("Die09", 78, "die 'Die09': not in the bundle"), ("Die01", 0, "")],
)
def test_check_says_what_must_be_mended(
    trained: Trained, tmp_path: Path, die: str, status: int, message: str
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(images_of(trained, "Die01")[0], images)
    camera = f'[[camera]]\nname = "c"\nsource = "file://{images}"\ndie = "{die}"\n'
    settings = station_toml(tmp_path, trained, ("localhost", 1883), camera)
    done = subprocess.run(
        [*EDGE_QC, "check", "--config", settings, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert message in done.stderr
    if status == 0:
        assert json.loads(done.stdout)["mqtt"]["root"] == "edge-qc/v1/s/n"


def test_judge_on_what_is_no_image(trained: Trained, tmp_path: Path) -> None:
    """One line for the bad one, the good one judged, exit status 1."""
    image = images_of(trained, "Die01")[0]
    (tmp_path / "broken.png").write_bytes(image.read_bytes()[:100])
    done = subprocess.run(
        [
            *EDGE_QC, "judge", image, tmp_path / "broken.png", tmp_path / "none.png",
            "--die", "Die01", "--bundle", trained.bundle,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert "NOT_JUDGED" not in lines[0]
    assert "NOT_JUDGED" in lines[1]
    assert "NOT_JUDGED" in lines[2]
    assert "none.png" in lines[2]


def test_judge_knows_its_dies(trained: Trained) -> None:
    image = images_of(trained, "Die01")[0]
    done = subprocess.run(
        [*EDGE_QC, "judge", image, "--die", "Die9", "--bundle", trained.bundle],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Die01, Die02, Die03, Die04" in done.stderr


def test_the_pipe_that_closes_early_is_no_failure(trained: Trained) -> None:
    image = images_of(trained, "Die01")[0]
    judge = [*map(str, EDGE_QC), "judge", *[str(image)] * 3, "--die", "Die01"]
    judge += ["--bundle", str(trained.bundle)]
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -1', "-", *judge],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 1
