"""The table of a study: its rows, kept one by one, written as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_qc.errors import DataError
from edge_qc_export.whole_file import write_whole

RESULT, TABLE = "result.json", "study"

_COLUMNS = (
    "pwa_report",
    "pwa_challenge",
    "pwa_skill",
    "pwa_balanced",
    "escape_rate",
    "overkill_rate",
    "accuracy",
    "macro_f1",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration as it ended. scores: ``Scores.as_json`` over pictures of known classes,
    by the most probable class; decided: the same by the class of least expected cost, None for
    the constant. report_pwa: what the report saw, report_note: how. seconds: of training. failed:
    why there are no scores."""

    name: str
    title: str
    report_pwa: float | None
    report_note: str = ""
    scores: Mapping[str, Any] | None = None
    decided: Mapping[str, Any] | None = None
    collapsed: bool = False
    epochs: int | None = None
    best_epoch: int | None = None
    seconds: float | None = None
    failed: str | None = None

    @property
    def state(self) -> str:
        """``COLLAPSED``, ``FAILED`` or nothing."""
        return "FAILED" if self.failed else "COLLAPSED" if self.collapsed else ""


def read_row(folder: Path) -> Row | None:
    """The row of a configuration that was measured before, None if none was."""
    file = folder / RESULT
    if not file.exists():
        return None
    try:
        return Row(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{file}: cannot be read as a study's result ({error}). Delete it to measure again"
        ) from error


def write_text(file: Path, text: str) -> None:
    """Write a file whole. Raises EdgeQCError."""
    write_whole(file, text.encode(), "Make room and call again: finished configurations are kept")


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A study as far as it got. facts: what was run on what; notes: what a reader must know."""

    out: Path
    facts: Mapping[str, str]
    notes: Sequence[str]
    rows: Sequence[Row]

    @property
    def collapsed(self) -> list[str]:
        """Names of the runs that predict one class."""
        return [row.name for row in self.rows if row.collapsed]

    @property
    def failed(self) -> list[str]:
        """Names of the runs without scores."""
        return [row.name for row in self.rows if row.failed]

    def as_json(self) -> dict[str, Any]:
        """The whole document of ``study.json``."""
        return {
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "collapsed": self.collapsed,
            "failed": self.failed,
            "rows": [{**asdict(row), "state": row.state} for row in self.rows],
        }

    def write(self) -> None:
        """Write ``study.md``, ``study.json`` and ``study.csv``."""
        document = json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"
        write_text(self.out / f"{TABLE}.json", document)
        write_text(self.out / f"{TABLE}.csv", _csv(self.rows))
        write_text(self.out / f"{TABLE}.md", self.markdown())

    def markdown(self) -> str:
        """Facts, table and notes."""
        lines = [f"- {name}: {text}" for name, text in self.facts.items()]
        head = [
            "configuration",
            "PWA in the report",
            "PWA, report's",
            "PWA, challenge's",
            "skill (95 %)",
            "escapes",
            "overkill",
            "macro F1",
            "skill at least cost",
            "epoch kept",
            "minutes",
            "",
        ]
        lines += ["", f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 2)}---|"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in self.rows]
        lines += [""] + [f"- {note}" for note in self.notes]
        return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    report = "" if row.report_pwa is None else f"{row.report_pwa:.4f}"
    report += f" ({row.report_note})" if row.report_note else ""
    title = row.title.replace("|", "\\|")
    if row.scores is None:
        return [title, report, *[""] * 9, f"**FAILED**: {row.failed}"]
    low, high = row.scores["intervals"]["pwa_skill"]
    skill = _number(row.scores["pwa_skill"], 3)
    if low is not None:
        skill += f" ({_number(low, 3)} to {_number(high, 3)})"
    return [
        title,
        report,
        _number(row.scores["pwa_report"], 4),
        _number(row.scores["pwa_challenge"], 4),
        skill,
        _percent(row.scores["escape_rate"]),
        _percent(row.scores["overkill_rate"]),
        _number(row.scores["macro_f1"], 3),
        "" if row.decided is None else _number(row.decided["pwa_skill"], 3),
        "" if row.best_epoch is None else f"{row.best_epoch} of {row.epochs}",
        "" if row.seconds is None else f"{row.seconds / 60:.1f}",
        f"**{row.state}**" if row.state else "",
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _csv(rows: Sequence[Row]) -> str:
    head = ["name", "title", "report_pwa", "state", "epochs", "best_epoch", "seconds", "images"]
    for name in _COLUMNS:
        head += [name, f"{name}_low", f"{name}_high"]
    head += [f"decided_{name}" for name in ("pwa_skill", "escape_rate", "overkill_rate")]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        line: dict[str, Any] = {
            "name": row.name,
            "title": row.title,
            "report_pwa": row.report_pwa,
            "state": row.state,
            "epochs": row.epochs,
            "best_epoch": row.best_epoch,
            "seconds": row.seconds,
        }
        if row.scores is not None:
            line["images"] = row.scores["images"]
            for name in _COLUMNS:
                low, high = row.scores["intervals"][name]
                line |= {name: row.scores[name], f"{name}_low": low, f"{name}_high": high}
        if row.decided is not None:
            line |= {
                f"decided_{name}": row.decided[name]
                for name in ("pwa_skill", "escape_rate", "overkill_rate")
            }
        writer.writerow(line)
    return text.getvalue()
