"""The pinned packages against the public list of known vulnerabilities, by pip-audit.

    python deploy/audit.py [--strict]

Exit status 1 where a package has one. Where the list cannot be reached, or does not know a package,
it says so and goes on, so that ``make check`` works without a network; ``--strict``, for a release,
takes that for a failure too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lock import CONSTRAINTS, LOCKS


def main() -> int:
    strict = "--strict" in sys.argv[1:]
    worst = 0
    for lock in LOCKS:
        status, said = judged(_asked(CONSTRAINTS / lock), strict=strict)
        sys.stderr.write(f"audit of {lock}: {said}\n")
        worst = max(worst, status)
    return worst


def _asked(lock: Path) -> dict[str, Any]:
    """pip-audit's report, with ``error`` where it made none."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off", "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"dependencies": [], "error": lines[-1][:300]}
    return report


def judged(report: dict[str, Any], *, strict: bool = False) -> tuple[int, str]:
    """The exit status, and what to say of a report of pip-audit's."""
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in report["dependencies"]
        for flaw in package.get("vulns", ())
    ]
    unknown = [one["name"] for one in report["dependencies"] if "skip_reason" in one]
    if found:
        return 1, "\n".join([*found, "Take versions without them: make lock"])
    if "error" in report:
        return int(strict), f"NOT DONE: {report['error']}"
    count = len(report["dependencies"])
    if unknown or not count:
        missed = f"{len(unknown)} of {count} packages NOT LOOKED UP"
        return int(strict), f"{missed}: the list does not know {', '.join(unknown[:3]) or 'any'}"
    return 0, f"{count} packages, no known vulnerability"


if __name__ == "__main__":
    sys.exit(main())
