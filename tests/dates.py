# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs the tests that depend on the clock on days when dates go wrong: `make test-dates`.

The first day runs all unit tests and records which of them read the clock (tests/support/clock_use.py); the
other days run those, but those marked `any_date` run on one other day. Each file of the tests with real
services runs on one of the first days; at which it is stays the same. From July 2027 on, the tests add the
emission factors that a later release would ship (tests/support/later_factors.py). libfaketime sets the clock;
one line a day says what happened, and the last line what it took.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from tests.conftest import IN_PROCESS
from tests.support import clock
from tests.support.clock_use import DAY, FOLDER

ROOT: Final = Path(__file__).parents[1]
MOMENTS: Final = {
    "2026-12-02 10:00": "more than 62 days after 1 October",
    "2026-12-31 23:50": "the year ends during the run",
    "2027-01-01 10:00": "a year and its first month begin; week 53 of 2026",
    "2027-01-04 10:00": "week 1 of 2027",
    "2027-02-28 23:59": "the last minute of a short month",
    "2027-03-28 10:00": "the day of 23 hours",
    "2027-04-01 00:01": "the first minute of a month; the day before in UTC",
    "2027-05-31 10:00": "the 31st of a month",
    "2027-08-04 10:00": "the 4th of a month",
    "2027-10-02 10:00": "the 2nd of a month: more than 62 days after 1 August",
    "2027-10-31 02:30": "the hour that comes twice",
    "2027-12-31 10:00": "the last day of a year",
    "2028-02-29 10:00": "the day of leap years",
    "2028-12-31 10:00": "day 366 of a year, a Sunday",
}
"""Moment in Paris → what is special about it."""
AS_RELEASED: Final = 8
"""The first days, on which the shipped factors are those of the year: services run on these."""
PARIS: Final = ZoneInfo("Europe/Paris")
RESULT: Final = re.compile(r"(\d+) (passed|failed|error)")


def main() -> int:
    """Run the days; returns 1 if a test failed on one of them."""
    if clock.LIBRARY is None:
        print("test-dates: needs libfaketime: apt-get install faketime", file=sys.stderr)
        return 2
    services = sorted(
        file
        for folder in ("integration", "promises")
        for file in (ROOT / "tests" / folder).glob("test_*.py")
        if file.name not in IN_PROCESS
    )
    worst, began_all = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for at, (text, why) in enumerate(MOMENTS.items()):
            moment = datetime.fromisoformat(text).replace(tzinfo=PARIS)
            began, told = time.monotonic(), ""
            parts = {"beside": recorded(Path(folder))}
            if at < AS_RELEASED:
                parts["services"] = services[at::AS_RELEASED]
            for part, words in parts.items():
                uses = {FOLDER: folder, DAY: f"{at} {len(MOMENTS)}"}
                told += run(part, [str(file) for file in words], moment, uses)
            counts = dict.fromkeys(("passed", "failed", "error"), 0)
            for number, kind in RESULT.findall(told):
                counts[kind] += int(number)
            failed = counts["failed"] + counts["error"]
            seconds = time.monotonic() - began
            print(
                f"{text}  {counts['passed']:5} passed {failed:3} failed {seconds:5.0f} s  {why}", flush=True
            )
            if failed or not counts["passed"]:
                worst = 1
                print(told, flush=True)
    minutes = (time.monotonic() - began_all) / 60
    print(f"{len(MOMENTS)} days, {'a test failed' if worst else 'all green'}, {minutes:.1f} min in all")
    return worst


def recorded(folder: Path) -> list[Path]:
    """Return the files of the tests that read the clock; nothing before the first day has recorded them."""
    lines = {line for file in folder.glob("*.txt") for line in file.read_text("utf-8").splitlines()}
    return sorted({ROOT / line.partition("::")[0] for line in lines})


def run(part: str, words: list[str], moment: datetime, uses: dict[str, str]) -> str:
    """Run a part of the tests from a moment on; returns the lines of pytest about failures, and its last.
    `uses`: variables for tests/support/clock_use.py.
    """
    processes = {"beside": (os.cpu_count() or 2) + 1, "services": 3}[part]
    command = [sys.executable, "-m", "pytest", "-q", f"--part={part}", f"--numprocesses={processes}"]
    command += ["--dist=loadfile", "--no-loadscope-reorder", "--tb=short", *sys.argv[1:], *words]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | clock.environment_at(moment) | ({} if part == "services" else uses),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
