"""A camera's address as ``station.toml`` gives it. Whoever prints it prints no secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from edge_qc.redaction import redacted_uri


@dataclass(frozen=True, slots=True)
class Source:
    """uri: with its secrets, for whoever opens it. ``str``, ``repr`` and JSON show none of them."""

    uri: str = field(repr=False)

    def __str__(self) -> str:
        return redacted_uri(self.uri)

    def __repr__(self) -> str:
        return f"Source({redacted_uri(self.uri)!r})"

    @property
    def scheme(self) -> str:
        """What stands before the first colon, in lower case."""
        return self.uri.partition(":")[0].lower()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(min_length=1),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )
