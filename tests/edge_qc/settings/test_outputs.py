"""[[output]]: what station.toml may say of the way to the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_qc.errors import SettingsError
from edge_qc.settings import Settings, read_settings

STATION = """
[station]
site = "s"
name = "n"
state_dir = "state"
[[camera]]
name = "north"
source = "file:///x/"
die = "Die01"
{camera}
[mqtt]
host = "h"
"""


def read(folder: Path, output: str, camera: str = "") -> Settings:
    file = folder / "station.toml"
    file.write_text(STATION.format(camera=camera) + output)
    return read_settings(file)


def test_an_output_shows_every_camera_and_the_part(tmp_path: Path) -> None:
    settings = read(
        tmp_path, '[[output]]\nname = "plc"\ntarget = "modbus://192.0.2.20"\ndeadline_ms = 80\n'
    )
    (table,) = settings.output
    assert (table.where.host, table.where.port) == ("192.0.2.20", 502)
    assert settings.blocks_of(table) == ("north", "part")


def test_a_pin_shows_the_part(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        '[[output]]\nname = "gate"\ntarget = "gpio:/dev/gpiochip0/27"\ndeadline_ms = 80\n',
    )
    assert settings.blocks_of(settings.output[0]) == ("part",)


OPCUA = 'target = "opcua://h"\ndeadline_ms = 80\n'
PIN = 'target = "gpio:/dev/gpiochip0/27"\ndeadline_ms = 80\n'


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('target = "profinet://h"\ndeadline_ms = 80', "unknown target 'profinet://h', wanted modb"),
        ('target = "modbus://me:secret@h"\ndeadline_ms = 80', "wanted modbus://HOST:502 and noth"),
        ('target = "modbus://h"', "deadline_ms: is missing"),
        ('target = "modbus://h"\ndeadline_ms = 0', "greater than 0"),
        ('target = "modbus://h"\ndeadline_ms = 80\nof = ["south"]', "'south' is neither part nor"),
        (OPCUA + "timeout_ms = 6000", "less than or equal to 5000"),
        (OPCUA + "poll_ms = 60000", "less than or equal to 10000"),
        (OPCUA + "heartbeat_ms = 1", "greater than or equal to 20"),
        (OPCUA + "poll_ms = 0", "greater than or equal to 1"),
        (PIN + "register = 3", "register belongs to modbus, and this is gpio"),
        (OPCUA + "pulse_ms = 3", "pulse_ms belongs to gpio, and this is opcua"),
        (OPCUA + 'node = "ns=2;s=x"', "node needs {block} and {field} in it"),
        (OPCUA + 'security_policy = "Basic256Sha256"', "needs cert_file, key_file and server_cert"),
        (OPCUA + "of = []", "of names no block: name one, or leave of out"),
        (PIN + 'of = ["north", "part"]', "a pin shows one block, of has 2"),
        (PIN + "delay_ms = 20", "delay_ms 20 is shorter than deadline_ms 80"),
        (PIN + 'confirm = "count"', "wants a controller"),
        (PIN + 'confirm = "22"', "wanted gpio:/dev/gpiochip0/22, or count"),
        (PIN + "pulse_mss = 20", "did you mean 'pulse_ms'?"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, output: str, said: str) -> None:
    with pytest.raises(SettingsError, match="fault") as error:
        read(tmp_path, f'[[output]]\nname = "plc"\n{output}\n')
    assert said in str(error.value)
    assert "secret" not in str(error.value)


GATE = f'[[output]]\nname = "gate"\n{PIN}'
BELT = 'encoder = "gpio:/dev/gpiochip0/5"\ndelay_edges = 240\n'
OTHER = '[[output]]\nname = "two"\ntarget = "gpio:/dev/gpiochip0/{}"\ndeadline_ms = 80\n'


@pytest.mark.parametrize(
    ("output", "camera", "said"),
    [
        (GATE + "alive = 27", "", "output gate: target and output gate: alive use one pin, /dev/"),
        (GATE + 'alive = "27"', "", "gate: alive use one pin"),
        (GATE + 'confirm = "gpio:/dev/gpiochip0/27"', "", "gate: confirm and output gate: target"),
        (GATE + OTHER.format(27), "", "output gate: target and output two: target use one pin"),
        (GATE + BELT + OTHER.format(5), "", "output gate: encoder and output two: target"),
        (GATE, 'trigger = "gpio:/dev/gpiochip0/27"', "camera north: trigger and output gate: targ"),
    ],
)
def test_a_pin_is_used_once(tmp_path: Path, output: str, camera: str, said: str) -> None:
    """Else a heartbeat could drive an ejector to PASS, or one holds the pin and the other waits."""
    with pytest.raises(SettingsError) as error:
        read(tmp_path, output + "\n", camera)
    assert said in str(error.value)


def test_cameras_may_share_a_triggers_pin_and_pins_of_two_chips_have_one_number(
    tmp_path: Path,
) -> None:
    trigger = 'trigger = "gpio:/dev/gpiochip0/17{}"\n'
    second = '[[camera]]\nname = "south"\nsource = "file:///y/"\ndie = "Die02"\n'
    there = GATE + "alive = 22\n" + OTHER.format(5).replace("chip0", "chip1") + BELT
    there = there.replace("gpiochip0/5", "gpiochip0/22").replace('chip0/22"', 'chip2/22"')
    read(tmp_path, there, trigger.format("") + second + trigger.format(""))
    with pytest.raises(SettingsError, match="camera north: trigger and camera south: trigger"):
        read(tmp_path, there, trigger.format("") + second + trigger.format("?edge=falling"))


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    one = f'[[output]]\nname = "plc"\n{OPCUA}'
    with pytest.raises(SettingsError, match="two outputs are named 'plc'"):
        read(tmp_path, one + one)


def test_a_camera_may_be_triggered_by_a_controller_that_is_there(tmp_path: Path) -> None:
    camera = 'trigger = "output:plc"'
    settings = read(tmp_path, f'[[output]]\nname = "plc"\n{OPCUA}', camera)
    assert settings.camera[0].triggering.asked
    assert settings.triggers_of(settings.output[0])
    for output in ("", f'[[output]]\nname = "plc"\n{PIN}'):
        with pytest.raises(SettingsError, match=r"there is no\s+\[\[output\]\] 'plc' with a contr"):
            read(tmp_path, output, camera)
