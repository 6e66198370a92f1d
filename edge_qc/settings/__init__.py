"""``station.toml``: the facts about a site, frozen and checked whole.

Every fault is reported at once, unknown keys with the nearest known one. What the model demands is
in the bundle, not here.
"""

from edge_qc.settings.outputs import PART, OutputTable
from edge_qc.settings.reading import known_keys, read_settings
from edge_qc.settings.tables import (
    BundleTable,
    CameraTable,
    EngineTable,
    EvidenceTable,
    LineTable,
    MetricsTable,
    MqttTable,
    OutboxTable,
    Settings,
    StationTable,
)

__all__ = [
    "PART",
    "BundleTable",
    "CameraTable",
    "EngineTable",
    "EvidenceTable",
    "LineTable",
    "MetricsTable",
    "MqttTable",
    "OutboxTable",
    "OutputTable",
    "Settings",
    "StationTable",
    "known_keys",
    "read_settings",
]
