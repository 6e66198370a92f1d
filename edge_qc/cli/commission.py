"""``edge-qc commission``: everything that a new device is asked, and one archive of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edge_qc.cli.options import config_option, json_option, threads_option

_LOG_LINES = 500
"""Lines of a step's log that go into the archive, the last ones."""


@dataclass(frozen=True)
class Step:
    """One command as it ran. answer: the JSON that it printed, None if it printed none."""

    name: str
    command: str
    status: int
    seconds: float
    answer: Any
    log: str

    def told(self) -> dict[str, Any]:
        return {
            "step": self.name,
            "command": self.command,
            "status": self.status,
            "seconds": round(self.seconds, 1),
        }


@click.command("commission")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option(
    "--engine", help="onnxruntime or tensorrt; by default the station's, or TensorRT on a Jetson."
)
@click.option(
    "--plans",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where TensorRT's plans are kept; by default the station's, or the user's cache.",
)
@click.option(
    "--repeat",
    "repeats",
    type=click.IntRange(0, 1_000_000),
    default=1000,
    show_default=True,
    help="How many answers to time.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The archive, a .tar.gz; by default named after board and day.",
)
@threads_option
@config_option
@json_option
def command(
    bundle: Path | None,
    engine: str | None,
    plans: Path | None,
    repeats: int,
    out: Path | None,
    threads: int,
    config: Path,
    as_json: bool,
) -> int:
    """Prove BUNDLE, or the station's bundle, on this device, and write one archive to send back.

    Runs 'edge-qc doctor', builds the TensorRT plan, runs the golden views and times a thousand
    answers; notes heat, power mode and clocks before and after. A red line of the doctor stops
    nothing. The archive is written whatever fails; it holds no image. Exit status: as of 'edge-qc
    accept'.
    """
    import dataclasses
    import json

    from edge_qc import __version__
    from edge_qc.doctor.condition import condition
    from edge_qc.doctor.dossier import SCHEMA, default_archive, require_writable, write_dossier
    from edge_qc.settings import read_settings
    from edge_qc.system.machine import this_machine

    machine = this_machine()
    archive = default_archive(machine) if out is None else out
    require_writable(archive)
    if engine is None and bundle is None:
        engine = read_settings(config).engine.kind
    kind = engine or ("tensorrt" if machine.is_jetson else "onnxruntime")
    shared = [*([] if bundle is None else [bundle]), "--engine", kind, "--config", config, "--json"]
    shared += ["--threads", threads, *([] if plans is None else ["--plans", plans])]

    before = condition()
    steps = [_run("doctor", ["doctor", "--config", config, "--json"])]
    if kind == "tensorrt":
        steps.append(_run("build", ["build", *shared, "--repeat", 0]))
    if all(step.status == 0 for step in steps[1:]):
        steps.append(_run("accept", ["accept", *shared, "--repeat", repeats]))
    after = condition()

    last = steps[-1]
    proof = last.answer if isinstance(last.answer, dict) else {}
    summary = {
        "schema": SCHEMA,
        "edge-qc": __version__,
        "machine": dataclasses.asdict(machine),
        "engine": proof.get("engine", kind),
        "accepted": last.status == 0 and proof.get("accepted") is True,
        "latency_ms": proof.get("latency_ms"),
        "answers_timed": proof.get("answers_timed", 0),
        "doctor_is_green": steps[0].status == 0,
        "steps": [step.told() for step in steps],
        "condition": {"before": before, "after": after},
    }
    answers = {f"{step.name}.json": step.answer for step in steps if step.answer is not None}
    logs = {f"{step.name}.log": step.log for step in steps if step.log}
    write_dossier(archive, {"summary.json": summary, **answers, **logs})
    if as_json:
        click.echo(json.dumps(summary | {"archive": str(archive)}, indent=2))
    else:
        _show(summary)
    click.echo(f"send this back: {archive}", err=True)
    return max(last.status, 0) or int(not summary["accepted"])


def _run(name: str, arguments: Sequence[object]) -> Step:
    """One command in a process of its own, because a driver that crashes must not take the archive
    along; what it says on standard error is shown as it comes."""
    import collections
    import json
    import subprocess
    import sys
    import tempfile
    import time

    words = [str(argument) for argument in arguments]
    click.echo(f"commission: edge-qc {' '.join(words)}", err=True)
    began_s = time.monotonic()
    log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
    with tempfile.TemporaryFile("w+", errors="replace") as stdout:
        with subprocess.Popen(
            [sys.executable, "-m", "edge_qc.cli", *words],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                click.echo(line, err=True, nl=False)
                log.append(line)
        stdout.seek(0)
        printed = stdout.read()
    if process.returncode < 0:
        log.append(f"killed by signal {-process.returncode}\n")
    try:
        answer = json.loads(printed)
    except ValueError:
        answer = None
        log.append(printed)
    seconds = time.monotonic() - began_s
    return Step(
        name, f"edge-qc {' '.join(words)}", process.returncode, seconds, answer, "".join(log)
    )


def _show(summary: dict[str, Any]) -> None:
    from edge_qc.cli.table import print_tree

    before, after = (summary["condition"][when] for when in ("before", "after"))
    hottest = [max(state["temperatures_c"].values(), default=None) for state in (before, after)]
    doctor = "green" if summary["doctor_is_green"] else "red lines, see doctor.json"
    print_tree(
        f"{'accepted' if summary['accepted'] else 'NOT accepted'}: {summary['engine']}",
        {
            "doctor": doctor,
            "latency_ms": summary["latency_ms"],
            "answers_timed": summary["answers_timed"],
            "power_mode": after["power_mode"],
            "hottest_c": hottest,
            "seconds": {step["step"]: step["seconds"] for step in summary["steps"]},
        },
    )
