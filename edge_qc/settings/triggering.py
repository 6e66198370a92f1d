"""What makes a camera take a picture: the key ``trigger`` of ``[[camera]]``.

    free                      the camera runs freely, every frame is judged
    mqtt                      a message on the station's topic …/trigger
    gpio:/dev/gpiochip0/17    an edge at a pin (?edge=falling&debounce_ms=5&bias=pull-up)
    line:Line1                the camera's own input, by the name that the camera gives it
    output:plc                what the controller of the output ``plc`` counts

``KINDS`` is the table of them. Nothing is opened here: pins live in ``camera.gpio``, messages in
``publisher.requests``, and ``dispatch`` brings both to their cameras.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import parse_qsl

Edge = Literal["rising", "falling"]
Bias = Literal["as-is", "pull-up", "pull-down", "disabled"]


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin of a GPIO chip. line: its offset, or its name. debounce_ms: how long it must keep still
    after an edge."""

    chip: str
    line: int | str
    edge: Edge = "rising"
    debounce_ms: float = 1.0
    bias: Bias = "as-is"

    def __str__(self) -> str:
        return f"{self.chip}/{self.line}"


@dataclass(frozen=True, slots=True)
class Triggering:
    """kind: as in ``KINDS``. pin: of ``gpio``. line: the camera's input, of ``line``. output: the
    name of an ``[[output]]``, of ``output``."""

    kind: Literal["free", "mqtt", "gpio", "line", "output"]
    pin: Pin | None = None
    line: str | None = None
    output: str | None = None

    @property
    def asked(self) -> bool:
        """The station asks the camera for each picture, rather than taking what comes."""
        return self.kind in ("mqtt", "gpio", "output")

    @property
    def idle_is_health(self) -> bool:
        """No picture without a trigger: a camera that is silent is well."""
        return self.kind != "free"


def triggering(text: str) -> Triggering:
    """What the key says. Raises ValueError that names what is wrong and what is wanted."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise ValueError(
            f"unknown trigger {text!r}, wanted free, mqtt, gpio:/dev/gpiochip0/17, line:Line1 or "
            "output:NAME"
        )
    return KINDS[kind](rest)


def _free(rest: str) -> Triggering:
    _nothing_behind("free", rest)
    return Triggering("free")


def _mqtt(rest: str) -> Triggering:
    _nothing_behind("mqtt", rest)
    return Triggering("mqtt")


def _nothing_behind(kind: str, rest: str) -> None:
    if rest:
        raise ValueError(f"trigger {kind!r} takes nothing behind it, got {rest!r}")


def _line(rest: str) -> Triggering:
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", rest):
        raise ValueError(
            f"trigger 'line:' wants the input as the camera names it, such as line:Line1, "
            f"got {rest!r}"
        )
    return Triggering("line", line=rest)


def _output(rest: str) -> Triggering:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", rest):
        raise ValueError(
            f"trigger 'output:' wants the name of an [[output]], such as output:plc, got {rest!r}"
        )
    return Triggering("output", output=rest)


def _gpio(rest: str) -> Triggering:
    return Triggering("gpio", pin_of("trigger", rest))


def pin_of(key: str, rest: str) -> Pin:
    """The pin behind ``gpio:``; key: whose it is, for the message. Raises ValueError."""
    place, _, options = rest.partition("?")
    match = re.fullmatch(r"(/dev/[A-Za-z0-9._/-]+)/([A-Za-z0-9._-]{1,64})", place)
    if match is None:
        raise ValueError(
            f"{key} 'gpio:' wants a chip and a pin, such as gpio:/dev/gpiochip0/17, got {rest!r}"
        )
    line: int | str = int(match[2]) if match[2].isdigit() else match[2]
    known: dict[str, str] = {}
    for option, value in parse_qsl(options, keep_blank_values=True):
        if option not in _OPTIONS or not re.fullmatch(_OPTIONS[option], value):
            wanted = ", ".join(f"{name}={what}" for name, what in _OPTIONS.items())
            raise ValueError(f"{key} 'gpio:': option {option}={value}, wanted {wanted}")
        known[option] = value
    return Pin(
        match[1],
        line,
        known.get("edge", "rising"),  # type: ignore[arg-type]
        float(known.get("debounce_ms", "1")),
        known.get("bias", "as-is"),  # type: ignore[arg-type]
    )


def check_pins(used: Iterable[tuple[str, Pin]]) -> None:
    """Raises ValueError if two uses, each by its name, are of one pin."""
    users: dict[tuple[str, str], str] = {}
    for whose, pin in used:
        # A chip may have several names, which are links.
        other = users.setdefault((os.path.realpath(pin.chip), str(pin.line)), whose)
        if other != whose:
            raise ValueError(
                f"{other} and {whose} use one pin, {pin}. Give each a pin of its own; cameras may "
                "share a trigger's, with the same options"
            )


_OPTIONS = {
    "edge": "rising|falling",
    "debounce_ms": r"\d{1,4}(\.\d{1,3})?",
    "bias": "as-is|pull-up|pull-down|disabled",
}

KINDS: Mapping[str, Callable[[str], Triggering]] = MappingProxyType(
    {"free": _free, "mqtt": _mqtt, "gpio": _gpio, "line": _line, "output": _output}
)
"""Kinds of triggers, and what reads the rest of the key behind the colon."""
