"""``make soak``: the campaign for as long as it takes, then the station left in peace and watched.

Writes one JSON document with what was done and seen; exit status 1 where an invariant does not
hold, or where memory, descriptors or the write-ahead log grow.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "demo"))

from tests.faults.campaign import Campaign, cameras
from tests.faults.world import World, open_world

MB = 2**20
WARM = 40_000
"""Verdicts until a recorder's memory is level: it keeps a prepared statement for each size of group
that it has met, up to a limit."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--verdicts", type=int, default=200_000)
    parser.add_argument("--quiet", type=int, default=100_000, help="verdicts without any fault")
    parser.add_argument("--minutes", type=float, default=120, help="the longest it may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    arguments = parser.parse_args()
    until_s = time.monotonic() + 60 * arguments.minutes
    campaign = Campaign(arguments.seed, recorder=True)
    with (
        tempfile.TemporaryDirectory(prefix="edge-qc-soak-", dir=arguments.folder) as folder,
        open_world(
            Path(folder), cameras=cameras(), environment=campaign.environment, recorder=True
        ) as world,
    ):
        began_s = time.monotonic()
        # A quarter of the time is kept for the quiet part.
        campaign.run(
            world,
            kills=arguments.kills,
            verdicts=arguments.verdicts,
            timeout_s=0.75 * 60 * arguments.minutes,
        )
        campaign_s = time.monotonic() - began_s
        heard = world.heard
        world.calm()
        samples = watch(world, arguments.quiet, until_s)
        world.settle()
        report: dict[str, Any] = {
            "kills": sum(campaign.tally.kills.values()),
            "verdicts": world.heard,
            "verdicts_in_the_campaign": heard,
            "repetitions": world.book.repetitions,
            "campaign_s": round(campaign_s),
            "done": {name: dict(counts) for name, counts in vars(campaign.tally).items()},
            "falls": world.station.falls,
            "hangs": world.station.hangs,
            "quiet": summary(samples),
            "breaches": world.breaches() + growth(samples),
        }
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 1 if report["breaches"] else 0


def watch(world: World, verdicts: int, until_s: float) -> list[dict[str, int]]:
    """What the station holds, second by second, over so many verdicts."""
    samples: list[dict[str, int]] = []
    first = world.heard
    starts = world.station.starts
    while world.heard - first < verdicts and time.monotonic() < until_s:
        time.sleep(1.0)
        pid = world.station.pid
        if pid is None or world.station.starts != starts:
            starts, samples, first = world.station.starts, [], world.heard
            continue
        wal = world.state_dir / "outbox.sqlite-wal"
        samples.append(
            {
                "verdicts": world.heard - first,
                "memory": _resident(pid),
                "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
                "wal": wal.stat().st_size if wal.exists() else 0,
                "recorder_memory": _resident(world.recorder.pid) if world.recorder else 0,
            }
        )
    return samples


def summary(samples: list[dict[str, int]]) -> dict[str, Any]:
    """First fifth, half and end, and the most."""
    if len(samples) < 10:
        return {"samples": len(samples)}
    early, middle, late = samples[len(samples) // 5], samples[len(samples) // 2], samples[-1]
    most = {name: max(sample[name] for sample in samples) for name in late}
    return {
        "samples": len(samples),
        "at a fifth": early,
        "at half": middle,
        "at the end": late,
        "most": most,
    }


def growth(samples: list[dict[str, int]]) -> list[str]:
    """What is not flat from the first fifth on; of the recorder, once it is warm, where at least
    as much comes after."""
    found = []
    if len(samples) >= 10:
        early, late = samples[len(samples) // 5], samples[-1]
        began = {"memory": early}
        if late["verdicts"] >= 2 * WARM:
            began["recorder_memory"] = next(one for one in samples if one["verdicts"] >= WARM)
        for name, first in began.items():
            if late[name] > 1.05 * first[name] + 2 * MB:
                found.append(f"{name} grew from {first[name]} to {late[name]} bytes")
        if late["descriptors"] > early["descriptors"] + 5:
            found.append(f"descriptors grew from {early['descriptors']} to {late['descriptors']}")
        if (most := max(sample["wal"] for sample in samples)) > 64 * MB:
            found.append(f"the write-ahead log grew to {most} bytes")
    return found


def _resident(pid: int | None) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
