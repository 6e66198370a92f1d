"""The key `trigger` of a camera."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edge_qc.settings import CameraTable
from edge_qc.settings.triggering import Pin, triggering


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("gpio:/dev/gpiochip0/17", Pin("/dev/gpiochip0", 17)),
        ("gpio:/dev/gpiochip1/PQ.05", Pin("/dev/gpiochip1", "PQ.05")),
        (
            "gpio:/dev/gpiochip0/3?edge=falling&debounce_ms=2.5&bias=pull-up",
            Pin("/dev/gpiochip0", 3, "falling", 2.5, "pull-up"),
        ),
    ],
)
def test_a_pin_is_read(text: str, pin: Pin) -> None:
    assert triggering(text).pin == pin


def test_who_asks_and_whose_silence_is_health() -> None:
    kinds = {text: triggering(text) for text in ("free", "mqtt", "line:Line1")}
    assert [kind.asked for kind in kinds.values()] == [False, True, False]
    assert [kind.idle_is_health for kind in kinds.values()] == [False, True, True]
    assert kinds["line:Line1"].line == "Line1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gipo:/dev/gpiochip0/17", "unknown trigger"),
        ("", "unknown trigger"),
        ("mqtt:x", "takes nothing behind it"),
        ("line:", "such as line:Line1"),
        ("gpio:17", "wants a chip and a pin"),
        ("gpio:/dev/gpiochip0/17?edge=both", "edge=both, wanted edge=rising|falling"),
        ("gpio:/dev/gpiochip0/17?pull=up", "option pull=up"),
    ],
)
def test_a_wrong_one_is_refused_with_what_is_wanted(text: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CameraTable.model_validate({"name": "n", "source": "x", "die": "d", "trigger": text})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"trigger": "line:Line1"}, "trigger = 'line:Line1'"),
        ({"trigger": "mqtt"}, "trigger = 'mqtt'"),
        ({"trigger": "gpio:/dev/gpiochip0/17"}, "trigger = 'gpio:"),
        ({"watch": True}, "watch = true"),
    ],
)
def test_a_pace_is_refused_where_every_picture_counts(more: dict[str, object], named: str) -> None:
    """It would leave out pictures that a trigger, or another program, has made."""
    camera = {"name": "n", "source": "x", "die": "d", **more}
    with pytest.raises(ValidationError, match="fps = 10 is the pace") as caught:
        CameraTable.model_validate({**camera, "fps": 10})
    assert named in str(caught.value)
    assert "Remove fps" in str(caught.value)
    assert CameraTable.model_validate(camera).fps is None
