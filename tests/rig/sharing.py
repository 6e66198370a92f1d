"""What many tests need, made once: fixtures of a module, and torch's table of operators.

Under ``--dist loadgroup`` the tests that share a module's fixture go to one worker together; tests
that name a group of their own stay in it.
"""

from __future__ import annotations

import functools
import gc
import importlib
import sys
from collections.abc import Generator, Iterator
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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What the tests import lives to the end: looking through it for garbage, again and again,
    would take a tenth of a worker's time."""
    gc.disable()
    collected = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return collected


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    for item in items:
        if item.get_closest_marker("xdist_group") is None and _shares(item):
            item.add_marker(pytest.mark.xdist_group(Path(item.nodeid.partition("::")[0]).stem))
    yield
    if getattr(config.option, "loadgroup", False):
        for item in items:
            _name_the_group(item)


def _name_the_group(item: pytest.Item) -> None:
    """The end of a test's name tells xdist its group. pytest 9.2 has another place for that name
    than xdist 3.8 writes it to, and the groups would be lost without a word:
    https://github.com/pytest-dev/pytest-xdist/issues/1386"""
    group = item.get_closest_marker("xdist_group")
    if group is None or item.nodeid.endswith(f"@{group.args[0]}") or not hasattr(item, "_id"):
        return
    item._id = type(item._id).parse(f"{item.nodeid}@{group.args[0]}")


def _shares(item: pytest.Item) -> bool:
    """Whether one of its fixtures is made for its module and outlives the test."""
    if not isinstance(item, pytest.Function):
        return False
    made = item._fixtureinfo.name2fixturedefs.values()
    return any(
        fixture.scope == "module"
        or (fixture.scope != "function" and fixture.baseid.endswith(".py"))
        for fixtures in made
        for fixture in fixtures
    )
