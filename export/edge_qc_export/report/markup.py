"""Pieces of HTML: escaped text, tables, figures with a light and a dark picture."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from edge_qc_export.figures.scoring import Figure

__all__ = ["Picture", "block", "cells", "escape", "image", "number", "percent", "table"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure. name: of its PNG; text: what it shows, for who cannot see it; caption: how to
    read it; light and dark: PNGs."""

    name: str
    title: str
    text: str
    caption: str
    light: bytes
    dark: bytes


def image(picture: Picture) -> str:
    """The figure, its light or dark picture by the reader's theme."""
    return (
        f'<figure id="{escape(picture.name)}"><h3>{escape(picture.title)}</h3>'
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{data_uri(picture.dark)}">'
        f'<img src="{data_uri(picture.light)}" alt="{escape(picture.text)}"></picture>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def data_uri(png: bytes) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def block(title: str, *parts: str) -> str:
    """A section of the page."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def cells(values: Iterable[str], tag: str = "td") -> str:
    """A row's cells, the first one its head."""
    row = list(values)
    head = f'<th scope="{"row" if tag == "td" else "col"}">{row[0]}</th>'
    return head + "".join(
        f'<th scope="col">{value}</th>' if tag == "th" else f"<td>{value}</td>" for value in row[1:]
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table that scrolls sideways by itself on a narrow screen; its texts are HTML already."""
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide" tabindex="0"><table>{title}<thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def number(figure: Figure, digits: int = 4) -> str:
    """A figure and its interval, on two lines."""
    if not math.isfinite(figure.value):
        return "–"
    text = minus(f"{figure.value:.{digits}f}")
    if math.isfinite(figure.low):
        text += f"<small>{minus(f'{figure.low:.{digits}f} to {figure.high:.{digits}f}')}</small>"
    return text


def minus(text: str) -> str:
    """Numbers with a minus sign instead of a hyphen."""
    return text.replace("-", "\N{MINUS SIGN}")


def percent(figure: Figure) -> str:
    """A share and its interval in per cent."""
    if not math.isfinite(figure.value):
        return "–"
    text = f"{figure.value:.1%}"
    if math.isfinite(figure.low):
        text += f"<small>{figure.low:.1%} to {figure.high:.1%}</small>"
    return text
