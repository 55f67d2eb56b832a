# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Print attacks that once succeeded: case, before, after.

`python tests/bench/attacks.py [--only WORD]`. Before: what the same attack gave at commit 4457203. After:
what it gives now. Exit code 1 when an attack cannot be run.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.promises.support import restored_months, telework_days


class Case(NamedTuple):
    """One attack."""

    line: int
    """Number that groups cases of one kind; the table is in this order."""
    name: str
    before: str
    measure: Callable[[Path], str]
    """Run the attack in an empty folder; return what it gives, in words."""


CASES: tuple[Case, ...] = (
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
)


def main() -> int:
    """Print the table; return 1 when an attack could not be run."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word of the name of the cases to run")
    options = parser.parse_args()
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


if __name__ == "__main__":
    raise SystemExit(main())
