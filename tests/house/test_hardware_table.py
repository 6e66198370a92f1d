"""The table of what has run where is made from kept reports alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("table", ROOT / "docs/acceptance/table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_kept_reports_and_nothing_else(maker: ModuleType) -> None:
    page = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    assert page == maker.page_with(page, maker.table()), "run: python docs/acceptance/table.py"


def test_every_kept_report_is_one_of_ours(maker: ModuleType) -> None:
    reports = sorted((ROOT / "docs" / "acceptance").glob("*.json"))
    assert reports
    for file in reports:
        report = json.loads(file.read_text(encoding="utf-8"))
        assert report["schema"] == "edge-qc/acceptance/1"
        assert report["answers_timed"] >= 50 if report["accepted"] else report["refusal"]
        assert maker.row(report).count("|") == 8


def test_a_jetson_and_a_refusal_have_rows_too(maker: ModuleType) -> None:
    file = next((ROOT / "docs" / "acceptance").glob("*.json"))
    report = json.loads(file.read_text(encoding="utf-8"))
    report["machine"] |= {"model": "Jetson Orin Nano", "jetpack": "6.2", "power_mode": "25W"}
    assert "Jetson Orin Nano, JetPack 6.2, 25W" in maker.row(report)
    refused = {**report, "accepted": False, "refusal": "engine x does not reproduce\n  rows"}
    assert "**refused**" in maker.row(refused)
