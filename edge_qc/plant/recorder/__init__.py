"""The plant's records: every message of every station in a database, acknowledged once it is
there, and what a quality engineer asks of it.

Not part of a station: install with ``pip install '.[record]'`` in a clone.
"""

from __future__ import annotations

from edge_qc.plant.recorder.database import open_database, wrapped
from edge_qc.plant.recorder.service import KINDS, Recorder
from edge_qc.plant.recorder.store import Store

__all__ = ["KINDS", "Recorder", "Store", "open_database", "wrapped"]
