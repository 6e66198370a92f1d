"""Composes ``edge-qc report``: gather, draw, write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edge_qc.errors import EdgeQCError
from edge_qc_export.figures.costs import Costs
from edge_qc_export.learn.checkpoints import load_run
from edge_qc_export.progress import Reporter
from edge_qc_export.report import drawing, sections
from edge_qc_export.report.gate_section import gate_pictures, gate_section
from edge_qc_export.report.markup import Picture
from edge_qc_export.report.material import Material, gather
from edge_qc_export.report.mistakes import costliest
from edge_qc_export.report.page import page
from edge_qc_export.whole_file import require_writable

PAGE, FIGURES = "report.html", "figures"


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What was written, and from what."""

    page: Path
    figures: tuple[Path, ...]
    material: Material

    def as_json(self) -> dict[str, Any]:
        """Paths and scores."""
        material = self.material
        return {
            "report": str(self.page),
            "figures": [str(file) for file in self.figures],
            "run": str(material.run.folder),
            "data": str(material.data),
            "split": material.split,
            "collapsed": material.known.collapsed or material.run.collapsed,
            "known": material.known.as_json(),
            "whole": None if material.whole is None else material.whole.as_json(),
            "station": None if material.judged is None else material.judged.scores.as_json(),
            "notes": list(material.notes),
        }


def write_report(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    bundle: Path | None = None,
    split: str | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Write ``report.html`` and ``figures/*.png`` into the folder ``out``.

    Makes the folder once everything is drawn: a mistyped run leaves nothing behind. Raises as
    ``material.gather``, UsageError where the folder cannot be written, EdgeQCError where the disk
    refuses.
    """
    figures = out / FIGURES
    load_run(run)  # before the folder is looked at, which by default is the run's own
    require_writable(figures, f"report {out}")
    material = gather(run, data, bundle, reporter or Reporter(), split)
    passes = [] if material.judged is None else list(gate_pictures(material.judged))
    groups = {
        "What passes": passes,
        "Training": list(drawing.training_pictures(material)),
        "Confusion": list(drawing.confusion_pictures(material)),
        "PWA": list(drawing.good_share_pictures(material)),
        "Embeddings and confidence": list(drawing.feature_pictures(material)),
        "Drift": list(drawing.drift_pictures(material)),
    }
    whole = page(sections.title(material), _body(material, groups))
    files = []
    with _writing(out):
        figures.mkdir(parents=True, exist_ok=True)
        for picture in (picture for group in groups.values() for picture in group):
            files.append(figures / f"{picture.name}.png")
            files[-1].write_bytes(picture.light)
        (out / PAGE).write_text(whole, encoding="utf-8")
    return Report(out / PAGE, tuple(files), material)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgeQCError(
            f"report {out}: cannot be written ({error.strerror}). Name another folder with --out"
        ) from error


def _body(material: Material, groups: dict[str, list[Picture]]) -> str:
    run, judged = material.run, material.judged
    whose, evaluation, costs = "the classifier", material.evaluation, cast(Costs, run.costs)
    if judged is not None:
        whose, evaluation, costs = "the station", judged.evaluation, judged.costs
    mistakes, count = costliest(run, material.samples, evaluation, costs)
    drawn = {title: sections.pictures_section(title, group) for title, group in groups.items()}
    gate = "" if judged is None else gate_section(judged, groups["What passes"])
    return "".join(
        [
            sections.head(material),
            gate,
            sections.scores_section(material),
            drawn["Confusion"],
            sections.classes_section(material),
            sections.mistakes_section(mistakes, count, whose),
            drawn["Drift"],
            drawn["PWA"],
            drawn["Embeddings and confidence"],
            drawn["Training"],
            sections.foot(),
        ]
    )
