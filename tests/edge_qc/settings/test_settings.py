"""station.toml: read whole, refused whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_qc.errors import SettingsError
from edge_qc.settings import read_settings

GOOD = """
[station]
site = "plant"
name = "line"
state_dir = "state"
[bundle]
path = "bundle"
[mqtt]
host = "localhost"
[[camera]]
name = "one"
source = "file:///tmp"
die = "Die01"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "station.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, GOOD))
    assert settings.station.state_dir == tmp_path / "state"
    assert settings.bundle.path == tmp_path / "bundle"


def test_three_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """An unknown key with the near one, a wrong value with what was seen, a missing key."""
    text = GOOD.replace('host = "localhost"', "prot = 1883\nport = 70000").replace(
        'site = "plant"', 'site = "plant/1"'
    )
    with pytest.raises(SettingsError) as caught:
        read_settings(written(tmp_path, text))
    message = str(caught.value)
    assert "4 faults" in message
    assert "mqtt.prot: unknown key; did you mean 'port'?" in message
    assert "mqtt.host: is missing" in message
    assert "mqtt.port" in message
    assert "70000" in message
    assert "station.site" in message
    assert "plant/1" in message
    assert caught.value.exit_status == 78


def test_an_unknown_table_is_told_with_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'engine'"):
        read_settings(written(tmp_path, GOOD + "\n[engin]\nthreads = 2\n"))


def test_a_camera_needs_a_die_or_a_table(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"camera\[1\]: give die, or a table"):
        read_settings(written(tmp_path, GOOD.replace('die = "Die01"', "")))


def test_two_cameras_of_one_name_are_refused(tmp_path: Path) -> None:
    camera = GOOD[GOOD.index("[[camera]]") :]
    with pytest.raises(SettingsError, match="two cameras are named 'one'"):
        read_settings(written(tmp_path, GOOD + camera))


@pytest.mark.parametrize("text", ["[station", "\x00", "a = [1,"])
def test_what_is_not_toml_is_told_with_its_place(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="cannot be read as TOML"):
        read_settings(written(tmp_path, text))


def test_a_missing_file_says_where_to_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"station\.example\.toml"):
        read_settings(tmp_path / "none.toml")


def test_the_password_stays_out_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    text = GOOD.replace(
        'host = "localhost"', 'host = "h"\nusername = "u"\npassword_file = "secret"'
    )
    settings = read_settings(written(tmp_path, text))
    password = settings.mqtt.password()
    assert password is not None
    assert password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(password)
    assert "hunter2" not in settings.model_dump_json()


def test_a_credential_is_what_systemd_handed_over_or_roots_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = GOOD.replace(
        'host = "localhost"',
        'host = "localhost"\nusername = "line"\npassword_file = "credential:mqtt.password"',
    )
    file = written(tmp_path, text)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert read_settings(file).mqtt.password_file == tmp_path / "credentials" / "mqtt.password"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/edge-qc.service")
    handed = read_settings(file).mqtt.password_file
    assert handed == Path("/run/credentials/edge-qc.service/mqtt.password")
