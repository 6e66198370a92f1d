"""What a stage meets that its author did not think of costs one verdict, and is never GOOD."""

from __future__ import annotations

import math
import pwd
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_qc.inspection import decision
from edge_qc.inspection import inspecting as inspection
from edge_qc.inspection.inspecting import Inspection, open_inspection
from edge_qc.parts import Frame, Reason, Verdict, View
from tests.rig.tiny_bundle import SIDE, make_bundle


def frames(count: int) -> list[Frame]:
    draw = np.random.default_rng(0)
    return [
        Frame(
            pixels=draw.integers(0, 256, (SIDE, SIDE), np.uint8),
            camera="north",
            die="Die01",
            trigger_id=str(number),
            part_id=None,
            sequence=number,
            time=datetime.now(timezone.utc),
            monotonic_s=time.monotonic(),
        )
        for number in range(count)
    ]


def failing_at(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """``real``, but for one call."""
    calls = iter(range(1000))

    def call(*arguments: Any, **keys: Any) -> Any:
        if next(calls) == number:
            raise ZeroDivisionError("nobody thought of this")
        return real(*arguments, **keys)

    return call


def reasons(verdicts: list[Verdict]) -> list[Reason]:
    return [verdict.reason for verdict in verdicts]


@pytest.fixture
def tiny(tmp_path: Path) -> Inspection:
    return open_inspection(make_bundle(tmp_path / "bundle", batch=2), max_frame_age_s=math.inf)


def test_a_view_that_fails_costs_its_own_frame(
    tiny: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "view", failing_at(1, inspection.view))
    verdicts = tiny.judge(frames(3))
    assert reasons(verdicts) == [Reason.DECIDED, Reason.FRAME, Reason.DECIDED]
    assert "nobody thought of this" in verdicts[1].detail


def test_a_view_of_another_size_costs_its_batch(
    tiny: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = inspection.view
    sizes = iter([SIDE, SIDE // 2, SIDE])

    def cropped(*arguments: Any, **keys: Any) -> View:
        cut = real(*arguments, **keys)
        return View(np.ascontiguousarray(cut.pixels[:, : next(sizes)]), cut.to_frame)

    monkeypatch.setattr(inspection, "view", cropped)
    assert reasons(tiny.judge(frames(3))) == [Reason.ENGINE, Reason.ENGINE, Reason.DECIDED]


def test_an_engine_that_fails_costs_its_batch(
    tiny: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.engine, "infer", failing_at(0, tiny.engine.infer))
    assert reasons(tiny.judge(frames(3))) == [Reason.ENGINE, Reason.ENGINE, Reason.DECIDED]


def test_a_decision_that_fails_costs_its_own_frame(
    tiny: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision, "judge", failing_at(2, decision.judge))
    assert reasons(tiny.judge(frames(3))) == [Reason.DECIDED, Reason.DECIDED, Reason.ENGINE]


def test_an_account_without_a_home_folder_judges_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As services and containers have them: neither HOME nor an entry among the users."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(RuntimeError):
        Path.home()
    opened = open_inspection(make_bundle(tmp_path / "bundle"), max_frame_age_s=math.inf)
    assert reasons(opened.judge(frames(1))) == [Reason.DECIDED]


def test_a_frame_of_a_size_that_was_not_learned_is_not_judged(tmp_path: Path) -> None:
    """Its crop would show something else; both sizes are named. Bundles of before name none."""
    folder = make_bundle(tmp_path / "learned", frame_sizes=[[SIDE, SIDE], [SIDE, 3]])
    frame = frames(1)[0]
    padded = replace(frame, pixels=np.pad(frame.pixels, ((0, 5), (0, 2))))
    lying = replace(frame, pixels=np.ascontiguousarray(frame.pixels[:3]))
    learned = open_inspection(folder, max_frame_age_s=math.inf).judge([frame, padded, lying])
    assert reasons(learned) == [Reason.DECIDED, Reason.FRAME, Reason.DECIDED]
    assert f"is {SIDE + 2}x{SIDE + 5} pixels" in learned[1].detail
    assert f"learned this die from {SIDE}x{SIDE}, {SIDE}x3" in learned[1].detail
    before = open_inspection(make_bundle(tmp_path / "before"), max_frame_age_s=math.inf)
    assert reasons(before.judge([padded])) == [Reason.DECIDED]
