# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Results of the promises' tests: collected while pytest runs, printed at its end, kept in results.json. A pytest plug-in."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.promises.table import BY_NAME, PROMISES

FILE: Final = Path(__file__).with_name("results.json")
DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "promises.md"
_FIGURE: Final = pytest.StashKey[list[str]]()


@dataclass
class Result:
    """What the tests of one promise have reached in one run."""

    passed: bool = True
    figures: list[str] = field(default_factory=list)
    tests: int = 0
    long: bool = False
    day: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    machine: str = field(
        default_factory=lambda: (
            f"{os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release().split('-')[0]}"
        )
    )


class Promises:
    """The plug-in; tests/conftest.py registers it."""

    def __init__(self, config: pytest.Config) -> None:
        self._keep = bool(config.getoption("--promises"))
        self._results: dict[str, Result] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """`--only R16` runs the tests of that promise; `--resume` leaves out what passed today."""
        for item in items:
            for name in names_of(item):
                if name not in BY_NAME:
                    raise pytest.UsageError(f"{item.nodeid}: no promise {name!r} in tests/promises/table.py")
        only = config.getoption("--only")
        done = _passed_today() if config.getoption("--resume") else set()
        if not only and not done:
            return
        wanted = set(only.split(",")) if only else set(BY_NAME)
        if unknown := wanted - set(BY_NAME):
            raise pytest.UsageError(f"no promise {', '.join(sorted(unknown))}: see docs/promises.md")
        kept = [item for item in items if set(names_of(item)) & (wanted - done)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note the outcome of each phase of a promise's test."""
        report = yield
        for name in names_of(item):
            result = self._results.setdefault(name, Result())
            if report.when == "call":
                result.tests += 1
                said: list[str] = item.stash.get(_FIGURE, [])
                result.figures += said
                result.long |= item.get_closest_marker("long") is not None
            if not report.passed:
                result.passed = False
        if report.when == "teardown" and self._keep and names_of(item):
            keep(self._results)
        return report

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """One line per promise that was tried; all of them when results are kept."""
        if not self._results:
            return
        terminalreporter.section("promises")
        for name in BY_NAME if self._keep else self._results:
            terminalreporter.write_line(line(name, self._results.get(name)))


def names_of(item: pytest.Item) -> list[str]:
    """The promises that a test proves."""
    return [name for marker in item.iter_markers("promise") for name in marker.args]


def line(name: str, result: Result | None) -> str:
    """`R1   pass  reached …  (promised: …)`."""
    promise = BY_NAME[name]
    if result is None:
        return f"{name:4} ----  {promise.not_run or 'not tried in this run'}  (promised: {promise.figure})"
    reached = "; ".join(result.figures) or f"{result.tests} tests"
    return f"{name:4} {'pass' if result.passed else 'FAIL'}  {reached}  (promised: {promise.figure})"


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`figure("0 lost of 12,345")`: what this test reached, as docs/promises.md shall say it."""
    found = request.node.stash.setdefault(_FIGURE, [])

    def said(text: str) -> None:
        found.append(text)

    return said


# ------------------------------------------------------------------------------------- results.json


def kept() -> dict[str, dict[str, Any]]:
    """Results of the last long run of each promise."""
    return dict(json.loads(FILE.read_text(encoding="utf-8"))) if FILE.exists() else {}


def keep(results: dict[str, Result]) -> None:
    """Replace what was known of these promises; the others stay."""
    everything = kept() | {name: asdict(result) for name, result in results.items() if result.tests}
    ordered = {name: everything[name] for name in BY_NAME if name in everything}
    draft = FILE.with_suffix(".new")
    draft.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(FILE)


def _passed_today() -> set[str]:
    today = datetime.now(UTC).date().isoformat()
    return {name for name, result in kept().items() if result["passed"] and result["day"] == today}


# ------------------------------------------------------------------------------------ docs/promises.md

_PREAMBLE: Final = """\
<!-- Generated by `make docs` from tests/promises/; never edited. -->
# Promises and proofs

What we promise, the figure that was reached, and how it was measured: `make test-long` runs the tests and keeps what they print;
`make test-long ONLY=R16` runs one. A result says when and on what it was measured. Power cuts, networks, clocks and disks are real ones of a
Linux machine (loop devices, network namespaces, libfaketime, libfiu, full tmpfs); where a test uses a fake, the figure says so.

**Not provable on such a machine**, and not proved: a real suspend, real RAPL counters, the units under a running systemd, Windows, macOS, the
write cache of a real disk, 10,000 real machines.

| promise | what happens | promised | result | reached | measured |
| --- | --- | --- | --- | --- | --- |
"""


def document() -> str:
    """docs/promises.md."""
    return _PREAMBLE + "".join(_rows(kept()))


def _rows(results: dict[str, dict[str, Any]]) -> Iterable[str]:
    for promise in PROMISES:
        result = results.get(promise.name)
        if result is None:
            outcome, reached, measured = f"not run: {promise.not_run or 'not yet'}", "", ""
        else:
            outcome = "pass" if result["passed"] else "fail"
            reached = "; ".join(result["figures"]) or f"{result['tests']} tests"
            measured = f"{result['day']}, {result['machine']}"
        cells = (promise.name, promise.text, promise.figure, outcome, reached, measured)
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"
