"""Options that several commands share, so that they look the same everywhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click


class ViewSize(click.ParamType):  # type: ignore[type-arg]
    """Pixels of a view, height first: ``320x96``, or ``96`` for a square; (rows, columns)."""

    name = "HEIGHTxWIDTH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """(rows, columns), each from 1 to 4096."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(p.isdecimal() and 1 <= int(p) <= 4096 for p in parts):
            wanted = "wanted HEIGHTxWIDTH in pixels such as 320x96, or 96 for a square"
            self.fail(f"{value!r}: {wanted}", param, ctx)
        return int(parts[0]), int(parts[-1])


class Number(click.FloatRange):
    """A number in a range, which NaN and infinity are in none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number in the range {self._describe_range()}", param, ctx)
        return number


class Share(click.ParamType):  # type: ignore[type-arg]
    """A share strictly between 0 and 1, as ``0.01`` or ``1%``."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if not 0 < share < 1:
            self.fail(f"{text!r}: wanted a share such as 1% or 0.01, between 0 and 1", param, ctx)
        return share


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/edge-qc/station.toml"),
    show_default=True,
    help="The station's settings.",
)


def login() -> str:
    """The login of whoever runs the command, or ``somebody`` where the system knows no name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def _named(_context: click.Context, _option: click.Parameter, value: str | None) -> str:
    return (value or "").strip() or login()


who_option = click.option(
    "--who",
    callback=_named,
    show_default="your login",
    help="Your name, stored with each label.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output."
)

bundle_option = click.option(
    "--bundle",
    "bundle_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The bundle's folder.",
)

threads_option = click.option(
    "--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Of the engine."
)

database_option = click.option(
    "--database",
    default="edge-qc-records.sqlite",
    show_default=True,
    envvar="EDGE_QC_DATABASE",
    show_envvar=True,
    metavar="FILE|URL",
    help="An SQLite file, or a URL such as postgresql://user@host/name.",
)
