"""The recorder's database as the dashboard reads it: shifts, days, weeks, the handover, labels.

Imported only if a database is named; it needs what ``edge-qc record`` needs. ``recorded`` makes a
page's sections, ``recall`` reads the last hours at a start.
"""

# The recorder says what to install if SQLAlchemy is missing.
from edge_qc.plant.recorder import open_database

__all__ = ["open_database"]
