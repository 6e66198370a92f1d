"""Two tables of labels, truth and predictions, brought together by filename."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_qc.bundle.costs import label_from_text
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.data.dataset import CHALLENGE_CLASSES, ordered_classes
from edge_qc_export.data.tables import Fault, Lines, raise_faults, read_lookup
from edge_qc_export.figures.costs import Costs, costs_for, read_costs

_BY_INTEGER = {str(index): name for index, name in enumerate((*CHALLENGE_CLASSES, DRIFT))}


def read_pair(truth: Path, predictions: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """True and predicted labels of the same images, in the truth's order.

    Both files have the columns ``filename`` and ``Label``; a file whose labels are all integers 0
    to 6 holds the challenge's. Raises DataError with all faults: images in one file alone, labels
    that are empty, images named twice.
    """
    faults: list[Fault] = []
    true, said = _read(truth, faults), _read(predictions, faults)
    if faults and not (true and said):
        # One is no table at all: that each row of the other is missing there says nothing more.
        raise_faults(truth, faults)
    for file, mine, other, others in (
        (truth, true, said, predictions),
        (predictions, said, true, truth),
    ):
        for name, (line, label) in mine.items():
            if name not in other:
                faults.append(Fault(file, line, f"{name} is not in {others}"))
            if not label:
                faults.append(Fault(file, line, f"{name} has no label"))
    if not true and not faults:
        faults.append(Fault(truth, 0, "names no image"))
    raise_faults(truth, faults)
    return (
        tuple(label for _, label in true.values()),
        tuple(said[name][1] for name in true),
    )


def _read(file: Path, faults: list[Fault]) -> Lines:
    found = read_lookup(file, "Label", faults)
    if found and all(label in _BY_INTEGER for _, label in found.values()):
        return {name: (line, _BY_INTEGER[label]) for name, (line, label) in found.items()}
    return {name: (line, label_from_text(label)) for name, (line, label) in found.items()}


def costs_of_labels(truth: Sequence[str], predicted: Sequence[str], file: Path | None) -> Costs:
    """The costs to score these labels by: those of a file, else the challenge's pattern over the
    challenge's classes, or over the labels' own where they are others."""
    if file is not None:
        given = read_costs(file)
        return costs_for(given, [name for name in given if name != DRIFT], f"costs {file}")
    seen = {*truth, *predicted} - {DRIFT}
    if seen <= set(CHALLENGE_CLASSES):
        return costs_for(None, CHALLENGE_CLASSES)
    if seen & set(CHALLENGE_CLASSES[1:]):
        strange = ", ".join(sorted(map(repr, seen - set(CHALLENGE_CLASSES))))
        raise DataError(
            f"labels {strange} are none of the challenge's ({', '.join(CHALLENGE_CLASSES)}, Drift) "
            "beside others that are; correct them, or give the costs of your classes with --costs"
        )
    return costs_for(None, ordered_classes({*seen, GOOD}))
