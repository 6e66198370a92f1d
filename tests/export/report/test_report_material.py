"""What a report shows of a run: gathered, reckoned and laid out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs torch: pip install ./export")

from safetensors.torch import load_file, save_file

from edge_qc.camera.images import read_image
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.data.dataset import CHALLENGE_CLASSES
from edge_qc_export.figures.costs import challenge_costs
from edge_qc_export.learn.checkpoints import MODEL, load_run
from edge_qc_export.learn.training import TrainingConfig, train
from edge_qc_export.progress import Reporter
from edge_qc_export.report import sections, write_report
from edge_qc_export.report.embedding_map import lay_out
from edge_qc_export.report.good_share import vary_good
from edge_qc_export.report.material import Material, gather
from edge_qc_export.report.matrices import compact
from edge_qc_export.report.mistakes import costliest
from edge_qc_export.report.palette import LIGHT, marks
from tests.rig.pictures import write_challenge
from tests.rig.trained import Trained

pytestmark = pytest.mark.torch

ODD_NAME = '<b>$x_1$ & "y"</b>'


@pytest.fixture(scope="module")
def material(trained: Trained) -> Material:
    """The README's run without a bundle."""
    return gather(trained.run, None, None, Reporter())


@pytest.fixture(scope="module")
def odd_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a class that is called like HTML and a formula, without a test part."""
    folder = tmp_path_factory.mktemp("odd")
    data = write_challenge(folder / "data", {GOOD: 15, ODD_NAME: 15, "scratch": 15})
    config = TrainingConfig(
        network="cnn-basic",
        data=data,
        out=folder / "run",
        dies=data / "dies.json",
        size=(16, 16),
        epochs=2,
        threads=1,
        device="cpu",
    )
    return train(config).folder


def test_without_a_bundle_the_embedding_alone_is_drawn(material: Material) -> None:
    assert material.drift is not None
    (panel,) = material.drift.panels
    assert panel.threshold is not None
    assert len(panel.drift) == material.evaluation.labels.count(DRIFT)
    assert "embedding" in material.drift.source


def test_the_costliest_mistakes_come_first(material: Material) -> None:
    run, evaluation = material.run, material.evaluation
    mistakes, count = costliest(run, material.samples, evaluation, run.costs, shown=1000)
    wrong = [
        run.costs[true][said]
        for true, said in zip(evaluation.labels, evaluation.predicted, strict=True)
        if true not in (said, DRIFT)
    ]
    assert count == len(wrong)
    assert [mistake.cost for mistake in mistakes] == sorted(wrong, reverse=True)
    for mistake in mistakes:
        # The challenge's bands are tall and narrow, whatever the size of the network's view.
        assert mistake.band.shape[0] > 2 * mistake.band.shape[1]


def test_a_mistake_is_shown_as_the_network_saw_it(material: Material, tmp_path: Path) -> None:
    """A photograph of 16 bits whose tag asks to be turned: the camera's pixels are shown."""
    place, sample = next(
        (place, one)
        for place, one in enumerate(material.samples)
        if material.evaluation.predicted[place] != one.label != DRIFT
    )
    grey = read_image(sample.file)
    deep = Image.fromarray((grey if grey.ndim == 2 else grey[..., 0]).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep.save(tmp_path / "turned.png", exif=exif)
    evaluation = replace(
        material.evaluation,
        **{
            name: getattr(material.evaluation, name)[place : place + 1]
            for name in ("labels", "predicted", "probabilities")
        },
    )
    turned = [replace(sample, file=tmp_path / "turned.png")]
    (mistake,), _ = costliest(material.run, turned, evaluation, material.run.costs)
    ((plain,), _) = costliest(material.run, [sample], evaluation, material.run.costs)
    assert np.array_equal(mistake.band, plain.band)


def test_a_collapsed_run_carries_a_banner(
    material: Material, odd_run: Path, tmp_path: Path
) -> None:
    assert "COLLAPSED" not in sections.head(material)
    run = shutil.copytree(odd_run, tmp_path / "run")
    tensors = load_file(run / MODEL)
    tensors["classifier.weight"] *= 0
    tensors["classifier.bias"] *= 0
    tensors["classifier.bias"][load_run(run).classes.index("scratch")] = 5.0
    save_file(tensors, run / MODEL)
    heard: list[str] = []

    class Listener(Reporter):
        def note(self, text: str) -> None:
            heard.append(text)

    head = sections.head(gather(run, None, None, Listener()))
    assert "<strong>COLLAPSED</strong>" in head
    assert "&#x27;scratch&#x27; for all" in head
    assert [text for text in heard if text.startswith("COLLAPSED")]


def test_the_constant_is_flattered_by_pwa_and_not_by_skill() -> None:
    """The report's training counts: a constant Missing has a PWA of 0.99850 and 0.99824."""
    counts = dict(zip(CHALLENGE_CLASSES, (1235, 71, 270, 104, 6472, 126), strict=True))
    labels = tuple(counts)
    confusion = np.diag(list(counts.values()))
    share = vary_good(confusion, challenge_costs(labels), labels, points=8279)
    assert share is not None
    assert (share.actual, share.total, share.constant_label) == (1235, 8278, "Missing")
    here = int(np.flatnonzero(share.good == 1235)[0])
    assert round(float(share.constant["pwa_challenge"][here]), 5) == 0.99850
    assert round(float(share.constant["pwa_report"][here]), 5) == 0.99824
    assert share.constant["pwa_skill"][here] == 0
    assert share.run["pwa_skill"] == pytest.approx(1.0)
    assert share.constant["pwa_report"][-1] == 0
    twice = int(np.flatnonzero(share.good == 2470)[0])
    spent = 2470 * 100 + (71 + 270 + 104 + 126) * (8278 - 2470) / (8278 - 1235)
    pwa = share.constant["pwa_challenge"][twice]
    assert pwa == pytest.approx(1 - spent / (8278 * 10_000), abs=1e-12)


def test_a_set_of_one_kind_has_no_curve_over_good() -> None:
    labels = (GOOD, "scratch")
    costs = challenge_costs(labels)
    assert vary_good(np.array([[3, 1], [0, 0]]), costs, labels) is None
    assert vary_good(np.array([[0, 0], [1, 4]]), costs, labels) is None


def test_the_perplexity_is_held_to_the_number_of_pictures() -> None:
    rng = np.random.default_rng(0)
    laid = lay_out(rng.normal(size=(10, 6)).astype(np.float32))
    assert laid is not None
    assert laid.perplexity == 3
    assert laid.places.shape == (10, 2)
    assert np.isfinite(laid.places).all()


@pytest.mark.parametrize("embeddings", [np.zeros((40, 8)), np.ones((3, 8)), np.empty((40, 0))])
def test_a_map_of_nothing_is_left_out(embeddings: np.ndarray) -> None:
    assert lay_out(embeddings.astype(np.float32)) is None


def test_labels_differ_by_shape_and_not_by_colour_alone() -> None:
    labels = (*CHALLENGE_CLASSES, DRIFT)
    assert len({mark.shape for mark in marks(labels, LIGHT).values()}) == len(labels)


def test_costs_are_written_short() -> None:
    shown = [compact(value) for value in (1, 950, 1000, 12_000, 120_000, 3.4e6)]
    assert shown == ["1", "950", "1k", "12k", "120k", "3.4M"]


def test_a_bundle_of_another_run_is_noted(trained: Trained, tmp_path: Path) -> None:
    assert gather(trained.run, None, trained.bundle, Reporter()).notes == ()
    run = shutil.copytree(trained.run, tmp_path / "run")
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(document | {"created": "2020-01-01T00:00:00Z"}))
    (note,) = gather(run, None, trained.bundle, Reporter()).notes
    assert "another run" in note


def test_a_damaged_log_is_named(odd_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(odd_run, tmp_path / "run")
    (run / "log.csv").write_text("epoch,train_loss\n1,abc\n")
    with pytest.raises(DataError, match=r"log\.csv"):
        write_report(run, tmp_path / "out")
