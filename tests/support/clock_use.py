# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Records which tests read the real clock, for `make test-dates` (tests/dates.py).

A read by a function of a clock module counts, and so does a process of ours that a test starts. A read at
import or in a fixture of wider scope counts for every test of the file.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from veilleuse.agent import clock as agent_clock
from veilleuse.collector import clock as collector_clock

FOLDER: Final = "CLOCK_USE"
"""Environment variable: the folder of the records. Without records in it, this run makes them."""
ROOT: Final = Path(__file__).parents[2]
_OURS: Final = ("python", "veilleuse")

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
            self._note()
            return function(*arguments)

        return read

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and any(word in str(arguments[1]) for word in _OURS):
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
        """Select the tests of the records, if there are any."""
        if not self._records:
            return
        recorded = {line for file in self._records for line in file.read_text("utf-8").splitlines()}
        kept = [item for item in items if {item.nodeid, item.nodeid.partition("::")[0]} & recorded]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept

    def pytest_sessionfinish(self) -> None:
        """Write the record of this process."""
        if not self._records:
            lines = "".join(f"{line}\n" for line in sorted(self._found))
            (self._folder / f"{os.getpid()}.txt").write_text(lines, "utf-8")


CLOCK_USE: Final = ClockUse(Path(os.environ[FOLDER])) if FOLDER in os.environ else None
"""The plug-in, if the environment asks for it."""
