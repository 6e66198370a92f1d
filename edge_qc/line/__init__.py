"""The line: what cameras and triggers bring is made durable, judged and told, in one loop.

``intake`` and ``dispatch`` bring work in, ``loop`` goes round, ``judging`` makes verdicts of it,
``assembly`` joins views to parts, and ``heartbeat`` says how the station is.
"""

from edge_qc.line.loop import Line

__all__ = ["Line"]
