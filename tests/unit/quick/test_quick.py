# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests which tests `make quick` chooses, in which order, and what it says that it left out."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from tests.quick import __main__ as quick
from tests.quick.last_start import LastStart
from tests.quick.touched import COMMITTED, ROOT, Change, touched
from tests.support.waiting import PATIENCE_SECONDS, deadline


def places(*changed: Change, before: tuple[str, ...] = ()) -> dict[str, float]:
    """Return file of tests → distance, nearest first."""
    return {str(file.relative_to(ROOT / "tests")): far for file, far in touched(changed, before).items()}


def test_a_test_that_changed_is_nearest():
    """Nothing else is touched by it, for no module imports it."""
    assert places(Change("tests/unit/wire/test_bands.py")) == {"unit/wire/test_bands.py": 0.0}


def test_tests_that_import_a_module_come_before_those_that_reach_it():
    """One that names the changed function comes before others at the same distance."""
    found = places(Change("proto/veilleuse/wire/units.py", frozenset({"kilowatt_hours"})))
    assert found["unit/wire/test_numbers.py"] < 1.5 < max(found.values())
    assert list(found.values()) == sorted(found.values())


def test_a_text_touches_the_tests_of_the_code_beside_it():
    """French words are read by the modules of their folder; the tests of these are found."""
    found = places(Change("collector/veilleuse/collector/cli/locale/help.toml"))
    assert "unit/collector/cli/test_language.py" in found


def test_earlier_commits_come_last():
    """What was committed before is farther than everything that the working tree touches."""
    found = places(
        Change("tests/unit/wire/test_bands.py"), before=("agent/veilleuse/agent/resident/fold.py",)
    )
    assert next(iter(found)) == "unit/wire/test_bands.py"
    assert COMMITTED < found["unit/agent/resident/test_fold.py"] < math.inf


def test_files_that_do_not_fit_the_time_are_left_out(monkeypatch):
    """A long file is left out, and shorter ones behind it still run."""
    files = [ROOT / "tests/unit/wire" / f"test_{name}.py" for name in ("bands", "numbers", "files")]
    names = [str(file.relative_to(ROOT)) for file in files]
    monkeypatch.setattr(quick, "recorded_seconds", lambda: dict(zip(names, (1.0, 1e6, 2.0), strict=True)))
    assert quick.fitting(files, deadline() - PATIENCE_SECONDS) == ([files[0], files[2]], [files[1]])


def test_a_test_that_would_begin_too_late_is_not_run_and_its_file_is_named():
    """A file is whole only if each of its tests ended."""
    assert LastStart(0.0).pytest_runtest_protocol() is True
    plugin, lines = LastStart(math.inf), list[str]()
    assert plugin.pytest_runtest_protocol() is None
    plugin.pytest_xdist_node_collection_finished(["a.py::one", "b.py::one", "b.py::two"])
    for test in ("a.py::one", "b.py::one"):
        plugin.pytest_runtest_logreport(report(test))
    plugin.pytest_terminal_summary(SimpleNamespace(write_line=lines.append))
    assert lines == ["not run: b.py"]


def report(test: str) -> pytest.TestReport:
    """Return the last report of a test that passed."""
    return pytest.TestReport(test, (test, 1, test), {}, "passed", None, "teardown")
