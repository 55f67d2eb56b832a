# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks that a process has one SQLite library: the wheel's where it is installed, else Python's."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

import pytest

from tests.support.processes import ran
from veilleuse.collector.store import WAL_RESET_FIXED

pytestmark = pytest.mark.any_date

OPENS_FILES = """
import sqlite3, tempfile, sys
from pathlib import Path
from veilleuse.collector import settings
from veilleuse.collector.store import create_store
with tempfile.TemporaryDirectory() as folder:
    store = create_store(Path(folder), settings.Store(free_bytes_minimum=0), simulated=False,
                         now_unix_milliseconds=1)
    store.close()
print(sqlite3.sqlite_version)
"""
"""A program that runs a store, and prints the version that it ran on."""
PRINTS = "; print(sqlite3.sqlite_version)"
BOUND = re.compile(r"binding file \S*/_sqlite3\.\S+ \[0\] to (\S+) .*symbol `(sqlite3_\w+)'")


def test_the_collector_runs_on_the_wheel_alone():
    """Each function that Python's module calls is the wheel's, so no file is open in two libraries."""
    _require_wheel()
    done = _run(f"import veilleuse.collector.sqlite_library{OPENS_FILES}", LD_DEBUG="bindings")
    bound = {name: library for library, name in BOUND.findall(done.stderr)}
    assert len(bound) > 60
    assert {Path(library).parent.name for library in bound.values()} == {"pysqlite3"}
    assert _version(done.stdout) >= WAL_RESET_FIXED
    assert "wal-reset" not in done.stderr


@pytest.mark.parametrize("root", ["cli.main", "app.service", "app.year_keeper", "web.__main__"])
def test_no_library_of_a_process_comes_before(root):
    """The modules of the collector's processes import nothing that loads sqlite3 by itself."""
    _require_wheel()
    done = _run(f"import veilleuse.collector.{root}, veilleuse.collector.store, sqlite3{PRINTS}")
    assert _version(done.stdout) >= WAL_RESET_FIXED


def test_a_process_that_has_sqlite_keeps_it():
    """Where another module imported sqlite3 first, no function changes its library."""
    _require_wheel()
    done = _run(f"import sqlite3{OPENS_FILES}", LD_DEBUG="bindings")
    libraries = {library for library, _ in BOUND.findall(done.stderr)}
    assert len(libraries) == 1
    assert "pysqlite3" not in libraries.pop()


def test_nothing_imports_the_module_of_the_wheel():
    """sqlite-utils would take it by itself; it then takes Python's, with the same errors as the store."""
    _require_wheel()
    done = _run(
        "import veilleuse.collector.sqlite_library, sqlite3, sqlite_utils.db as db; print(db.sqlite3 is sqlite3)"
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize("library", [None, b"not a library"], ids=["absent", "broken"])
def test_without_the_wheel_python_keeps_its_sqlite(library, tmp_path):
    """The collector runs on the system's library, and warns where that has the race."""
    package = tmp_path / "pysqlite3"
    package.mkdir()
    (package / "__init__.py").touch()
    if library is not None:
        (package / "_sqlite3.so").write_bytes(library)
    done = _run(f"import veilleuse.collector.sqlite_library{OPENS_FILES}", PYTHONPATH=str(tmp_path))
    own = ran([sys.executable, "-c", f"import sqlite3{PRINTS}"]).stdout
    assert done.stdout == own
    assert ("wal-reset" in done.stderr) == (_version(own) < WAL_RESET_FIXED)


def _run(program: str, **environment: str):
    done = ran([sys.executable, "-c", program], env=os.environ | environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def _require_wheel() -> None:
    try:
        importlib.metadata.version("pysqlite3")
    except importlib.metadata.PackageNotFoundError:
        if (sys.platform, platform.machine()) == ("linux", "x86_64"):
            pytest.fail("pysqlite3 is not installed: make .venv/.dev")
        pytest.skip("pysqlite3 has wheels for Linux on x86-64 only")


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
