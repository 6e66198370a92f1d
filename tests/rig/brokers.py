"""The demo's broker for tests: a kind that is not installed skips the test that wants it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "demo"))

import broker
from broker import HOST, KINDS, free_port

from tests.rig.programs import need

__all__ = ["HOST", "KINDS", "free_port", "running_broker"]


def running_broker(
    kind: str = "auto", port: int | None = None, extra: Sequence[str] = ()
) -> AbstractContextManager[tuple[str, int]]:
    """As the demo's ``running_broker``. Skips where no broker of that kind is installed."""
    if kind == "mosquitto":
        need("mosquitto")
    elif kind == "amqtt":
        pytest.importorskip("amqtt", reason="needs amqtt: pip install amqtt")
    elif all(broker.missing(name) for name in KINDS):
        pytest.skip("needs a broker: apt install mosquitto")
    return broker.running_broker(kind, port, extra)
