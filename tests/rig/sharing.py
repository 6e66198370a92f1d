"""What many tests need, made once: fixtures of a module, and torch's table of operators.

Under ``--dist loadgroup`` the tests that share a module's fixture go to one worker together; tests
that name a group of their own stay in it.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _operators_are_read_once() -> None:
    """Each export would read the source of a thousand operators anew, a third of its time. Where
    torch has changed its inside, it does so again."""
    if "torch" in sys.modules:
        try:
            exporter = importlib.import_module("torch.onnx._internal.exporter._registration")
            apis = exporter.onnxscript_apis
            apis.get_torchlib_ops = functools.cache(apis.get_torchlib_ops)
        except (ImportError, AttributeError):
            pass


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("xdist_group") is None and _shares(item):
            item.add_marker(pytest.mark.xdist_group(Path(item.nodeid.partition("::")[0]).stem))


def _shares(item: pytest.Item) -> bool:
    """Whether one of its fixtures belongs to its module and outlives the test."""
    if not isinstance(item, pytest.Function):
        return False
    made = item._fixtureinfo.name2fixturedefs.values()
    return any(
        fixture.scope != "function" and fixture.baseid.endswith(".py")
        for fixtures in made
        for fixture in fixtures
    )
