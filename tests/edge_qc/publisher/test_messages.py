"""The MQTT contract: what is in a message, and what no message may say."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from edge_qc.errors import PublishError
from edge_qc.inspection.decision import not_judged
from edge_qc.parts import Disposition, PartVerdict, Reason
from edge_qc.publisher import Kind, VerdictMessage, json_schemas, parse_topic, part_content
from edge_qc.publisher.fields import Model
from edge_qc.publisher.messages import EventContent, HealthContent, StateContent
from edge_qc.publisher.wire import as_sent, read_ack, read_message, stamped
from edge_qc.system.state import State
from tests.rig.publishing import TIME, content, good

jsonschema = pytest.importorskip("jsonschema")

FIELDS = [
    *("schema", "verdict_id", "epoch", "seq", "site", "station"),
    *("camera", "die", "part_id", "trigger_id", "time", "label", "disposition", "reason"),
    *(
        "probabilities",
        "drift",
        "gate",
        "placement",
        "expected_cost",
        "bundle",
        "engine",
        "latency_ms",
    ),
    *("image", "detail", "late", "lot", "serial", "historical"),
]


def wire(kind: Kind, said: Model, historical: bool | None = None) -> bytes:
    live = historical is None
    text = stamped(
        kind,
        said.model_dump_json(),
        epoch="e",
        site="s",
        station="n",
        seq=None if live else 7,
        verdict_id="v" if kind is Kind.VERDICT else None,
    )
    return text.encode() if historical is None else as_sent(text, historical)


def test_a_verdict_on_the_wire_has_the_fields_of_the_contract_in_their_order() -> None:
    message = json.loads(wire(Kind.VERDICT, content(part_id="p", bundle_version=3), False))
    assert list(message) == FIELDS
    assert message["time"] == "2026-03-01T12:30:15.250000Z"
    assert message["bundle"] == {"id": "b" * 64, "version": 3}
    assert message["drift"]["witnesses"] == {"padim": 0.6, "embedding": 0.9}
    assert message["probabilities"] == {"GOOD": 0.75, "Missing": 0.25}


def test_a_verdict_comes_back_as_it_went() -> None:
    message = read_message(Kind.VERDICT, wire(Kind.VERDICT, content(image='é"\\.png'), True))
    assert isinstance(message, VerdictMessage)
    assert message.historical
    assert message.image == 'é"\\.png'
    assert message.time == TIME


def test_only_the_end_of_a_message_depends_on_when_it_is_sent() -> None:
    now, late = (wire(Kind.VERDICT, content(), historical) for historical in (False, True))
    assert now.removesuffix(b"false}") == late.removesuffix(b"true}")


PART = PartVerdict(
    "p", "Missing", Disposition.REJECT, False, {"Die01": "Missing"}, ("Die02",), ("v",), TIME
)
HEALTH = HealthContent(
    time=TIME, state=State.RUNNING, uptime_s=1, verdicts={"GOOD": 3}, rate_per_s=2.5
)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.VERDICT, wire(Kind.VERDICT, content(), True)),
        (Kind.VERDICT, wire(Kind.VERDICT, content(not_judged("b", Reason.CAMERA, "x")), False)),
        (Kind.PART, wire(Kind.PART, part_content(PART), False)),
        (Kind.EVENT, wire(Kind.EVENT, EventContent(event="camera-lost", time=TIME), True)),
        (Kind.STATE, wire(Kind.STATE, StateContent(state=State.DEAD, time=TIME))),
        (Kind.HEALTH, wire(Kind.HEALTH, HEALTH)),
    ],
)
def test_every_message_validates_against_its_schema(kind: Kind, payload: bytes) -> None:
    schema = json_schemas()[kind.value]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(payload), schema)
    read_message(kind, payload)


def test_a_number_that_is_not_finite_is_never_sent() -> None:
    verdict = dataclasses.replace(good(), expected_cost={"GOOD": math.nan})
    with pytest.raises(PublishError, match=r"expected_cost\.GOOD"):
        content(verdict)


@pytest.mark.parametrize(
    "lie",
    [
        {"label": "Missing", "disposition": "PASS"},
        {"label": "GOOD", "reason": "restart"},
        {"label": "NOT_JUDGED"},
        {"historical": "perhaps"},
        {"seq": 0},
        {"schema": "edge-qc/verdict/2"},
    ],
)
def test_a_message_that_contradicts_itself_is_not_read(lie: dict[str, object]) -> None:
    message = json.loads(wire(Kind.VERDICT, content(), False))
    with pytest.raises(PublishError, match="does not match its schema"):
        read_message(Kind.VERDICT, json.dumps({**message, **lie}).encode())


def test_a_later_version_may_add_fields() -> None:
    message = json.loads(wire(Kind.VERDICT, content(), False))
    later = json.dumps({**message, "rework": {"by": "somebody"}}).encode()
    assert isinstance(read_message(Kind.VERDICT, later), VerdictMessage)
    jsonschema.validate(json.loads(later), json_schemas()["verdict"])


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe", b"[]", b"{", b"null"])
def test_junk_is_refused_in_words(junk: bytes) -> None:
    with pytest.raises(PublishError):
        read_message(Kind.STATE, junk)


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        ("edge-qc/v1/plant-1/line.2/verdict", ("plant-1", "line.2", Kind.VERDICT)),
        ("edge-qc/v1/plant-1/line.2/command", None),
        ("edge-qc/v2/plant-1/line.2/verdict", None),
        ("edge-qc/v1/plant/1/line.2/verdict", None),
        ("edge-qc/v1/\x1b[31m/n/verdict", None),
    ],
)
def test_topics(topic: str, parsed: object) -> None:
    assert parse_topic(topic) == parsed


def test_a_long_detail_is_cut() -> None:
    assert len(content(not_judged("b", Reason.ENGINE, "x" * 10_000)).detail) == 2000


def test_an_acknowledgement_of_a_number_that_no_ledger_holds_is_refused() -> None:
    """Written down it would be an error of the ledger, and the end of the line."""
    said = {"schema": "edge-qc/ack/1", "epoch": "e", "kind": "verdict", "upto": 10**20}
    with pytest.raises(PublishError):
        read_ack(json.dumps(said).encode())
    assert read_ack(json.dumps({**said, "upto": 7}).encode()).upto == 7
