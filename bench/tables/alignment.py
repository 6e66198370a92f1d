"""What finding the part first brings, on drawn images whose parts lie askew.

    python bench/tables/alignment.py [--train 800] [--test 600] [--seed 11] [--write]

Four rows: parts in their place; the same model on parts that lie askew; a model that learned from
parts askew; and one that finds them first. ``synth``, ``train``, ``export`` and ``evaluate`` as a
user would call them, at their defaults but for what is given here, on photographs of 720 x 840. A
part that is not judged counts as stopped, and as the oddest of all in drift's AUROC. Intervals of
counts are exact (Clopper and Pearson), those of the AUROC the bootstrap's. Sets are kept in
``--work``, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from decision import counted, edge_qc, tell

from edge_qc.parts import DRIFT, GOOD

PAGE = Path(__file__).parents[2] / "docs" / "alignment.md"
BEGIN, END = "<!-- table of bench/tables/alignment.py -->", "<!-- end of the table -->"


def drawn(options: argparse.Namespace, name: str, *aside: object) -> Path:
    """A set of drawn images, made where it is not there."""
    data: Path = options.work / name
    if not (data / "Y_test_truth.csv").exists():
        edge_qc(
            *("synth", data, "--seed", options.seed, "--train", options.train),
            *("--test", options.test, "--balance", "even", "--photographs", "720x840"),
            *("--force", *aside),
        )
    return data


def made(options: argparse.Namespace, name: str, data: Path, *how: object) -> Path:
    """A bundle that learned from a set."""
    run, bundle = options.work / f"run-{name}", options.work / f"bundle-{name}"
    if not (run / "run.json").exists():
        threads = ("--threads", options.threads)
        edge_qc("train", data, "--out", run, "--unfreeze", 0, *how, *threads)
    if not (bundle / "manifest.sha256").exists():
        edge_qc("export", run, "--out", bundle, "--threads", options.threads)
    return Path(bundle)


def row(options: argparse.Namespace, title: str, bundle: Path, data: Path) -> dict[str, str]:
    """What a bundle says of a set's test part."""
    said = options.work / f"said-{bundle.name}-{data.name}.json"
    if not said.exists():
        command = [sys.executable, "-m", "edge_qc.cli", "evaluate", bundle, data, "--json"]
        said.write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found: dict[str, Any] = json.loads(said.read_text())
    counts, good = found["confusion"], found["confusion"][GOOD]
    known = [name for name in counts if name not in (GOOD, DRIFT)]
    low, high = found["intervals"]["drift_auroc"]
    images = found["images"]
    lost = next((note.split()[0] for note in found["notes"] if "not found" in note), "0")
    return {
        "parts": title,
        "overkill": counted(sum(good.values()) - good.get(GOOD, 0), sum(good.values())),
        "known bad that pass": counted(
            sum(counts[name].get(GOOD, 0) for name in known),
            sum(sum(counts[name].values()) for name in known),
        ),
        "drift that passes": counted(counts[DRIFT].get(GOOD, 0), sum(counts[DRIFT].values())),
        "drift's AUROC": f"{found['drift_auroc']:.3f} ({low:.3f} to {high:.3f})",
        "not judged": f"{lost} of {images}",
    }


def main() -> int:
    """Print the table, and write it into the page where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--test", type=int, default=600)
    parser.add_argument("--shift", default="6%")
    parser.add_argument("--turn", type=float, default=4.0)
    parser.add_argument("--work", type=Path, default=Path("alignment-table"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    still = drawn(options, "unshifted")
    askew = drawn(options, "shifted", "--shift", options.shift, "--turn", options.turn)
    # A part lies as far askew as is drawn and, as in its place, some pixels and a degree beside.
    bounds = "--align", "--align-turn", 7
    lies = f"{options.shift} and {options.turn:g}° askew"
    in_place = made(options, "unshifted", still)
    rows = [
        row(options, "in their place", in_place, still),
        row(options, f"{lies}, learned in their place", in_place, askew),
        row(options, f"{lies}, learned askew", made(options, "shifted", askew), askew),
        row(options, f"{lies}, found first", made(options, "aligned", askew, *bounds), askew),
    ]
    tell(rows, PAGE, BEGIN, END, write=options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
