"""The order of the tests over several workers: what takes long goes first, and what computes beside
what waits, so that neither the processor nor a worker is idle at the end.

Only the order depends on these lists, of modules and of single tests in them. What is in neither
comes after them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, zip_longest

import pytest

COMPUTE = (
    # The first makes the run and the bundle of ``trained``; others that want them come later.
    "test_tuning",
    "test_deeppcb",
    "test_nothing_leaves",
    "test_processes",
    "test_remote",
    "test_release",
    "test_graph",
    "test_training",
    "test_resuming",
    "test_report",
    "test_calibrate",
    "test_readme",
    "test_train_command",
    "test_study",
    "test_aligned",
    "test_qualification",
    "test_synthetic",
    "test_precision",
    "test_efficientnet_lite",
    "test_padim",
    "test_another_day",
    "test_report_material",
    "test_networks",
    "test_lite0_graph",
    "test_study_configurations",
)
WAIT = (
    "test_laws::test_the_station_alone",
    "test_outages",
    "test_dashboard_page",
    "test_end_to_end",
    "test_gpu_packages",
    "test_broker",
    "test_secrets",
    "test_laws::test_every_command_explains_itself",
    "test_skips::test_the_end_adds_up_what_was_skipped",
    "test_dashboard_shift",
    "test_recorder",
    "test_commission",
    "test_notices",
    "test_conflict",
    "test_triggers",
    "test_camera_watched",
    "test_opcua",
    "test_reasons",
    "test_pin",
    "test_watch",
    "test_dashboard_server",
    "test_dashboard_access",
    "test_review",
    "test_mqtt",
    "test_inbox",
    "test_golden_part",
    "test_camera_live",
    "test_camera_failures",
    "test_build",
    "test_changeover",
    "test_slots",
    "test_fleet",
    "test_camera_rtsp",
)


def pytest_configure(config: pytest.Config) -> None:
    # Otherwise xdist starts with those groups that have most tests.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not getattr(config.option, "loadgroup", False):
        return
    waiting: dict[str, list[list[pytest.Item]]] = {}
    for unit in _units(items):
        waiting.setdefault(_listed(unit[0]), []).append(unit)
    kinds = [_taken(waiting, names) for names in (COMPUTE, WAIT)]
    turns = chain.from_iterable(zip_longest(*kinds, fillvalue=[]))
    rest = chain.from_iterable(waiting.values())
    items[:] = chain.from_iterable(chain(turns, rest))


def _listed(item: pytest.Item) -> str:
    """The name under which a test stands in the lists, if it does."""
    single = f"{item.path.stem}::{getattr(item, 'originalname', item.name)}"
    return single if single in COMPUTE or single in WAIT else item.path.stem


def _units(items: Iterable[pytest.Item]) -> list[list[pytest.Item]]:
    """What xdist gives to a worker together."""
    units: dict[str, list[pytest.Item]] = {}
    for item in items:
        group = item.get_closest_marker("xdist_group")
        units.setdefault(group.args[0] if group else item.nodeid, []).append(item)
    return list(units.values())


def _taken(
    waiting: dict[str, list[list[pytest.Item]]], names: Iterable[str]
) -> list[list[pytest.Item]]:
    return [unit for name in names for unit in waiting.pop(name, [])]
