"""The qualification as one HTML page that fetches nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc import __version__
from edge_qc.evidence.pictures import heat_picture
from edge_qc_export.figures.exact import CONFIDENCE, Share
from edge_qc_export.judging import Judged
from edge_qc_export.qualification.counting import Counts, Tighter, sentence
from edge_qc_export.qualification.repeatability import REPEATS, Flips
from edge_qc_export.report.markup import block, data_uri, escape, table
from edge_qc_export.report.page import page

_TALLEST = 260


def qualification_page(
    facts: Mapping[str, str],
    counts: Counts,
    by_class: Mapping[str, Counts],
    by_die: Mapping[str, Counts],
    tighter: Sequence[Tighter],
    wrong: Sequence[Judged],
    flips: Sequence[Flips],
    again: Share,
    notes: Sequence[str],
) -> str:
    """The whole page. wrong: every part judged wrongly, in the order in which it is shown."""
    body = [
        f"<header><h1>Qualification of bundle {escape(facts['bundle'])}</h1></header>",
        f"<p><strong>It {escape(sentence(counts))}.</strong></p>",
        _tiles(counts),
        "".join(f"<p>{escape(note)}</p>" for note in notes),
        "<dl>"
        + "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
        + "</dl>",
        _counts_block("By class", "class", by_class),
        _counts_block("By die", "die", by_die),
        _tighter_block(tighter),
        _repeatability_block(flips, again),
        *_wrong_blocks(wrong),
        '<footer class="soft">Intervals: Clopper and Pearson (1934), exact binomial, two-sided at '
        f"{CONFIDENCE:.0%}. edge-qc qualify {escape(__version__)}</footer>",
    ]
    return page(f"Qualification of {facts['bundle']}", "".join(body))


def _tiles(counts: Counts) -> str:
    tiles = []
    for title, found in (
        ("escapes: bad parts that pass", counts.escapes),
        ("overkill: good parts stopped", counts.overkill),
        ("waiting for a person", counts.review),
        ("not judged", counts.not_judged),
    ):
        value = f"{found.count} of {found.of}" if found.of else "–"
        tiles.append(
            f'<div class="tile"><span>{title}</span><b>{value}</b><small>{_interval(found)}'
            "</small></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _interval(found: Share) -> str:
    return "" if math.isnan(found.low) else f"{found.low:.2%} to {found.high:.2%}"


def _cell(found: Share) -> str:
    if not found.of:
        return "–"
    return f"{found.count} of {found.of}<small>{_interval(found)}</small>"


def _counts_block(title: str, what: str, groups: Mapping[str, Counts]) -> str:
    rows = [
        [
            escape(name),
            _cell(found.escapes),
            _cell(found.overkill),
            _cell(found.named),
            _cell(found.review),
            _cell(found.not_judged),
        ]
        for name, found in groups.items()
    ]
    head = [what, "escapes", "overkill", "named rightly", "for a person", "not judged"]
    return block(title, table(head, rows))


def _tighter_block(tighter: Sequence[Tighter]) -> str:
    rows = [
        [
            f"at most {one.bound:.1%} of bad parts pass",
            str(one.parts),
            "holds" if not one.missing else f"{one.missing} more",
        ]
        for one in tighter
    ]
    head = ["statement at 95 % confidence", "bad parts it takes", "missing here"]
    text = (
        "As many may pass as passed here. The statement is about bad parts like these, in this "
        "mixture of defects; a defect that was not shown is not in it."
    )
    return block("What a tighter statement takes", table(head, rows), f"<p>{text}</p>")


def _repeatability_block(flips: Sequence[Flips], again: Share) -> str:
    rows = [[escape(one.text), _cell(one.good), _cell(one.bad)] for one in flips]
    text = (
        f"Photographs that were judged rightly, each disturbed {REPEATS} times: how often the "
        "verdict changed sides."
    )
    parts = [
        f"<p>{text}</p>",
        table(["disturbance", "good part stopped", "bad part passed"], rows),
    ]
    if again.of:
        parts.append(
            f"<p>Photographed again: {again.count} of {again.of} parts had verdicts on both sides "
            f"({_interval(again)}).</p>"
        )
    else:
        parts.append(
            "<p>The data names no part that was photographed more than once (groups.csv), so "
            "repeated photographs were not compared.</p>"
        )
    return block("Repeatability", *parts)


def _wrong_blocks(wrong: Sequence[Judged]) -> list[str]:
    kinds = (
        ("Bad parts that passed", [one for one in wrong if one.escaped]),
        ("Good parts that were stopped", [one for one in wrong if one.overkilled]),
        ("Bad parts stopped under another name", [one for one in wrong if one.mistaken]),
    )
    blocks = []
    for title, ones in kinds:
        if not ones:
            blocks.append(block(title, "<p>None.</p>"))
            continue
        pictures = "".join(map(_figure, ones))
        blocks.append(block(f"{title}: {len(ones)}", f'<div class="mistakes">{pictures}</div>'))
    return blocks


def _figure(one: Judged) -> str:
    true, said = str(one.sample.label), one.verdict.label
    text = f"{one.sample.filename} of {one.sample.die}, {true}, called {said}"
    pictures = ""
    if one.view is not None:
        looks = [one.view]
        if one.distances is not None:
            looks.append(heat_picture(one.view, one.distances))
        png = cv2.imencode(".png", _shrunk(_side_by_side(looks)))[1].tobytes()
        pictures = f'<img src="{data_uri(png)}" alt="{escape(text)}">'
    detail = f"<br>{escape(one.verdict.detail)}" if one.verdict.detail else ""
    share = one.verdict.probabilities.get(said)
    sure = "" if share is None else f" at {share:.0%}"
    return (
        f"<figure>{pictures}<figcaption><b>{escape(true)}</b>, called <b>{escape(said)}</b>{sure}"
        f"<br>{escape(one.sample.die)}, {escape(one.sample.filename)}{detail}</figcaption></figure>"
    )


def _side_by_side(looks: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    colour = [cv2.cvtColor(look, cv2.COLOR_GRAY2BGR) if look.ndim == 2 else look for look in looks]
    return np.concatenate([np.asarray(look, np.uint8) for look in colour], axis=1)


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Not taller than ``_TALLEST``, for a page that stays small."""
    rows, columns = picture.shape[:2]
    if rows <= _TALLEST:
        return picture
    size = max(1, round(columns * _TALLEST / rows)), _TALLEST
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
