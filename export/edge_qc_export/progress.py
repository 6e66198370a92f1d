"""The progress of a training: silent, or bars on standard error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_qc_export.data.dataset import Sample, count_table


class Reporter:
    """Receives progress and shows nothing; override the methods of interest."""

    def counts(self, samples: Sequence[Sample]) -> None:
        """These are the samples."""

    def begin(self, stage: str, images: int) -> None:
        """A stage of so many images begins."""

    def advance(self, images: int) -> None:
        """So many more images of the stage are done."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is done: its row of the log."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class ConsoleReporter(Reporter):
    """Tables and progress bars on standard error; a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task: Any = None

    def __enter__(self) -> ConsoleReporter:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def counts(self, samples: Sequence[Sample]) -> None:
        table = count_table(samples)
        if not table:
            return
        dies = list(next(iter(table.values())))
        shown = Table("class", *dies, "all", title=f"{len(samples)} images")
        for label, row in table.items():
            shown.add_row(label, *(str(row[die]) for die in dies), str(sum(row.values())))
        sums = [sum(row[die] for row in table.values()) for die in dies]
        shown.add_row("all", *map(str, sums), str(sum(sums)), style="bold")
        self._console.print(shown)

    def begin(self, stage: str, images: int) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(stage, total=images)

    def advance(self, images: int) -> None:
        self._progress.advance(self._task, images)

    def epoch(self, row: Mapping[str, Any]) -> None:
        collapsed = "  [bold red]COLLAPSED: one class for all[/]" if row["collapsed"] else ""
        self._console.print(
            f"epoch {row['epoch']}: loss {row['train_loss']:.4f}; held out: "
            f"loss {row['held_out_loss']:.4f}, accuracy {row['held_out_accuracy']:.4f}, "
            f"cost {row['held_out_decided_cost']:.2f}, skill {row['held_out_decided_skill']:+.4f}"
            f"{collapsed}",
            soft_wrap=True,
        )

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
