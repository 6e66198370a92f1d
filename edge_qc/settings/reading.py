"""The file read: relative paths resolved, every fault told at once, in the words of its keys."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from edge_qc.errors import SettingsError
from edge_qc.redaction import redacted
from edge_qc.settings.tables import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_settings(file: Path) -> Settings:
    """The settings in ``file``.

    Raises SettingsError that lists every fault with its key, what was seen, and for an unknown key
    the nearest known one.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{file}: there is no such file. Copy deploy/station.example.toml, or name another "
            "with --config"
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{file}: is not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8"
        ) from error
    except PermissionError as error:
        raise SettingsError(
            f"{file}: this user may not read it. Run this with sudo, or as the station's user"
        ) from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read as TOML: {error}") from error
    _absolute_paths(document, file.resolve().parent)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        found = list(_faults(error))
        faults, count = "".join(f"\n  {fault}" for fault in found), len(found)
        raise SettingsError(f"{file}: {count} fault{'s' * (count > 1)}:{faults}") from error


def known_keys() -> Iterator[str]:
    """Every key that ``station.toml`` may hold, as ``table.key``."""
    for table, info in Settings.model_fields.items():
        for key in _fields_of(info.annotation):
            yield f"{table}.{key}"


_CREDENTIAL = "credential:"

_PATHS = {
    "station": ("state_dir",),
    "bundle": ("path", "public_key"),
    "camera": ("table",),
    "evidence": ("folder",),
    "metrics": ("textfile",),
    "mqtt": ("password_file", "ca_file", "cert_file", "key_file"),
    "output": ("password_file", "cert_file", "key_file", "server_cert_file"),
}


def _absolute_paths(document: dict[str, Any], folder: Path) -> None:
    for table, keys in _PATHS.items():
        entries = document.get(table)
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, dict):
                continue
            for key in keys:
                if isinstance(entry.get(key), str):
                    entry[key] = str(_resolved(folder, entry[key]))


def _resolved(folder: Path, path: str) -> Path:
    """``credential:NAME`` is a file that systemd hands to the unit alone (LoadCredential=); for a
    command by hand, root's own copy of it beside the settings."""
    if not path.startswith(_CREDENTIAL):
        return folder / path
    handed = os.environ.get("CREDENTIALS_DIRECTORY")
    return (Path(handed) if handed else folder / "credentials") / path.removeprefix(_CREDENTIAL)


def _fields_of(annotation: object) -> list[str]:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return [info.alias or name for name, info in candidate.model_fields.items()]
    return []


def _faults(error: ValidationError) -> Iterator[str]:
    wrong = [fault["loc"] for fault in error.errors()]
    for fault in error.errors():
        within = len(fault["loc"])
        if fault["type"] == "too_short" and any(
            len(other) > within and other[:within] == fault["loc"] for other in wrong
        ):
            continue  # Too short without the entries that are wrong themselves.
        where = ".".join(
            f"{part}" if not isinstance(part, int) else f"[{part + 1}]" for part in fault["loc"]
        ).replace(".[", "[")
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            key = str(fault["loc"][-1])
            tables = [str(part) for part in fault["loc"][:-1] if not isinstance(part, int)]
            known = (
                _fields_of(Settings.model_fields[tables[0]].annotation)
                if tables
                else list(Settings.model_fields)
            )
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            yield f"{where}: unknown key; {hint}"
        elif fault["type"] == "missing":
            yield f"{where}: is missing"
        elif isinstance(fault["input"], (str, int, float, bool)):
            seen = fault["input"]
            seen = redacted(seen) if isinstance(seen, str) else seen
            yield f"{where}: {message} (got {seen!r})"
        else:
            yield f"{where or 'file'}: {message}"
