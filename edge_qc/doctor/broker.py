"""The broker: connection, certificate, account, and access rights.

A client with its own name logs in as the station does and leaves again. It publishes nothing that a
consumer counts and does not disturb the running station: it probes a topic of its own below the
station's root, the same below another station's, and the subscription to commands.
"""

from __future__ import annotations

import queue
import ssl
import time
from collections.abc import Iterator

import paho.mqtt.client as paho

from edge_qc.doctor.finding import AS_ROOT, NO_SETTINGS, Finding, bad, good, none, note, remedy_of
from edge_qc.errors import EdgeQCError
from edge_qc.publisher.connection.transport import (
    Acknowledged,
    Connected,
    Lost,
    Note,
    Subscribed,
    answer,
    open_client,
)
from edge_qc.settings import Settings


def reach(settings: Settings | None) -> Iterator[Finding]:
    """Connection, encryption and account; then what the account may write and read."""
    if settings is None:
        yield none("broker", NO_SETTINGS)
        return
    mqtt = settings.mqtt
    where = f"{mqtt.host}:{mqtt.port}"
    notes: queue.Queue[Note] = queue.Queue()
    name = f"edge-qc.doctor.{settings.station.name}.{time.time_ns() % 10**9}"
    client: paho.Client | None = None
    try:
        client = open_client(mqtt, name, notes.put)
        client.connect(mqtt.host, mqtt.port, mqtt.keepalive_s)
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message or str(error)
        yield bad(
            "broker",
            f"{where}: the broker's certificate is not valid: {why}",
            "correct mqtt.ca_file",
        )
        return
    except EdgeQCError as error:
        yield bad("broker", str(error), remedy_of(error, "correct [mqtt] in station.toml"))
        return
    except (OSError, ValueError) as error:
        if client is None:
            files = ", ".join(map(str, filter(None, (mqtt.ca_file, mqtt.cert_file, mqtt.key_file))))
            yield bad(
                "broker",
                f"{files}: cannot be used: {error}",
                AS_ROOT
                if isinstance(error, PermissionError)
                else "correct mqtt.ca_file, mqtt.cert_file and mqtt.key_file",
            )
            return
        yield bad(
            "broker",
            f"{where}: {error}",
            "check that the broker runs and that this network reaches it",
        )
        return
    client.loop_start()
    try:
        connected = answer(notes, Connected)
        if connected.refused is not None:
            yield bad(
                "broker",
                f"{where} refuses this station's account: {connected.refused}",
                "correct mqtt.username and mqtt.password_file, or the account at the broker",
            )
            return
        encrypted = mqtt.ca_file is not None or mqtt.cert_file is not None
        account = f"as {mqtt.username}" if mqtt.username else "without an account"
        if encrypted:
            yield good("broker", f"{where}: reached with TLS, {account}")
        else:
            yield note(
                "broker",
                f"{where}: reached without encryption, {account}",
                "on a shared network, set mqtt.ca_file and port 8883",
            )
        yield from _rights(client, notes, settings)
    except Lost as lost:
        yield bad("broker", f"{where}: {lost}", "read the broker's log")
    finally:
        client.disconnect()
        client.loop_stop()


def _rights(client: paho.Client, notes: queue.Queue[Note], settings: Settings) -> Iterator[Finding]:
    check = "broker's rights"
    root = settings.station.root
    if (why := _write(client, notes, f"{root}/doctor")) is not None:
        yield note(
            check,
            f"may not write {root}/doctor: {why}",
            f"grant the account {root}/# (or at least verdict, part, event, state, health)",
        )
    else:
        yield good(check, f"may write below {root}")
    client.subscribe(f"{root}/command", qos=1)
    if (why := answer(notes, Subscribed).refused) is not None:
        yield bad(
            check, f"may not read {root}/command: {why}", "grant it, or commands never arrive"
        )
    if _write(client, notes, f"{root}-doctor/doctor") is None:
        yield note(
            check,
            f"may write as any other station too ({root}-doctor)",
            f"allow the account to write below {root} only; otherwise one station can imitate "
            "another",
        )
    else:
        yield good(check, "may not write as another station")


def _write(client: paho.Client, notes: queue.Queue[Note], topic: str) -> str | None:
    """Publish an empty message. Returns why the broker refused it, or None."""
    client.publish(topic, b"", qos=1)
    return answer(notes, Acknowledged).refused
