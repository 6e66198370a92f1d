"""The study's table as one figure: PWA beside skill, so that one sees what PWA hides."""

from __future__ import annotations

import io
import math

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from edge_qc.errors import EdgeQCError
from edge_qc_export.report.palette import LIGHT, Theme, drawn_in, short
from edge_qc_export.study.configurations import CONSTANT
from edge_qc_export.study.results import TABLE, Row, Study


def write_picture(study: Study) -> None:
    """Write ``study.png``. Raises EdgeQCError if it cannot be written."""
    file = study.out / f"{TABLE}.png"
    with drawn_in(LIGHT):
        stream = io.BytesIO()
        draw_study(study, LIGHT).savefig(stream, format="png", dpi=130, metadata={"Software": None})
    try:
        file.write_bytes(stream.getvalue())
    except OSError as error:
        raise EdgeQCError(f"{file}: cannot be written ({error.strerror})") from error


def draw_study(study: Study, theme: Theme) -> Figure:
    """A line for each configuration: PWA as here and in the report, and skill with its interval.
    A collapsed run is a cross."""
    rows = [row for row in study.rows if row.scores is not None]
    figure = Figure(figsize=(9.2, 1.5 + 0.36 * len(rows)))
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        assert row.scores is not None
        mark, colour = _look(row, theme)
        if row.report_pwa is not None:
            left.plot(row.report_pwa, place, "D", color=theme.ink, fillstyle="none", markersize=7)
        left.plot(row.scores["pwa_report"], place, mark, color=colour, markersize=8)
        skill = row.scores["pwa_skill"]
        low, high = row.scores["intervals"]["pwa_skill"]
        if skill is not None and low is not None:
            right.plot([low, high], [place, place], color=colour, linewidth=1.4)
        right.plot(math.nan if skill is None else skill, place, mark, color=colour, markersize=8)
    left.plot([], [], "o", color=theme.shade, label="here")
    left.plot([], [], "X", color=theme.alarm, label="COLLAPSED")
    left.plot([], [], "s", color=theme.ink, label="constant")
    left.plot([], [], "D", color=theme.ink, fillstyle="none", label="in the report, its images")
    left.set_yticks(places, [_title(row) for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("PWA, report's definition")
    right.axvline(0, color=theme.ink, linewidth=1, linestyle=":")
    right.set_xscale("symlog", linthresh=1)
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.set_xlim(right=1.3)
    right.set_xlabel("PWA skill: 1 perfect, 0 the best constant")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _look(row: Row, theme: Theme) -> tuple[str, str]:
    if row.name == CONSTANT:
        return "s", theme.ink
    return ("X", theme.alarm) if row.collapsed else ("o", theme.shade)


def _title(row: Row) -> str:
    return short(row.title if row.name == CONSTANT else row.name, 28)
