"""What the keys of ``station.toml`` are made of: the tables' base, and types that several use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from edge_qc.errors import SettingsError
from edge_qc.settings.host import bare_host

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def topic_level(name: str) -> str:
    """A name that is one level of an MQTT topic. Raises ValueError for another."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise ValueError(
            f"{name!r} cannot be one level of a topic. Write 1 to 64 letters, digits, '.', '_' "
            "or '-'"
        )
    return name


TopicLevel = Annotated[str, AfterValidator(topic_level)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Host = Annotated[str, AfterValidator(bare_host)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def password_in(file: Path | None, key: str) -> SecretStr | None:
    """The password that a file holds, without the end of its line and a byte order mark, which
    Windows' editors put in front. Raises SettingsError, which names ``key``."""
    if file is None:
        return None
    try:
        return SecretStr(file.read_text(encoding="utf-8-sig").rstrip("\n"))
    except UnicodeDecodeError:
        # The error's own words hold a byte of the password.
        raise SettingsError(f"{key}: {file} is not UTF-8. Save it as UTF-8") from None
    except PermissionError as error:
        raise SettingsError(
            f"{key}: this user may not read {file}. Root alone reads a credential: run this with "
            "sudo. Let the station's user read any other file"
        ) from error
    except OSError as error:
        raise SettingsError(f"{key}: {error}. Correct the path") from error
