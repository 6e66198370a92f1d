"""Another day: foretold by sessions left out whole, and said to be not known where there is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_qc.parts import GOOD
from edge_qc_export.commands.export import command as export
from edge_qc_export.commands.train import command as train
from edge_qc_export.gate.another_day import document, foretell
from edge_qc_export.gate.scored import Scored
from edge_qc_export.gate.threshold import Wish
from tests.rig.pictures import write_challenge

WISH = Wish(max_escape=0.05, confidence=0.95, alpha=0.01)


def scored(shift: float) -> tuple[Scored, list[str]]:
    """240 GOOD and 120 bad parts of three days; on the last one all lie ``shift`` further off."""
    rng = np.random.default_rng(0)
    days = ["mon", "tue", "wed"] * 120
    labels = (GOOD,) * 240 + ("bent",) * 120
    bad = np.array([label != GOOD for label in labels])
    padim = rng.normal(10, 1, 360) + 10 * bad
    padim += shift * (np.array(days) == "wed")
    flat = rng.normal(1, 0.1, 360)
    return Scored(
        labels,
        ("Die01",) * 360,
        tuple(map(str, range(360))),
        np.zeros(360, np.bool_),
        (GOOD, "bent"),
        padim=padim,
        logits=np.stack([np.zeros(360), rng.normal(-3, 1, 360) + bad], axis=1),
        good_distance=flat,
        embedding_distance=flat,
    ), days


def test_a_day_of_other_light_is_foretold_by_leaving_days_out() -> None:
    """What sessions mixed do not show: overkill of the one that lies apart."""
    for shift, least in ((0.0, 0.0), (6.0, 0.3)):
        parts, days = scored(shift)
        by_day = np.array([sorted(set(days)).index(day) for day in days])
        mixed = np.arange(360) // 3 % 3
        found = foretell((parts, by_day), (parts, mixed), days, WISH)
        assert found is not None
        assert (found.unseen.good, found.unseen.bad) == (240, 120)
        assert found.within.overkill < 0.15
        assert found.unseen.overkill >= 1.5 * found.within.overkill
        assert found.by_session["mon"].overkill < 0.1
        assert least <= found.by_session["wed"].overkill
        assert shift or found.by_session["wed"].overkill < 0.1
    first, second = document(found, several=True)["says"]
    assert re.match(r"on a session that it has not seen \(3 were tried\): \d\d\.\d% of 240", first)
    assert second.startswith("the worst was wed: ")


def test_too_few_parts_of_a_session_are_said_to_foretell_nothing() -> None:
    parts, days = scored(0.0)
    few = parts.chosen(np.array([*range(60), *range(240, 300)]))
    folds = np.arange(120) % 2
    assert foretell((few, folds), (few, folds), days[:120], WISH) is not None
    fewer = parts.chosen(np.array([*range(40), *range(240, 300)]))
    assert foretell((fewer, folds[:100]), (fewer, folds[:100]), days[:100], WISH) is None
    assert document(None, several=True)["says"][0].endswith("to set a gate without it")


@pytest.mark.torch
def test_an_export_says_what_another_day_would_do(tmp_path: Path) -> None:
    """By the commands, days in a column. Without one: tests/export/report."""
    data = write_challenge(tmp_path / "data", {"GOOD": 60, "Missing": 60})
    table, run, bundle = data / "Y_train.csv", tmp_path / "run", tmp_path / "bundle"
    header, *rows = table.read_text().splitlines()
    named = (f"{row},{day}" for row, day in zip(rows, ["mon", "tue", "wed"] * 40, strict=True))
    table.write_text("\n".join([f"{header},session", *named]) + "\n")
    how = ["--dies", data / "dies.json", "--size", 32, "--epochs", 2, "--out", run]
    how += ["--network", "cnn-basic"]
    told = CliRunner().invoke(train, [*map(str, [data, *how])], catch_exceptions=False)
    assert "3 sessions, each kept on one side; held out: " in " ".join(told.stderr.split())
    held = [row for row in (run / "split.csv").read_text().split() if ",held-out," in row]
    assert len({row.split(",")[2] for row in held}) == 1
    said = CliRunner().invoke(export, [str(run), "--out", str(bundle)], catch_exceptions=False)
    found = json.loads((bundle / "report" / "export.json").read_text())["gate"]["another_day"]
    assert all(line in said.output for line in found["says"])
    assert set(found["by_session"]) == {"mon", "tue", "wed"}
    for kind in ("unseen", "within"):
        assert (found[kind]["good"], found[kind]["bad"]) == (60, 60)
