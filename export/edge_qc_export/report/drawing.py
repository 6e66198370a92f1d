"""All figures of a report: each drawn in both themes, with the words that go with it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from edge_qc_export.figures import rates
from edge_qc_export.figures.costs import Costs
from edge_qc_export.figures.scoring import Scores
from edge_qc_export.report.curves import draw_epochs, draw_reliability
from edge_qc_export.report.drift_histograms import draw_drift
from edge_qc_export.report.embedding_map import draw_map, lay_out
from edge_qc_export.report.good_share import draw_good_share, vary_good
from edge_qc_export.report.markup import Picture
from edge_qc_export.report.material import Material
from edge_qc_export.report.matrices import draw_costs, draw_counts
from edge_qc_export.report.palette import DARK, LIGHT, Theme, drawn_in

_DPI = 160


def drawn(
    name: str, title: str, text: str, caption: str, draw: Callable[[Theme], Figure]
) -> Picture:
    """One figure in both themes."""
    looks = []
    for theme in (LIGHT, DARK):
        with drawn_in(theme):
            stream = io.BytesIO()
            draw(theme).savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
            looks.append(stream.getvalue())
    return Picture(name, title, text, caption, looks[0], looks[1])


def training_pictures(material: Material) -> Iterator[Picture]:
    """Loss and accuracy by epoch."""
    run, log = material.run, material.log
    for quantity in ("loss", "accuracy"):
        last = log[-1]
        text = (
            f"{quantity} over {len(log)} epochs; at the end training "
            f"{last.get(f'train_{quantity}', math.nan):.4f}, held out "
            f"{last.get(f'held_out_{quantity}', math.nan):.4f}"
        )
        yield drawn(
            quantity,
            quantity.capitalize(),
            text,
            "The dotted line is the epoch whose weights were kept.",
            partial(draw_epochs, log, run.best_epoch, quantity),
        )


def confusion_pictures(material: Material) -> Iterator[Picture]:
    """Counts and costs of the classifier, and counts of the station if there is a bundle."""
    scores = material.known if material.whole is None else material.whole
    whose = "of the classifier"
    asked: list[tuple[str, str, Scores, Costs]] = [("", whose, scores, material.run.costs)]
    if material.judged is not None:
        station = material.judged
        asked.append(("station-", "of the station", station.scores, station.costs))
    for prefix, whose, found, costs in asked:
        confusion, labels = found.confusion, found.labels
        yield drawn(
            f"{prefix}confusion",
            f"Confusion matrix {whose}: pictures",
            f"confusion matrix of {found.images} pictures, accuracy "
            f"{found.figures['accuracy'].value:.4f}",
            "Rows are true, columns predicted, shaded by the share of the row. In the dashed "
            "column every count off the diagonal is a bad part called GOOD.",
            partial(draw_counts, confusion, labels),
        )
        yield drawn(
            f"{prefix}confusion-cost",
            f"Confusion matrix {whose}: cost",
            f"what each cell of the confusion matrix costs, {found.mean_cost:.2f} a picture",
            "What all pictures of a cell cost together, shaded by its logarithm.",
            partial(draw_costs, confusion, costs, labels),
        )


def feature_pictures(material: Material) -> Iterator[Picture]:
    """The map of the embeddings, and the reliability diagram."""
    evaluation = material.evaluation
    laid = lay_out(evaluation.embeddings)
    if laid is not None:
        labels = (*material.run.classes, "DRIFT")
        yield drawn(
            "embeddings",
            "Embeddings",
            f"t-SNE of the penultimate features of {len(laid.rows)} pictures",
            "Images that the network finds similar lie together. Distances between clusters and "
            "their sizes mean nothing.",
            partial(draw_map, laid, evaluation.labels, evaluation.predicted, labels),
        )
    rows = np.array(material.known_rows)
    places = {label: index for index, label in enumerate(evaluation.classes)}
    said = np.array([places[evaluation.predicted[row]] for row in rows])
    confidence = evaluation.probabilities[rows, said]
    right = np.array([evaluation.labels[row] == evaluation.predicted[row] for row in rows])
    diagram = rates.reliability(confidence, right)
    error = material.known.figures["calibration_error"].value
    yield drawn(
        "reliability",
        "Reliability of the classifier",
        f"reliability diagram, calibration error {error:.3f}",
        f"Calibration error {error:.3f}. If a bar ends below its diamond, the network is "
        "overconfident; the export sets a temperature that corrects this.",
        partial(draw_reliability, diagram),
    )


def good_share_pictures(material: Material) -> Iterator[Picture]:
    """PWA against the number of GOOD pictures."""
    known = material.known
    share = vary_good(known.confusion, material.run.costs, known.labels)
    if share is not None:
        yield drawn(
            "pwa-by-good",
            "PWA against the number of GOOD pictures",
            f"PWA and skill of this run and of the constant {share.constant_label} as the number "
            f"of GOOD pictures among {share.total} varies",
            "Every class is judged as above; only how many pictures are GOOD varies. A constant "
            "that rejects everything has a high PWA while GOOD is rare; its skill is 0.",
            partial(draw_good_share, share),
        )


def drift_pictures(material: Material) -> Iterator[Picture]:
    """Drift scores with the threshold."""
    drift = material.drift
    if drift is not None:
        yield drawn(
            "drift",
            "Drift scores",
            "; ".join(
                f"{panel.title}: {len(panel.known)} known, {len(panel.drift)} drift"
                for panel in drift.panels
            ),
            f"By {drift.source}. {drift.alpha:.1%} of known parts may lie over the threshold; "
            f"scores beyond ten times the threshold share the last bar. {drift.use}",
            partial(draw_drift, drift),
        )
