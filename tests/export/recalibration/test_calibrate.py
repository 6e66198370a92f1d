"""A bundle's new version, by the command: what a station and its owner notice."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_qc.bundle.manifest import GOLDEN, MODEL, PARTS
from edge_qc.bundle.slots import Slots
from edge_qc.bundle.verification import Bundle, open_bundle
from edge_qc.cli.inspect import command as inspect
from edge_qc.errors import DataError, UsageError
from edge_qc.evidence import Labels, Store
from edge_qc.parts import GOOD
from edge_qc.station.changeover import shadow
from edge_qc.station.installation import Shadowing, install, roll_back
from edge_qc_export import recalibration
from edge_qc_export.commands.calibrate import command
from edge_qc_export.commands.keygen import command as keygen
from edge_qc_export.gate.parts_file import read_parts
from edge_qc_export.gate.rule_of_many import said_of, weigh
from edge_qc_export.packing.bundle_folder import write_bundle
from tests.rig.stations import put_in, running_station, settings_in
from tests.rig.trained import Trained

pytestmark = pytest.mark.torch


def calibrate(bundle: Path, data: Path, out: Path, *more: object) -> Result:
    arguments = [bundle, "--with", data, "--out", out, *more]
    return CliRunner().invoke(command, [*map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def verified(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test part's images as a person laid them out: a folder a class, drift beside them."""
    folder = tmp_path_factory.mktemp("verified")
    with (trained.data / "Y_test_truth.csv").open(newline="") as truth:
        labels = {row["filename"]: row["Label"] for row in csv.DictReader(truth)}
    with (trained.data / "win_and_lib.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            label = labels[row["filename"]]
            part = "test" if label == "Drift" else "train"
            target = folder / part / label / row["lib"] / row["filename"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(trained.data / "input_test" / row["filename"], target)
    return folder


@pytest.fixture(scope="module")
def signed(
    trained: Trained, verified: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, dict[str, Any], Path]:
    """The calibrated bundle, what the command said, and the key that verifies it."""
    folder = tmp_path_factory.mktemp("calibrated")
    key = folder / "release.key"
    CliRunner().invoke(keygen, [str(key)], catch_exceptions=False)
    said = calibrate(trained.bundle, verified, folder / "new", "--sign", key, "--json")
    public = key.with_name("release.key.pub")
    return open_bundle(folder / "new", public), json.loads(said.stdout), public


def images(folder: Path) -> Counter[bool]:
    """How many are GOOD, and how many are not."""
    return Counter(file.parts[-3] == GOOD for file in folder.rglob("*.png"))


def test_the_network_stays_byte_for_byte_and_the_version_is_the_next(
    trained: Trained, signed: tuple[Bundle, dict[str, Any], Path], verified: Path
) -> None:
    old, (new, said, _) = open_bundle(trained.bundle), signed
    assert new.model.read_bytes() == old.model.read_bytes()
    assert new.manifest.files[MODEL] == old.manifest.files[MODEL], "what a plan is kept by"
    assert new.manifest.files[GOLDEN] == old.manifest.files[GOLDEN]
    assert new.manifest.version == old.manifest.version + 1
    assert new.manifest.name == old.manifest.name
    (ancestor,) = new.manifest.calibrated or ()
    counts = images(verified)
    assert (ancestor.id, ancestor.version) == (old.id, old.manifest.version)
    assert (ancestor.good, ancestor.bad) == (counts[True], counts[False])
    assert ancestor.source == verified.name
    assert said["says"] == ancestor.sentence
    shown = CliRunner().invoke(inspect, [str(new.path)], catch_exceptions=False).output
    assert f"with {counts[True]} GOOD and {counts[False]} bad parts" in " ".join(
        re.split(r"[\s│├└─]+", shown)
    )


def test_the_bound_counts_old_and_new_bad_parts_and_says_which_are_new(
    trained: Trained, signed: tuple[Bundle, dict[str, Any], Path], verified: Path
) -> None:
    old, (new, said, _) = open_bundle(trained.bundle), signed
    assert old.manifest.gate is not None
    assert new.manifest.gate is not None
    before, after = old.manifest.gate.bound, new.manifest.gate.bound
    assert before is not None
    assert after is not None
    bad = images(verified)[False]
    assert after.bad.images == before.bad.images + bad
    assert after.added is not None
    assert after.added.images == bad
    assert after.good == before.good + images(verified)[True]
    assert any(
        f"{bad} of these bad parts came with a calibration" in s for s in said["gate"]["says"]
    )
    # What the bundle says passes is what its own rule makes of the scores that it carries.
    parts = read_parts(new)
    manifest = new.manifest
    passes = said_of(manifest, weigh(manifest, parts.scored)).passes
    now = parts.added == 1
    escapes = said["added"]["escapes"]
    assert (escapes["count"], escapes["of"]) == (
        int((passes & now & ~parts.scored.good).sum()),
        bad,
    )
    assert (parts.added[: len(read_parts(old))] == 0).all()
    report = json.loads((new.path / "report" / "export.json").read_text())
    assert report["gate"]["bound"] == said["gate"]["says"]
    assert report["calibrated"][0]["bad"] == bad


def test_it_is_installed_and_rolled_back_like_any_other(
    trained: Trained, signed: tuple[Bundle, dict[str, Any], Path], tmp_path: Path
) -> None:
    settings = settings_in(tmp_path / "state")
    put_in(settings, trained.bundle)
    new = signed[0]
    install(settings, new.path)
    slots = Slots.of_station(settings.station.state_dir)

    def current() -> int:
        slot = slots.read().current
        assert slot is not None
        return slot.version

    assert current() == new.manifest.version
    roll_back(settings)
    assert current() == new.manifest.version - 1


def test_a_running_station_tries_it_in_shadow_and_goes_on_with_it(
    trained: Trained, verified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before judges meanwhile; what would change is what the two say of the same parts."""
    # However busy the machine: what the candidate passes over it cannot foretell.
    monkeypatch.setattr(shadow, "_ROOM", 100_000)
    # Another mix of the line: some labels change.
    calibrate(trained.bundle, verified, tmp_path / "new", "--mix", "GOOD=0.001")
    new, settings = open_bundle(tmp_path / "new"), settings_in(tmp_path / "state")
    put_in(settings, trained.bundle)
    files = sorted(verified.rglob("*.png"))
    pixels = [np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8) for file in files]
    summaries: list[dict[str, Any]] = []

    def approve(summary: dict[str, Any]) -> bool:
        summaries.append(summary)
        return True

    with running_station(settings) as station, station.feed(*pixels, part=str):
        assert install(settings, new.path, shadowing=Shadowing(2 * len(pixels), 60, approve)).live
        given = station.given
        station.wait_until(lambda: station.given > given + len(pixels))
        assert roll_back(settings).live
    said = station.said("verdict")
    version = new.manifest.version
    seen = [verdict["bundle"]["version"] for verdict in said]
    assert len(said) == station.given
    assert set(seen) == {version - 1, version}
    assert seen.index(version) >= summaries[0]["frames"] >= 2 * len(pixels)
    assert not [verdict for verdict in said if verdict["label"] == "NOT_JUDGED"]

    def labels(number: int) -> dict[int, str]:
        """By picture, under this version."""
        return {
            int(verdict["part_id"]) % len(pixels): verdict["label"]
            for verdict in said
            if verdict["bundle"]["version"] == number
        }

    before, after = labels(version - 1), labels(version)
    changed = {(before[one], after[one]) for one in before if before[one] != after[one]}
    foretold = {(pair["now"], pair["candidate"]) for pair in summaries[0]["disagreements"]}
    assert changed, "the case shows a change"
    assert foretold == changed


def test_a_part_counts_once(
    trained: Trained,
    signed: tuple[Bundle, dict[str, Any], Path],
    verified: Path,
    tmp_path: Path,
) -> None:
    """Neither the images that the bundle was made with, nor those of a calibration before."""
    for bundle, data, part in (
        (signed[0].path, verified, ()),
        (trained.bundle, trained.data, ("--split", "train")),
    ):
        with pytest.raises(DataError, match=r"holds all of its \d+ labelled parts already"):
            calibrate(bundle, data, tmp_path / "again", *part)
    assert not (tmp_path / "again").exists()


def test_a_bundle_without_the_scores_of_its_parts_is_refused_with_the_next_step(
    trained: Trained, verified: Path, tmp_path: Path
) -> None:
    old = open_bundle(trained.bundle)
    files = {name: (old.path / name).read_bytes() for name in old.manifest.files if name != PARTS}
    bare = write_bundle(tmp_path / "bare", old.manifest, files, None, lambda _: None)
    with pytest.raises(UsageError, match=r"carries no parts\.npz.*edge-qc export RUN"):
        calibrate(bare.path, verified, tmp_path / "new")
    kept = next((Path(__file__).parents[2] / "kept" / "schema-1").rglob("manifest.json"))
    with pytest.raises(UsageError, match=r"schema 1 and has no gate.*Export it again"):
        calibrate(kept.parent, verified, tmp_path / "new")
    with pytest.raises(UsageError, match=r"version 1: wanted at least"):
        calibrate(trained.bundle, verified, tmp_path / "new", "--version", 1)


def test_what_a_station_kept_and_a_person_labelled_calibrates(
    trained: Trained, verified: Path, tmp_path: Path
) -> None:
    """Evidence as it lies at the station: the station's name and days are in the ancestry, a defect
    that nobody taught counts as bad, and what nobody labelled is left aside."""
    store = Store(tmp_path / "evidence")
    labels = Labels(store.folder)
    for number, file in enumerate(sorted(verified.rglob("*.png"))):
        label, die = file.parts[-3], file.parts[-2]
        pixels = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8)
        name = str(uuid.uuid4())
        verdict = {"verdict_id": name, "die": die, "part_id": None, "label": GOOD}
        verdict |= {"site": "plant-1", "station": "line-2"}
        taken = datetime(2026, 11, 20 + number % 2, 12, tzinfo=timezone.utc)
        store.add(name, GOOD, taken, 0.5, frame=pixels, verdict=verdict)
        if number % 3:
            said = {"Drift": "DRIFT", "Missing": "crack"}.get(label, label)
            labels.add(name, said, GOOD, "anna")
    given = Counter(given.label == GOOD for given in labels.latest().values())
    said = calibrate(trained.bundle, store.folder, tmp_path / "new", "--json")
    ancestor = json.loads(said.stdout)["calibrated"]
    assert (ancestor["good"], ancestor["bad"]) == (given[True], given[False])
    assert ancestor["source"] == "plant-1/line-2"
    assert ancestor["sessions"] == ["2026-11-20", "2026-11-21"]
    assert "crack" in read_parts(open_bundle(tmp_path / "new")).scored.labels


def test_images_that_are_not_what_was_learned_are_refused_and_nothing_is_written(
    trained: Trained, verified: Path, tmp_path: Path
) -> None:
    """Pictures of defects that somebody calls GOOD: no threshold passes them and stops defects."""
    wrong = tmp_path / "wrong"
    for file in sorted(verified.rglob("*.png")):
        if file.parts[-3] == "Missing":
            target = wrong / GOOD / file.parts[-2] / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    with pytest.raises(DataError, match=r"no longer fits.*Nothing was written\. Train again"):
        calibrate(trained.bundle, wrong, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("number", "said"), [(7, "wanted at least"), (202611051230, "wanted at most 2147483647")]
)
def test_a_version_that_cannot_be_is_told_before_a_part_is_scored(
    trained: Trained,
    verified: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    said: str,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a part is scored")

    monkeypatch.setattr(recalibration, "read_verified", never)
    asked = [trained.bundle, "--with", verified, "--out", tmp_path / "new", "--version", number]
    refused = CliRunner().invoke(command, [*map(str, asked)])
    assert isinstance(refused.exception, UsageError), refused.exception
    assert said in str(refused.exception)
    assert not (tmp_path / "new").exists()


def test_a_picture_of_a_lens_cap_says_nothing_of_good(
    trained: Trained, verified: Path, tmp_path: Path
) -> None:
    """No station judges it, so that it sets no threshold."""
    data = Path(shutil.copytree(verified, tmp_path / "data"))
    first, *_ = sorted(data.glob(f"train/{GOOD}/*/*.png"))
    pixels = cv2.imread(str(first), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    cv2.imwrite(str(first), np.zeros_like(pixels))
    said = calibrate(trained.bundle, data, tmp_path / "new")
    told = " ".join(said.stderr.split())
    assert "1 images that a station would not judge are left out" in told
    assert "is black" in told
    (ancestor,) = open_bundle(tmp_path / "new").manifest.calibrated or ()
    assert ancestor.good == images(verified)[True] - 1


def test_calibrating_needs_no_torch(trained: Trained, verified: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from edge_qc_export.commands.calibrate import command\n"
        "command(sys.argv[1:], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    arguments = [trained.bundle, "--with", verified, "--out", tmp_path / "new"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the network and its plan are the same" in done.stdout
