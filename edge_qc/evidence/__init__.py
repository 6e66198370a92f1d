"""Images kept for people: what the station saw, why it said what it said, and what a person says.

The station keeps them (``keeper``) in a folder (``store``) under quotas (``quota``). A person
labels them on a page of the own machine (``page``), the labels are appended to a file
(``labels``), and what is labelled becomes a data set to train on (``dataset``). Nothing here
decides a verdict, and no verdict waits for it.
"""

from edge_qc.evidence.keeper import Evidence, EvidenceStats, doubt
from edge_qc.evidence.labels import UNUSABLE, Label, Labels
from edge_qc.evidence.store import Exhibit, Store

__all__ = [
    "UNUSABLE",
    "Evidence",
    "EvidenceStats",
    "Exhibit",
    "Label",
    "Labels",
    "Store",
    "doubt",
]
