# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R13: an agent is put back to a snapshot. The real sender, as a process, against a real collector."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.records import clock_record, spool_of
from tests.support.stack import Stack
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb

MINUTE = 60_000


class Rolled:
    """One agent whose state directory goes back in time, and the energies that it recorded."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.start = (clock.unix_milliseconds() // MILLISECONDS_PER_HOUR - 48) * MILLISECONDS_PER_HOUR
        self.made = 0
        self.waits = 0
        """Contacts that had to wait."""
        self.in_spool: list[int] = []
        """Millijoules of records that are not delivered yet, on the present timeline."""
        self.delivered: set[int] = set()
        self.snapshots: list[tuple[Path, list[int]]] = []

    def measure(self, count: int) -> None:
        """Add records of one minute, each with its own period and energy."""
        bodies = []
        for _ in range(count):
            self.made += 1
            start = self.start + self.made * MINUTE
            bodies.append(clock_record(start, MINUTE, metered_millijoules=100_000 + self.made).to_json())
            self.in_spool.append(100_000 + self.made)
        with closing(spool_of(self.stack.state)) as spool:
            spool.append(bodies, {})

    def send(self) -> None:
        """Make a contact; where the collector makes a possible copy wait, repeat it after a simulated day."""
        done = self.stack.run("veilleuse-agent", "send")
        if done.returncode and "shows an older state" in done.stderr:
            self.waits += 1
            with closing(sqlite3.connect(self.stack.data / "data.db", timeout=30)) as db:
                db.execute(
                    "UPDATE hosts SET last_contact_unix_milliseconds = last_contact_unix_milliseconds - 86400000"
                )
                db.commit()
            self.stack.must("veilleuse-agent", "send")
        else:
            assert done.returncode == 0, done.stderr
        self.delivered |= set(self.in_spool)
        self.in_spool.clear()

    def snapshot(self) -> None:
        """Copy the whole state directory."""
        where = self.stack.folder / f"snapshot-{len(self.snapshots)}"
        shutil.copytree(self.stack.state, where)
        self.snapshots.append((where, list(self.in_spool)))

    def go_back(self, snapshot: int) -> None:
        """Put a copy back: undelivered records made after it never existed."""
        where, self.in_spool[:] = self.snapshots[snapshot]
        shutil.rmtree(self.stack.state)
        shutil.copytree(where, self.stack.state)

    def stored(self) -> Counter[int]:
        """Count the millijoules of every record in the collector's database."""
        with closing(sqlite3.connect(self.stack.data / "data.db")) as db:
            wires = [row[0] for row in db.execute("SELECT wire FROM records")]
        records = map(pb.Record.FromString, wires)
        return Counter(
            energy.energy_millijoules
            for record in records
            for cell in record.measurement.cells
            for energy in cell.energies
        )

    def gaps(self) -> int:
        """Return the number of records that stored gaps replace."""
        with closing(sqlite3.connect(self.stack.data / "data.db")) as db:
            wires = [row[0] for row in db.execute("SELECT wire FROM records WHERE grain = 0")]
        return sum(pb.Record.FromString(wire).gap.records for wire in wires)


@pytest.fixture
def rolled(tmp_path: Path) -> Iterator[Rolled]:
    """Yield an enrolled server with its collector."""
    with Stack(tmp_path) as stack:
        stack.start_collector()
        stack.enrol()
        yield Rolled(stack)


@pytest.mark.promise("R13")
def test_rolled_back_again_and_again_nothing_is_dropped_in_silence(rolled, figure):
    """Snapshots are put back in any order: every record that was delivered or kept is stored once."""
    chance = random.Random(13)
    rolled.measure(4)
    rolled.snapshot()  # nothing is delivered yet
    rolled.send()
    rolled.snapshot()  # everything is delivered
    rolled.measure(3)
    rolled.send()
    rolled.measure(2)
    rolled.snapshot()  # two records wait
    rolled.send()
    rollbacks = 0
    for snapshot in (2, 1, 0, 2, 1):
        rolled.go_back(snapshot)
        rollbacks += 1
        rolled.measure(chance.randrange(4))
        rolled.send()
        rolled.measure(1 + chance.randrange(3))
    rolled.send()
    stored = rolled.stored()
    lost, twice = rolled.delivered - set(stored), sum(n - 1 for n in stored.values())
    figure(
        f"{len(lost)} of {len(rolled.delivered)} records lost, {twice} stored twice, after {rollbacks} rollbacks, each served "
        "after a day without another contact"
    )
    assert rolled.waits == rollbacks
    assert not lost
    assert not twice
    assert rolled.gaps() == 0


@pytest.mark.promise("R13")
def test_a_rollback_and_then_a_restored_collector(rolled, figure):
    """Agent and collector go back: acknowledged records of a former epoch, lost since, are sent again."""
    rolled.measure(3)
    rolled.send()
    backup = rolled.stack.folder / "backup.db"
    with (
        closing(sqlite3.connect(rolled.stack.data / "data.db")) as db,
        closing(sqlite3.connect(backup)) as copy,
    ):
        db.backup(copy)
    rolled.measure(3)
    rolled.send()
    rolled.snapshot()
    rolled.measure(1)
    rolled.send()
    rolled.go_back(0)
    rolled.measure(2)
    rolled.send()
    kept = set(rolled.delivered) - {100_007}  # neither side has that record any more
    rolled.stack.stop(rolled.stack.processes.pop())
    for rest in ("data.db", "data.db-wal", "data.db-shm"):
        (rolled.stack.data / rest).unlink(missing_ok=True)
    shutil.copy(backup, rolled.stack.data / "data.db")
    rolled.stack.start_collector()
    rolled.measure(1)
    rolled.send()
    kept.add(100_010)
    stored = rolled.stored()
    figure(
        f"{len(kept - set(stored))} of {len(kept)} records lost, {sum(n - 1 for n in stored.values())} stored twice, after a "
        "rollback of the agent and a restored collector"
    )
    assert set(stored) == kept
    assert max(stored.values()) == 1
