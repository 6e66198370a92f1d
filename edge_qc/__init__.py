"""The station of edge-qc: what runs where the parts pass. It never imports the workstation."""

__version__ = "0.1.0"
