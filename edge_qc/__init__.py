"""The station of edge-qc: what runs where the parts pass. It never imports the workstation."""

import os

__version__ = "0.1.0"

# ONNX Runtime reads this as it is imported. Without it, it writes a number of this machine into the
# user's home and sends its maker what it ran. Whatever of ours imports it has been here before.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
