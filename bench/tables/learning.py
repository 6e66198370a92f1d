"""What helps to learn from few images: one set, many ways to train, each judged on the test part.

    python bench/tables/learning.py --seeds 1 2 [--data FOLDER] [--jobs 2]
    python bench/tables/learning.py … --write        # the table goes into docs/decision.md

Every row is one way: ``train`` with what is named and the defaults otherwise, then ``export``, then
the bundle's own inspection of every test image. Beside what passes and what is stopped at the
bundle's threshold stands the overkill at a threshold that lets 1 % of the bad parts pass: it
compares how well GOOD is told from bad, whatever the thresholds. Counts of the sets are added up;
intervals are exact (Clopper and Pearson). Everything is kept in ``--work``, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from decision import PAGE, counted, drawn, edge_qc, tell

from edge_qc.bundle.verification import open_bundle
from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.data.dataset import read_samples
from edge_qc_export.judging import judge_samples, opened

BEGIN, END = "<!-- table of bench/tables/learning.py -->", "<!-- end of learning.py -->"
AVERAGED, ADJUSTED = "averaged", "logit-adjusted"
"""What ``edge-qc train`` does not do, and ``sides/train_otherwise.py`` does."""
WAYS = {
    "the defaults": "",
    "head alone": "--unfreeze 0",
    "last 3 blocks": "--unfreeze 3",
    "last 8 blocks": "--unfreeze 8",
    "all blocks": "--unfreeze 17",
    "weights averaged": AVERAGED,
    "classes weighted": "--loss class-weighted",
    "logits adjusted": ADJUSTED,
    "augmented": "--augment",
    "view half as large": "--size 224x64",
    "view square": "--size 160",
}
"""--size: of drawn images alone, whose crops are bands."""
OTHERWISE = Path(__file__).parents[1] / "sides" / "train_otherwise.py"
BAD_THAT_PASS = 0.01


def learned(options: argparse.Namespace, data: Path, way: str) -> dict[str, list[float]]:
    """By kind of part, the gate's scores over its threshold: what is below 1 passes."""
    home = options.work / f"{data.name}{'-'.join(['', *WAYS[way].replace('--', '').split()])}"
    run, bundle, said = home / "run", home / "bundle", home / "said.json"
    if said.exists():
        found: dict[str, list[float]] = json.loads(said.read_text())
        return found
    home.mkdir(parents=True, exist_ok=True)
    if not (run / "run.json").exists():
        train(data, run, WAYS[way])
    if not (bundle / "manifest.sha256").exists():
        edge_qc("export", run, "--out", bundle, "--threads", 1)
    manifest = open_bundle(bundle).manifest
    samples = [s for s in read_samples(data, "test", manifest.dies) if s.label is not None]
    found = {"good": [], "known": [], "drift": []}
    with opened(bundle) as inspection:
        for one in judge_samples(inspection, samples):
            kind = {GOOD: "good", DRIFT: "drift"}.get(str(one.sample.label), "known")
            gate = one.verdict.gate
            score = math.inf if gate is None else gate.score / gate.threshold
            # Behind an open gate another label may still be the cheapest.
            found[kind].append(score if one.passed else max(score, 1.0))
    said.write_text(json.dumps(found))
    return found


def train(data: Path, run: Path, way: str) -> None:
    """``edge-qc train``, or what stands in its place for this way."""
    other = way in (AVERAGED, ADJUSTED)
    program = [str(OTHERWISE), way] if other else ["-m", "edge_qc.cli"]
    arguments = ["train", str(data), "--out", str(run), "--threads", "1"]
    arguments += [] if other else way.split()
    if (data / "dies.json").exists():
        arguments += ["--dies", str(data / "dies.json")]
    print("$", *program, *arguments, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, *program, *arguments], check=True, stdout=sys.stderr)


def row(way: str, sets: list[dict[str, list[float]]]) -> dict[str, str]:
    """One way's row, over all sets."""
    known, drift, good = ([one[kind] for one in sets] for kind in ("known", "drift", "good"))
    strict = []
    for at in range(len(sets)):
        bad = np.sort([*known[at], *drift[at]])
        strict.append(np.array(good[at]) >= bad[int(BAD_THAT_PASS * len(bad))])
    passed = [np.concatenate(kind) < 1 for kind in (known, drift)]
    stopped = np.concatenate(good) >= 1
    return {
        "way": way,
        "known bad that pass": counted(int(passed[0].sum()), len(passed[0])),
        "drift that passes": counted(int(passed[1].sum()), len(passed[1])),
        "overkill": counted(int(stopped.sum()), len(stopped)),
        "overkill where 1 % of the bad pass": f"{np.concatenate(strict).mean():.1%}",
    }


def main() -> int:
    """Print the table, and write it into the page where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--test", type=int, default=720)
    parser.add_argument("--balance", choices=["even", "challenge"], default="even")
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--work", type=Path, default=Path("learning-table"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    sets = [drawn(options, seed) for seed in options.seeds] + options.data
    with ThreadPoolExecutor(options.jobs) as pool:
        asked = {
            (way, data): pool.submit(learned, options, data, way)
            for way, data in product(options.ways, sets)
        }
        rows = [row(way, [asked[way, data].result() for data in sets]) for way in options.ways]
    tell(rows, PAGE, BEGIN, END, write=options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
