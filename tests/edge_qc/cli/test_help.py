"""The command line's own help, and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from edge_qc.cli import app
from edge_qc.cli.dashboard import command as dashboard
from edge_qc.cli.outbox import command as outbox
from tests.rig.publishing import TIME, content, open_outbox, record


def test_commands_stand_in_the_groups_of_those_who_use_them() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    titles = re.findall(r"^([A-Z][A-Za-z ]+):$", shown, re.M)
    assert titles[-6:] == [
        "Run a station", "Bundles", "Checks of a shift", "Plant", "Images", "Workstation",
    ]  # fmt: skip
    plant = shown.partition("Plant:")[2].partition("Images:")[0]
    assert all(f"  {name} " in plant for name in ("dashboard", "record", "query", "label"))


def test_a_missing_folder_of_pictures_is_no_wrong_use(tmp_path: Path) -> None:
    """A share that is away takes its pictures alone."""
    words = ["--broker", "host", "--evidence", str(tmp_path / "away")]
    assert dashboard.make_context("dashboard", words).params["evidence"] == (tmp_path / "away",)


def test_a_replay_is_of_times_in_the_zone(tmp_path: Path) -> None:
    with open_outbox(tmp_path) as box:
        box.trigger("v1", record())
        box.verdict("v1", content(time=TIME)).result(10)
        rows = [message.row for message in box.waiting(0, 10)]
        box.delivered(rows)
    file = ("--file", str(tmp_path / "outbox.sqlite"), "--dry-run")
    span = ("--from", "2026-03-01T13:30", "--to", "2026-03-01T13:31")
    for zone, count in (("UTC", 0), ("Europe/Paris", 1)):
        asked = CliRunner().invoke(outbox, ["replay", *file, *span, "--zone", zone])
        assert asked.output == f"{count} messages would be sent\n"
