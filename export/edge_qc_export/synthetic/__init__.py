"""Synthetic photographs in the challenge's layout: a wire bond on a power die, six classes, four
dies, two resolutions, and drift in the test part alone.

``render`` makes one photograph; ``plan`` says what a data set holds, ``prepare`` and ``write`` put
it in a folder; ``contact_sheet`` shows all classes side by side. ``dataset`` reads the folders.
"""

from __future__ import annotations

from edge_qc_export.synthetic.bond import BONDS
from edge_qc_export.synthetic.drift import DRIFTS
from edge_qc_export.synthetic.folder import prepare, write
from edge_qc_export.synthetic.items import Item, class_counts, plan
from edge_qc_export.synthetic.layout import LARGE, LAYOUTS, SMALL, Resolution
from edge_qc_export.synthetic.photograph import Aside, render
from edge_qc_export.synthetic.sheet import contact_sheet

__all__ = [
    "CLASSES",
    "DIES",
    "DRIFT_KINDS",
    "LARGE",
    "SMALL",
    "Aside",
    "Item",
    "Resolution",
    "class_counts",
    "contact_sheet",
    "plan",
    "prepare",
    "render",
    "write",
]

CLASSES = tuple(BONDS)
"""The six classes in the order of the challenge's CSV."""
DRIFT_KINDS = tuple(DRIFTS)
DIES = tuple(LAYOUTS)
