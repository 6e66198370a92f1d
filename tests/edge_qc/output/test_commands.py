"""``edge-qc output``, ``check`` and ``doctor``, as a person calls them at a station."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_qc.cli import app
from edge_qc.doctor import Status
from edge_qc.doctor.outputs import reach
from edge_qc.errors import EdgeQCError, SettingsError
from edge_qc.output import check_output
from edge_qc.output.latch import FILE, Latch
from edge_qc.settings import read_settings
from tests.rig.controllers import ModbusController, modbus_controller
from tests.rig.tiny_bundle import make_bundle


@pytest.fixture
def controller() -> Iterator[ModbusController]:
    with modbus_controller() as found:
        yield found


@pytest.fixture
def config(tmp_path: Path, controller: ModbusController) -> Path:
    file = tmp_path / "station.toml"
    file.write_text(
        f"""
[station]
site = "s"
name = "n"
state_dir = "{tmp_path}"
[[camera]]
name = "north"
source = "file:///x/"
die = "Die01"
[mqtt]
host = "127.0.0.1"
[[output]]
name = "plc"
target = "{controller.target}"
deadline_ms = 80
register = 100
hold_ms = 50
"""
    )
    return file


def call(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(part) for part in arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_the_map_is_printed(config: Path) -> None:
    shown = call("output", "map", "--config", config)
    assert "| 103 | 2 | `counter` |" in shown
    assert "| 1 | `toggle` |" in shown


def test_two_outputs_that_overlap_are_refused_by_whatever_looks_at_them(
    config: Path, tmp_path: Path, controller: ModbusController
) -> None:
    """Before a station starts, and before anybody programs a controller by their pages."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").touch()
    text = config.read_text().replace("file:///x/", f"file://{tmp_path}/x")
    text += f'[bundle]\npath = "{make_bundle(tmp_path / "bundle")}"\n'
    config.write_text(text)
    call("check", "--config", config)
    config.write_text(
        f'{text}[[output]]\nname = "two"\ntarget = "{controller.target}"\ndeadline_ms = 80\n'
        'of = ["part"]\nregister = 120\ncoil = 50\n'
    )
    said = "block north of output plc .registers 100 to 143. and block part of output two .from 120"
    for command in (("check",), ("output", "map", "plc")):
        with pytest.raises(SettingsError, match=said):
            call(*command, "--config", config)
    for finding in reach(read_settings(config)):
        assert finding.status is Status.BAD
        assert re.search(said, finding.seen)


def test_a_pulse_moves_it_with_a_warning_and_not_without_it(
    config: Path, controller: ModbusController
) -> None:
    call("output", "test", "plc", "--config", config)
    assert not any(write.coils and write.values[0] for write in controller.writes)
    said = call("output", "test", "plc", "--pulse", "--yes", "--config", config)
    assert f"WARNING: {controller.target} is shown one PASS for 0.05 s in north, part" in said
    pulses = [w.values[0] for w in controller.writes if w.coils and w.address == 3]
    assert pulses == [0, 0, 1, 0]
    assert controller.coils[:6] == [0, 1, 0, 0, 1, 0]
    with pytest.raises(EdgeQCError, match="there are: plc"):
        call("output", "test", "other", "--config", config)


def test_safe_sets_reject_and_names_what_it_cannot_reach(
    config: Path, controller: ModbusController
) -> None:
    controller.coils[:6] = [1] * 6
    controller.stop()
    controller.start()
    assert "plc: REJECT" in call("output", "safe", "--config", config)
    assert controller.coils[:6] == [0, 1, 0, 0, 1, 0]
    controller.stop()
    with pytest.raises(EdgeQCError, match="not set to REJECT: plc"):
        call("output", "safe", "--config", config)


def test_a_fault_is_acknowledged_while_no_station_runs(config: Path, tmp_path: Path) -> None:
    Latch(tmp_path / FILE).set("plc", "the ejector was silent")
    assert "plc: the ejector was silent" in call("output", "acknowledge", "--config", config)
    assert Latch(tmp_path / FILE).standing() == {}
    assert "no output is in FAULT" in call("output", "acknowledge", "--config", config)


def test_an_acknowledgement_that_cannot_be_kept_ends_nothing(config: Path, tmp_path: Path) -> None:
    Latch(tmp_path / FILE).set("plc", "the ejector was silent")
    (tmp_path / "output-acknowledged.json").mkdir()
    with pytest.raises(EdgeQCError, match="Nothing was acknowledged"):
        call("output", "acknowledge", "--config", config)
    assert Latch(tmp_path / FILE).standing() == {"plc": "the ejector was silent"}


def test_doctor_reads_and_writes_nothing(
    config: Path, tmp_path: Path, controller: ModbusController
) -> None:
    settings = read_settings(config)
    (finding,) = reach(settings)
    assert finding.status is Status.GOOD
    assert finding.seen.endswith("answers; blocks north, part")
    assert controller.writes == []
    Latch(tmp_path / FILE).set("plc", "silent")
    controller.stop()
    assert [finding.status for finding in reach(settings)] == [Status.BAD, Status.BAD]


def test_a_missing_package_is_named_with_its_extra(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymodbus.client", None)
    with pytest.raises(EdgeQCError, match=r"pip install .*\[modbus\]"):
        check_output(read_settings(config).output[0])
