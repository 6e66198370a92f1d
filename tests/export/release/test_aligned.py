"""A bundle whose parts lie askew: found before their views are cut, at the workstation as at the
station; what lies beyond the bounds is not judged."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_qc.bundle.alignment import ALIGNMENT
from edge_qc.bundle.manifest import Manifest
from edge_qc.bundle.verification import open_bundle
from edge_qc.camera.images import read_image
from edge_qc.cli.inspect import command as inspect
from edge_qc.cli.judge import command as judge
from edge_qc.cli.view import command as view
from edge_qc.errors import BundleError, DataError, UsageError
from edge_qc_export.commands.calibrate import command as calibrate
from edge_qc_export.commands.evaluate import command as evaluate
from edge_qc_export.commands.train import command as train
from edge_qc_export.data.dataset import read_samples
from edge_qc_export.data.view_store import make_views
from edge_qc_export.judging import inspect_pixels, opened
from edge_qc_export.learn.checkpoints import Run, load_run
from edge_qc_export.release import release
from edge_qc_export.release.fitting import FitSettings
from edge_qc_export.release.manifest import ReleaseSettings
from tests.rig.askew import photograph, write_askew
from tests.rig.pictures import write_picture

pytestmark = pytest.mark.torch


def run_train(data: Path, out: Path, *more: str) -> Result:
    arguments = [str(data), "--dies", str(data / "dies.json"), "--out", str(out)]
    arguments += ["--network", "cnn-basic", "--size", "48x24", "--epochs", "2", "--align"]
    return CliRunner().invoke(train, [*arguments, *more], catch_exceptions=False)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("aligned")
    data = write_askew(
        folder / "data",
        {"GOOD": 40, "Boucle plate": 30, "Missing": 30},
        {"GOOD": 6, "Boucle plate": 6, "Missing": 4},
    )
    # One part lies far off: no station would judge it, and nothing is learned from it.
    rng = np.random.default_rng(9)
    write_picture(data / "input_train" / "train_0003.png", photograph("GOOD", rng, 40, 30, 9))
    write_picture(data / "input_test" / "test_0002.png", photograph("GOOD", rng, -40, 30, 9))
    done = run_train(data, folder / "run")
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert "1 of 100 parts were not found within the bounds" in said
    assert "train_0003.png" in said
    return load_run(folder / "run")


@pytest.fixture(scope="session")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = ReleaseSettings(fit=FitSettings(channels=24, grid=8))
    return release(run, tmp_path_factory.mktemp("aligned-bundles") / "made", settings).bundle.path


def judged(bundle: Path, *images: Path) -> tuple[int, list[dict[str, Any]]]:
    arguments = [*map(str, images), "--die", "Die01", "--bundle", str(bundle), "--json"]
    done = CliRunner().invoke(judge, arguments, standalone_mode=False, catch_exceptions=False)
    return done.return_value, json.loads(done.stdout)


def test_the_bundle_names_its_bounds_and_holds_what_parts_are_found_by(
    run: Run, bundle: Path
) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.schema_version == 3
    assert manifest.alignment is not None
    assert manifest.alignment == run.alignment
    assert (manifest.alignment.shift, manifest.alignment.turn) == (0.08, 5.0)
    assert ALIGNMENT in manifest.files
    assert (bundle / ALIGNMENT).read_bytes() == (run.folder / ALIGNMENT).read_bytes()
    shown = CliRunner().invoke(inspect, [str(bundle)], catch_exceptions=False).stdout
    assert "within 8% of the photograph and 5 degrees" in " ".join(shown.split())


def test_a_view_is_the_same_in_training_and_at_the_station(run: Run, bundle: Path) -> None:
    samples = read_samples(run.data, "test", run.dies)
    trained = make_views(run.data, samples, run.dies, run.size, templates=run.templates())
    assert list(np.flatnonzero(~trained.placed)) == [1]
    with opened(bundle) as station:
        found = inspect_pixels(station, [read_image(s.file) for s in samples], "Die01")
    for at_work, at_line in zip(trained.pixels, found, strict=True):
        assert at_line.view is not None
        assert np.array_equal(at_line.view.pixels[0], at_work)


def test_a_verdict_says_where_its_part_lay(bundle: Path, tmp_path: Path) -> None:
    """Against where parts lie on average, and the parts of this set lie about their place."""
    places = [(0.0, 0.0, 0.0), (10.0, -12.0, 3.0)]
    for number, place in enumerate(places):
        pixels = photograph("GOOD", np.random.default_rng(20), *place)
        write_picture(tmp_path / f"{number}.png", pixels)
    status, said = judged(bundle, tmp_path / "0.png", tmp_path / "1.png")
    assert status == 0
    still, askew = (one["placement"] for one in said)
    assert [one["label"] for one in said] == ["GOOD", "GOOD"]
    assert askew["right_px"] - still["right_px"] == pytest.approx(10, abs=1.5)
    assert askew["down_px"] - still["down_px"] == pytest.approx(-12, abs=1.5)
    assert askew["turn_deg"] - still["turn_deg"] == pytest.approx(3, abs=0.5)
    assert 0 <= askew["residual"] < askew["limit"] < 1


@pytest.mark.parametrize(
    ("label", "lies", "said"),
    [
        ("GOOD", (26.0, 0.0, 0.0), "wanted within 16 px aside, 19 px up or down and 5°"),
        ("GOOD", (0.0, 0.0, 9.0), "Die01"),
        ("elsewhere", (0.0, 0.0, 0.0), "no part like Die01 was found"),
    ],
)
def test_a_part_that_lies_wrong_or_is_not_there_is_not_judged(
    bundle: Path, tmp_path: Path, label: str, lies: tuple[float, float, float], said: str
) -> None:
    file = tmp_path / "odd.png"
    write_picture(file, photograph(label, np.random.default_rng(30), *lies))
    status, (verdict,) = judged(bundle, file)
    assert status == 1
    assert (verdict["label"], verdict["reason"]) == ("NOT_JUDGED", "frame")
    assert verdict["disposition"] != "PASS"
    assert verdict["detail"].startswith("odd.png: ")
    assert said in verdict["detail"]
    assert verdict["placement"]["residual"] >= 0


def test_an_evaluation_counts_what_would_not_be_judged(run: Run, bundle: Path) -> None:
    arguments = [str(bundle), str(run.data), "--json"]
    done = CliRunner().invoke(evaluate, arguments, catch_exceptions=False)
    found = json.loads(done.stdout)
    (note,) = (one for one in found["notes"] if "not judged" in one)
    assert note.startswith("1 of 16 images are not judged, as at a station")
    assert "wanted within 16 px aside" in note
    assert found["not_judged"] == 1
    assert found["confusion"]["GOOD"]["DRIFT"] >= 1


def test_it_is_calibrated_with_parts_that_are_found_first(
    run: Run, bundle: Path, tmp_path: Path
) -> None:
    """The templates go along as they are; a part that no station would judge is left out."""
    arguments = [bundle, "--with", run.data, "--split", "test", "--out", tmp_path / "new"]
    done = CliRunner().invoke(calibrate, [*map(str, arguments)], catch_exceptions=False)
    assert "1 images that a station would not judge are left out" in " ".join(done.stderr.split())
    new = open_bundle(tmp_path / "new").manifest
    assert new.alignment == open_bundle(bundle).manifest.alignment
    assert (tmp_path / "new" / ALIGNMENT).read_bytes() == (bundle / ALIGNMENT).read_bytes()
    (ancestor,) = new.calibrated or ()
    assert (ancestor.good, ancestor.bad) == (5, 10)
    askew = tmp_path / "askew.png"
    write_picture(askew, photograph("GOOD", np.random.default_rng(20), 10, -12, 3))
    placements = [judged(one, askew)[1][0]["placement"] for one in (bundle, tmp_path / "new")]
    assert placements[0] == placements[1]


def test_a_missing_or_altered_template_is_refused(bundle: Path, tmp_path: Path) -> None:
    lost, altered, odd = (
        Path(shutil.copytree(bundle, tmp_path / name)) for name in ("lost", "altered", "odd")
    )
    (lost / ALIGNMENT).unlink()
    with pytest.raises(BundleError, match=r"alignment\.npz is missing"):
        open_bundle(lost)
    content = bytearray((altered / ALIGNMENT).read_bytes())
    content[len(content) // 2] ^= 1
    (altered / ALIGNMENT).write_bytes(content)
    with pytest.raises(BundleError, match=r"alignment\.npz was altered"):
        open_bundle(altered)
    # Signed as it is, and yet nothing to find a part by.
    (odd / ALIGNMENT).write_bytes(b"nothing")
    document = json.loads((odd / "manifest.json").read_text())
    digest = hashlib.sha256(b"nothing").hexdigest()
    document["files"][ALIGNMENT] = {"sha256": digest, "size": 7}
    rewritten = json.dumps(document).encode()
    (odd / "manifest.json").write_bytes(rewritten)
    (odd / "manifest.sha256").write_text(hashlib.sha256(rewritten).hexdigest())
    with pytest.raises(BundleError, match="not a set of templates"), opened(odd):
        pass


def test_no_manifest_is_half_aligned(bundle: Path) -> None:
    """A station that does not know the field refuses the version; one that does wants both."""
    document = json.loads((bundle / "manifest.json").read_text())
    with pytest.raises(ValueError, match="schema version 3 has an alignment"):
        Manifest.model_validate(document | {"schema_version": 2})
    with pytest.raises(ValueError, match="schema version 3 has an alignment"):
        Manifest.model_validate(document | {"alignment": None})
    files = {name: entry for name, entry in document["files"].items() if name != ALIGNMENT}
    with pytest.raises(ValueError, match=r"files do not name alignment\.npz"):
        Manifest.model_validate(document | {"files": files})
    other = {"Die07": document["alignment"]["dies"]["Die01"]}
    alignment = document["alignment"] | {"dies": other}
    with pytest.raises(ValueError, match="must name the dies"):
        Manifest.model_validate(document | {"alignment": alignment})


def test_a_run_without_its_template_says_so(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    (folder / ALIGNMENT).unlink()
    with pytest.raises(BundleError, match=r"alignment\.npz"):
        load_run(folder).templates()


def test_too_few_good_parts_and_bounds_too_wide_are_told(tmp_path: Path) -> None:
    data = write_askew(tmp_path / "data", {"GOOD": 7, "Missing": 9}, {})
    with pytest.raises(DataError, match="7 GOOD images show Die01, wanted at least 8"):
        run_train(data, tmp_path / "run")
    with pytest.raises(UsageError, match=r"--align-shift 0\.4: wanted above 0 and at most 0\.25"):
        run_train(data, tmp_path / "run", "--align-shift", "40%")
    with pytest.raises(UsageError, match="--align-turn 30: wanted above 0 and at most 20"):
        run_train(data, tmp_path / "run", "--align-turn", "30")


def test_the_view_command_shows_what_the_bundle_sees(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(40)
    write_picture(tmp_path / "askew.png", photograph("GOOD", rng, 8, -9, 2))
    write_picture(tmp_path / "gone.png", photograph("elsewhere", rng))
    images = [str(tmp_path / name) for name in ("askew.png", "gone.png")]
    arguments = [*images, "--die", "Die01", "--bundle", str(bundle), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(view, [*arguments, "--size", "48x24", "--json"])
    assert done.exit_code == 0, done.output
    askew, gone = json.loads(done.stdout)
    assert askew["placement"]["fault"] == ""
    assert "no part like Die01 was found" in gone["placement"]["fault"]
    assert f"gone.png: {gone['placement']['fault']}" in done.stderr
    with opened(bundle) as station:
        (found,) = inspect_pixels(station, [read_image(tmp_path / "askew.png")], "Die01")
    assert found.view is not None
    assert np.array_equal(read_image(Path(askew["view"])), found.view.pixels[0])
    with pytest.raises(UsageError, match="give one of them"):
        CliRunner().invoke(view, [*arguments, "--dies", images[0]], catch_exceptions=False)
