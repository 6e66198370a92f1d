"""What another day's lamp does to a bundle, and what ``edge-qc calibrate`` mends of it.

    python bench/tables/another_day.py [--train 800] [--test 240] [--parts 240]
    python bench/tables/another_day.py … --write        # the table goes into docs/decision.md

One bundle of drawn images, as ``train --unfreeze 0`` and ``export`` make it. Each other day has
images of its own, drawn anew and then altered as its lamp and camera would: some are what people
verified, for ``calibrate``; the others are judged before and after. Intervals are exact (Clopper
and Pearson). All is kept in ``--work``, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_qc.parts import DRIFT, GOOD
from edge_qc_export.figures.exact import share

PAGE = Path(__file__).parents[2] / "docs" / "decision.md"
BEGIN, END = "<!-- table of bench/tables/another_day.py -->", "<!-- end of another_day.py -->"
COLUMNS = ("images of", "bundle", "overkill", "known bad that pass", "drift that passes")
Pixels = NDArray[np.uint8]


def lit(gain: float, blur: float, noise: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    """A photograph of another day: brighter, out of focus, with grain."""

    def altered(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = pixels.shape
        light = pixels.astype(np.float32) * gain
        if blur:
            light = np.asarray(cv2.GaussianBlur(light, (0, 0), blur), np.float32)
        light += rng.normal(0, noise, (height, width)).astype(np.float32)
        return np.clip(np.round(light), 0, 255).astype(np.uint8)

    return altered


DAYS = {
    "the same lamp": lit(1.0, 0.0, 0.0),
    "25 % brighter": lit(1.25, 0.0, 0.0),
    "more grain": lit(1.0, 0.0, 8.0),
    "out of focus": lit(1.0, 2.0, 0.0),
    "far out of focus": lit(1.0, 4.0, 0.0),
}


def edge_qc(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One command; its document is on standard output, its words pass through."""
    command = [sys.executable, "-m", "edge_qc.cli", *map(str, arguments)]
    print("$ edge-qc", *arguments, file=sys.stderr, flush=True)
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)


def made(*arguments: object) -> None:
    """One command that must succeed."""
    if edge_qc(*arguments).returncode:
        raise SystemExit(1)


def drawn(folder: Path, seed: int, train: int, test: int, lamp: str) -> Path:
    """A set of drawn images under a lamp."""
    if (folder / "lit").exists():
        return folder
    made("synth", folder, "--seed", seed, "--train", train, "--test", test, "--balance", "even")
    rng = np.random.default_rng(seed)
    for file in sorted(folder.glob("input_*/*.png")):
        pixels = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8)
        cv2.imwrite(str(file), DAYS[lamp](pixels, rng))
    (folder / "lit").touch()
    return folder


def judged(bundle: Path, data: Path, said: Path) -> tuple[str, str, str]:
    """Overkill, known bad parts and drift that pass."""
    if not said.exists():
        done = edge_qc("evaluate", bundle, data, "--json")
        done.check_returncode()
        said.write_text(done.stdout)
    counts: dict[str, dict[str, int]] = json.loads(said.read_text())["confusion"]

    def counted(names: list[str], passed: bool) -> str:
        of = sum(sum(counts[name].values()) for name in names)
        through = sum(counts[name].get(GOOD, 0) for name in names)
        found = share(through if passed else of - through, of)
        return f"{found.count} of {found.of} ({found.low:.1%} to {found.high:.1%})"

    known = [name for name in counts if name not in (GOOD, DRIFT)]
    return counted([GOOD], False), counted(known, True), counted([DRIFT], True)


def rows_of(options: argparse.Namespace) -> list[tuple[str, ...]]:
    """Each day before and after."""
    work: Path = options.work
    data = options.data or drawn(work / "first", 1, options.train, options.test, "the same lamp")
    run, bundle = work / "run", work / "bundle"
    if not (run / "run.json").exists():
        made("train", data, "--unfreeze", 0, "--out", run)
    if not (bundle / "manifest.sha256").exists():
        made("export", run, "--out", bundle)
    rows = [("its own day", "as exported", *judged(bundle, data, work / "own.json"))]
    for number, lamp in enumerate(DAYS):
        day = drawn(work / f"day-{number}", 101 + number, options.parts, options.judge, lamp)
        rows.append((lamp, "as exported", *judged(bundle, day, work / f"before-{number}.json")))
        after, refusal = work / f"bundle-{number}", work / f"refused-{number}"
        if not (after / "manifest.sha256").exists() and not refusal.exists():
            done = edge_qc("calibrate", bundle, "--with", day, "--split", "train", "--out", after)
            if done.returncode:
                refusal.touch()
        if refusal.exists():
            rows.append((lamp, "`calibrate` refuses: train again", "–", "–", "–"))
        else:
            said = work / f"after-{number}.json"
            rows.append((lamp, "calibrated", *judged(after, day, said)))
    return rows


def markdown(rows: list[tuple[str, ...]]) -> str:
    """The table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    """Print the table, and write it into the page where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--test", type=int, default=240)
    parser.add_argument("--parts", type=int, default=240, help="verified parts of each day")
    parser.add_argument("--judge", type=int, default=480, help="parts of each day to judge")
    parser.add_argument("--data", type=Path, help="a set in place of a drawn one")
    parser.add_argument("--work", type=Path, default=Path("another-day-table"))
    parser.add_argument("--write", action="store_true")
    options: Any = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    table = markdown(rows_of(options))
    print(table)
    if options.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
