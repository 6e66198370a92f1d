"""The page's sections as HTML, from the material and the drawn figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2

from edge_qc import __version__
from edge_qc.parts import DRIFT
from edge_qc_export.figures.scoring import Scores
from edge_qc_export.report.gate_section import sentence, title_of
from edge_qc_export.report.markup import (
    Picture,
    block,
    data_uri,
    escape,
    image,
    minus,
    number,
    percent,
    table,
)
from edge_qc_export.report.material import Material
from edge_qc_export.report.mistakes import Mistake

FIGURE_TITLES = {
    "pwa_skill": "PWA skill: 1 perfect, 0 the best constant",
    "pwa_challenge": "PWA, challenge's definition",
    "pwa_report": "PWA, report's definition",
    "pwa_balanced": "PWA, balanced over classes",
    "escape_rate": "escapes: bad called GOOD",
    "overkill_rate": "overkill: GOOD not passed",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "calibration_error": "calibration error",
    "drift_auroc": "drift AUROC",
    "drift_auprc": "drift AUPRC",
}
_SHARES = frozenset(["escape_rate", "overkill_rate", "accuracy"])


def label_text(label: str) -> str:
    """A label as people read it."""
    return "Drift" if label == DRIFT else label


def title(material: Material) -> str:
    """Of the page: the bundle if there is one, else the run."""
    if material.judged is not None:
        return title_of(material.judged.bundle)
    return f"Run {material.run.folder.resolve().name}"


def head(material: Material) -> str:
    """Title, what the run is, and what is wrong with it where something is; the bundle's figures
    if there is one."""
    run, judged = material.run, material.judged
    trunk = "" if run.unfreeze is None else f", last {run.unfreeze} layers learn"
    weights = "file" if run.weights.startswith("file:") else run.weights
    said = "" if judged is None else sentence(judged, material.split)
    facts = {} if judged is None else {"bundle": judged.bundle.id, "of the run": run.folder.name}
    facts |= {
        "network": f"{run.network}{trunk}",
        "initial weights": weights,
        "view": f"{run.size[0]} x {run.size[1]} pixels (height x width)",
        "loss": run.loss,
        "epochs": f"{run.epochs}, kept the state after {run.best_epoch}",
        "dropout": "default" if run.dropout is None else f"{run.dropout:g}",
        "seed": str(run.seed),
        "measured on": f"{len(material.samples)} {material.split} pictures of {material.data.name}",
        "made": run.created,
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    notes = "".join(f"<p>{escape(note)}</p>" for note in material.notes)
    if run.unfreeze is not None and run.weights == "none":
        notes += (
            "<p>The frozen layers hold random numbers: no weights were given. Only its last "
            "layers have learned.</p>"
        )
    return (
        f"<header><h1>{escape(title(material))}</h1></header>"
        f"<p><strong>{escape(said)}</strong></p>{_banner(material)}"
        f"{_tiles(material.known if judged is None else judged.scores)}<dl>{listed}</dl>{notes}"
    )


def _banner(material: Material) -> str:
    said = []
    if material.known.collapsed:
        label = material.evaluation.predicted[material.known_rows[0]]
        count = material.known.images
        said.append(
            f"It predicts {label!r} for all {count} {material.split} images of known classes."
        )
    elif material.run.collapsed:
        said.append("It predicts one class for all held-out images.")
    if not said:
        return ""
    pwa = material.known.figures["pwa_report"].value
    return (
        f'<div class="banner" role="alert"><strong>COLLAPSED</strong><br>{escape(said[0])} Its PWA '
        f"of {pwa:.4f} does not show it; its skill is "
        f"{material.known.figures['pwa_skill'].value:.4f}.</div>"
    )


def _tiles(scores: Scores) -> str:
    tiles = []
    for name, title, digits in (
        ("pwa_skill", "PWA skill", 3),
        ("escape_rate", "escapes", None),
        ("overkill_rate", "overkill", None),
        ("macro_f1", "macro F1", 3),
        ("pwa_report", "PWA (report's)", 4),
    ):
        figure = scores.figures[name]
        if not math.isfinite(figure.value):
            value, interval = "–", ""
        elif digits is None:
            value, interval = f"{figure.value:.1%}", f"{figure.low:.1%} to {figure.high:.1%}"
        else:
            value = minus(f"{figure.value:.{digits}f}")
            interval = minus(f"{figure.low:.{digits}f} to {figure.high:.{digits}f}")
        tiles.append(
            f'<div class="tile"><span>{title}</span><b>{value}</b><small>{interval}</small></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def scores_section(material: Material) -> str:
    """All figures with their intervals, one column for each way of asking."""
    columns = {}
    if material.judged is not None:
        scores = material.judged.scores
        columns[f"station with the bundle, {scores.images}"] = scores
    columns[f"classifier, {material.known.images} known"] = material.known
    if material.whole is not None:
        columns[f"classifier, {material.whole.images} with drift"] = material.whole
    rows = []
    for name, title in FIGURE_TITLES.items():
        shown = [
            "–"
            if name not in scores.figures
            else percent(scores.figures[name])
            if name in _SHARES
            else number(scores.figures[name])
            for scores in columns.values()
        ]
        if any(text != "–" for text in shown):
            rows.append([title, *shown])
    rows.append(["mean cost a picture", *(f"{s.mean_cost:.2f}" for s in columns.values())])
    rows.append(["best constant", *(escape(label_text(s.best_constant)) for s in columns.values())])
    text = "95 % intervals: Wilson's for shares, else the bootstrap's."
    if material.whole is not None:
        text += " A classifier never predicts Drift, so all drift images count as errors."
    return block("Figures", table(["", *columns], rows), f'<p class="soft">{text}</p>')


def classes_section(material: Material) -> str:
    """Per class and per die."""
    scores = material.known
    rows = [
        [
            escape(label_text(label)),
            str(material.learnt[label]) if material.learnt else "–",
            str(row.images),
            percent(row.recall),
            f"{row.precision:.1%}" if math.isfinite(row.precision) else "–",
            f"{row.f1:.3f}" if math.isfinite(row.f1) else "–",
            f"{row.mean_cost:.2f}" if math.isfinite(row.mean_cost) else "–",
        ]
        for label, row in scores.by_class.items()
    ]
    by_class = table(
        ["class", "learnt", material.split, "recall", "precision", "F1", "mean cost"], rows
    )
    rows = [
        [
            escape(die),
            str(found.images),
            percent(found.figures["accuracy"]),
            percent(found.figures["escape_rate"]),
            percent(found.figures["overkill_rate"]),
            number(found.figures["pwa_skill"], 3),
            number(found.figures["macro_f1"], 3),
        ]
        for die, found in material.by_die.items()
    ]
    by_die = table(
        ["die", material.split, "accuracy", "escapes", "overkill", "PWA skill", "macro F1"], rows
    )
    return block("By class and by die", by_class, by_die)


def mistakes_section(mistakes: Sequence[Mistake], count: int, whose: str) -> str:
    """The costliest mistakes as pictures."""
    if not mistakes:
        return block("Costliest mistakes", f"<p>{escape(whose)} made none.</p>")
    shown = []
    for mistake in mistakes:
        png = cv2.imencode(".png", mistake.band)[1].tobytes()
        true, said = label_text(mistake.true), label_text(mistake.said)
        text = f"{mistake.filename} of {mistake.die}, {true}, called {said}"
        shown.append(
            f'<figure><img src="{data_uri(png)}" alt="{escape(text)}"><figcaption>'
            f"<b>{escape(true)}</b>, called <b>{escape(said)}</b> at {mistake.confidence:.0%}"
            f"<br>cost {mistake.cost:g}<br>{escape(mistake.die)}, {escape(mistake.filename)}"
            "</figcaption></figure>"
        )
    title = f"{len(mistakes)} of {count} mistakes of {whose}, the costliest first."
    return block(
        "Costliest mistakes",
        f"<p>{escape(title)}</p>",
        f'<div class="mistakes">{"".join(shown)}</div>',
    )


def pictures_section(title: str, pictures: Sequence[Picture]) -> str:
    """Figures side by side, beneath each other on a narrow screen."""
    if not pictures:
        return ""
    return block(title, f'<div class="grid">{"".join(map(image, pictures))}</div>')


def foot() -> str:
    """Who made the page."""
    return f'<footer class="soft">edge-qc report {escape(__version__)}</footer>'
