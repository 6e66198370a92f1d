"""Evidence: images that the station keeps for people, with their verdicts and labels.

The station keeps them (``keeper``) in a folder (``store``) within quotas (``quota``). A person
labels them on a local page (``page``), labels go to a file (``labels``), and labelled images become
a training set (``dataset``). Nothing here changes or delays a verdict.
"""

from edge_qc.evidence.keeper import Evidence, EvidenceStats, doubt
from edge_qc.evidence.labels import UNUSABLE, Label, Labels, LabelStore
from edge_qc.evidence.store import Exhibit, Store

__all__ = [
    "UNUSABLE",
    "Evidence",
    "EvidenceStats",
    "Exhibit",
    "Label",
    "LabelStore",
    "Labels",
    "Store",
    "doubt",
]
