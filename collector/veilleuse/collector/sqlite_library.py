# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Gives the collector's modules Python's `sqlite3`, on the SQLite library of the `pysqlite3` wheel.

Debian 13 has SQLite 3.46.1, with the WAL-reset race; the wheel has a later version. Python's module works on
it, because SQLite's C interface only grows (sqlite.org/versionnumbers.html).
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from typing import Any, Final, cast

_WHEEL: Final = "pysqlite3"


def _use_library_of_wheel() -> None:
    """Load the wheel's library for the whole process: the linker then binds `sqlite3` to it.

    So a process has one SQLite. With two, a file that both have open would lose its locks
    (sqlite.org/howtocorrupt.html, 2.2). The wheel's own module cannot be imported afterwards: its errors are
    of other classes.

    Changes nothing without the wheel, where `sqlite3` is already loaded, and in a Python that has SQLite
    built in.
    """
    if "_sqlite3" in sys.modules:  # some of its functions are already bound
        return
    package = PathFinder.find_spec(_WHEEL)
    module = package and PathFinder.find_spec("_sqlite3", package.submodule_search_locations)
    if module is None or module.origin is None:
        return
    with suppress(OSError):  # the store warns of an old library
        ctypes.CDLL(module.origin, mode=ctypes.RTLD_GLOBAL)
        sys.modules[_WHEEL] = cast(Any, None)


_use_library_of_wheel()

import sqlite3  # noqa: E402  not before

__all__ = ["sqlite3"]
