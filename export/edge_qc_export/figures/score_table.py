"""Scores as a table for people, on standard output."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from edge_qc_export.figures.scoring import Figure, Scores

_TITLES = {
    "pwa_challenge": "PWA, challenge's definition",
    "pwa_report": "PWA, report's definition",
    "pwa_skill": "PWA skill",
    "pwa_balanced": "PWA, balanced over classes",
    "escape_rate": "escapes (bad called GOOD)",
    "overkill_rate": "overkill (GOOD not passed)",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "calibration_error": "calibration error",
    "drift_auroc": "drift AUROC",
    "drift_auprc": "drift AUPRC",
}


def print_scores(scores: Scores) -> None:
    """Figures with their intervals, then the classes."""
    console = Console()
    table = Table("figure", "value", "95 % interval", title=f"{scores.images} images")
    for name, figure in scores.figures.items():
        table.add_row(_TITLES[name], _number(figure.value), _interval(figure))
    console.print(table)
    table = Table("class", "images", "recall", "95 % interval", "precision", "F1", "mean cost")
    for label, row in scores.by_class.items():
        table.add_row(
            label,
            str(row.images),
            _number(row.recall.value),
            _interval(row.recall),
            _number(row.precision),
            _number(row.f1),
            _number(row.mean_cost),
        )
    console.print(table)
    console.print(f"best constant prediction: {scores.best_constant} (PWA skill 0)")
    if scores.collapsed:
        console.print("[bold red]COLLAPSED[/]: all images get one label, whatever the PWA")


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _interval(figure: Figure) -> str:
    return f"{_number(figure.low)} to {_number(figure.high)}" if math.isfinite(figure.low) else "-"
