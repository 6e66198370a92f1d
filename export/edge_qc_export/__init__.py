"""The workstation of edge-qc: learns from labelled images and releases model bundles."""

import edge_qc  # noqa: F401 - before any library of the workstation: it turns their telemetry off
