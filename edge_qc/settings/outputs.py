"""``[[output]]``: one way from a verdict to the machine, by the URI of its controller or pin.

    modbus://192.0.2.20:502       registers and coils of a controller (Modbus TCP)
    opcua://192.0.2.20:4840       nodes of a controller (OPC UA)
    gpio:/dev/gpiochip0/27        a pin of this machine

Nothing is opened here; ``output`` does that. Which key belongs to which kind is in ``_ONLY``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from edge_qc.redaction import redacted_uri
from edge_qc.settings.fields import NonEmpty, Table, TopicLevel, password_in
from edge_qc.settings.triggering import Pin, pin_of

PART = "part"
"""The block of whole parts; the others have their cameras' names."""

Kind = Literal["modbus", "opcua", "gpio"]
Milliseconds = Annotated[float, Field(ge=0, le=600_000, allow_inf_nan=False)]
SecurityPolicy = Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
Address = Annotated[int, Field(ge=0, le=65_535)]

_PORTS = {"modbus": 502, "opcua": 4840}
_WANTED = "modbus://HOST:502, opcua://HOST:4840 or gpio:/dev/gpiochip0/27"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an output goes. host, port: of a controller. path: behind an OPC UA host. pin: of
    ``gpio``."""

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""
    pin: Pin | None = None


class BlockTable(Table):
    """Where one block lies: its first holding register and its first coil."""

    register_: Address = Field(alias="register")
    coil: Address


class OutputTable(Table):
    """One ``[[output]]``.

    target: see the module. deadline_ms: a PASS is shown within this time from the trigger, or not
    at all. of: the blocks that it shows (names of cameras, and ``part``), all by default; a pin
    shows one, ``part`` by default. late_in_a_row: so many late results in a row are a FAULT.
    heartbeat_ms: how often the heartbeat counts. timeout_ms: how long the controller may take to
    answer. hold_ms: how long a PASS stands before it is taken back; 0 until the next result.

    gpio: ``active``: the level that means PASS; the other one is the safe one, at start, stop and
    in doubt; ``delay_ms``: from the trigger to the pulse, the way to the ejector; or that way in
    ``delay_edges`` of the belt's ``encoder``, a pin that is read; ``pulse_ms``: how long the pulse
    lasts; ``alive``: a pin of the same chip that changes with each heartbeat while parts
    may pass, for a watchdog relay.

    modbus: ``unit``; ``register`` and ``coil``: the first address, blocks follow each other;
    ``blocks``: those that lie elsewhere; ``word_order`` of numbers of two registers and
    ``byte_order`` within a register of text, ``big`` for high first; ``counter_registers``,
    ``number_registers``, ``text_registers``: widths. ``trigger_register`` and
    ``confirm_register``: where the controller's own counters lie.

    opcua: ``node``: the node's id, with ``{block}`` and ``{field}`` in it; ``security_policy``,
    ``cert_file``, ``key_file``, ``server_cert_file``, ``username``, ``password_file``.

    Both: ``acknowledge_ms``: within which the controller repeats the counter; ``poll_ms``: how
    often what the controller counts is read.

    confirm: what tells that the ejector moved: a pin (``gpio:/dev/gpiochip0/22``), or ``count``
    for a register or node in which the controller counts; ``confirm_after_ms`` and
    ``confirm_within_ms``: when after a REJECT; ``on_unconfirmed``: ``alarm``, or ``fault``, which
    ends GOOD until a person acknowledges.
    """

    name: TopicLevel
    target: NonEmpty
    deadline_ms: Milliseconds = Field(gt=0)
    of: tuple[str, ...] | None = None
    late_in_a_row: int = Field(default=5, ge=1, le=1000)
    heartbeat_ms: float = Field(default=500, ge=20, le=600_000)
    timeout_ms: float = Field(default=500, ge=10, le=5000)
    hold_ms: Milliseconds = 1000

    active: Literal["high", "low"] = "high"
    delay_ms: Milliseconds = 0
    encoder: str | None = None
    delay_edges: int = Field(default=0, ge=0, le=100_000)
    pulse_ms: Milliseconds = Field(default=50, gt=0)
    alive: str | int | None = None

    unit: int = Field(default=1, ge=0, le=255)
    register_: Address = Field(default=0, alias="register")
    coil: Address = 0
    blocks: Mapping[str, BlockTable] = {}
    word_order: Literal["big", "little"] = "big"
    byte_order: Literal["big", "little"] = "big"
    counter_registers: int = Field(default=2, ge=1, le=2)
    number_registers: int = Field(default=2, ge=1, le=2)
    text_registers: int = Field(default=16, ge=0, le=32)
    trigger_register: Address | None = None
    confirm_register: Address | None = None

    node: str = "ns=2;s=edge-qc.{block}.{field}"
    security_policy: SecurityPolicy | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_cert_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None

    acknowledge_ms: Milliseconds | None = None
    poll_ms: float = Field(default=5, ge=1, le=10_000)

    confirm: str | None = None
    confirm_after_ms: Milliseconds = 0
    confirm_within_ms: Milliseconds = Field(default=500, gt=0)
    on_unconfirmed: Literal["alarm", "fault"] = "alarm"

    @field_validator("target")
    @classmethod
    def _target_known(cls, text: str) -> str:
        target_of(text)
        return text

    @field_validator("confirm")
    @classmethod
    def _confirm_known(cls, text: str | None) -> str | None:
        if text is not None and text != "count":
            _pin_read("confirm", text, ", or count")
        return text

    @field_validator("encoder")
    @classmethod
    def _encoder_known(cls, text: str | None) -> str | None:
        if text is not None:
            _pin_read("encoder", text)
        return text

    @field_validator("node")
    @classmethod
    def _node_names_its_field(cls, text: str) -> str:
        if "{block}" not in text or "{field}" not in text:
            raise ValueError("node needs {block} and {field} in it, or all values have one node")
        return text

    @property
    def where(self) -> Target:
        """What ``target`` says."""
        return target_of(self.target)

    @property
    def confirming_pin(self) -> Pin | None:
        """The pin of ``confirm``; None if the controller counts, or nothing confirms."""
        if self.confirm is None or self.confirm == "count":
            return None
        return _pin_read("confirm", self.confirm)

    @property
    def encoder_pin(self) -> Pin | None:
        """The pin of ``encoder``."""
        return None if self.encoder is None else _pin_read("encoder", self.encoder)

    def pins(self) -> dict[str, Pin]:
        """The pins that it uses, by their keys."""
        where, found = self.where, {"encoder": self.encoder_pin, "confirm": self.confirming_pin}
        if where.pin is not None:
            found["target"] = where.pin
            if self.alive is not None:
                found["alive"] = Pin(where.pin.chip, self.alive)
        return {key: pin for key, pin in found.items() if pin is not None}

    @property
    def at_ejector(self) -> bool:
        """Whether a result is shown only when its part has come to the ejector."""
        return self.delay_ms > 0 or self.encoder is not None

    @property
    def shown_ms(self) -> float:
        """How long a PASS stands: a pin's pulse, or ``hold_ms``."""
        return self.pulse_ms if self.where.kind == "gpio" else self.hold_ms

    @model_validator(mode="after")
    def _keys_fit(self) -> OutputTable:
        kind = self.where.kind
        for key in sorted(self.model_fields_set):
            kinds = _ONLY.get(key)
            if kinds is not None and kind not in kinds:
                shown = key.removesuffix("_")
                raise ValueError(f"{shown} belongs to {' and '.join(kinds)}, and this is {kind}")
        if kind == "gpio":
            if self.of is not None and len(self.of) != 1:
                raise ValueError(f"a pin shows one block, of has {len(self.of)}")
            if 0 < self.delay_ms < self.deadline_ms:
                raise ValueError(
                    f"delay_ms {self.delay_ms:g} is shorter than deadline_ms {self.deadline_ms:g}: "
                    "the part would pass the ejector before its verdict must be there"
                )
            if (self.encoder is None) != (self.delay_edges == 0):
                raise ValueError(
                    "encoder and delay_edges belong together: the pin that the belt's encoder "
                    "drives, and how many of its edges the ejector is away"
                )
            if self.encoder is not None and self.delay_ms:
                raise ValueError("delay_ms or encoder and delay_edges, not both")
            if self.confirm == "count":
                raise ValueError('confirm = "count" wants a controller; name a pin')
        if self.of == ():
            raise ValueError("of names no block: name one, or leave of out")
        if self.of is not None and len(set(self.of)) != len(self.of):
            raise ValueError(f"of names a block twice: {', '.join(self.of)}")
        if self.confirm_after_ms >= self.confirm_within_ms:
            raise ValueError("confirm_after_ms must be less than confirm_within_ms")
        files = (self.cert_file, self.key_file, self.server_cert_file)
        if self.security_policy is not None and None in files:
            raise ValueError("security_policy needs cert_file, key_file and server_cert_file")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file without username")
        return self

    def password(self) -> SecretStr | None:
        """The password in ``password_file``. Raises SettingsError if it cannot be read."""
        return password_in(self.password_file, f"output {self.name}: password_file")


_MODBUS, _OPCUA, _GPIO = ("modbus",), ("opcua",), ("gpio",)
_CONTROLLER = ("modbus", "opcua")
_ONLY: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("active", "delay_ms", "encoder", "delay_edges", "pulse_ms", "alive"), _GPIO),
    **dict.fromkeys(
        (
            *("unit", "register_", "coil", "blocks", "word_order", "byte_order"),
            *("counter_registers", "number_registers", "text_registers"),
            *("trigger_register", "confirm_register"),
        ),
        _MODBUS,
    ),
    **dict.fromkeys(
        (
            *("node", "security_policy", "cert_file", "key_file", "server_cert_file"),
            *("username", "password_file"),
        ),
        _OPCUA,
    ),
    **dict.fromkeys(("hold_ms", "acknowledge_ms", "poll_ms"), _CONTROLLER),
}
"""Keys that only these kinds have."""


def target_of(text: str) -> Target:
    """What ``target`` says. Raises ValueError that names what is wrong and what is wanted."""
    kind, _, rest = text.partition(":")
    if kind == "gpio":
        pin = pin_of("target", rest)
        if "?" in rest:
            raise ValueError(f"target {text!r}: an output pin takes no options behind it")
        return Target("gpio", pin=pin)
    if kind not in _PORTS:
        raise ValueError(f"unknown target {redacted_uri(text)!r}, wanted {_WANTED}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(
            f"target {redacted_uri(text)!r} is no address; wanted {_WANTED}"
        ) from error
    if not host or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(
            f"target {kind}: wanted {kind}://HOST:{_PORTS[kind]} and nothing else; an OPC UA user "
            "is username and password_file"
        )
    if kind == "modbus" and parts.path not in ("", "/"):
        raise ValueError(f"target {redacted_uri(text)!r}: wanted modbus://HOST:502 without a path")
    return Target("modbus" if kind == "modbus" else "opcua", host, port or _PORTS[kind], parts.path)


def _pin_read(key: str, text: str, or_else: str = "") -> Pin:
    match = re.fullmatch(r"gpio:(.+)", text)
    if match is None:
        raise ValueError(f"{key} {text!r}: wanted gpio:/dev/gpiochip0/22{or_else}")
    return pin_of(key, match[1])
