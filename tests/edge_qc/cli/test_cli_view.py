"""``edge-qc view`` as whoever sets up a camera uses it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from edge_qc.bundle.dies import CHALLENGE_DIES
from edge_qc.bundle.verification import open_bundle
from edge_qc.camera.images import read_image
from edge_qc.cli.view import command
from edge_qc.inspection.view import view
from tests.rig.cameras import picture
from tests.rig.tiny_bundle import make_bundle


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    cv2.imwrite(str(file), cv2.GaussianBlur(picture(1, 720, 840), (0, 0), 2))
    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_it_writes_what_the_network_will_see(photograph: Path, tmp_path: Path) -> None:
    """The very pixels that the view gives, as PNG, the file named on standard output."""
    out = tmp_path / "new" / "folder"
    result = run(photograph, "--die", "Die01", "--size", "224", "--out", out)
    assert result.exit_code == 0
    file = out / "photo.Die01.png"
    assert result.stdout.split() == [str(file)]
    seen = view(cv2.imread(str(photograph), -1), CHALLENGE_DIES["Die01"], (224, 224))
    assert np.array_equal(cv2.imread(str(file), -1), seen.pixels[0])


def test_full_and_nearest_are_the_benchmarks_own_crop(photograph: Path, tmp_path: Path) -> None:
    result = run(photograph, "--die", "Die02", "--nearest", "--out", tmp_path)
    assert result.exit_code == 0
    die = CHALLENGE_DIES["Die02"]
    with Image.open(photograph) as image:
        reference = np.asarray(image.rotate(die.angle, expand=True).crop(die.box))
    seen = cv2.imread(str(tmp_path / "photo.Die02.png"), -1)
    assert seen.shape == reference.shape
    assert (seen == reference).mean() >= 0.99


def test_a_die_table_of_ones_own_and_a_size_are_taken(photograph: Path, tmp_path: Path) -> None:
    dies = tmp_path / "dies.json"
    dies.write_text(json.dumps({"left/1": {"angle": 0, "center": [320, 640]}}))
    result = run(
        photograph, "--die", "left/1", "--dies", dies, "--size", "320x160", "--out", tmp_path
    )
    assert result.exit_code == 0
    assert cv2.imread(str(tmp_path / "photo.left_1.png"), -1).shape == (320, 160)


@pytest.mark.parametrize("interpolation", ["area", "nearest"])
def test_with_a_bundle_it_is_the_very_view_that_the_station_judges(
    photograph: Path, tmp_path: Path, interpolation: str
) -> None:
    whole = open_bundle(make_bundle(tmp_path / "whole"))
    spec = whole.manifest.input.model_copy(
        update={"height": 24, "width": 16, "interpolation": interpolation}
    )
    manifest = whole.manifest.model_copy(update={"input": spec})
    raw = manifest.model_dump_json(exclude_none=True).encode()
    bundle = whole.path
    (bundle / "manifest.json").write_bytes(raw)
    (bundle / "manifest.sha256").write_text(hashlib.sha256(raw).hexdigest())
    pixels, die = read_image(photograph), manifest.dies["Die01"]
    words = (photograph, "--die", "Die01", "--bundle", bundle, "--out", tmp_path)

    def shown(*more: str) -> NDArray[np.uint8]:
        result = run(*words, *more)
        assert result.exit_code == 0, result.exception
        return read_image(tmp_path / "photo.Die01.png")

    areas, nearest = (view(pixels, die, (24, 16), kind).pixels[0] for kind in ("area", "nearest"))
    assert not np.array_equal(areas, nearest), "the case tells them apart"
    assert np.array_equal(shown(), areas if interpolation == "area" else nearest)
    assert np.array_equal(shown("--nearest"), nearest)
    assert np.array_equal(shown("--averages"), areas)
    assert np.array_equal(
        shown("--size", "full"), view(pixels, die, None, manifest.input.interpolation).pixels[0]
    )


def test_names_that_are_not_utf8_are_names(tmp_path: Path) -> None:
    """OpenCV crashes at them, and took the command with it."""
    file = Path(os.fsdecode(bytes(tmp_path) + b"/lat\xfc.png"))
    file.write_bytes(bytes(cv2.imencode(".png", picture(1, 840, 720))[1]))
    out = file.with_name(f"{file.stem}-views")
    command = [sys.executable, "-m", "edge_qc.cli", "view", str(file), "--die", "Die01"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [one.name for one in out.iterdir()] == [f"{file.stem}.Die01.png"]


def test_json_is_one_document_and_the_warning_goes_elsewhere(tmp_path: Path) -> None:
    """A small photograph of Die02 does not hold the whole band: that is told, and counted."""
    file = tmp_path / "small.png"
    cv2.imwrite(str(file), picture(1, 540, 630))
    result = run(file, "--die", "Die02", "--size", "320x96", "--out", tmp_path, "--json")
    (document,) = json.loads(result.stdout)
    assert document["outside"] == pytest.approx(0.39, abs=0.01)
    assert (document["width"], document["height"]) == (96, 320)
    assert "39% of the view of Die02 lies outside" in result.stderr
    assert np.shape(document["to_frame"]) == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["photo.png", "--die", "Die09"], 2, "which has Die01, Die02, Die03, Die04"),
        (
            ["photo.png", "--die", "Die01", "--size", "0"],
            2,
            "wanted HEIGHTxWIDTH in pixels such as 320x96",
        ),
        (
            ["photo.png", "--die", "Die01", "--size", "1x2x3"],
            2,
            "wanted HEIGHTxWIDTH in pixels such as 320x96",
        ),
        (["none.png", "--die", "Die01"], 1, "image none.png: No such file"),
        (["photo.png", "./photo.png", "--die", "Die01"], 2, "two images would be written"),
        (["photo.png", "--die", "Die01", "--dies", "none.json"], 1, "die table none.json"),
    ],
)
def test_wrong_use_and_bad_files_are_told_in_one_line(
    photograph: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    root = Path(__file__).parents[3]
    shown = subprocess.run(
        [sys.executable, "-m", "edge_qc.cli", "view", *arguments, "--out", "out"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == status
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_bad_image_does_not_keep_the_others(photograph: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photograph.read_bytes()[:-100])
    result = run(broken, photograph, "--die", "Die01", "--out", tmp_path)
    assert result.stdout.split() == [str(tmp_path / "photo.Die01.png")]
    assert "truncated" in str(result.exception)
