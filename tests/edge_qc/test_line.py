"""The line as a whole, with cameras that a test fires by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_qc.parts import Disposition
from tests.edge_qc.lines import HandCamera, messages, pictures, running_line
from tests.edge_qc.publishing import wait_until


def test_a_late_view_is_recorded_and_marked_and_told_where_it_is_worse(tmp_path: Path) -> None:
    """The part's verdict stands; whoever let the part through is told."""
    camera = HandCamera()
    good, bad = pictures()[Disposition.PASS], pictures()[Disposition.REJECT]

    def verdict(pixels: Any) -> dict[str, Any]:
        before = len(messages(tmp_path, "verdict"))
        camera.give(pixels, "p")
        wait_until(lambda: len(messages(tmp_path, "verdict")) > before)
        return messages(tmp_path, "verdict")[-1]

    with running_line(tmp_path, camera):
        assert camera.started.wait(10)
        assert verdict(good)["late"] is False
        assert verdict(good)["late"] is True
        assert messages(tmp_path, "event") == []
        assert verdict(bad)["late"] is True
    (part,) = messages(tmp_path, "part")
    assert (part["part_id"], part["disposition"]) == ("p", "PASS")
    (event,) = messages(tmp_path, "event")
    assert (event["event"], event["severity"]) == ("late-view", "alarm")
    assert "part p: PASS was said" in event["detail"]
