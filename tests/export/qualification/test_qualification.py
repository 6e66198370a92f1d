"""An auditor's page: what passes, what that proves, what flips, and who signed it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

pytest.importorskip("torch", reason="needs torch: pip install ./export")

from edge_qc.bundle.verification import open_bundle
from edge_qc.errors import DataError, UsageError
from edge_qc.parts import GOOD, Disposition, DriftFinding, Reason, Verdict
from edge_qc_export.commands.qualify import command
from edge_qc_export.data.dataset import Sample
from edge_qc_export.judging import Judged, judge_samples, opened
from edge_qc_export.packing.signing import make_key_pair
from edge_qc_export.qualification import counting, qualify
from edge_qc_export.qualification.repeatability import disturb, photographed_again
from tests.rig.tiny_bundle import CLASSES, SIDE, make_bundle
from tests.rig.trained import Trained

pytestmark = pytest.mark.torch


def parts(folder: Path, label: str, count: int, seed: int) -> None:
    """Pictures of the tiny bundle's die, each another pattern."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        file = folder / "test" / label / f"{label}{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), rng.integers(0, 256, (SIDE, SIDE), np.uint8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("qualified") / "bundle")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parts, parts of a defect that the bundle knows, and of one that it never saw."""
    folder = tmp_path_factory.mktemp("parts")
    parts(folder, GOOD, 40, 1)
    parts(folder, "flat", 30, 2)
    parts(folder, "bent", 10, 3)
    return folder


def test_the_counts_are_what_the_station_says(bundle: Path, data: Path, tmp_path: Path) -> None:
    """Each count against verdicts that ``edge-qc judge`` gives for the same files."""
    made = qualify(bundle, data, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "qualification.json").read_text())
    dispositions: dict[str, list[str]] = {}
    for label in (GOOD, "flat", "bent"):
        files = sorted((data / "test" / label).glob("*.png"))
        done = CliRunner().invoke(
            _judge(), ["--json", "--die", "Die01", "--bundle", str(bundle), *map(str, files)]
        )
        dispositions[label] = [v["disposition"] for v in json.loads(done.stdout)]
    passed = {label: names.count("PASS") for label, names in dispositions.items()}
    assert 0 < passed["flat"] + passed["bent"] < 40, "the case shows escapes and stopped parts"
    assert said["counts"]["escapes"]["count"] == passed["flat"] + passed["bent"]
    assert said["counts"]["escapes"]["of"] == 40
    assert said["counts"]["overkill"]["count"] == 40 - passed[GOOD]
    assert said["by_class"]["bent"]["escapes"]["count"] == passed["bent"]
    assert said["by_die"]["Die01"]["escapes"] == said["counts"]["escapes"]
    assert {one["filename"] for one in said["wrong"] if one["kind"] == "escape"} == {
        f"{label}/{label}{i:03}.png"
        for label in ("flat", "bent")
        for i, name in enumerate(dispositions[label])
        if name == "PASS"
    }
    assert "did not learn bent" in " ".join(said["notes"])
    assert f"No photograph shows {CLASSES[2]}" in " ".join(said["notes"])
    assert made.sentence == said["sentence"]


def test_the_page_holds_every_wrong_part_and_fetches_nothing(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    made = qualify(bundle, data, tmp_path / "out")
    page = made.page.read_text(encoding="utf-8")
    assert made.sentence in page
    for one in made.document["wrong"]:
        assert f"{one['filename']} of {one['die']}" in page
    assert page.count("<img ") == len(made.document["wrong"])
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "<script" not in page


def test_a_signature_that_anyone_can_check(bundle: Path, data: Path, tmp_path: Path) -> None:
    public = make_key_pair(tmp_path / "auditor")
    made = qualify(bundle, data, tmp_path / "out", key_file=tmp_path / "auditor")
    key = load_pem_public_key(public.read_bytes())
    raw = (made.folder / "qualification.json").read_bytes()
    signature = (made.folder / "qualification.json.sig").read_bytes()
    key.verify(signature, raw)  # type: ignore[union-attr, call-arg]
    with pytest.raises(InvalidSignature):
        key.verify(signature, raw.replace(b'"count": ', b'"count":  '))  # type: ignore[union-attr, call-arg]
    assert made.document["page_sha256"] == hashlib.sha256(made.page.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match="holds a signed qualification already"):
        qualify(bundle, data, tmp_path / "out")
    assert (made.folder / "qualification.json").read_bytes() == raw
    assert (made.folder / "qualification.json.sig").read_bytes() == signature


def test_only_the_same_bundle_is_qualified_anew_in_its_folder(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    qualify(bundle, data, out)
    qualify(bundle, data, out)
    document = out / "qualification.json"
    document.write_text(document.read_text().replace(open_bundle(bundle).id, "0" * 64))
    with pytest.raises(UsageError, match="holds the qualification of another bundle already"):
        qualify(bundle, data, out)


def test_a_damaged_photograph_is_counted_as_not_judged(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    whole = copy / "test" / GOOD / f"{GOOD}000.png"
    whole.write_bytes(whole.read_bytes()[:40])
    made = qualify(bundle, copy, tmp_path / "out")
    assert made.counts.not_judged.count == 1
    assert any("truncated" in one["detail"] for one in made.document["wrong"])


def test_what_a_station_would_not_judge_is_counted_so(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    """A damaged bad part, and a lens cap on a good one: neither ends the command, and the same
    files are NOT_JUDGED by ``edge-qc judge``."""
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    damaged = copy / "test" / "flat" / "flat000.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    black = copy / "test" / GOOD / f"{GOOD}000.png"
    assert cv2.imwrite(str(black), np.zeros((SIDE, SIDE), np.uint8))
    made = qualify(bundle, copy, tmp_path / "out")
    assert made.counts.not_judged.count == 2
    (said,) = (one for one in made.document["wrong"] if one["filename"].endswith(black.name))
    assert "is black" in said["detail"]
    done = CliRunner().invoke(
        _judge(), ["--json", "--die", "Die01", "--bundle", str(bundle), str(black)]
    )
    assert json.loads(done.stdout)[0]["detail"].endswith(said["detail"].partition(" is ")[2])


def challenge(folder: Path, labels: list[str], truth: bool = True) -> Path:
    """The challenge's layout, with the same images in both parts."""
    rng = np.random.default_rng(5)
    tables = {"Y_train.csv": ",filename,window,lib,Label", "win_and_lib.csv": "filename,window,lib"}
    tables |= {"Y_test_truth.csv": "filename,Label"} if truth else {}
    for part in ("train", "test"):
        (folder / f"input_{part}").mkdir(parents=True)
    for place, label in enumerate(labels):
        name = f"{place:03}.png"
        pixels = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
        for part in ("train", "test"):
            assert cv2.imwrite(str(folder / f"input_{part}" / name), pixels)
        tables["Y_train.csv"] += f"\n{place},{name},w,Die01,{label}"
        tables["win_and_lib.csv"] += f"\n{name},w,Die01"
        if truth:
            tables["Y_test_truth.csv"] += f"\n{name},{label}"
    for name, text in tables.items():
        (folder / name).write_text(text + "\n")
    return folder


def test_a_fault_of_the_test_part_is_told_and_no_other_part_taken(
    bundle: Path, tmp_path: Path
) -> None:
    data = challenge(tmp_path / "data", [GOOD, "flat"] * 4)
    (data / "input_test" / "003.png").unlink()
    with pytest.raises(DataError, match=r"003\.png is missing"):
        qualify(bundle, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_test_part_that_has_labels_the_train_part_is_taken_and_said(
    bundle: Path, tmp_path: Path
) -> None:
    data = challenge(tmp_path / "data", [GOOD, "flat"] * 4, truth=False)
    done = CliRunner().invoke(command, [str(bundle), str(data), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "part that training learns from" in " ".join(done.stderr.split())
    document = json.loads((tmp_path / "out" / "qualification.json").read_text())
    assert "its train part" in document["data"]


def test_classes_of_ones_own_stand_beside_the_challenges(bundle: Path, tmp_path: Path) -> None:
    data = challenge(tmp_path / "data", [GOOD, "flat", "Missing", "my own"] * 2)
    done = CliRunner().invoke(command, [str(bundle), str(data), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.exception
    told = " ".join(done.stderr.split())
    assert "did not learn Missing, my own: they count as bad parts" in told
    document = json.loads((tmp_path / "out" / "qualification.json").read_text())
    assert document["counts"]["escapes"]["of"] == 6


def test_verdicts_that_hang_by_a_thread_flip(bundle: Path, data: Path) -> None:
    """A bundle that weighs single grey levels changes its mind under noise; the same photograph
    again does not."""
    with opened(bundle) as inspection:
        samples = _samples(data)
        judged = judge_samples(inspection, samples)
        flips = {one.name: one for one in disturb(inspection, judged, parts=20, repeats=4)}
        assert set(flips) == {"noise", "light", "shift", "all"}
        assert flips["noise"].good.of == 40
        assert flips["all"].good.count + flips["all"].bad.count > 0
        again = disturb(inspection, judged, parts=20, repeats=4)
    assert again == list(flips.values()), "seeded: the same twice"


def test_a_part_photographed_again() -> None:
    one = [_judged("flat", Disposition.REJECT, group="7"), _judged("flat", Disposition.PASS, "7")]
    two = [_judged("flat", Disposition.REJECT, group="8")] * 2
    found = photographed_again([*one, *two, _judged("flat", Disposition.PASS, group="9")])
    assert (found.count, found.of) == (1, 2)


def test_review_stops_a_part_and_is_said_by_itself() -> None:
    counts = counting.count(
        [
            _judged(GOOD, Disposition.PASS),
            _judged(GOOD, Disposition.REVIEW),
            _judged("flat", Disposition.REVIEW),
        ]
    )
    assert (counts.overkill.count, counts.overkill.of) == (1, 2)
    assert counts.escapes.count == 0
    assert counts.review.count == 2


def test_what_a_tighter_statement_takes() -> None:
    bad = [_judged("flat", Disposition.REJECT)] * 320
    tighter = {one.bound: one for one in counting.tighter_statements(counting.count(bad))}
    assert tighter[0.01].missing == 0
    assert tighter[0.003].missing == 998 - 320
    one_passed = [*bad, _judged("flat", Disposition.PASS)]
    tighter = {one.bound: one for one in counting.tighter_statements(counting.count(one_passed))}
    assert tighter[0.01].missing == 473 - 321


@pytest.mark.parametrize(
    ("label", "said"),
    [(GOOD, "no bad part was shown, so nothing bounds the escapes"), ("flat", "no good part")],
)
def test_what_was_not_shown_is_said(label: str, said: str) -> None:
    assert said in counting.sentence(counting.count([_judged(label, Disposition.PASS)]))


def test_a_wrong_key_is_told_before_the_work(bundle: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="private key"):
        qualify(bundle, data, tmp_path / "out", key_file=tmp_path / "none")
    assert not (tmp_path / "out").exists()


def test_the_command_on_a_real_bundle(trained: Trained, tmp_path: Path) -> None:
    """The README's own bundle and images, by the command line."""
    done = CliRunner().invoke(
        command, [str(trained.bundle), str(trained.data), "--out", str(tmp_path / "out"), "--json"]
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["schema"] == "edge-qc/qualification/1"
    assert set(document["by_die"]) == {"Die01", "Die02", "Die03", "Die04"}
    counts = document["counts"]
    assert counts["escapes"]["of"] + counts["overkill"]["of"] == 80


def _judge() -> object:
    from edge_qc.cli import app

    return app.get_command(app.make_context("edge-qc", ["x"]), "judge")


def _samples(data: Path) -> list[Sample]:
    from edge_qc_export.data.dataset import read_samples

    return list(read_samples(data, "test", ["Die01"]))


def _judged(label: str, disposition: Disposition, group: str | None = None) -> Judged:
    named = GOOD if disposition is Disposition.PASS else "flat"
    finding = DriftFinding(score=0.0, p_value=1.0, threshold=1.0, witness="padim", witnesses={})
    verdict = Verdict(
        label=named,
        disposition=disposition,
        reason=Reason.DECIDED,
        bundle_id="b",
        probabilities={named: 1.0},
        drift=finding,
    )
    sample = Sample("x.png", Path("x.png"), "Die01", "", label, None, Path("x"), 0)
    return Judged(replace(sample, group=group), verdict)
