"""A bundle proved before it gets its name: ONNX Runtime must reproduce its golden answers."""

from __future__ import annotations

from edge_qc.bundle.verification import Bundle
from edge_qc.engine import open_engine
from edge_qc.engine.acceptance import AcceptanceReport, accept
from edge_qc.inspection.decision import label_of


def prove(bundle: Bundle) -> AcceptanceReport:
    """What the golden views gave. Raises AcceptanceError."""
    engine = open_engine(bundle, "onnxruntime", threads=2)
    try:
        return accept(bundle, engine, label_of)
    finally:
        engine.close()
