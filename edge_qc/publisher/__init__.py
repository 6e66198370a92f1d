"""Publishes what the station reports: the messages, the outbox on disk, the connection to the
broker."""

from __future__ import annotations

from edge_qc.publisher.connection.mqtt import Publisher
from edge_qc.publisher.connection.subscriber import Subscription
from edge_qc.publisher.connection.transport import Received
from edge_qc.publisher.fields import CameraHealth, EvidenceHealth, OutboxHealth, OutputHealth
from edge_qc.publisher.ledger.disk import Space
from edge_qc.publisher.ledger.outbox import OUTBOX_FILE, Outbox, OutboxStatus
from edge_qc.publisher.ledger.statements import TriggerRecord
from edge_qc.publisher.messages import (
    AckMessage,
    BundleRef,
    EventMessage,
    HealthContent,
    HealthMessage,
    Kind,
    Message,
    OverruleContent,
    OverruleMessage,
    PartContent,
    PartMessage,
    Severity,
    StateMessage,
    VerdictContent,
    VerdictMessage,
)
from edge_qc.publisher.wire import (
    json_schemas,
    parse_topic,
    part_content,
    read_ack,
    read_message,
    verdict_content,
)

__all__ = [
    "OUTBOX_FILE",
    "AckMessage",
    "BundleRef",
    "CameraHealth",
    "EventMessage",
    "EvidenceHealth",
    "HealthContent",
    "HealthMessage",
    "Kind",
    "Message",
    "Outbox",
    "OutboxHealth",
    "OutboxStatus",
    "OutputHealth",
    "OverruleContent",
    "OverruleMessage",
    "PartContent",
    "PartMessage",
    "Publisher",
    "Received",
    "Severity",
    "Space",
    "StateMessage",
    "Subscription",
    "TriggerRecord",
    "VerdictContent",
    "VerdictMessage",
    "json_schemas",
    "parse_topic",
    "part_content",
    "read_ack",
    "read_message",
    "verdict_content",
]
