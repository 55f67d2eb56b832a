# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A test waits for an event, never for a time, and judges no time: a busy machine must not turn it red."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.tree import ROOT, files, may_name

TESTS: Final = ROOT / "tests"
SLEEPS: Final = {
    "unit": 0,
    "conformance": 0,
    "architecture": 0,
    "docs": 0,
    "integration": 0,
    "support": 2,
    "promises": 3,
}
"""Folder → sleeps that its files may have. It goes down only."""
STOPWATCHES: Final = {"unit": 0, "conformance": 0, "architecture": 0, "docs": 0, "integration": 0}
"""Folder → reads of a clock that measures durations. Support and promises have some: they wait and print."""
CLOCKS: Final = {
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "process_time_ns",
    "thread_time",
}
WAITS: Final = {"wait", "join", "get", "result", "communicate"}
"""Methods that wait for something for as many seconds as their argument says."""
SHORTEST_SECONDS: Final = 30.0
"""A number below this is no timeout of a test: on a busy machine it is over too soon."""


def sleeps(tree: ast.AST) -> Iterator[int]:
    """Yield the line of each sleep: of this process, of a program in a string, or a wait for a short time."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep"),
                args=[ast.Constant(value=0)],
            ):
                pass  # lets other tasks run
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep")):
                yield node.lineno
            case ast.ImportFrom(module="time" | "asyncio") if {one.name for one in node.names} & {"sleep"}:
                yield node.lineno
            case ast.Constant(value=str(text)) if re.search(r"\btime\.sleep\([^)]", text):
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr=name)) if name in WAITS and _is_short(node):
                yield node.lineno


def _is_short(call: ast.Call) -> bool:
    given = [
        *(call.args if len(call.args) == 1 else ()),
        *(one.value for one in call.keywords if one.arg == "timeout"),
    ]
    numbers = (one.value for one in given if isinstance(one, ast.Constant))
    return any(isinstance(one, int | float) and 0 < one < SHORTEST_SECONDS for one in numbers)


def stopwatches(tree: ast.AST) -> Iterator[int]:
    """Yield the line of each read of a clock that measures durations."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in CLOCKS:
                yield node.lineno
            case ast.ImportFrom(module="time") if {one.name for one in node.names} & CLOCKS:
                yield node.lineno


SAMPLES_OF_SLEEP: Final = (
    "import time; time.sleep(0.3)",
    "from time import sleep",
    "import asyncio; asyncio.sleep(1)",
    "program = 'import time; time.sleep(60)'",
    "threading.Event().wait(0.05)",
    "over.wait(timeout=0.2)",
    "future.result(5)",
    "thread.join(timeout=10)",
    "answers.get(timeout=2)",
)
SAMPLES_OF_WAITING: Final = (
    "import asyncio; asyncio.sleep(0)",
    "machine.sleep(60_000)",
    "done.wait(PATIENCE_SECONDS)",
    "thread.join()",
    "thread.join(60)",
    "future.result(0)",
    "settings.get('port', 5)",
)


@pytest.mark.parametrize("code", SAMPLES_OF_SLEEP)
def test_a_sleep_is_found(code: str) -> None:
    """Of this process, imported, in a program that a test starts, or as a wait with a short end."""
    assert list(sleeps(ast.parse(code)))


@pytest.mark.parametrize("code", SAMPLES_OF_WAITING)
def test_waiting_for_an_event_is_no_sleep(code: str) -> None:
    """Other tasks' turn, a fake machine's virtual night, and events with a generous end are allowed."""
    assert not list(sleeps(ast.parse(code)))


@pytest.mark.parametrize("folder", SLEEPS)
def test_tests_wait_for_events(folder: str) -> None:
    """A sleep is too short on a busy machine and too long on every other one."""
    found = _found(folder, {"sleep", *WAITS}, sleeps)
    assert len(found) <= SLEEPS[folder], f"wait for the event itself (tests/support/waiting.py): {found}"


@pytest.mark.parametrize("folder", STOPWATCHES)
def test_tests_judge_no_time(folder: str) -> None:
    """Speed is printed by a bench, or judged in `make test-long` with a margin."""
    found = _found(folder, CLOCKS, stopwatches)
    assert len(found) <= STOPWATCHES[folder], f"assert the fact, not the time that it took: {found}"


def _found(folder: str, names: set[str], scan: Callable[[ast.AST], Iterator[int]]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files(".py", under=TESTS / folder)
        if file != Path(__file__) and may_name(text := file.read_text(encoding="utf-8"), names)
        for line in scan(ast.parse(text))
    ]
