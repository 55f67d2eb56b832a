# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs no test that would begin after a moment, and names the files that were not run whole.

A pytest plug-in, for runs with xdist.
"""

from __future__ import annotations

import time
from typing import Any

import pytest


class LastStart:
    """The plug-in that tests/conftest.py registers for `--last-start`."""

    def __init__(self, moment: float) -> None:
        """`moment`: of the monotonic clock, which all processes share."""
        self._moment = moment
        self._missing = dict[str, None]()
        """Ids of tests that no process has run yet, in order."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> bool | None:
        """In a worker: leave a test out that would begin too late."""
        return True if time.monotonic() > self._moment else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """In the main process: note the tests that a worker found; all find the same."""
        if not self._missing:
            self._missing = dict.fromkeys(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test has run."""
        if report.when == "teardown":
            self._missing.pop(report.nodeid, None)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Name the files."""
        for file in dict.fromkeys(test.partition("::")[0] for test in self._missing):
            terminalreporter.write_line(f"not run: {file}")
