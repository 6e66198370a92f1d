"""A run becomes one page that needs nothing else, says what was measured, and can be read."""

from __future__ import annotations

import json
import math
import re
import subprocess
from html import escape
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="needs torch: pip install ./export")


from edge_qc.bundle.calibration import sentences
from edge_qc.errors import DataError, EdgeQCError, UsageError
from edge_qc.inspection.findings import p_value
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.commands.report import command
from edge_qc_export.learn.training import TrainingConfig, train
from edge_qc_export.measurement import measure
from edge_qc_export.progress import Reporter
from edge_qc_export.report import Report, write_report
from tests.rig.pictures import write_challenge
from tests.rig.programs import need
from tests.rig.tiny_bundle import make_bundle
from tests.rig.trained import Trained

pytestmark = pytest.mark.torch

ODD_NAME = '<b>$x_1$ & "y"</b>'


@pytest.fixture(scope="module")
def report(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of the README's run and bundle."""
    out = tmp_path_factory.mktemp("report")
    return write_report(trained.run, out, bundle=trained.bundle)


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


def chromium(options: list[str], page: Path) -> str:
    """Standard output of headless Chromium on a page; skips where there is none."""
    program = need("chromium")
    done = subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", *options, page.as_uri()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_fetches_nothing(report: Report) -> None:
    page = report.page.read_text(encoding="utf-8")
    addresses = re.findall(r"(?:src|srcset|href)=[\"']?([^\"'> ]+)", page)
    assert len(addresses) > 20
    assert {address.split(",")[0] for address in addresses} <= {"data:image/png;base64", "data:"}
    assert "<script" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_every_figure_is_a_png_and_on_the_page(report: Report) -> None:
    assert {file.stem for file in report.figures} == {
        "loss",
        "accuracy",
        "confusion",
        "confusion-cost",
        "station-confusion",
        "station-confusion-cost",
        "pwa-by-good",
        "embeddings",
        "reliability",
        "drift",
        "trade-off",
    }
    page = report.page.read_text(encoding="utf-8")
    for file in report.figures:
        pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None, file
        assert pixels.shape[1] >= 800
        assert pixels.std() > 5
        assert f'id="{file.stem}"' in page
    assert page.count("<picture><source media=") == len(report.figures)
    assert page.count('alt=""') == 0


def test_the_page_says_what_evaluate_says(report: Report, trained: Trained) -> None:
    measured = measure(trained.run, trained.data, "test", None, Reporter())
    assert measured.known is not None
    document = report.as_json()
    assert document["split"] == "test"
    assert document["known"] == measured.known.as_json()
    station = measure(trained.bundle, trained.data, "test", None, Reporter())
    for name, figure in station.scores.figures.items():
        assert document["station"][name] == pytest.approx(figure.value, nan_ok=True)
    page = report.page.read_text(encoding="utf-8")
    skill = f"{measured.known.figures['pwa_skill'].value:.4f}".replace("-", "\N{MINUS SIGN}")
    assert skill in page


def test_a_bundle_s_figures_come_first_in_words_that_say_what_passes(report: Report) -> None:
    material = report.material
    assert material.judged is not None
    bundle, found = material.judged.bundle, material.judged.evaluation
    page = report.page.read_text(encoding="utf-8")
    title = f"Bundle {bundle.manifest.name}, version {bundle.manifest.version}"
    assert f"<title>{title}</title>" in page
    assert bundle.id in page
    pairs = list(zip(found.labels, found.predicted, strict=True))
    good = [said for label, said in pairs if label == GOOD]
    bad = [said for label, said in pairs if label not in (GOOD, DRIFT)]
    told = f"passes {good.count(GOOD)} of {len(good)} good ("
    assert told in page
    assert f"{bad.count(GOOD)} of {len(bad)} known bad (" in page
    assert page.index(told) < page.index("Confusion matrix")
    assert material.judged.bundle.manifest.gate is not None
    for line in sentences(material.judged.bundle.manifest.gate.bound):
        assert escape(line) in page
    told_of = json.loads((bundle.path / "report/export.json").read_text())["gate"]
    (unknown,) = told_of["another_day"]["says"]
    assert unknown.endswith("not known, the images name no session, or one alone")
    assert escape(unknown) in page
    for one in told_of["doubtful_labels"]:
        assert escape(f"labelled {one['label']}, looks like {one['said']}") in page


def test_the_threshold_in_the_histogram_is_the_station_s(report: Report) -> None:
    material = report.material
    assert material.drift is not None
    assert material.judged is not None
    calibration = material.judged.bundle.manifest.drift
    over = sum(
        int((panel.known >= panel.threshold).sum())
        for panel in material.drift.panels
        if panel.threshold is not None
    )
    evaluation = material.judged.evaluation
    assert evaluation.drift_scores is not None
    expected = 0
    for die, label, score in zip(
        evaluation.dies, evaluation.labels, evaluation.drift_scores, strict=True
    ):
        tail = calibration.combined.get(die, calibration.combined["*"])
        expected += int(label != DRIFT and p_value(tail, float(score)) <= calibration.alpha)
    assert over == expected
    shown = sum(len(panel.known) + len(panel.drift) for panel in material.drift.panels)
    assert shown == len(evaluation.labels)


def test_names_are_shown_as_they_are(odd_run: Path, tmp_path: Path) -> None:
    """A class's name is neither markup nor a formula; without truth the held-out part is shown."""
    written = write_report(odd_run, tmp_path / "report")
    assert written.material.split == "held-out"
    page = written.page.read_text(encoding="utf-8")
    assert "&lt;b&gt;$x_1$ &amp; &quot;y&quot;&lt;/b&gt;" in page
    assert ODD_NAME not in page
    assert {file.stem for file in written.figures} >= {"confusion", "loss", "reliability"}
    assert "drift" not in {file.stem for file in written.figures}


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_its_window(report: Report, tmp_path: Path, width: int) -> None:
    """In headless Chromium: every picture decodes, and nothing but a table scrolls sideways."""
    page = report.page.read_text(encoding="utf-8")
    probe = """<title></title><script>
      onload = () => {
        const page = document.querySelector("iframe").contentDocument;
        const pictures = [...page.images];
        const drawn = pictures.filter(p => p.naturalWidth > 0 && p.clientWidth > 0);
        document.title = JSON.stringify({
          width: page.documentElement.clientWidth, content: page.documentElement.scrollWidth,
          pictures: pictures.length, drawn: drawn.length,
          letters: parseFloat(page.defaultView.getComputedStyle(page.querySelector("td")).fontSize),
        });
      };</script>"""
    # A window of Chromium is never as narrow as a phone; a frame may be.
    frame = f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{escape(page)}">'
    (tmp_path / "probe.html").write_text(probe + frame + "</iframe>", encoding="utf-8")
    shown = chromium(["--dump-dom", "--window-size=1400,1000"], tmp_path / "probe.html")
    found = re.search(r"<title>(\{.*?\})</title>", shown)
    assert found is not None
    seen = json.loads(found.group(1))
    assert width - 20 <= seen["width"] <= width
    assert seen["content"] == seen["width"]
    assert seen["pictures"] == seen["drawn"] >= len(report.figures)
    assert seen["letters"] >= 14


def test_the_page_is_light_or_dark_as_the_reader_likes(report: Report, tmp_path: Path) -> None:
    """In headless Chromium: paper, figures and all."""
    means = {}
    for theme, scheme in (("light", 1), ("dark", 0)):
        file = tmp_path / f"{theme}.png"
        chromium(
            [
                f"--screenshot={file}",
                "--window-size=1000,3000",
                "--hide-scrollbars",
                f"--blink-settings=preferredColorScheme={scheme}",
            ],
            report.page,
        )
        pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        means[theme] = float(pixels.mean())
    assert means["light"] > 200
    assert means["dark"] < 70


def test_a_bundle_of_other_classes_is_refused(trained: Trained, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(UsageError, match="knows GOOD, flat, missing"):
        write_report(trained.run, tmp_path / "out", bundle=bundle)


def test_a_folder_that_cannot_be_written_is_named(odd_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EdgeQCError, match="--out"):
        write_report(odd_run, tmp_path / "out")


def test_the_command_prints_one_document(odd_run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(odd_run), "--out", str(tmp_path / "r"), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert Path(document["report"]).exists()
    assert document["split"] == "held-out"
    assert math.isfinite(document["known"]["accuracy"])


@pytest.mark.parametrize("layout", ["nothing", "a data set"])
def test_a_mistyped_run_leaves_nothing_behind(tmp_path: Path, layout: str) -> None:
    typo = tmp_path / "typo"
    if layout == "a data set":
        (typo / "GOOD").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(EdgeQCError, match="typo"):
        write_report(typo, typo / "report")
    assert sorted(tmp_path.rglob("*")) == before


def test_data_that_are_not_there_leave_no_folder(odd_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        write_report(odd_run, tmp_path / "out", data=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
