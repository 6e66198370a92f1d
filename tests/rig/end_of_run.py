"""The end of a run of the tests: what was skipped for want of what, and how to get it.

With ``--only-skip MARKER`` a run fails where a test without that marker was skipped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-skip",
        action="append",
        metavar="MARKER",
        help="fail where a test is skipped that has none of these markers",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(EndOfRun(config), "end-of-run")


class EndOfRun:
    """Listens to the reports of tests, also to those of the workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._allowed: list[str] | None = config.getoption("only_skip")
        self._reasons: list[str] = []
        self._too_many: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report, report.keywords)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report, ())

    def _note(
        self, report: pytest.TestReport | pytest.CollectReport, markers: Container[str]
    ) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2].removeprefix("Skipped: ")
        self._reasons.append(reason)
        if self._allowed is not None and not any(name in markers for name in self._allowed):
            self._too_many.append(f"{report.nodeid}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._too_many and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for title, lines in (
            ("not run here", what_was_skipped(self._reasons)),
            ("skipped, and must not be", self._too_many),
        ):
            if lines:
                terminalreporter.section(title)
                for line in lines:
                    terminalreporter.line(line)


def what_was_skipped(reasons: list[str]) -> list[str]:
    """The lines that end a run; none where nothing was skipped.

    reasons: why each test was skipped. One line for each missing program or other reason, the most
    costly first, and one that installs what Debian has.
    """
    counts: Counter[str] = Counter()
    for reason in reasons:
        what = re.fullmatch(r"needs (.+): apt install (.+)", reason)
        # A test that needs two programs is counted with each.
        counts.update([f"needs {each}" for each in what[1].split(", ")] if what else [reason])
    lines = [
        f"{count:4} skipped: {reason}"
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    packages = {
        package
        for reason in reasons
        for line in re.findall(r": apt install (.+)", reason)
        for package in line.split()
    }
    if packages:
        lines.append(f"On Debian or Ubuntu: sudo apt install {' '.join(sorted(packages))}")
    return lines
