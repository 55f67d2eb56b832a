# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One module of each root reads the real clock, so that a test can give it another day."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

import pytest

from tests.architecture.tree import ROOT, files, is_generated, may_name

CLOCKS: Final = {
    "agent": "agent/veilleuse/agent/clock.py",
    "collector": "collector/veilleuse/collector/clock.py",
    "proto": None,
    "deploy": None,
    "grafana": None,
    "docs": None,
    "tests": "tests/support/clock.py",
}
"""Root → the one file that reads the real clock. Roots without one use those of the product."""
READS: Final = {
    "time": {"time", "time_ns", "CLOCK_REALTIME", "CLOCK_TAI"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "uuid": {"uuid1"},
}
"""Owner → its names that read the real clock, called or passed on."""
ARGUMENTS: Final = {
    "time": {"localtime": 1, "gmtime": 1, "ctime": 1, "asctime": 1, "strftime": 2},
    "utils": {"localtime": 1, "formatdate": 1},  # of email
}
"""Owner → its functions that read the real clock if called with fewer arguments than these."""


def reads(tree: ast.AST) -> Iterator[int]:
    """Yield the line of each read of the real clock."""
    nodes = list(ast.walk(tree))
    owners = {
        alias.asname or alias.name: alias.name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            if {alias.name for alias in node.names} & _names(str(node.module).rpartition(".")[2]):
                yield node.lineno
        elif isinstance(node, ast.Attribute):
            if node.attr in READS.get(_owner(node, owners), ()):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = len(node.args) + len(node.keywords)
            if given < ARGUMENTS.get(_owner(node.func, owners), {}).get(node.func.attr, 0):
                yield node.lineno


def _names(module: str) -> set[str]:
    if module == "datetime":
        return set()  # its classes are no clock
    return READS.get(module, set()) | set(ARGUMENTS.get(module, ()))


def _owner(node: ast.Attribute, owners: dict[str, str]) -> str:
    match node.value:
        case ast.Attribute(attr=name):
            return name
        case ast.Name(id=name):
            return owners.get(name, name)
    return ""


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.time()",
        "import time as t; t.time_ns() // 1_000_000",
        "import time; clock = time.time",
        "from time import time",
        "from time import gmtime as g",
        "import time; time.strftime('%Y')",
        "import time; time.gmtime()",
        "import time; time.clock_gettime(time.CLOCK_REALTIME)",
        "from datetime import datetime, UTC; f = lambda: datetime.now(UTC).date()",
        "import datetime; datetime.datetime.utcnow()",
        "from datetime import date as day; day.today()",
        "from datetime import date; field(default_factory=date.today)",
        "from email.utils import formatdate; formatdate()",
        "import email.utils; email.utils.localtime()",
        "import uuid; uuid.uuid1()",
    ],
)
def test_a_read_of_the_real_clock_is_found(code: str) -> None:
    """Called, passed on, renamed, or in a default argument."""
    assert list(reads(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.monotonic(); time.perf_counter()",
        "import time; time.strftime('%Y', time.gmtime(moment)); converter = time.gmtime",
        "import time; time.clock_gettime(time.CLOCK_BOOTTIME)",
        "from datetime import datetime; datetime.fromtimestamp(0, UTC)",
        "from veilleuse.collector import clock; clock.now(); clock.today()",
    ],
)
def test_other_times_are_no_read(code: str) -> None:
    """Monotonic clocks and given moments are allowed."""
    assert not list(reads(ast.parse(code)))


@pytest.mark.parametrize("root", CLOCKS)
def test_one_module_of_a_root_reads_the_real_clock(root: str) -> None:
    """No other file does. Programs in tests/fixtures are data."""
    named = {name for names in (*READS.values(), *ARGUMENTS.values()) for name in names}
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files(".py", under=ROOT / root)
        if not is_generated(file) and ROOT / "tests/fixtures" not in file.parents
        if may_name(text := file.read_text(encoding="utf-8"), named)
        for line in reads(ast.parse(text))
        if str(file.relative_to(ROOT)) != CLOCKS[root]
    ]
    assert not found, "read the clock by the module of CLOCKS, or by an argument that is passed down"
