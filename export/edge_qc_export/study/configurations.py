"""The report's configurations with their PWA, and this project's default.

Its cost loss runs twice: with its matrix as it is meant (alphabetical order, GOOD second), and with
the same numbers read in the order of the challenge's table (GOOD first), where they make the first
defect precious instead of GOOD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_qc.errors import UsageError
from edge_qc.parts import GOOD
from edge_qc_export.figures.costs import report_loss_costs

CONSTANT = "constant"

Order = Literal["alphabetical", "table"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One line of the report's tables. unfreeze and dropout: as ``build_network`` takes them.
    matrix_order: in which order the cost loss reads the report's matrix, None without cost loss.
    report_pwa: what the report saw, by its own definition; None if it did not try this."""

    name: str
    title: str
    network: str
    unfreeze: int | None = None
    dropout: float | None = None
    matrix_order: Order | None = None
    report_pwa: float | None = None
    report_note: str = ""

    @property
    def loss(self) -> str:
        return "cross-entropy" if self.matrix_order is None else "cost"


def _resnet(
    depth: int, unfreeze: int, report_pwa: float, dropout: float | None = None
) -> Configuration:
    end = "" if dropout is None else f", dropout {dropout:g}"
    return Configuration(
        f"resnet{depth}-{unfreeze}",
        f"ResNet{depth}, {unfreeze} unfrozen{end}",
        f"resnet{depth}",
        unfreeze,
        dropout,
        report_pwa=report_pwa,
    )


def _lite0(unfreeze: int, title: str) -> Configuration:
    name = "efficientnet-lite0"
    return Configuration(f"{name}-{unfreeze}", f"EfficientNet-Lite0, {title}", name, unfreeze)


CONFIGURATIONS = (
    _lite0(0, "head alone"),
    _lite0(5, "5 blocks unfrozen"),
    Configuration("cnn-basic", "CNN, 2 blocks", "cnn-basic", report_pwa=0.9561),
    Configuration("cnn-deep", "CNN, 4 blocks", "cnn-deep", report_pwa=0.9942),
    _resnet(50, 6, 0.9963),
    _resnet(50, 12, 0.9950),
    _resnet(50, 24, 0.9957),
    Configuration(
        "resnet50-3-cost",
        "ResNet50, 3 unfrozen, cost loss, matrix in alphabetical order",
        "resnet50",
        3,
        matrix_order="alphabetical",
        report_pwa=0.9984,
        report_note="collapsed",
    ),
    Configuration(
        "resnet50-3-cost-table-order",
        "ResNet50, 3 unfrozen, cost loss, matrix in the table's order",
        "resnet50",
        3,
        matrix_order="table",
    ),
    _resnet(101, 3, 0.9881),
    _resnet(101, 6, 0.9915),
    _resnet(101, 12, 0.9936, dropout=0.3),
    _resnet(101, 24, 0.9914, dropout=0.3),
)

CONSTANT_REPORT_PWA, CONSTANT_REPORT_NOTE = 0.9860, "board, with drift"
"""Of the constant Missing on the challenge's board, by the challenge's definition."""


def chosen(only: Sequence[str]) -> tuple[Configuration, ...]:
    """Those named, or all, in the table's order. Raises UsageError for another name."""
    names = [configuration.name for configuration in CONFIGURATIONS] + [CONSTANT]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise UsageError(
            f"configuration {', '.join(unknown)} is unknown; wanted one of {', '.join(names)}"
        )
    return tuple(c for c in CONFIGURATIONS if not only or c.name in only)


def loss_costs(order: Order, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    """The report's training matrix over ``classes``.

    ``alphabetical`` puts GOOD second, where the matrix has it: in the challenge that is the
    alphabetical order. ``table`` puts it first, as the challenge's table does.
    """
    defects = sorted(name for name in classes if name != GOOD)
    meant = [*defects[:1], GOOD, *defects[1:]]
    return report_loss_costs(meant if order == "alphabetical" else [GOOD, *defects])
