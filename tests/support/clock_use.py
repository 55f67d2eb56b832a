# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Records which tests read the real clock, for `make test-dates` (tests/dates.py).

A read by a function of a clock module counts, but for those of STAMPS, and so does a process of ours that a
test starts. A read at import or in a fixture of wider scope counts for every test of the file. Tests marked
`any_date` run on the first day and, by file, on one of the others. After the first day, tests of Hypothesis
have few examples.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import is_hypothesis_test, settings

from veilleuse.agent import clock as agent_clock
from veilleuse.collector import clock as collector_clock

FOLDER: Final = "CLOCK_USE"
"""Environment variable: the folder of the records. Without records in it, this run makes them."""
DAY: Final = "CLOCK_DAY"
"""Environment variable: number of the day, from 0 on, and number of days."""
ANY_DATE: Final = "any_date"
"""Marks expensive tests whose result does not depend on the date, although what they run reads it."""
STAMPS: Final = {
    ("tests/promises/results.py", "_today"),  # the day of a result
    ("collector/veilleuse/collector/ingest/counters.py", "__init__"),  # seconds since the process was stopped
    ("collector/veilleuse/collector/store/sqlite/server_sums.py", "begin"),  # a number of days before today
    ("collector/veilleuse/collector/store/sqlite/ingest.py", "<lambda>"),  # idem, and the day of a stream
}
"""(file, function) whose read of the clock is written down, or counted from, without a calendar."""
EXAMPLES: Final = 8
ROOT: Final = Path(__file__).parents[2]
_OURS: Final = re.compile(r"(^|[/\s;&])(python[\d.]*|veilleuse(-agent)?|make)(\s|$)")
"""In a word of a command line. Folders do not count: those of all tests are in veilleuse-tests-…"""

T = TypeVar("T")


class ClockUse:
    """A ClockUse is a plug-in that records the tests that read the clock, or selects those recorded."""

    def __init__(self, folder: Path) -> None:
        """`folder` exists."""
        self._folder = folder
        self._records = sorted(folder.glob("*.txt"))
        self._found: set[str] = set()
        self._running = ""
        """Node id of the test that runs, or its file while a fixture of wider scope is made."""
        if not self._records:
            for module in (agent_clock, collector_clock):
                for name, function in inspect.getmembers(module, inspect.isfunction):
                    setattr(module, name, self._noting(function))
            sys.addaudithook(self._audit)

    def _noting(self, function: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(function)
        def read(*arguments: Any) -> T:
            code = sys._getframe(1).f_code
            if not any(code.co_name == name and code.co_filename.endswith(file) for file, name in STAMPS):
                self._note()
            return function(*arguments)

        return read

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "subprocess.Popen":
            return
        words = [arguments[1]] if isinstance(arguments[1], str | bytes | os.PathLike) else arguments[1]
        if any(_OURS.search(os.fsdecode(word)) for word in words):
            self._note()

    def _note(self) -> None:
        if self._running:
            self._found.add(self._running)
            return
        frame = sys._getframe(1)
        while frame is not None:
            file = Path(frame.f_code.co_filename)
            if file.name.startswith("test_") and file.is_relative_to(ROOT):
                self._found.add(str(file.relative_to(ROOT)))
            frame = frame.f_back  # type: ignore[assignment]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note reads for a test."""
        self._running = item.nodeid
        try:
            return (yield)
        finally:
            self._running = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Note reads of a wider fixture for the whole file."""
        before = self._running
        if fixturedef.scope != "function":
            self._running = before.partition("::")[0]
        try:
            return (yield)
        finally:
            self._running = before

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Select the tests of the records, if there are any, and give them few examples."""
        if not self._records:
            return
        recorded = {line for file in self._records for line in file.read_text("utf-8").splitlines()}
        kept = [
            item
            for item in items
            if {item.nodeid, item.nodeid.partition("::")[0]} & recorded and self._is_due(item)
        ]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept
        for function in {item.function for item in kept if isinstance(item, pytest.Function)}:
            if is_hypothesis_test(function):
                own = function._hypothesis_internal_use_settings
                fewer = settings(own, max_examples=min(own.max_examples, EXAMPLES))
                function._hypothesis_internal_use_settings = fewer

    @staticmethod
    def _is_due(item: pytest.Item) -> bool:
        if item.get_closest_marker(ANY_DATE) is None or DAY not in os.environ:
            return True
        day, days = map(int, os.environ[DAY].split())
        return zlib.crc32(item.path.name.encode()) % (days - 1) == day - 1

    def pytest_sessionfinish(self) -> None:
        """Write the record of this process."""
        if not self._records:
            lines = "".join(f"{line}\n" for line in sorted(self._found))
            (self._folder / f"{os.getpid()}.txt").write_text(lines, "utf-8")


CLOCK_USE: Final = ClockUse(Path(os.environ[FOLDER])) if FOLDER in os.environ else None
"""The plug-in, if the environment asks for it."""
