"""What people may see of an address that carries a secret."""

from __future__ import annotations

import re

import pytest

from edge_qc.redaction import redacted, redacted_uri

SECRETS = [
    "rtsp://admin:Sekr@3t1@127.0.0.1:1/x",
    "rtsp://admin:Sekr/3t1@127.0.0.1:1/x",
    "rtsp://admin:Sekr?3t1@127.0.0.1:1/x",
    "rtsp://admin:Sekr#3t1@127.0.0.1:1/x",
    "rtsp://admin:Sekr:3t1@127.0.0.1:1/x",
    "rtsp://admin:Sekr 3t1@127.0.0.1:1/x",
    "rtsp://admin:Sekr!3t1@127.0.0.1:1/x",
    "rtsp://admin:Sekr%403t1@127.0.0.1:1/x",
    "RTSPS://Sekr3t1@127.0.0.1:1/x",
    "rtsp://127.0.0.1:1/user=admin_password=Sekr3t1_channel=1",
    "rtsp://127.0.0.1:1/user=admin&pwd=Sekr_3t1&channel=1",
    "rtsp://127.0.0.1:1/x?user=a&password=Sekr3t1",
    "rtsp://127.0.0.1:1/x?token=Sekr/3t1==",
    "rtsp://127.0.0.1:1/x?channel=1&whatever=Sekr3t1",
    "rtsp://127.0.0.1:1/x?Sekr3t1",
    "rtsp://127.0.0.1:7447/aB1Sekr3t1cD2eF3",
    "gst: rtspsrc location=rtsp://127.0.0.1:1/x user-id=a user-pw=Sekr3t1 ! decodebin ! appsink",
    'gst: rtspsrc location=rtsp://127.0.0.1:1/x user-pw="Sekr 3t1" ! decodebin ! appsink',
    "gst:rtspsrc location=rtsp://u:Sekr!3t1@h/x?a=1 ! appsink",
]


def _gives_away(text: str) -> bool:
    return "Sekr" in text or "3t1" in text


@pytest.mark.parametrize("uri", SECRETS)
def test_no_part_of_a_secret_is_shown(uri: str) -> None:
    shown = redacted_uri(uri)
    assert not _gives_away(shown)
    assert "***" in shown
    assert shown.partition(":")[0] == uri.partition(":")[0]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:pa55@host:554/a", "rtsp://user:***@host:554/a"),
        ("rtsp://user:p%40:x@host/a", "rtsp://user:***@host/a"),
        ("rtsp://host/a@b", "rtsp://host/a@b"),
        ("rtsp://10.0.0.5/Streaming/Channels/101?transportmode=unicast",) * 2,
        ("rtsp://10.0.0.5/cam/realmonitor?channel=1&subtype=0",) * 2,
        ("rtsp://10.0.0.5/h264Preview_01_main",) * 2,
        ("file:///data/a@b:c", "file:///data/a@b:c"),
        ("v4l2:///dev/v4l/by-id/usb-046d_Camera?width=1280&fourcc=MJPG",) * 2,
        ("aravis://Basler-21714655?exposure_us=900",) * 2,
        ("gst:v4l2src device=/dev/video0 ! video/x-raw,width=640 ! appsink drop=true",) * 2,
        (
            "gst:rtspsrc location=rtsp://u:p@h/x?key=1 ! appsink drop=true",
            "gst:rtspsrc location=rtsp://u:***@h/x?key=*** ! appsink drop=true",
        ),
    ],
)
def test_the_rest_of_an_address_stays_readable(uri: str, shown: str) -> None:
    assert redacted_uri(uri) == shown


@pytest.mark.parametrize("uri", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        "cannot open {uri}: refused",
        "Failed to resolve hostname {decoded}",
        "method DESCRIBE failed for {cut}",
        'no property "{cut}" in element',
    ],
)
def test_a_driver_that_names_a_secret_is_redacted(uri: str, text: str) -> None:
    """Drivers print addresses whole, decoded, or as a parser of theirs cut them."""
    decoded = uri.replace("%40", "@")
    for cut in re.findall(r"[A-Za-z0-9]*(?:Sekr|3t1)[A-Za-z0-9]*", decoded):
        said = text.format(uri=uri, decoded=decoded, cut=cut)
        assert not _gives_away(redacted(said, uri)), said


def test_addresses_in_a_text_are_redacted_though_nobody_names_them() -> None:
    said = redacted("tried rtsp://u:Sekr3t1@a/x and rtsp://h/y?token=Sekr3t1 in vain")
    assert said == "tried rtsp://u:***@a/x and rtsp://h/y?token=*** in vain"
    assert redacted("could not read 10 of 20 frames") == "could not read 10 of 20 frames"
