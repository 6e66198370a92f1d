"""What ``make check`` makes of pip-audit's report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy"))
import audit
from audit import judged

CLEAN: dict[str, Any] = {"name": "click", "version": "8.5.1", "vulns": []}
UNKNOWN: dict[str, Any] = {"name": "numpy", "skip_reason": "not found"}
FLAWED: dict[str, Any] = {
    "name": "numpy",
    "version": "2.5.0",
    "vulns": [{"id": "CVE-1", "fix_versions": ["2.5.1"]}],
}


@pytest.mark.parametrize("strict", [False, True])
def test_a_known_vulnerability_fails_and_names_the_mended_version(strict: bool) -> None:
    status, said = judged({"dependencies": [CLEAN, UNKNOWN, FLAWED]}, strict=strict)
    assert status == 1
    assert "numpy 2.5.0: CVE-1, mended in 2.5.1" in said


@pytest.mark.parametrize(
    "report",
    [
        {"dependencies": [CLEAN, UNKNOWN]},
        {"dependencies": []},
        {"dependencies": [], "error": "ConnectionError"},
    ],
    ids=["unknown package", "nothing", "no network"],
)
def test_what_was_not_looked_up_is_said_and_fails_a_release_alone(report: dict[str, Any]) -> None:
    status, said = judged(report)
    assert status == 0
    assert "NOT" in said
    assert judged(report, strict=True)[0] == 1


def test_every_lock_file_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of the outputs, whose packages speak with a plant's controllers."""
    asked: list[Path] = []

    def report(lock: Path) -> dict[str, Any]:
        asked.append(lock)
        return {"dependencies": [CLEAN]}

    monkeypatch.setattr(audit, "_asked", report)
    monkeypatch.setattr(sys, "argv", ["audit.py"])
    assert audit.main() == 0
    folder = Path(__file__).parents[2] / "deploy" / "constraints"
    assert set(asked) == set(folder.glob("*.txt"))


def test_a_clean_list_passes() -> None:
    assert judged({"dependencies": [CLEAN]}, strict=True) == (
        0,
        "1 packages, no known vulnerability",
    )
