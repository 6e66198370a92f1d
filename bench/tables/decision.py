"""How many bad parts pass and how many good ones are stopped, on images of the test part.

    python bench/tables/decision.py --seeds 1 2 3 [--train 800] [--test 240]
    python bench/tables/decision.py --data FOLDER [FOLDER ...] [--dies dies.json]
    python bench/tables/decision.py … --write        # the table goes into docs/decision.md

Every row is one set: ``train``, ``export`` and ``evaluate`` as a user would call them, at their
defaults but for what is given here. Intervals are exact (Clopper and Pearson). Sets are kept in
``--work``, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_qc.bundle.verification import open_bundle
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.figures.exact import share

PAGE = Path(__file__).parents[2] / "docs" / "decision.md"
BEGIN, END = "<!-- table of bench/tables/decision.py -->", "<!-- end of the table -->"
COLUMNS = (
    "set",
    "labelled GOOD + bad",
    "GOOD that pass, foretold",
    "escapes, foretold at 95 %",
    "known bad that pass",
    "drift that passes",
    "overkill",
)


def edge_qc(*arguments: object) -> None:
    """One command, its words on standard error."""
    command = [sys.executable, "-m", "edge_qc.cli", *map(str, arguments)]
    print("$ edge-qc", *arguments, file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=sys.stderr)


def drawn(options: argparse.Namespace, seed: int) -> Path:
    """A set of drawn images, made where it is not there."""
    data = options.work / f"drawn-{seed}-{options.balance}-{options.train}"
    if not (data / "Y_test_truth.csv").exists():
        edge_qc(
            *("synth", data, "--seed", seed, "--train", options.train, "--test", options.test),
            *("--balance", options.balance, "--force"),
        )
    return data


def row(options: argparse.Namespace, data: Path) -> dict[str, str]:
    """One set's row."""
    run, bundle = (options.work / f"{kind}-{data.name}" for kind in ("run", "bundle"))
    said = options.work / f"said-{data.name}.json"
    threads = () if options.threads is None else ("--threads", options.threads)
    if not (run / "run.json").exists():
        dies = options.dies or (data / "dies.json" if (data / "dies.json").exists() else None)
        edge_qc(
            *("train", data, "--out", run, *options.train_options.split(), *threads),
            *(("--dies", dies) if dies else ()),
        )
    if not (bundle / "manifest.sha256").exists():
        edge_qc("export", run, "--out", bundle, *options.export_options.split(), *threads)
    if not said.exists():
        command = [sys.executable, "-m", "edge_qc.cli", "evaluate", bundle, data, "--json"]
        made = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        said.write_bytes(made.stdout)
    counts = json.loads(said.read_text())["confusion"]
    gate = open_bundle(bundle).manifest.gate
    assert gate is not None
    bound = gate.bound
    known = [name for name in counts if name not in (GOOD, DRIFT)]
    bad = sum(sum(counts[name].values()) for name in known)
    drift = counts.get(DRIFT, {})
    good = counts[GOOD]
    labelled = json.loads((bundle / "report/export.json").read_text())
    images = labelled["images"]["labelled"]
    return dict(
        zip(
            COLUMNS,
            (
                data.name,
                f"{images[GOOD]} + {sum(images.values()) - images[GOOD]}",
                f"{labelled['gate']['good_passed']:.1%}",
                "not bounded" if bound is None else f"{bound.bad.at_most:.2%}",
                counted(sum(counts[name].get(GOOD, 0) for name in known), bad),
                counted(drift.get(GOOD, 0), sum(drift.values())),
                counted(sum(good.values()) - good.get(GOOD, 0), sum(good.values())),
            ),
            strict=True,
        )
    )


def counted(count: int, of: int) -> str:
    """A count of so many, with its exact interval."""
    found = share(count, of)
    if of == 0:
        return "–"
    return f"{count} of {of} ({found.low:.1%} to {found.high:.1%})"


def markdown(rows: list[dict[str, str]]) -> str:
    """The table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    return "\n".join(lines)


def write_table(page: Path, begin: str, end: str, table: str) -> None:
    """Put the table into a page, between its marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


def tell(rows: list[dict[str, str]], page: Path, begin: str, end: str, *, write: bool) -> None:
    """Print the table, and write it into the page where asked to."""
    table = markdown(rows)
    print(table)
    if write:
        write_table(page, begin, end, table)


def main() -> int:
    """Print the table, and write it into the page where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--test", type=int, default=240)
    parser.add_argument("--balance", choices=["even", "challenge"], default="even")
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--dies", type=Path)
    parser.add_argument("--work", type=Path, default=Path("decision-table"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--train-options", default="")
    parser.add_argument("--export-options", default="")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    sets = [drawn(options, seed) for seed in options.seeds] + options.data
    rows: list[dict[str, Any]] = [row(options, data) for data in sets]
    tell(rows, PAGE, BEGIN, END, write=options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
