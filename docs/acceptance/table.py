"""Writes the table of what has run where into docs/hardware.md, from the reports kept here.

    python docs/acceptance/table.py

A report comes from ``edge-qc accept --out docs/acceptance/NAME.json`` on the machine itself;
nothing else makes a row. A test fails where table and reports differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "hardware.md"
BEGIN, END = "<!-- table: docs/acceptance/table.py -->", "<!-- end of table -->"

_HEAD = (
    "| machine | engine | network, view | accepted | p50 / p99 | largest differences | when |\n"
    "|---|---|---|---|---|---|---|\n"
)


def row(report: dict[str, Any]) -> str:
    """One line of the table."""
    machine, bundle = report["machine"], report["bundle"]
    model = machine["model"] if machine["model"] != "unknown" else machine["cpu"]
    where = f"{model}, {machine['cores']} cores"
    if machine["jetpack"] is not None:
        mode = f", {machine['power_mode']}" if machine["power_mode"] else ""
        where = f"{model}, JetPack {machine['jetpack']}{mode}"
    batch, _, height, width = bundle["view"]
    shape = f"{bundle['network']} {bundle['precision']}, {batch} × {height} × {width}"
    if not report["accepted"]:
        cells = ["**refused**", "", str(report["refusal"]).partition("\n")[0]]
    else:
        latency = report["latency_ms"]
        differences = ", ".join(
            f"{name} {value:.1e}" for name, value in report["differences"].items()
        )
        busy = " (busy)" if report["load"] > machine["cores"] / 2 else ""
        took = f"{latency['p50']:.1f} / {latency['p99']:.1f} ms{busy}"
        cells = ["yes", took, differences]
    return f"| {' | '.join([where, report['engine'], shape, *cells, report['time'][:10]])} |\n"


def table() -> str:
    """All reports of this folder, by machine and network."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in HERE.glob("*.json")]
    reports.sort(key=lambda report: (report["machine"]["cpu"], report["bundle"]["view"][2:]))
    return _HEAD + "".join(map(row, reports))


def page_with(page: str, rows: str) -> str:
    """The page with these rows between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{rows}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")
