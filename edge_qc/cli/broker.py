"""How the plant's commands find their broker: by address, or through a station's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edge_qc.settings import MqttTable

_SCHEMES = {"mqtt": 1883, "mqtts": 8883}


def broker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--broker, --config and what goes with them, for ``broker_and_topic``."""
    file = click.Path(path_type=Path, dir_okay=False)

    def keep(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
        context.meta[f"{__name__}.{parameter.name}"] = value

    for option in (
        click.option(
            "--key-file",
            type=file,
            expose_value=False,
            callback=keep,
            help="The client certificate's private key.",
        ),
        click.option(
            "--cert-file",
            type=file,
            expose_value=False,
            callback=keep,
            help="A client certificate, if the broker requires one.",
        ),
        click.option("--ca-file", type=file, help="Connect by TLS, trusting this authority."),
        click.option("--password-file", type=file, help="The account's password in a file."),
        click.option("--username", help="The account at the broker."),
        click.option(
            "--config",
            type=file,
            help="A station's settings, for its broker and account; what follows messages takes "
            "only that station's.",
        ),
        click.option(
            "--broker", metavar="[mqtt://]HOST[:PORT]", help="The broker, instead of --config."
        ),
    ):
        command = option(command)
    return command


def broker_and_topic(
    broker: str | None,
    config: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
) -> tuple[MqttTable, str]:
    """Return the broker and the topics to subscribe to. Raises UsageError, SettingsError."""
    from pydantic import ValidationError

    from edge_qc.errors import UsageError
    from edge_qc.redaction import redacted_uri
    from edge_qc.settings import MqttTable, read_settings

    if (broker is None) == (config is None):
        raise click.UsageError("give either --broker HOST[:PORT] or --config station.toml")
    if config is not None:
        settings = read_settings(config)
        return settings.mqtt, f"{settings.station.root}/+"
    assert broker is not None
    shown = redacted_uri(broker)
    scheme, _, address = broker.strip().rpartition("://")
    scheme = scheme.lower()
    if scheme and scheme not in _SCHEMES:
        raise UsageError(f"--broker {shown!r}: known schemes are mqtt:// and mqtts://")
    if "@" in address:
        # Everybody on this machine can read a command line.
        raise UsageError(
            f"--broker {shown!r}: write HOST[:PORT] alone; the account goes into --username and "
            "--password-file"
        )
    if scheme == "mqtts" and ca_file is None:
        raise UsageError(f"--broker {shown!r}: TLS needs --ca-file, the authority to trust")
    host, port = address.rstrip("/"), str(_SCHEMES.get(scheme, 1883))
    if host.startswith("[") or host.count(":") == 1:
        host, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", port)
    own = click.get_current_context().meta
    try:
        mqtt = MqttTable.model_validate(
            {
                "host": host.strip("[]"),
                "port": port,
                "username": username,
                "password_file": password_file,
                "ca_file": ca_file,
                "cert_file": own.get(f"{__name__}.cert_file"),
                "key_file": own.get(f"{__name__}.key_file"),
            }
        )
    except ValidationError as error:
        fault = error.errors()[0]
        raise UsageError(
            f"--broker {shown!r}: {fault['msg'].removeprefix('Value error, ')}. Write "
            "--broker HOST:PORT, such as localhost:1883"
        ) from error
    return mqtt, "edge-qc/v1/+/+/+"
