# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Check a change in 90 seconds: `make quick`.

Format, lint, types, layers and generated files; the unit tests that are touched by what changed since the
newest commit that passed `make test` whole, nearest first; then a smoke of real programs. The last lines say
what is red, and what was not run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conftest import starts_services
from tests.quick.touched import ROOT, changes, committed, current_tree, touched
from tests.support.processes import ran
from tests.support.slowest import recorded_seconds

CHECKS: Final = ("lint", "type", "arch", "generated")
"""The targets of `make check`."""
CACHE: Final = ROOT / ".pytest_cache"
PASSED: Final = CACHE / "passed_commit"
"""The newest commit that passed `make test` whole: deploy/ci/test.sh writes it."""
PASSED_TREE: Final = CACHE / "quick_tree"
"""The git tree that passed here last: nothing that it touches was left out."""
TEST_SECONDS: Final = 62.0
"""From the start of the run, no test begins later than this."""
END_SECONDS: Final = 72.0
"""A test that runs then is stopped: it was not run."""
SMOKE_SECONDS: Final = 20.0
A_TEST_SECONDS: Final = 0.1
"""Taken for a test of a file that has never run here."""
PROCESSES: Final = 2


@dataclass
class Outcome:
    """What the run found."""

    red: list[str] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)


def main() -> int:
    """Run all of it; returns 1 if something is red."""
    began = time.monotonic()
    CACHE.mkdir(exist_ok=True)
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        tree = current_tree(Path(folder))
    with ThreadPoolExecutor(2) as together:
        checks = together.submit(check, outcome)
        if tree in _passed_trees():
            print("quick: nothing changed since a run that passed: no unit test")
        else:
            test(tree, began, outcome)
        checks.result()
    smoke(outcome)
    if not outcome.red and not outcome.not_run:
        PASSED_TREE.write_text(tree, "utf-8")
    print(*(f"quick: not run: {one}" for one in outcome.not_run), sep="\n", end="\n" * bool(outcome.not_run))
    print(*(f"quick: RED: {one}" for one in outcome.red), sep="\n", end="\n" * bool(outcome.red))
    print(f"quick: {'red' if outcome.red else 'green'} in {time.monotonic() - began:.0f} s")
    return 1 if outcome.red else 0


def check(outcome: Outcome) -> None:
    """Run the targets of `make check`, one after another."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    for target in CHECKS:
        done = ran(["make", "--silent", target], cwd=ROOT, env=environment)
        if done.returncode:
            print(f"{done.stdout}{done.stderr}", flush=True)
            outcome.red.append(f"make {target}")


def test(tree: str, began: float, outcome: Outcome) -> None:
    """Run the unit tests that the changes touch, nearest first, while there is time."""
    base = base_commit()
    changed, before = changes("HEAD", tree), committed(base) if base else []
    files = touched(changed, before)
    services = [file for file in files if starts_services(file)]
    chosen, left = fitting([file for file in files if file not in services], began)
    print(
        f"quick: {len(changed)} changes since {base[:8] or 'nothing'} touch {len(files)} files of tests",
        flush=True,
    )
    if services:
        outcome.not_run.append(f"{len(services)} files that start services: `make test` runs them")
    if chosen:
        began_files, red = run_tests(chosen, began)
        outcome.red += red
        left = [file for file in chosen if file not in began_files] + left
    if left:
        outcome.not_run.append(f"{len(left)} farther files of unit tests: {_some(left)}")


def base_commit() -> str:
    """Return the newest commit that passed `make test` whole; without one, the newest that is a week old."""
    if PASSED.exists():
        passed = PASSED.read_text("utf-8").strip()
        if ran(["git", "-C", ROOT, "merge-base", "--is-ancestor", passed, "HEAD"]).returncode == 0:
            return passed
    return ran(
        ["git", "-C", ROOT, "rev-list", "-1", "--before=7 days ago", "HEAD"], check=True
    ).stdout.strip()


def fitting(files: list[Path], began: float) -> tuple[list[Path], list[Path]]:
    """Return the files that fit into the time that is left, in their order, and the others."""
    known = recorded_seconds()
    left = PROCESSES * (TEST_SECONDS - (time.monotonic() - began))
    chosen, others = list[Path](), list[Path]()
    for file in files:
        takes = known.get(str(file.relative_to(ROOT))) or A_TEST_SECONDS * file.read_text("utf-8").count(
            "def test_"
        )
        (chosen if takes < left else others).append(file)
        left -= takes if takes < left else 0
    return chosen, others


def run_tests(files: list[Path], began: float) -> tuple[set[Path], list[str]]:
    """Run these files; return those whose tests all ran, and the names of the tests that failed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "--maxfail=20",
        f"--numprocesses={PROCESSES}",
    ]
    command += ["--dist=loadfile", "--no-loadscope-reorder", f"--last-start={began + TEST_SECONDS}"]
    process = subprocess.Popen([*command, *map(str, files)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        said, _ = process.communicate(timeout=END_SECONDS - (time.monotonic() - began))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    red = re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    if red or process.returncode not in (0, 2, 5):
        print(said, flush=True)
    unfinished = {ROOT / name for name in re.findall(r"^not run: (\S+)", said, re.MULTILINE)}
    if process.returncode not in (0, 1, 2, 5) and not red:
        red = [f"pytest ended with {process.returncode}"]
    return {file for file in files if file not in unfinished}, red


def smoke(outcome: Outcome) -> None:
    """Start the real programs and wait for one figure."""
    command = [sys.executable, "-m", "tests.quick.smoke"]
    done = ran(command, cwd=ROOT)
    if done.returncode:
        print(f"{done.stdout}{done.stderr}", flush=True)
        outcome.red.append("smoke: `python -m tests.quick.smoke`")


def _passed_trees() -> set[str]:
    found = {PASSED_TREE.read_text("utf-8")} if PASSED_TREE.exists() else set()
    if PASSED.exists():
        commit = PASSED.read_text("utf-8").strip()
        found.add(
            ran(["git", "-C", ROOT, "rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}"]).stdout.strip()
        )
    return found


def _some(files: Iterable[Path], most: int = 8) -> str:
    names = [str(file.relative_to(ROOT / "tests")) for file in files]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("quick: interrupted")
