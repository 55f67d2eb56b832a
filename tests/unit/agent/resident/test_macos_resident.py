# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the resident as on a Mac, in its own process over a fake kernel (tests/support/fakes/mac_agent.py)."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.mac_agent import ASLEEP_SECONDS, BOOT
from tests.support.processes import ran

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """Run the resident over a sleep of an hour and a shutdown; return its output and its spool."""
    state = tmp_path_factory.mktemp("mac") / "state"
    done = ran(
        [sys.executable, "-m", "tests.support.fakes.mac_agent", str(state)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(("agent", "proto", "."))},
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    return said, state / "spool.db"


def control(spool: Path, key: str) -> Any:
    """Return a control value of the spool."""
    with closing(sqlite3.connect(spool)) as db:
        return json.loads(db.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()[0])


def asleep_milliseconds(value: object) -> int:
    """Return the time asleep of all cells in a stored value, at any depth."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        return asleep_milliseconds(json.loads(value))
    if isinstance(value, dict):
        return sum(map(asleep_milliseconds, value.values()))
    if isinstance(value, list):
        if len(value) > 3 and value[1] == "asleep":
            return int(value[3])
        return sum(map(asleep_milliseconds, value))
    return 0


def test_nothing_of_another_system_is_loaded(night):
    """The process loads no module of another system."""
    said, _ = night
    assert said["strange"] == ""


def test_the_sign_of_life_is_written_before_the_sleep(night):
    """The system's thread waits until the sign is written."""
    said, _ = night
    assert said["written"] == "True"


def test_the_hour_asleep_is_told_and_the_end_is_the_machines(night):
    """The sleep comes from the two clocks; the end is a shutdown with the kernel's boot session."""
    _, spool = night
    sign = control(spool, "last_sign")
    assert (sign["why"], sign["boot"]) == ("shutdown", BOOT.lower())
    assert sign["boottime"] - sign["monotonic"] == ASLEEP_SECONDS * 1_000
    with closing(sqlite3.connect(spool)) as db:
        rows = [row for (row,) in db.execute("SELECT body FROM pending")]
    told = sum(map(asleep_milliseconds, [*rows, control(spool, "open_fold")]))
    assert abs(told - ASLEEP_SECONDS * 1_000) <= 1_000


def test_what_is_not_there_is_said(night):
    """Missing helper and battery are reported with their reason, and the load is measured."""
    _, spool = night
    sources = {one["name"]: one for one in control(spool, "sources")["sources"]}
    assert sources["utilisation"]["successes"] > 2
    assert sources["macos_power"]["unavailable"] == "no_permission"
    assert sources["macos_battery"]["unavailable"] == "no_device"
