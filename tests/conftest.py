"""What tests of several rooms share: real brokers on the loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Before torch is imported: workers side by side, and what they start, would wait for each other's
# threads by spinning, five times as long as they compute.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import edge_qc  # noqa: F401 - before any test imports ONNX Runtime
from tests.rig.brokers import KINDS, running_broker

pytest_plugins = [
    "tests.rig.end_of_run",
    "tests.rig.trained",
    "tests.rig.browsers",
    "tests.rig.database_fixtures",
    "tests.rig.compilers",
    "tests.rig.sharing",
    "tests.rig.order",
]


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.broker) for kind in KINDS])
def broker(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Host and port of a running broker, of each kind that is installed."""
    with running_broker(request.param) as address:
        yield address


@pytest.fixture
def mosquitto() -> Iterator[tuple[str, int]]:
    """Host and port of a running mosquitto. Mark the test with ``broker``."""
    with running_broker("mosquitto") as address:
        yield address


@pytest.fixture
def any_broker() -> Iterator[tuple[str, int]]:
    """Host and port of a running broker of the first kind that is installed. Mark with
    ``broker``."""
    with running_broker() as address:
        yield address
