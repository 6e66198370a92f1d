"""The recorder: stores every station's messages in a database, acknowledges them, and answers a
quality engineer's queries.

A station does not need it. Install with ``pip install '.[record]'`` in a clone.
"""

from __future__ import annotations

from edge_qc.plant.recorder.database import open_database, wrapped
from edge_qc.plant.recorder.service import KINDS, Recorder
from edge_qc.plant.recorder.store import Store

__all__ = ["KINDS", "Recorder", "Store", "open_database", "wrapped"]
