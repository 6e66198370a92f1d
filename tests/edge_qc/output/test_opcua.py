"""Results at a real OPC UA server, plain and encrypted; its counters as triggers."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_qc.output import ControllerTrigger
from edge_qc.output.block import STATES, Fault
from edge_qc.parts import Disposition
from edge_qc.system.state import State
from tests.rig.opcua import OpcUaController, opcua_controller
from tests.rig.outlets import result, running_outputs


@pytest.fixture(scope="module")
def controller() -> Iterator[OpcUaController]:
    """One for all: its address space takes seconds to build."""
    with opcua_controller("hand", "part") as found:
        yield found


def test_a_pass_and_a_reject_are_shown(tmp_path: Path, controller: OpcUaController) -> None:
    with running_outputs(tmp_path, {"target": controller.target, "of": ["part"]}) as rig:
        rig.wait(lambda: controller.get("part", "ready"))
        toggle = controller.get("part", "toggle")
        rig.outputs.offer(result(part_id="W27-004411", trigger_id="a.77"))
        rig.wait(lambda: controller.get("part", "passed"))
        assert controller.get("part", "toggle") is not toggle
        assert controller.get("part", "part") == "W27-004411"
        assert [controller.get("part", n) for n in ("trigger_number", "label")] == [77, 1]
        rig.outputs.offer(result(Disposition.REJECT))
        rig.wait(lambda: controller.get("part", "toggle") is toggle)
        assert not controller.get("part", "passed")
        assert controller.get("part", "disposition") == 0
        rig.wait(lambda: controller.get("part", "heartbeat") > 2)


def test_a_late_pass_is_a_reject_and_a_stop_leaves_reject(
    tmp_path: Path, controller: OpcUaController
) -> None:
    table = {"target": controller.target, "of": ["part"], "deadline_ms": 100}
    with running_outputs(tmp_path, table) as rig:
        rig.wait(lambda: controller.get("part", "ready"))
        rig.outputs.offer(result(age_s=0.2))
        rig.wait(lambda: rig.outputs.figures()["plc"].late == 1)
        assert controller.get("part", "fault") == Fault.LATE
        assert not controller.get("part", "passed")
    assert controller.get("part", "state") == STATES[State.DEAD]
    assert not controller.get("part", "ready")


def test_its_counters_trigger_and_confirm(tmp_path: Path, controller: OpcUaController) -> None:
    table = {
        "target": controller.target,
        "of": ["hand"],
        "confirm": "count",
        "on_unconfirmed": "fault",
        "confirm_within_ms": 10_000,
    }
    camera = [{"name": "hand", "source": "file:///x", "die": "Die01", "trigger": "output:plc"}]
    with running_outputs(tmp_path, table, camera=camera) as rig:
        heard: list[ControllerTrigger] = []
        rig.outputs.on_trigger("plc", heard.append)
        rig.wait(lambda: controller.get("hand", "ready"))
        rig.wait(lambda: not rig.outputs.troubles())
        # Its first reading only says from where on it counts.
        counts = iter(range(5, 500))

        def trigger() -> bool:
            words = {"part": "W-1", "lot": "L7", "serial": "S9"}
            controller.set("trigger", **words, count=next(counts))
            return bool(heard)

        rig.wait(trigger)
        assert (heard[-1].part, heard[-1].lot, heard[-1].serial) == ("W-1", "L7", "S9")
        rig.outputs.offer(result(Disposition.REJECT, block="hand"))
        rig.wait(lambda: rig.outputs.figures()["plc"].latency_ms)
        controller.set("confirmation", confirmed=1)
        last = next(counts)
        controller.set("trigger", part="", part_number=12, count=last)
        rig.wait(lambda: heard[-1].count == last)
        assert heard[-1].part == "12"
        assert not rig.outputs.faults()
        controller.set("confirmation", confirmed=2)
        rig.wait(rig.outputs.faults)
        assert "no part was rejected for it" in rig.outputs.faults()[0]


def test_a_node_that_is_not_there_is_told(tmp_path: Path, controller: OpcUaController) -> None:
    node = "ns=2;s=other.{block}.{field}"
    table = {"target": controller.target, "of": ["part"], "node": node}
    with running_outputs(tmp_path, table) as rig:
        rig.wait(lambda: rig.said("output-away"))
        assert "that it has the nodes: edge-qc output map" in rig.said("output-away")[0]


def test_encrypted_with_a_certificate_that_is_known(tmp_path: Path) -> None:
    theirs = certified(tmp_path, "plc", "urn:freeopcua:python:server")
    ours = certified(tmp_path, "station", "urn:example.org:FreeOpcUa:opcua-asyncio")
    with opcua_controller("part", secured=theirs) as controller:
        table = {
            "target": controller.target,
            "of": ["part"],
            "timeout_ms": 3000,
            "security_policy": "Basic256Sha256",
            "cert_file": ours[0],
            "key_file": ours[1],
            "server_cert_file": theirs[0],
        }
        with running_outputs(tmp_path, table) as rig:
            rig.wait(lambda: controller.get("part", "ready"))
            rig.outputs.offer(result())
            rig.wait(lambda: controller.get("part", "passed"))
        # A controller whose certificate is another one.
        with running_outputs(tmp_path, table | {"server_cert_file": ours[0]}) as rig:
            rig.wait(lambda: rig.said("output-away"))
        plain = {"target": controller.target, "of": ["part"]}
        with running_outputs(tmp_path, plain) as rig:
            rig.wait(lambda: rig.said("output-away"))


def certified(folder: Path, name: str, uri: str) -> tuple[Path, Path]:
    """A certificate that signs itself, as OPC UA applications have them, and its key."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
        )
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.der", folder / f"{name}.key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
