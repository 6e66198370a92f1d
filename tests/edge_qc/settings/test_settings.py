"""station.toml: read whole, refused whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_qc.errors import SettingsError
from edge_qc.settings import read_settings
from edge_qc.settings.fields import Table

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


def test_no_bound_of_a_setting_is_hidden_by_that_of_its_type() -> None:
    """Of two bounds of one kind, a type's own and a field's, only the last would hold."""
    found = []
    tables = [Table]
    while tables:
        table = tables.pop()
        tables += table.__subclasses__()
        for name, field in table.model_fields.items():
            kinds = [type(bound).__name__ for bound in field.metadata]
            found += [f"{table.__name__}.{name}" for kind in {*kinds} if kinds.count(kind) > 1]
    assert found == []


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


def test_a_fault_of_the_only_camera_is_one_fault(tmp_path: Path) -> None:
    """And not also that there is no camera."""
    text = GOOD[: GOOD.index("[[camera]]")] + (
        '[[camera]]\nname = "north"\nsource = "file:///tmp"\ndie = "Die01"\ntrigger = "wat"\n'
        "colour = 1\n"
    )
    with pytest.raises(SettingsError) as caught:
        read_settings(written(tmp_path, text))
    assert "2 faults" in str(caught.value)
    assert "camera[1].colour: unknown key; known are name, source" in str(caught.value)
    assert "at least 1 item" not in str(caught.value)
    empty = GOOD[: GOOD.index("[[camera]]")] + "camera = []\n"
    with pytest.raises(SettingsError, match="camera"):
        read_settings(written(tmp_path, empty))


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


def test_a_name_that_is_no_topic_level_is_told_what_may_stand_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"name: 'a/b' cannot be one level .* letters, digits"):
        read_settings(written(tmp_path, GOOD.replace('name = "one"', 'name = "a/b"')))


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


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("mqtt://broker:1883", 'write "broker", and port = 1883 beside it'),
        ("broker:1883", 'write "broker", and port = 1883 beside it'),
        (" broker ", 'write "broker"'),
        ("broker.example/", 'write "broker.example"'),
        ("[::1]:1883", 'write "::1", and port = 1883 beside it'),
        ("mqtts://u:Sekr3t1@b.example:8883", 'write "b.example", and port = 8883, ca_file for TLS'),
        ("10.0.0.300", "is no host: wanted a name"),
        ("", "is no host: wanted a name"),
    ],
)
def test_a_host_that_is_more_or_less_than_one_is_refused(
    tmp_path: Path, host: str, advice: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(written(tmp_path, GOOD.replace('"localhost"', f'"{host}"')))
    assert f"mqtt.host: is {'no' if 'no host' in advice else 'more than a'} host" in str(
        caught.value
    )
    assert advice in str(caught.value)
    assert "Sekr3t1" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["::1", "fe80::1%eth0", "192.0.2.5", "b-1.example.", "bücher.example"]
)
def test_every_way_to_write_a_host_is_taken(tmp_path: Path, host: str) -> None:
    assert read_settings(written(tmp_path, GOOD.replace("localhost", host))).mqtt.host == host


def test_a_byte_order_mark_is_no_part_of_what_it_marks(tmp_path: Path) -> None:
    """Windows' editors write one in front of UTF-8."""
    (tmp_path / "secret").write_text("hunter2\r\n", encoding="utf-8-sig")
    text = GOOD.replace(
        'host = "localhost"', 'host = "h"\nusername = "u"\npassword_file = "secret"'
    )
    (tmp_path / "station.toml").write_text(text, encoding="utf-8-sig")
    password = read_settings(tmp_path / "station.toml").mqtt.password()
    assert password is not None
    assert password.get_secret_value() == "hunter2"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named_and_no_byte_of_a_password(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "secret").write_text("hünter2\n", encoding=encoding)
    text = GOOD.replace(
        'host = "localhost"', 'host = "h"\nusername = "ü"\npassword_file = "secret"'
    )
    settings = read_settings(written(tmp_path, text))
    with pytest.raises(SettingsError, match=r"secret is not UTF-8\. Save it as UTF-8") as caught:
        settings.mqtt.password()
    assert "0xf" not in str(caught.value)
    (tmp_path / "station.toml").write_text(text, encoding=encoding)
    with pytest.raises(SettingsError, match=r"station.toml: is not UTF-8 .* Save it as UTF-8"):
        read_settings(tmp_path / "station.toml")


def test_a_source_shows_no_secret_however_it_is_printed(tmp_path: Path) -> None:
    text = GOOD.replace("file:///tmp", "rtsp://admin:Sekr3t1@192.0.2.7/x")
    settings = read_settings(written(tmp_path, text))
    printed = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
    assert "Sekr3t1" not in printed
    assert "rtsp://admin:***@192.0.2.7/x" in printed
    assert settings.camera[0].source.uri == "rtsp://admin:Sekr3t1@192.0.2.7/x"


@pytest.mark.parametrize("key", ["monitor", "steady"])
def test_process_monitoring_ends_by_either_name(tmp_path: Path, key: str) -> None:
    """``steady`` is the key of earlier versions; a station.toml that has it still works."""
    text = GOOD.replace('die = "Die01"', f'die = "Die01"\n{key} = false')
    assert text != GOOD
    settings = read_settings(written(tmp_path, text))
    assert [camera.monitor for camera in settings.camera] == [False]
    assert all(camera.monitor for camera in read_settings(written(tmp_path, GOOD)).camera)
