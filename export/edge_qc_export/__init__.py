"""The workstation of edge-qc: learns from labelled images and releases model bundles."""
