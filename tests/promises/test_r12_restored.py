# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R12: a collector restored from a backup of three days ago. Real `serve`, real senders, real commands.
The collector runs on a clock that is 72 hours behind and is moved on (libfaketime); the agents use the same
clock. Everything else is as in service.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.fleet import (
    PERIOD_MILLISECONDS,
    Fleet,
    FleetAgent,
    compared,
    now_unix_milliseconds,
    statuses,
    summed,
)
from tests.support.peers import peer
from tests.support.processes import ran
from tests.support.stack import Stack, program

AGENTS = 100
LATE = 10
HOUR = 3_600_000
STEP_HOURS = 6
BACKUP_AGE_HOURS = 71.5
RECORDS_A_STEP = 4


class Past:
    """A clock some hours behind this machine's, which can be moved on. The collector reads it from a file."""

    def __init__(self, folder: Path, hours: float) -> None:
        self._file = folder / "faketime"
        self.behind_milliseconds = 0
        self.set(hours)

    def set(self, hours: float) -> None:
        """Set the hours behind; the collector follows at once."""
        self.behind_milliseconds = round(hours * HOUR)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"-{self.behind_milliseconds / 1000:.3f}")
        fresh.replace(self._file)

    def now(self) -> int:
        """Return Unix ms."""
        return now_unix_milliseconds() - self.behind_milliseconds

    def environment(self) -> dict[str, str]:
        """Return the environment of a process on this clock."""
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def generations(data_dir: Path) -> int:
    """Return the generation of the most renewed machine's certificate."""
    with closing(sqlite3.connect(f"{(data_dir / 'data.db').as_uri()}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT max(generation) FROM certificates").fetchone()[0])


@pytest.mark.long
@pytest.mark.promise("R12")
def test_restored_from_a_backup_of_three_days_ago(tmp_path, figure):
    """A restored collector suspends none of 100 agents that renewed and pushed since: 0 lost, 0 duplicated.
    One revoked since stays refused; 10 enrolled since are known again."""
    peer("faketime")
    past = Past(tmp_path, 72)
    with Stack(tmp_path, {"VEILLEUSE__PKI__SERVER_LEAF_HOURS": "24"}) as stack:
        collector = _start(stack, past)
        fleet = Fleet(stack, past.now)
        fleet.enrol(AGENTS)
        begin = past.now() // HOUR * HOUR - 2 * HOUR
        fleet.measure(begin + n * PERIOD_MILLISECONDS for n in range(RECORDS_A_STEP))
        assert fleet.contact() == AGENTS
        backup = tmp_path / "three-days-ago.backup"
        _command(stack, past, "backup", str(backup), code=3)

        late = _three_days(fleet, past)
        before = generations(stack.data)
        revoked = fleet.agents[7]
        _command(stack, past, "hosts", "revoke", revoked.agent_id.hex(), "--yes")
        others = [agent for agent in fleet.agents if agent is not revoked]
        assert compared(fleet.agents, stack.data)[:2] == (0, 0)

        os.killpg(collector.pid, signal.SIGKILL)
        collector.wait()
        told = json.loads(_command(stack, past, "restore", str(backup), "--json"))
        assert told["age_hours"] > BACKUP_AGE_HOURS
        assert generations(stack.data) < before
        _start(stack, past)
        first = past.now() // HOUR * HOUR
        fleet.measure((first + n * PERIOD_MILLISECONDS for n in range(2)), others)
        refused = sum(not agent.contact() for agent in others)
        assert fleet.contact([revoked]) == 0

        known = statuses(stack)
        suspended = sum(known.get(agent.agent_id.hex()) != "active" for agent in others)
        lost, twice, expected = compared(others, stack.data)
        figure(
            f"{lost} of {expected:,} records lost, {twice} duplicated, {suspended + refused} of {len(others)} agents suspended or "
            f"refused, after a backup {told['age_hours']:.1f} h old and certificates up to generation {before}"
        )
        assert (lost, twice, suspended, refused) == (0, 0, 0, 0)
        assert before >= 4
        assert all(known[agent.agent_id.hex()] == "active" for agent in late)
        assert known[revoked.agent_id.hex()] == "revoked"
        assert "revoked" in revoked.standing
        assert summed(stack.data) == sum(
            sum(agent.made) for agent in fleet.agents if agent is not revoked
        ) + sum(revoked.made[:RECORDS_A_STEP])
        assert fleet.contact(others) == len(others)  # the next contacts succeed too


def _three_days(fleet: Fleet, past: Past) -> list[FleetAgent]:
    """Let all agents measure, deliver and renew every six hours; return those that enrol halfway."""
    hours, late = BACKUP_AGE_HOURS, list[FleetAgent]()
    while hours > 0:
        hours = max(0.0, hours - STEP_HOURS)
        past.set(hours)
        first = past.now() // HOUR * HOUR - HOUR
        fleet.measure(first + n * PERIOD_MILLISECONDS for n in range(RECORDS_A_STEP))
        if not late and hours < BACKUP_AGE_HOURS / 2:
            late = fleet.enrol(LATE)
        assert fleet.contact() == len(fleet.agents), fleet.agents[0].standing
    return late


def _start(stack: Stack, past: Past) -> subprocess.Popen[bytes]:
    _command(stack, past, "init", "--if-missing")
    process = stack.start("veilleuse", "serve", **past.environment())
    stack.wait_for(stack.answers, "the collector answers", process=process)
    return process


def _command(stack: Stack, past: Past, *arguments: str, code: int = 0) -> str:
    done = ran([program("veilleuse"), *arguments], env=stack.environment | past.environment(), timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout
