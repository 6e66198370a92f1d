"""What a bundle does to good and bad parts: the first thing that a report with a bundle says.

The words of the bound and the pictures come from the bundle itself (``report/export.json`` and the
PNGs beside it); the counts are the station's verdicts on the images of this report.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from edge_qc.bundle.calibration import sentences
from edge_qc.bundle.verification import Bundle
from edge_qc.errors import DataError
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.figures.exact import share
from edge_qc_export.report.drawing import drawn
from edge_qc_export.report.markup import Picture, block, data_uri, escape, image
from edge_qc_export.report.material import Judged
from edge_qc_export.report.palette import WIDTH_IN, Theme

_REPORT = "report/export.json"


def title_of(bundle: Bundle) -> str:
    """The bundle as people name it."""
    return f"Bundle {bundle.manifest.name}, version {bundle.manifest.version}"


def sentence(judged: Judged, split: str) -> str:
    """What the bundle does, in one sentence."""
    found = judged.evaluation

    def counted(rows: Sequence[bool], what: str) -> str:
        of = sum(rows)
        count = sum(row and bool(passes) for row, passes in zip(rows, found.passed, strict=True))
        exact = share(count, of)
        return f"{count} of {of} {what} ({exact.low:.1%} to {exact.high:.1%})"

    kinds = {
        "good": [label == GOOD for label in found.labels],
        "known bad": [label not in (GOOD, DRIFT) for label in found.labels],
        "never seen before": [label == DRIFT for label in found.labels],
    }
    said = [counted(rows, what) for what, rows in kinds.items() if any(rows)]
    return (
        f"Of the {split} pictures a station with this bundle passes {', '.join(said)}: "
        "exact 95 % intervals."
    )


def gate_pictures(judged: Judged) -> Iterator[Picture]:
    """The curve of overkill against escapes with the chosen point, where the bundle holds it."""
    traded = _told(judged.bundle).get("trade_off")
    if traded is None:
        return
    passed, stopped = traded["chosen"]
    yield drawn(
        "trade-off",
        "Overkill against escapes",
        f"the chosen threshold stops {stopped:.1%} of {traded['good']} GOOD parts and lets "
        f"{passed} of {traded['bad']} bad parts pass",
        "Cross-fitted scores of all labelled parts: what each threshold would stop and let pass. "
        "The diamond is the threshold of this bundle. A tighter bound lies to the left.",
        partial(_draw, traded),
    )


def gate_section(judged: Judged, pictures: Sequence[Picture]) -> str:
    """The bound in words, the curve, and the labelled parts that a person should look
    at: doubtful labels first."""
    bundle = judged.bundle
    gate, told = bundle.manifest.gate, _told(bundle)
    parts = []
    if gate is not None:
        lines = "".join(f"<li>{escape(line)}</li>" for line in sentences(gate.bound))
        parts.append(f"<p>What its threshold bounds:</p><ul>{lines}</ul>")
    if pictures:
        parts.append(f'<div class="grid">{"".join(map(image, pictures))}</div>')
    if day := told.get("another_day"):
        lines = "".join(f"<li>{escape(line)}</li>" for line in day["says"])
        parts.append(f"<p>Another day, lot or shift:</p><ul>{lines}</ul>")
    parts.append(
        _parts(
            bundle,
            "doubtful",
            [
                f"labelled {one['label']}, looks like {one['said']}"
                for one in told.get("doubtful_labels", [])
            ],
            told.get("doubtful_labels", []),
            "Labels that the other folds contradict, the most doubtful first. A wrong one costs "
            "yield or lets bad parts pass: correct it and train again.",
        )
    )
    parts.append(
        _parts(
            bundle,
            "threshold",
            [
                f"{one['label']}, {'passes' if one['passes'] else 'stopped'}; a threshold here "
                f"would pass {one['good_passed_with_the_threshold_here']:.1%} of GOOD"
                for one in told.get("at_the_threshold", [])
            ],
            told.get("at_the_threshold", []),
            "The bad parts most like GOOD, which set the threshold.",
        )
    )
    return block("What passes", *parts)


def _told(bundle: Bundle) -> Mapping[str, Any]:
    """The gate in the export's own report; empty if the bundle has none."""
    file = bundle.path / _REPORT
    if not file.exists():
        return {}
    try:
        told = json.loads(file.read_text(encoding="utf-8")).get("gate", {})
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{file}: cannot be read ({error}). Export the bundle again") from error
    return told if isinstance(told, dict) else {}


def _parts(
    bundle: Bundle,
    kind: str,
    captions: Sequence[str],
    parts: Sequence[Mapping[str, Any]],
    text: str,
) -> str:
    """Labelled parts as pictures, as far as the bundle holds them."""
    shown = []
    for place, (caption, part) in enumerate(zip(captions, parts, strict=True), 1):
        file = bundle.path / Path(_REPORT).parent / f"{kind}-{place}.png"
        if file.exists():
            shown.append(
                f'<figure><img src="{data_uri(file.read_bytes())}" '
                f'alt="{escape(str(part["image"]))}"><figcaption>{escape(caption)}<br>'
                f"{escape(str(part['die']))}, {escape(str(part['image']))}</figcaption></figure>"
            )
    if not shown:
        return ""
    return f'<p>{escape(text)}</p><div class="mistakes">{"".join(shown)}</div>'


def _draw(traded: Mapping[str, Any], theme: Theme) -> Figure:
    figure = Figure(figsize=(WIDTH_IN, 3.6))
    axes = figure.subplots()
    points = traded["points"]
    passed, stopped = traded["chosen"]
    axes.step(
        [100 * count / traded["bad"] for count, _ in points],
        [100 * share for _, share in points],
        where="post",
        color=theme.shade,
    )
    x, y = 100 * passed / traded["bad"], 100 * stopped
    axes.plot([x], [y], "D", color=theme.alarm, markeredgecolor=theme.ink, markersize=8)
    axes.annotate(
        f"{passed} of {traded['bad']} bad pass, {stopped:.1%} of GOOD stopped",
        (x, y),
        xytext=(8, 6),
        textcoords="offset points",
        fontsize=9,
    )
    # The left end is where a threshold is chosen.
    axes.set_xlim(-0.2, max(5.0, 3 * x))
    axes.set_ylim(0, min(103.0, max(10.0, 130 * points[0][1])))
    axes.set_xlabel("bad parts that pass")
    axes.set_ylabel("GOOD parts that are stopped")
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    return figure
