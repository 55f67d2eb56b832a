# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Print attacks that once succeeded: case, before, after.

`python -m tests.bench attacks [--only WORD]`. Before: what the same attack gave at commit 4457203. After:
what it gives now. Exit code 1 when an attack cannot be run. `--metropole`: instead, what protection costs.
It simulates the preset metropole, which takes minutes, and counts what is published of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import sqlite3
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.simulate import one as simulate_one
from tests.promises.support import restored_months, silent_month, stories, telework_days
from tests.promises.support.read_together import Watched
from tests.promises.support.unfinished import measure as measure_unfinished
from tests.promises.test_p15_attacker import leaks, solved
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.simulate.presets import order_of
from veilleuse.wire.vocabulary import Population


class Case(NamedTuple):
    """One attack."""

    line: int
    """Number that groups cases of one kind; the table is in this order."""
    name: str
    before: str
    measure: Callable[[Path], str]
    """Run the attack in an empty folder; return what it gives, in words."""


def read_together(story: Callable[[Watched], object]) -> Callable[[Path], str]:
    """Return the attack of P15: who isolates fewer than k machines in a story."""

    def measure(folder: Path) -> str:
        with Watched(folder, 1) as data:
            story(data)
            found = leaks(solved(data))
        if not found:
            return "nobody isolates fewer than 10 machines"
        number = min(len(one.machines) for one in found.values())
        readers = sorted({f"{role} by {outlets}" for role, outlets in found if "+" not in outlets})
        return f"{number} isolated: {', '.join(readers)}"

    return measure


ALL_OUTLETS: Final = "door by metrics, reader by api, reader by metrics"
CASES: tuple[Case, ...] = (
    Case(
        3,
        "12 laptops and a tower without a reported load: the tower's hours",
        f"1 isolated: {ALL_OUTLETS}",
        read_together(stories.assumed_load),
    ),
    Case(
        3,
        "13 laptops with a load in one step, one of them in another: its hours",
        f"1 isolated: {ALL_OUTLETS}",
        read_together(stories.steady_load),
    ),
    Case(
        4,
        "the silent month of the only PC of an entity",
        "4,721 values tell of one person's PC",
        silent_month.measure,
    ),
    Case(
        5,
        "telework days of one person beside ten of a branch",
        "solved as 2.0 days of one person; 3 different answer(s) for 3 possible days",
        telework_days.measure,
    ),
    Case(
        6,
        "a month published again after a restore",
        "9.9 kWh of 1 machine by subtraction",
        restored_months.measure,
    ),
    Case(
        7,
        "11 of 12 PCs with a screen that is on as long as they are: the other's hours",
        f"1 isolated: {ALL_OUTLETS}",
        read_together(stories.lit_screens),
    ),
    Case(
        7,
        "screens of several sizes, one PC of 24 with one more: its hours",
        f"1 isolated: {ALL_OUTLETS}",
        read_together(stories.mixed_screens),
    ),
    Case(
        7,
        "12 PCs with lit screens and 4 without share their parts: the hours of the 4",
        f"4 isolated: {ALL_OUTLETS}",
        read_together(stories.shared_row_of_screens),
    ),
    Case(
        8,
        "POST without a body, 3,000 at once from one address",
        "closed in ≤ 61.3 s; up to 214 of 1,771 other requests refused, longest wait 1.5 s; tracebacks",
        measure_unfinished,
    ),
    Case(
        8,
        "the same again and again for 10 s",
        "2,080 of 5,087 never closed in 75 s; 10 of 41 other requests refused, longest wait 20 s",
        partial(measure_unfinished, seconds=10.0),
    ),
    Case(
        8,
        "a body byte by byte",
        "closed in ≤ 61.5 s; 0 of 1,093 other requests refused, longest wait 1.8 s; tracebacks",
        partial(measure_unfinished, kind="a body byte by byte"),
    ),
    Case(
        8,
        "POST without a body, from 40 addresses",
        "closed in ≤ 62.4 s; 0 of 1,179 other requests refused, longest wait 2.4 s; tracebacks",
        partial(measure_unfinished, addresses=40),
    ),
)

METROPOLE_BEFORE: Final = {"cells": 1_996, "parts": 7_696, "indicators": 5_120}
"""Numbers published of the preset at commit 4457203."""
METROPOLE_UNENROLLED: Final = {"cells": 58, "parts": 210, "indicators": 179}
"""Numbers among them of entities without a machine then: September 2025 and March 2026 had a share of a week
of machines that were enrolled on the 2nd of the next month. A month counts enrolled machines now."""


def published_numbers(directory: Path) -> dict[str, int]:
    """Count what is published of PCs: cells, numbers of their parts, and values of indicators."""
    found = Counter[str]()
    with closing(sqlite3.connect(f"file:{directory / 'data.db'}?mode=ro", uri=True)) as connection:
        for kind, text in connection.execute("SELECT kind, content FROM published_periods"):
            content = json.loads(text)
            if kind == PublicationKind.RELEASE.value:
                found["cells"] += len(content["cells"])
                for row in content["uses"]:
                    nights = row["nights"] is not None
                    found["parts"] += len(row["states"]) + len(row["energies"]) + nights
            elif kind == PublicationKind.INDICATORS.value:
                for row in content["rows"]:
                    value, numerator, denominator, _, _, details, interval, _ = row[-8:]
                    if Population.SERVER.value not in row:
                        numbers = (value, numerator, denominator, interval)
                        found["indicators"] += len(details) + sum(one is not None for one in numbers)
                found["indicators"] += len(content["half_widths"])
    return dict(found)


def print_metropole() -> None:
    """Print the numbers published of the preset metropole, before and now."""
    order = order_of("metropole", date(2026, 12, 2), hosts=None, first=None, days=None, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "data"
        simulate_one(order, directory)
        after = published_numbers(directory)
    before, unenrolled = METROPOLE_BEFORE, METROPOLE_UNENROLLED
    for name in (*before, "all"):
        one, early, other = (
            of[name] if name in of else sum(of.values()) for of in (before, unenrolled, after)
        )
        print(
            f"metropole, {name:<10}  before {one:>6,}, of entities without a machine then {early:>4,}   "
            f"after {other:>6,}   {other / (one - early) - 1:+.1%} of the others"
        )


def main() -> int:
    """Print the table; return 1 when an attack could not be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word of the name of the cases to run")
    parser.add_argument("--metropole", action="store_true", help="count what is published of this preset")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.metropole:
        print_metropole()
        return 0
    failed = False
    for case in sorted(CASES, key=lambda one: one.line):
        if options.only.lower() in case.name.lower():
            with tempfile.TemporaryDirectory() as folder:
                try:
                    after = case.measure(Path(folder))
                except Exception:  # noqa: BLE001  # one attack that cannot be run does not hide the others
                    traceback.print_exc()
                    failed, after = True, "FAILED"
            print(f"{case.line}. {case.name}\n    before  {case.before}\n    after   {after}", flush=True)
    return 1 if failed else 0
