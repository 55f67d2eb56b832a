# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Collects the results of the promises' tests while pytest runs, prints them and keeps them in results.json.

A pytest plug-in.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from tests.promises.table import BY_NAME, PROMISES, Promise
from tests.support import clock
from tests.support.processes import ran

ROOT: Final = Path(__file__).parents[2]
FILE: Final = Path(__file__).with_name("results.json")
DOCUMENT: Final = ROOT / "docs" / "promises.md"
_FIGURE: Final = pytest.StashKey[list[str]]()

STALE_COMMITS: Final = 300
"""Commits that change what a test runs, from which on its result is stale."""

Results = dict[str, dict[str, "Result"]]
"""Promise → test id → result. A test that runs again replaces only its own result."""


@cache
def code() -> str:
    """Return the short hash of this checkout's commit, with `+` where something is not committed yet."""
    git = ["git", "-C", str(FILE.parent)]
    head = ran([*git, "rev-parse", "--short=7", "HEAD"])
    if head.returncode:
        return "no repository"
    others = ran(
        [*git, "status", "--porcelain", "--", ":/", f":(exclude,top){FILE.relative_to(ROOT)}"], check=True
    )
    return head.stdout.strip() + ("+" if others.stdout else "")


@dataclass
class Result:
    """The result of one test."""

    passed: bool = True
    figures: list[str] = field(default_factory=list)
    long: bool = False
    measured: str = field(
        default_factory=lambda: (
            f"{_today()} at {code()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"Linux {platform.release().split('-')[0]}"
        )
    )
    """Day, commit that was tested, and machine."""

    def document(self) -> dict[str, object]:
        """Return the fields that differ from those of a test that passed without a figure."""
        plain = Result(measured="")
        return {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}

    @property
    def commit(self) -> str:
        """Return the commit in `measured`, without the mark of what was not committed."""
        return self.measured.partition(" at ")[2].partition(",")[0].rstrip("+")


@dataclass
class Count:
    """What a run that found all tests counted. The page asks git nothing more: clones may be shallow."""

    commit: str = ""
    tests: dict[str, int] = field(default_factory=dict)
    """Promise → its tests that exist."""
    since: dict[str, dict[str, int | None]] = field(default_factory=dict)
    """Promise → commit of a result → commits since that change what its tests run; None: not in history."""


def _today() -> str:
    return clock.today().isoformat()


class Promises:
    """The pytest plug-in that tests/conftest.py registers."""

    def __init__(self, config: pytest.Config) -> None:
        self._keep = bool(config.getoption("--promises"))
        self._results: Results = {}
        self._there: set[str] = set()
        """Ids of all tests of promises that were found, run or not."""
        self._tests = Counter[str]()
        """Promise → number of these tests."""
        self._is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """`--only R16` runs the tests of that promise; `--resume` leaves out promises that passed today."""
        self._there = {item.nodeid for item in items if names_of(item)}
        self._tests = Counter(name for item in items for name in set(names_of(item)))
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
            result = self._results.setdefault(name, {}).setdefault(item.nodeid, Result())
            said: list[str] = item.stash.get(_FIGURE, [])
            result.figures = list(said)
            result.long = item.get_closest_marker("long") is not None
            result.passed &= report.passed
        if report.when == "teardown" and self._keep and names_of(item):
            keep(self._results, self._there)
        return report

    def pytest_sessionfinish(self) -> None:
        """Count tests and commits, where all tests were found."""
        if self._keep and self._is_whole and self._tests:
            results = {
                name: {test: one for test, one in tests.items() if test in self._there}
                for name, tests in kept().items()
            }
            _write(results, _count(results, self._tests))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print one line per promise that was tried, or per promise when results are kept."""
        if not self._results:
            return
        terminalreporter.section("promises")
        for name in BY_NAME if self._keep else self._results:
            terminalreporter.write_line(line(name, self._results.get(name)))


def names_of(item: pytest.Item) -> list[str]:
    """Return the promises that a test proves."""
    return [name for marker in item.iter_markers("promise") for name in marker.args]


def line(name: str, results: dict[str, Result] | None) -> str:
    """Return `R1   pass  reached …  (promised: …)`."""
    promise = BY_NAME[name]
    if not results:
        return f"{name:4} ----  {promise.not_run or 'not tried in this run'}  (promised: {promise.figure})"
    passed = all(result.passed for result in results.values())
    return (
        f"{name:4} {'pass' if passed else 'FAIL'}  {reached(results.values())}  (promised: {promise.figure})"
    )


def reached(results: Collection[Result]) -> str:
    """Return the figures of a promise's tests, each once; the number of tests when there are no figures."""
    said = dict.fromkeys(figure for result in results for figure in result.figures)
    return "; ".join(said) or f"{len(results)} tests"


def in_words(counts: Mapping[str, int]) -> str:
    """Return counts as text, e.g. "3 serve, 25 stop with one line"; "none" when there are none."""
    return ", ".join(f"{number:,} {what}" for what, number in counts.items()) or "none"


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that keeps a figure, e.g. "0 of 12,345 records lost", for docs/promises.md."""
    found = request.node.stash.setdefault(_FIGURE, [])

    def said(text: str) -> None:
        found.append(text)

    return said


@pytest.fixture
def time_bound(request: pytest.FixtureRequest) -> Callable[[float, float, str], None]:
    """Return a check: `time_bound(seconds, 5, "first acknowledgement")` fails above 5 in `make test-long`.

    `make test` does not judge times: a busy machine would turn it red.
    """

    def check(measured: float, bound: float, what: str) -> None:
        if request.config.getoption("--promises"):
            assert measured <= bound, f"{what}: {measured:g}, the bound is {bound:g}"

    return check


# ------------------------------------------------------------------------------------- results.json


def kept() -> Results:
    """Return the kept result of each test."""
    return {
        name: {test: Result(**values) for test, values in tests.items()}
        for name, tests in _read().get("results", {}).items()
    }


def counted() -> Count:
    """Return what was counted last."""
    return Count(**_read().get("counted", {}))


def _read() -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return raw


def keep(results: Results, there: Collection[str]) -> None:
    """Replace the results of these tests; keep those of others, but for tests that no longer exist."""
    everything = kept()
    looked_into = {file_of(test) for test in there}
    for name, tests in results.items():
        former = everything.get(name, {}).items()
        still = {test: one for test, one in former if test in there or file_of(test) not in looked_into}
        everything[name] = still | tests
    _write(everything, counted())


def _write(results: Results, count: Count) -> None:
    plain = {
        "counted": asdict(count),
        "results": {
            name: {test: result.document() for test, result in sorted(results[name].items())}
            for name in BY_NAME
            if results.get(name)
        },
    }
    draft = FILE.with_suffix(".new")
    draft.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(FILE)


def _count(results: Results, tests: Mapping[str, int]) -> Count:
    since = {
        name: {commit: commits_since(commit, BY_NAME[name].tests_of) for commit in commits}
        for name in BY_NAME
        if (commits := sorted({one.commit for one in results.get(name, {}).values()}))
    }
    return Count(code(), {name: tests[name] for name in BY_NAME if name in tests}, since)


@cache
def commits_since(commit: str, paths: tuple[str, ...]) -> int | None:
    """Return the commits after this one that change these paths; None where git does not have it."""
    git = ["git", "-C", str(ROOT), "rev-list", "--count", "--no-merges", f"{commit}..HEAD", "--", *paths]
    found = ran(git)
    return None if found.returncode else int(found.stdout)


def file_of(test: str) -> str:
    """Return the file in a test's id."""
    return test.partition("::")[0]


def _passed_today() -> set[str]:
    today = _today()
    return {
        name
        for name, tests in kept().items()
        if all(result.passed and result.measured.startswith(today) for result in tests.values())
    }


# ------------------------------------------------------------------------------------ docs/promises.md

_PREAMBLE: Final = """\
<!-- Generated by `make docs` from tests/promises/; never edited. -->
# Guarantees: test results

This page shows, for each guarantee of [guarantees.md](guarantees.md), what is tested, the bound and the result. `make test-long` runs the
tests and keeps their results; `make test-long ONLY=R16` runs those of one guarantee. Columns: *tests*: those with a result, of those that exist; *oldest*: commit of the oldest
of these results; *since*: commits after it that change what the tests run, as counted at {commit}.

Results: *pass*: all tests ran and passed; *in part*: those that ran passed, others did not run; *stale*: all passed, but {stale} commits or more changed since what the oldest
ran, or its commit is in no history; *fail*; *not run*. The figures, dates and machines are [below](#figures).

Power cuts, networks, clocks and disks are real ones of a Linux machine (loop devices, network namespaces, libfaketime, libfiu, full tmpfs). Parts that are
**simulated** instead are named in the second column. A *canary* is a text that a test plants and then searches for. A *mutant* is a build with a deliberate defect,
which the test must detect; a mutated message or file is one with random changes. k is the minimum number of machines in a published group (10;
some tests use 3).

**Not tested**, because such a machine cannot show it: a real suspend, real RAPL counters, limits of memory and processor time of the units, Windows, macOS, the write cache of a real
disk, 10,000 real machines.

| id | what is tested | bound | result | tests | oldest | since |
| --- | --- | --- | --- | --- | --- | --- |
"""
_FIGURES: Final = """
## Figures
Each result has its date, commit and machine (`+` after a commit: with changes that were not committed).
"""


def document() -> str:
    """Return the text of docs/promises.md."""
    results, count = kept(), counted()
    rows = "".join(row(promise, results.get(promise.name, {}).values(), count) for promise in PROMISES)
    figures = "".join(map(_figures, results, map(dict.values, results.values())))
    return _PREAMBLE.format(commit=count.commit, stale=STALE_COMMITS) + rows + _FIGURES + figures


def row(promise: Promise, tests: Collection[Result], count: Count) -> str:
    """Return the line of a promise; `tests`: its results."""
    number = count.tests.get(promise.name, 0)
    ages = {one.commit: count.since.get(promise.name, {}).get(one.commit) for one in tests}
    oldest, since = max(ages.items(), key=lambda one: (one[1] is None, one[1] or 0), default=("", None))
    is_old = since is None or since >= STALE_COMMITS
    if not tests:
        outcome = f"not run: {promise.not_run or 'no test has run yet'}"
    elif not all(one.passed for one in tests):
        outcome = "fail"
    elif len(tests) < number:
        outcome = "in part, stale" if is_old else "in part"
    else:
        outcome = "stale" if is_old else "pass"
    text = promise.text + (f" (**simulated**: {promise.simulated})" if promise.simulated else "")
    age = "" if not tests else "unknown" if since is None else f"{since}"
    cells = (promise.name, text, promise.figure, outcome, f"{len(tests)} of {number}", oldest, age)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _figures(name: str, tests: Collection[Result]) -> str:
    measured = "; ".join(sorted({one.measured for one in tests}))
    text = f"{reached(tests)}. *{measured}*".replace("<", "&lt;")
    return f"\n<details><summary>{name}</summary>\n\n{text}\n\n</details>\n"
