# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Prints the files of tests that took longest, and keeps what each took, for `make quick`.

A pytest plug-in.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import pytest

SHOWN: Final = 10
RECORD: Final = Path(__file__).parents[2] / ".pytest_cache" / "file_seconds.json"


def recorded_seconds() -> dict[str, float]:
    """Return file of tests → seconds that its tests took when it last ran whole here."""
    return dict(json.loads(RECORD.read_text("utf-8"))) if RECORD.exists() else {}


class SlowestFiles:
    """The plug-in that tests/conftest.py registers."""

    def __init__(self) -> None:
        self._seconds = defaultdict[str, float](float)
        """File → seconds of its tests with what they set up, each process of the run counted for itself."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what a phase of a test took."""
        self._seconds[report.nodeid.partition("::")[0]] += report.duration

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Keep what each file took, if the files ran whole."""
        if exitstatus == 0 and not session.config.option.keyword:
            RECORD.parent.mkdir(exist_ok=True)
            RECORD.write_text(json.dumps(recorded_seconds() | self._seconds, indent=1), "utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the slowest files, their sum and the sum of all."""
        slowest = sorted(self._seconds.items(), key=lambda one: -one[1])[:SHOWN]
        total, theirs = sum(self._seconds.values()), sum(seconds for _, seconds in slowest)
        terminalreporter.section(f"the {len(slowest)} slowest files: {theirs:.0f} of {total:.0f} s")
        for file, seconds in slowest:
            terminalreporter.write_line(f"{seconds:7.1f} s  {file}")
