"""The line: one loop that records, judges and publishes what cameras and triggers deliver.

``intake`` and ``dispatch`` bring work in, ``loop`` runs, ``judging`` produces verdicts,
``assembly`` joins views to parts, and ``heartbeat`` publishes state and health.
"""

from edge_qc.line.loop import Line

__all__ = ["Line"]
