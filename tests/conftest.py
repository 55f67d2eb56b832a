# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Configure all tests: the date, the fixture `golden`, temporary folders in memory, and no skipped test under
CI."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
import pytest
from hypothesis import settings

import veilleuse.collector.sqlite_library  # noqa: F401  before any test imports sqlite3
from tests.promises.results import Promises, figure, time_bound
from tests.quick.last_start import LastStart
from tests.support import clock, memory
from tests.support.clock_use import CLOCK_USE
from tests.support.later_factors import add_later_factors
from tests.support.slowest import SlowestFiles

__all__ = ["figure", "time_bound"]

# A shared machine stalls now and then, so only the benches check speed. CI uses the same examples in every
# run, so that a failure can be repeated.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")

os.environ["LC_ALL"] = "C.UTF-8"  # tests read messages; under a French locale they are French

TESTS = Path(__file__).parent
GOLDEN = TESTS / "fixtures" / "golden"
PARTS = ("beside", "services", "machine")
MACHINE: Final = "machine_date"
"""Marks tests with programs that ignore libfaketime and compare times: they run at the machine's date."""
SHORT: Final = "not long"
"""The selection of pyproject.toml. With another one, as `make test-long` has, the date is the machine's."""

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options. `--golden` rewrites the golden files instead of comparing with them (`make golden`);
    `--part` selects tests for `make test`; the others serve tests/promises."""
    parser.addoption("--golden", action="store_true", help="rewrite the golden files")
    parser.addoption(
        "--promises", action="store_true", help="keep the results in tests/promises/results.json"
    )
    parser.addoption("--only", default="", help="the tests of these promises alone, e.g. R16 or R2,R8")
    parser.addoption(
        "--last-start", type=float, help="run no test later, in seconds of the monotonic clock (`make quick`)"
    )
    parser.addoption("--resume", action="store_true", help="leave out the promises that passed today")
    parser.addoption(
        "--part",
        choices=PARTS,
        help="of all tests: units; what starts services; services at the machine's date",
    )


@pytest.hookimpl(tryfirst=True)  # before pytest's own hook chooses the place of temporary folders
def pytest_configure(config: pytest.Config) -> None:
    """Begin again at the fixed date, register the plug-in of the promises, and put temporary folders in
    memory."""
    if not _has_its_date(config):
        config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **clock.environment_at(clock.FIXED)})
    config.pluginmanager.register(Promises(config), "promises")
    if config.getoption("--part") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SlowestFiles(), "slowest_files")
    if (moment := config.getoption("--last-start")) is not None:
        config.pluginmanager.register(LastStart(moment), "last_start")
    add_later_factors()
    if CLOCK_USE is not None:
        config.pluginmanager.register(CLOCK_USE, "clock_use")
    if config.option.basetemp is None and (place := memory.place()) is not None:
        config.option.basetemp = place
        tempfile.tempdir = str(place.parent)
    elif hasattr(config, "workerinput") and memory.is_in(config.option.basetemp):
        tempfile.tempdir = str(memory.MEMORY)


def _has_its_date(config: pytest.Config) -> bool:
    """Return whether the tests run at the date of this process: it is set, cannot be, or must not be."""
    if clock.LIBRARY is None or "FAKETIME" in os.environ or config.option.markexpr != SHORT:
        return True
    named = [Path(argument.partition("::")[0]) for argument in config.args]
    return all(file.is_file() and f"mark.{MACHINE}" in file.read_text("utf-8") for file in named)


def pytest_report_header() -> str:
    """Say at which date the tests run."""
    date = f"clock: {clock.now():%Y-%m-%d %H:%M} UTC"
    return date if clock.offset_seconds() else f"{date}, this machine's own"


LONGEST: Final = (
    "test_p15_attacker.py",
    "test_p16_one_figure.py",
    "test_keeping_years.py",
    "test_simulate_presets.py",
    "test_fleet_coverage.py",
    "test_delivery.py",
    "test_summary_formats.py",
    "test_simulate.py",
    "test_closing_gone.py",
    "test_numecoeval.py",
    "test_cut.py",
    "test_rolling_orders.py",
)
"""They begin first: files that take long with few tests, each of which would be alone at the end."""


IN_PROCESS: Final = ("test_p15_attacker.py", "test_p15_fleet.py")
"""Files of promises that start no service, and compute all the time; `make test-dates` finds the tests of
them that read the clock, as those of units."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the tests of `--part`; every test belongs to one part. Tests that start services wait and have
    time limits, so they do not run beside tests that compute all the time."""
    part = config.getoption("--part")
    kept = [item for item in items if part in (None, _part_of(item))]
    if clock.offset_seconds():
        kept = [item for item in kept if item.get_closest_marker(MACHINE) is None]
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept
    if part is not None:
        sizes = Counter(item.path for item in kept)
        places = {name: place for place, name in enumerate(LONGEST)}
        last = len(LONGEST)
        items.sort(key=lambda item: (places.get(item.path.name, last), -sizes[item.path], str(item.path)))


def _part_of(item: pytest.Item) -> str:
    if item.get_closest_marker(MACHINE) is not None:
        return "machine"
    return "services" if starts_services(item.path) else "beside"


def starts_services(path: Path) -> bool:
    """Return whether the tests of a file or folder start services."""
    return path.name not in IN_PROCESS and path.relative_to(TESTS).parts[0] in ("integration", "promises")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore folders without a test of the selected part, unless the command line names them."""
    part = config.getoption("--part")
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    if part is None or named or collection_path.parent != TESTS or collection_path.name == "promises":
        return None
    return starts_services(collection_path) != (part != "beside") or None


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let each of the processes of a part import another share of the files first. On a fresh checkout, where
    assertions are rewritten, all of them would otherwise do the same work at the same time."""
    worker: dict[str, Any] = getattr(session.config, "workerinput", {})
    part = session.config.getoption("--part")
    if not worker or part is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    files = [one for one in sorted(TESTS.rglob("test_*.py")) if starts_services(one) == (part != "beside")]
    for file in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        with suppress(Exception):  # collection will say it
            import_module(".".join(file.relative_to(TESTS.parent).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Delete the temporary folders in memory after success; those of failed tests stay until the next run."""
    if exitstatus == 0 and tempfile.tempdir == str(memory.MEMORY):
        shutil.rmtree(session.config.option.basetemp, ignore_errors=True)


@pytest.fixture(autouse=True)
def process_left_as_found() -> Generator[None, None, None]:
    """Restore the process-wide settings that commands change: umask, log handlers, psutil's /proc path,
    garbage collection."""
    root = logging.getLogger()
    handlers, level, procfs = list(root.handlers), root.level, psutil.PROCFS_PATH
    collects = gc.isenabled()
    umask = os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)
    root.handlers[:] = handlers
    root.setLevel(level)
    psutil.PROCFS_PATH = procfs
    if collects:
        gc.enable()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, bytes | str], None]:
    """Return a check: `golden("exposition/two_hosts.txt", text)` compares with tests/fixtures/golden/…."""

    def check(name: str, actual: bytes | str) -> None:
        file = GOLDEN / name
        if isinstance(actual, str):
            actual = actual.encode()
        if request.config.getoption("--golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(actual)
        expected = file.read_bytes() if file.exists() else b""
        if expected != actual:
            # Compared as text if possible, so that pytest shows a diff.
            assert actual.decode(errors="backslashreplace") == expected.decode(errors="backslashreplace"), (
                f"{name} changed: if it should, `make golden` and review the diff"
            )

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skipped test fail under CI."""
    report = yield
    return _no_skip_under_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let a skipped file fail under CI."""
    report = yield
    return _no_skip_under_ci(report)


def _no_skip_under_ci(report: Report) -> Report:
    expected_failure = hasattr(report, "wasxfail")
    if os.environ.get("CI") == "true" and report.skipped and not expected_failure:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure under CI: {reason}"
    return report
