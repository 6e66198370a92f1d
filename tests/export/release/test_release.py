"""A run becomes a bundle that a station opens, accepts and judges with."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shlex
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edge_qc.bundle.manifest import MODEL, SIGNATURE
from edge_qc.bundle.verification import open_bundle, unpack_bundle
from edge_qc.engine import open_engine
from edge_qc.errors import BundleError, DataError, EdgeQCError, UsageError
from edge_qc.inspection.decision import label_of
from edge_qc.inspection.view import view
from edge_qc.parts import DRIFT, GOOD, Disposition, Reading
from edge_qc_export.commands.export import command as export
from edge_qc_export.commands.keygen import command as keygen
from edge_qc_export.gate.parts_file import read_parts
from edge_qc_export.learn.checkpoints import Run, load_run
from edge_qc_export.learn.run_views import RunViews, chosen_views, views_of_run
from edge_qc_export.packing.bundle_folder import pack_bundle
from edge_qc_export.packing.golden_file import is_steady
from edge_qc_export.progress import Reporter
from edge_qc_export.release import Released, golden, precision_check, release
from edge_qc_export.release.fitting import Answers, CrossFitted, FitSettings, answers
from edge_qc_export.release.manifest import ReleaseSettings, share_passed, version_from_time
from edge_qc_export.release.named_parts import doubtful_labels

pytestmark = pytest.mark.torch

CLASSES = ("GOOD", "Boucle plate", "Missing")
SETTINGS = ReleaseSettings(fit=FitSettings(channels=24, grid=8))


@pytest.fixture(scope="module")
def released(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Released:
    return release(run, tmp_path_factory.mktemp("bundles") / "fp32", SETTINGS)


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit fails the test: what is asked for must be refused before it."""
    monkeypatch.setattr("edge_qc_export.release.fit_views", lambda *_: pytest.fail("it was fitted"))


@pytest.fixture(scope="module")
def halved(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Released:
    settings = ReleaseSettings(fit=SETTINGS.fit, fp16=True)
    return release(run, tmp_path_factory.mktemp("bundles") / "fp16", settings)


def test_the_bundle_is_whole_and_says_what_the_run_was(run: Run, released: Released) -> None:
    manifest = open_bundle(released.bundle.path).manifest
    assert manifest.classes == run.classes == CLASSES
    assert {
        name: die.model_copy(update={"frame_sizes": None}) for name, die in manifest.dies.items()
    } == run.dies
    assert (manifest.input.height, manifest.input.width) == (32, 32)
    assert manifest.input.mean == run.mean
    assert manifest.created == run.created
    assert manifest.version == version_from_time(run.created)
    assert manifest.padim.channels == 24
    assert manifest.padim.grid == (8, 8)
    assert manifest.decision.dispositions[GOOD] is Disposition.PASS
    assert manifest.decision.dispositions[DRIFT] is Disposition.REVIEW
    assert manifest.costs["GOOD"][DRIFT] == 10000


def test_golden_views_are_of_every_die_and_class_and_of_drift(released: Released) -> None:
    made = released.bundle.golden()
    pairs = set(zip(made.dies, made.labels, strict=True))
    assert pairs == {(die, label) for die in ("Die01", "Die02") for label in (*CLASSES, DRIFT)}
    assert made.distances.shape == (len(made.labels), 8, 8)


def test_an_altered_answer_would_not_be_accepted(released: Released) -> None:
    """The engine's answers to golden views are within tolerances that a real fault exceeds."""
    assert released.acceptance.views == len(released.bundle.golden().labels)
    for name, difference in released.acceptance.differences.items():
        assert difference < released.acceptance.tolerances[name] / 5


def test_the_stations_own_path_finds_the_classes_that_were_learnt(
    run: Run, released: Released
) -> None:
    """From PNG through the station's view and engine; no defect becomes GOOD."""
    import cv2

    bundle = released.bundle
    engine = open_engine(bundle)
    rows = (run.data / "Y_train.csv").read_text().splitlines()[1:]
    right = 0
    for row in rows[::10]:
        _, name, _, die, label = row.split(",")
        pixels = cv2.imread(str(run.data / "input_train" / name), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        cut = view(np.asarray(pixels, np.uint8), bundle.manifest.dies[die], (32, 32))
        reading = engine.infer(cut.pixels[None])[0]
        right += CLASSES[int(reading.logits.argmax())] == label
        assert label == GOOD or label_of(bundle, die, reading) != GOOD
    assert right >= 0.8 * len(rows[::10])


def test_the_same_run_exports_the_same_bytes(run: Run, released: Released, tmp_path: Path) -> None:
    again = release(run, tmp_path / "again", SETTINGS).bundle
    assert again.id == released.bundle.id
    for file in released.bundle.path.rglob("*"):
        if file.is_file():
            other = again.path / file.relative_to(released.bundle.path)
            assert file.read_bytes() == other.read_bytes(), file.name


def test_the_report_compares_both_policies_on_the_test_part(released: Released) -> None:
    report = json.loads((released.bundle.path / "report/export.json").read_text())
    for policy in ("expected-cost", "threshold"):
        figures = report["policies"]["test"][policy]
        assert {"pwa_skill", "escape_rate", "overkill_rate", "drift_missed"} <= set(figures)
        assert sum(map(sum, figures["confusion"])) == 26
    assert set(report["drift_auroc"]) == {"padim", "embedding", "combined"}


def test_a_bundle_in_half_is_half_as_large_and_passes_its_check(
    released: Released, halved: Released
) -> None:
    sizes = [
        sum(entry.size for entry in one.bundle.manifest.files.values())
        for one in (halved, released)
    ]
    assert sizes[0] <= 0.55 * sizes[1]
    assert halved.bundle.manifest.precision == "fp16"
    assert halved.half is not None
    assert halved.half.report.flips == 0
    assert halved.half.report.views == 40 + 26


def test_golden_answers_of_a_bundle_in_half_are_those_of_fp32(
    released: Released, halved: Released
) -> None:
    one, other = released.bundle.golden(), halved.bundle.golden()
    shared = [
        (i, j)
        for i, pixels in enumerate(one.views)
        for j, more in enumerate(other.views)
        if np.array_equal(pixels, more)
    ]
    assert shared
    for i, j in shared:
        np.testing.assert_array_equal(one.logits[i], other.logits[j])
        np.testing.assert_array_equal(one.distances[i], other.distances[j])


def test_what_must_be_exact_stays_in_fp32(halved: Released) -> None:
    """Whitening, distances and head: FP32 tensors, whose weights may be kept as half."""
    graph = onnx.load(halved.bundle.path / MODEL)
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    kinds |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for node in inferred.node:
        if node.op_type in ("MatMul", "ReduceSum", "ReduceMin", "Gemm") and "dense" not in str(
            node.input
        ):
            assert kinds.get(node.input[0], onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT
    half = {tensor.name for tensor in inferred.initializer if tensor.data_type == 10}
    assert "padim_weights_0_0_half" in half
    assert not any(name.startswith("head") for name in half)


def test_a_check_that_fails_leaves_no_bundle(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter(("one", "other"))
    monkeypatch.setattr(
        precision_check, "labels_from_answers", lambda _, dies, __: [next(asked)] * len(dies)
    )
    with pytest.raises(EdgeQCError, match="decisions change"):
        release(run, tmp_path / "b", ReleaseSettings(fit=SETTINGS.fit, fp16=True))
    assert list(tmp_path.iterdir()) == []


def test_a_bad_part_that_only_half_lets_pass_leaves_no_bundle(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would be if rounding opened the gate to every part, and that to GOOD alone is right."""
    asked = iter((DRIFT, GOOD))
    monkeypatch.setattr(
        precision_check, "labels_from_answers", lambda _, dies, __: [next(asked)] * len(dies)
    )
    with pytest.raises(EdgeQCError, match="are bad, stopped in FP32, and would pass"):
        release(run, tmp_path / "b", ReleaseSettings(fit=SETTINGS.fit, fp16=True))
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_does_not_reproduce_torch_is_not_released(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def wrong(*args: Any, **kwargs: Any) -> Answers:
        made = answers(*args, **kwargs)
        made.logits[:] += 1.0
        return made

    monkeypatch.setattr(golden, "answers", wrong)
    with pytest.raises(BundleError, match="logits"):
        release(run, tmp_path / "b", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "precious").write_text("x")
    with pytest.raises(UsageError, match="never changed"):
        release(run, tmp_path / "b", SETTINGS)
    assert (tmp_path / "b" / "precious").read_text() == "x"


def test_a_die_that_no_image_showed_is_unknown_to_the_bundle(run: Run, tmp_path: Path) -> None:
    """Its parts are NOT_JUDGED, in place of judged by what others look like."""
    extra = run.model_copy(update={"dies": {**run.dies, "Die09": run.dies["Die01"]}})
    released = release(extra, tmp_path / "bundle", SETTINGS)
    assert set(released.bundle.manifest.dies) == {"Die01", "Die02"}


def test_the_bundle_names_the_frame_sizes_that_it_learned(released: Released) -> None:
    """By die, and a frame of another size is not judged."""
    for die in released.bundle.manifest.dies.values():
        assert die.frame_sizes == ((40, 36),)
        assert "40x36" in die.unlearned(80, 72)


def test_a_name_that_no_manifest_holds_is_refused_before_the_fit(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name of 101 characters: wanted 1 to 100"):
        release(run, tmp_path / "b", dataclasses.replace(SETTINGS, name="x" * 101))


def test_the_bundle_may_be_made_here(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert release(run, Path(), SETTINGS).bundle.path == tmp_path


def test_too_much_memory_is_refused_before_it_is_taken(run: Run, tmp_path: Path) -> None:
    settings = ReleaseSettings(fit=FitSettings(channels=24, memory_limit=2**20))
    with pytest.raises(UsageError, match=r"24 channels on 16x16 take \d+ MiB.*limit is 1 MiB"):
        release(run, tmp_path / "b", settings)


def test_the_manifest_says_what_the_gate_bounds(run: Run, released: Released) -> None:
    """A CNN's trunk learned from four in five parts: the bad ones among them set the threshold, and
    the bound, and the share of GOOD that passes, count the others alone."""
    gate = open_bundle(released.bundle.path).manifest.gate
    assert gate is not None
    assert gate.bound is not None
    bound = gate.bound
    assert (bound.bad.images, bound.seen) == (28, 112)
    assert bound.bad.at_most == pytest.approx(1 - 0.05 ** (1 / 28))
    assert not bound.met
    assert bound.needed == 299 - 28
    assert sum(kind.images for kind in bound.by_class.values()) == 28
    assert all(kind.left_out is not None for kind in bound.by_class.values())
    assert bound.good == 12
    assert bound.good_passed > 0.5
    assert gate.mix[GOOD] == 0.95


def test_parts_that_wait_for_a_person_do_not_count_as_passed(released: Released) -> None:
    """What an export says of its GOOD parts is what a station does with them."""
    manifest = released.bundle.manifest
    scored = read_parts(released.bundle).scored
    cross: Any = SimpleNamespace(
        parts=scored, answers=partial(CrossFitted.answers, SimpleNamespace(scores=scored))
    )
    usual = share_passed(manifest, cross)
    shares = []
    for margin in (0.0, 1e9):
        rule = manifest.decision.model_copy(update={"review_margin": margin})
        shares.append(share_passed(manifest.model_copy(update={"decision": rule}), cross))
    assert shares == [usual, 0.0]
    assert usual > 0, "the case has GOOD parts that pass"


def test_a_die_without_a_good_part_has_no_doubtful_labels(released: Released) -> None:
    """Where alignment found none of them, the bundle does not know the die."""
    manifest = released.bundle.manifest
    scored = read_parts(released.bundle).scored
    wrong = replace(scored, labels=tuple(reversed(scored.labels)))
    cross: Any = SimpleNamespace(
        parts=wrong, answers=partial(CrossFitted.answers, SimpleNamespace(scores=wrong))
    )
    (gone, *_), doubts = manifest.dies, doubtful_labels(manifest, cross)
    assert {one.die for one in doubts} > {gone}, "the case has wrong labels of this die and others"
    rest = {name: die for name, die in manifest.dies.items() if name != gone}
    left = doubtful_labels(manifest.model_copy(update={"dies": rest}), cross)
    assert left
    assert gone not in {one.die for one in left}


def test_parts_that_set_the_threshold_travel_as_pictures(released: Released) -> None:
    """The bad parts most like GOOD are named, and none of them is passed in silence."""
    report = json.loads((released.bundle.path / "report/export.json").read_text())
    held = report["gate"]["at_the_threshold"]
    assert len(held) >= 5
    assert all(one["label"] != GOOD for one in held)
    pictures = sorted((released.bundle.path / "report").glob("threshold-*.png"))
    assert len(pictures) == len(held)


def test_a_label_that_is_plainly_wrong_is_named(run: Run, tmp_path: Path) -> None:
    """Two parts' labels are exchanged: the other folds contradict both, and they come first."""
    data = tmp_path / "data"
    shutil.copytree(run.data, data)
    lines = (data / "Y_train.csv").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.endswith(",Missing"))
    lines[first] = lines[first].replace(",Missing", ",Boucle plate")
    (data / "Y_train.csv").write_text("\n".join(lines) + "\n")
    made = release(run.model_copy(update={"data": data}), tmp_path / "b", SETTINGS)
    name = lines[first].split(",")[1]
    assert made.calibrated.doubts[0].image == name
    assert made.calibrated.doubts[0].said == "Missing"


def test_data_that_are_gone_are_named(run: Run, tmp_path: Path) -> None:
    lost = run.model_copy(update={"data": tmp_path / "gone"})
    with pytest.raises(DataError, match="gone"):
        release(lost, tmp_path / "b", SETTINGS)


def test_the_command_signs_and_another_key_is_refused(run: Run, tmp_path: Path) -> None:
    runner = CliRunner()
    for name in ("mine", "other"):
        assert runner.invoke(keygen, [str(tmp_path / name)]).exit_code == 0
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o600
    out = tmp_path / "bundle"
    arguments = [str(run.folder), "--out", str(out), "--sign", str(tmp_path / "mine"), "--json"]
    result = runner.invoke(export, [*arguments, "--batch", "4", "--version", "9", "--archive"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    bundle = open_bundle(out, tmp_path / "mine.pub")
    assert answer["id"] == bundle.id
    assert (bundle.manifest.version, bundle.manifest.input.batch) == (9, 4)
    assert (out / SIGNATURE).stat().st_size == 64
    assert Path(answer["archive"]).is_file()
    with pytest.raises(BundleError, match="not the signature"):
        open_bundle(out, tmp_path / "other.pub")


@pytest.mark.parametrize(("second", "steady"), [(-5.0, True), (0.999, False)])
def test_a_view_whose_label_hangs_on_rounding_is_not_golden(
    released: Released, second: float, steady: bool
) -> None:
    """The gate is shut, and two defects are nearly as likely: engines would differ without being
    wrong."""
    manifest = released.bundle.manifest
    rule = manifest.decision.model_copy(update={"policy": "threshold"})
    bundle = dataclasses.replace(
        released.bundle, manifest=manifest.model_copy(update={"decision": rule})
    )
    low = [tails["*"].scores[0] for tails in (manifest.drift.padim, manifest.drift.embedding)]
    logits = np.array([-20.0, 1.0, second], np.float32)
    reading = Reading(logits, np.zeros(manifest.padim.grid, np.float32), *low, 0.0)
    assert is_steady(bundle, "Die01", reading) is steady


def test_an_archive_carries_the_same_bundle(released: Released, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.tar.zst", "b.tar.zst")]
    for file in files:
        pack_bundle(released.bundle.path, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    unpacked = open_bundle(unpack_bundle(files[0], tmp_path / "out"))
    assert unpacked.id == released.bundle.id
    with pytest.raises(UsageError, match="there already"):
        pack_bundle(released.bundle.path, files[0])


def test_a_version_beyond_what_a_database_holds_is_refused_before_the_fit(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"version 202611051230: wanted at most 2147483647.* date"):
        release(run, tmp_path / "out", ReleaseSettings(version=202611051230))
    assert not (tmp_path / "out").exists()


def test_an_archive_without_room_says_how_to_pack_the_bundle_that_is_whole(
    released: Released, tmp_path: Path
) -> None:
    """A second export would be refused, since the bundle is there."""
    folder, file = released.bundle.path, tmp_path / "made.tar.zst"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(EdgeQCError, match="cannot be written") as caught:
            pack_bundle(folder, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "--resume" not in str(caught.value)
    _, _, line = str(caught.value).partition("Make room and pack it: ")
    if shutil.which("zstd") is None:  # which tar calls
        return
    subprocess.run(shlex.split(line), check=True)
    assert unpack_bundle(file, tmp_path / "again").name == folder.name
    assert open_bundle(tmp_path / "again" / folder.name).id == released.bundle.id


def test_what_cannot_be_written_is_told_before_the_fit(run: Run, tmp_path: Path) -> None:
    runner = CliRunner()
    (tmp_path / "taken.tar.zst").touch()
    (tmp_path / "file").touch()
    for out, more, said in (
        ("taken", ["--archive"], "is there already"),
        ("file/bundle", [], "file is a file. Give another --out"),
    ):
        done = runner.invoke(export, [str(run.folder), "--out", str(tmp_path / out), *more])
        assert isinstance(done.exception, UsageError)
        assert said in str(done.exception)
    assert {file.name for file in tmp_path.iterdir()} == {"taken.tar.zst", "file"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mix": {"GOOD": 0.9, "bent": 0.05}}, "mix: no class 'bent'; wanted"),
        ({"fp16": True, "fp32_nodes": ("convv1",)}, "no layer 'convv1' in the network"),
    ],
)
def test_what_the_network_does_not_know_is_refused_before_the_fit(
    run: Run, tmp_path: Path, no_fit: None, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        release(run, tmp_path / "bundle", ReleaseSettings(**wrong))


def test_too_few_good_images_are_refused_before_the_fit(
    run: Run, tmp_path: Path, no_fit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = views_of_run(run, Reporter())
    good = np.array([label == GOOD for label in views.known.labels])
    few = ~good | (np.cumsum(good) <= 29)
    short = RunViews(chosen_views(views.known, few), views.held_out_rows[few], None)
    monkeypatch.setattr("edge_qc_export.release.views_of_run", lambda *_: short)
    with pytest.raises(DataError, match="too few images for a bundle: 29 are GOOD"):
        release(run, tmp_path / "bundle", ReleaseSettings())


@pytest.mark.parametrize("option", ["--alpha", "--prior", "--assumed-auroc", "--review-margin"])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_what_is_no_number_is_wrong_use(option: str, number: str) -> None:
    done = CliRunner().invoke(export, ["run", option, number])
    assert done.exit_code == 2
    assert number in done.output


def test_a_key_whose_name_is_not_utf8_is_not_made(tmp_path: Path) -> None:
    said = CliRunner().invoke(keygen, [str(tmp_path / os.fsdecode(b"caf\xe9"))])
    assert "the name is not UTF-8" in str(said.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_whose_name_is_not_utf8_is_refused_before_the_fit(
    run: Run, tmp_path: Path, no_fit: None
) -> None:
    with pytest.raises(UsageError, match="the name is not UTF-8"):
        release(run, tmp_path / os.fsdecode(b"caf\xe9"), ReleaseSettings())


def test_keygen_does_not_overwrite(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(keygen, [str(tmp_path / "k"), "--json"]).exit_code == 0
    before = (tmp_path / "k").read_bytes()
    (tmp_path / "k.pub").unlink()
    result = runner.invoke(keygen, [str(tmp_path / "k")])
    assert isinstance(result.exception, UsageError)
    assert (tmp_path / "k").read_bytes() == before
    assert not (tmp_path / "k.pub").exists()


def test_export_takes_the_newest_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(export, [])
    assert isinstance(result.exception, UsageError)
    assert "edge-qc train" in str(result.exception)
    shutil.copytree(run.folder, tmp_path / "runs" / "newest")
    broken = tmp_path / "runs" / "aaa-half"
    broken.mkdir()
    result = CliRunner().invoke(export, ["--channels", "8"])
    assert result.exit_code == 0, result.output
    assert open_bundle(tmp_path / "bundles" / "newest").manifest.name == "newest"


def test_a_run_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        load_run(tmp_path / "nowhere")


def test_versions_grow_with_time() -> None:
    assert (
        version_from_time("2026-01-02T03:04:06Z") == version_from_time("2026-01-02T03:04:05Z") + 1
    )
    with pytest.raises(DataError):
        version_from_time("yesterday")
