"""Writes the MQTT contract beside this file: schemas, examples and the AsyncAPI document.

    python docs/mqtt/contract.py            # after a change of a message
    python docs/mqtt/contract.py --release  # at a release: what later versions are held against

A test fails where the files and the types differ, and where today's schemas break a released one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge_qc.publisher import messages, requests
from edge_qc.publisher.connection.moment import HEALTH_EXPIRES_S

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from examples import EXAMPLES  # noqa: E402

RELEASED = HERE / "released" / "1"


@dataclass(frozen=True)
class Channel:
    """One topic. level: its last level. incoming: the station reads it, else it writes it."""

    level: str
    model: type[BaseModel]
    incoming: bool = False
    retained: bool = False
    expires_s: int | None = None


CHANNELS = (
    Channel("verdict", messages.VerdictMessage),
    Channel("part", messages.PartMessage),
    Channel("event", messages.EventMessage),
    Channel("overrule", messages.OverruleMessage),
    Channel("state", messages.StateMessage, retained=True),
    Channel("health", messages.HealthMessage, retained=True, expires_s=HEALTH_EXPIRES_S),
    Channel("ack", messages.AckMessage, incoming=True),
    Channel("trigger", requests.TriggerRequest, incoming=True),
    Channel("command", requests.CommandRequest, incoming=True),
    Channel("reply", requests.Reply),
)


def schema(channel: Channel) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a channel's message."""
    made = channel.model.model_json_schema(by_alias=True, mode="validation")
    # OpenAPI's hint for unions: no part of JSON Schema, and another thing in AsyncAPI.
    made.pop("discriminator", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:edge-qc:{channel.level}:1",
        **made,
    }


def files() -> dict[Path, str]:
    """What belongs here: path to text."""
    made: dict[Path, Any] = {HERE / "asyncapi.json": asyncapi()}
    for channel in CHANNELS:
        made[HERE / f"{channel.level}.schema.json"] = schema(channel)
        for number, example in enumerate(EXAMPLES[channel.level], 1):
            name = f"{channel.level}.json" if number == 1 else f"{channel.level}-{number}.json"
            made[HERE / "examples" / name] = json.loads(example)
    return {
        path: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for path, document in made.items()
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document; payloads are the schemas' files."""
    parameters = {
        "site": {"description": "station.site of station.toml: letters, digits, `.`, `_`, `-`."},
        "station": {"description": "station.name of station.toml, of the same letters."},
    }
    channels, operations = {}, {}
    for channel in CHANNELS:
        level = channel.level
        words = cleandoc(channel.model.__doc__ or level)
        channels[level] = {
            "address": f"edge-qc/v1/{{site}}/{{station}}/{level}",
            "description": words,
            "parameters": parameters,
            "messages": {
                level: {
                    "name": level,
                    "contentType": "application/json",
                    "payload": {"$ref": f"./{level}.schema.json"},
                    "examples": [
                        {"name": f"{level}{number}", "payload": json.loads(example)}
                        for number, example in enumerate(EXAMPLES[level], 1)
                    ],
                }
            },
        }
        binding: dict[str, Any] = {"qos": 1, "retain": channel.retained, "bindingVersion": "0.2.0"}
        if channel.expires_s is not None:
            binding["messageExpiryInterval"] = channel.expires_s
        action = "receive" if channel.incoming else "send"
        operations[f"{action}-{level}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{level}"},
            "summary": words.splitlines()[0],
            "bindings": {"mqtt": binding},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "edge-qc station",
            "version": "1.0.0",
            "description": "What a quality-control station says over MQTT, from the station's "
            "side. Delivery is at least once and in order; `epoch` and `seq` let a consumer prove "
            "that it has all. Fields are added, none is renamed or removed.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "plant": {
                "host": "{broker}",
                "protocol": "mqtt",
                "protocolVersion": "5.0",
                "description": "The plant's broker, as [mqtt] of station.toml names it.",
                "variables": {"broker": {"default": "localhost:1883"}},
                "bindings": {
                    "mqtt": {
                        "cleanSession": True,
                        "lastWill": {
                            "topic": "edge-qc/v1/{site}/{station}/state",
                            "qos": 1,
                            "retain": True,
                            "message": "state DEAD",
                        },
                        "keepAlive": 15,
                        "bindingVersion": "0.2.0",
                    }
                },
            }
        },
        "channels": channels,
        "operations": operations,
    }


_WORDS = {"title", "description", "examples", "$id", "$schema", "default"}


def breaks(
    released: Mapping[str, Any], today: Mapping[str, Any], *, incoming: bool = False
) -> list[str]:
    """What today's schema takes from those who rely on the released one; empty where fields were
    added alone.

    incoming: the station reads the message, so that no field may become required; one that it
    writes may gain required fields and lose none.
    """
    return list(_differences(released, released, today, today, "message", incoming))


def _differences(
    was: Any,
    was_root: Mapping[str, Any],
    now: Any,
    now_root: Mapping[str, Any],
    where: str,
    incoming: bool,
) -> Iterator[str]:
    was, now = _resolved(was, was_root), _resolved(now, now_root)
    if not isinstance(was, dict) or not isinstance(now, dict):
        if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
            for index, (one, other) in enumerate(zip(was, now, strict=True)):
                yield from _differences(
                    one, was_root, other, now_root, f"{where}[{index}]", incoming
                )
        elif was != now:
            yield f"{where}: was {json.dumps(was)}, is {json.dumps(now)}"
        return
    for key in sorted((was.keys() | now.keys()) - _WORDS - {"$defs"}):
        here = f"{where}.{key}"
        if key == "properties":
            for name, field in was[key].items():
                if name not in now.get(key, {}):
                    yield f"{where}.{name}: is gone"
                    continue
                yield from _differences(
                    field, was_root, now[key][name], now_root, f"{where}.{name}", incoming
                )
        elif key == "required":
            lost = set(was.get(key, ())) - set(now.get(key, ()))
            new = set(now.get(key, ())) - set(was.get(key, ()))
            if lost and not incoming:
                yield f"{where}: {', '.join(sorted(lost))} may now be missing"
            if new and incoming:
                yield f"{where}: {', '.join(sorted(new))} is now demanded"
        elif key not in was or key not in now:
            yield f"{here}: was {json.dumps(was.get(key))}, is {json.dumps(now.get(key))}"
        else:
            yield from _differences(was[key], was_root, now[key], now_root, here, incoming)


def _resolved(node: Any, root: Mapping[str, Any]) -> Any:
    if isinstance(node, dict) and "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        return {**root["$defs"][name], **{k: v for k, v in node.items() if k != "$ref"}}
    return node


def main() -> None:
    """Write every file; with --release today's schemas become the released ones."""
    made = files()
    if "--release" in sys.argv[1:]:
        for channel in CHANNELS:
            name = f"{channel.level}.schema.json"
            made[RELEASED / name] = made[HERE / name]
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
