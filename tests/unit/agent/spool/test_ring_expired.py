# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that records lost from the ring are declared in full: a gap counts all of them. docs/wire.md §2."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.delivery import MINUTE, Fault, ModelCollector
from tests.support.fakes.agent import EPOCH_START, record
from tests.support.records import count_pending
from veilleuse.agent.model import Gap
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.session import Sender
from veilleuse.agent.spool.database import RING_FLOOR, Bounds, FileSpool, connect, gap_row
from veilleuse.agent.spool.epochs import FORMER_EPOCHS, GAPS_KEPT, records_between, store_gap_counts
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.agent.spool.recovery import open_spool
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import GapReason

BOUNDS = Bounds(max_bytes=8 << 20, disk_reserve_bytes=0)
RING = Ring(milliseconds=60 * MINUTE, records=6)


class Machine:
    """Holds a spool, its two halves, and a collector."""

    def __init__(self) -> None:
        self.collector = ModelCollector()
        self.now = EPOCH_START + 86_400_000
        self.made = 0

    def connect(self, connection: sqlite3.Connection, path: Path) -> None:
        """Open both halves on that spool."""
        connection.execute("PRAGMA synchronous = OFF")
        self.connection = connection
        self.spool = FileSpool(connection, path, BOUNDS)
        self.outbox = Outbox(connection, path, WireEncoder(), RING)

    def measure(self, count: int) -> None:
        """Append this many minutes."""
        self.spool.append([record(self.made + one).to_json() for one in range(count)], {})
        self.made += count

    def lose(self, count: int) -> None:
        """Append a gap of this many minutes for which the spool had no room."""
        self.spool.append([gap_row(Gap(GapReason.SPOOL_CAP, (), count))], {})
        self.made += count

    def contact(self, *faults: Fault) -> None:
        """Run a sender an hour later, so that records may leave the ring at the next acknowledgement."""
        self.now += 60 * MINUTE
        self.collector.faults = iter(faults)
        Sender(self.outbox, self.collector, pb.Facts(model="PC"), lambda: self.now).contact()

    def deliver(self, count: int) -> None:
        """Deliver this many minutes; all but the last few leave the ring."""
        self.measure(count)
        self.contact()
        self.outbox.acknowledge(self.outbox.last_seq(), self.now + 60 * MINUTE)

    def accounted(self) -> int:
        """Return the number of stored minutes and declared records."""
        assert count_pending(self.spool) == 0
        return self.collector.measurements().total() + sum(gap.records for gap in self.collector.gaps())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Return a machine without measurements."""
    path, made = tmp_path / "spool.db", Machine()
    with closing(connect(path)) as connection:
        made.connect(connection, path)
        yield made


def test_a_gap_of_a_former_epoch_still_stands_for_all_its_records(machine):
    """A Gap{ring_expired} of two records that leaves the ring and its epoch counts as two later."""
    machine.deliver(8)
    machine.collector.restore(0)
    machine.contact()  # another epoch, whose first record is a gap over 0 and 1
    machine.deliver(2)
    machine.contact(Fault.NONE, Fault.CONFLICT)
    machine.measure(1)
    machine.contact(Fault.NONE, Fault.CONFLICT)  # another epoch, without that gap
    assert machine.accounted() == machine.made == 11
    machine.collector.restore(0)
    machine.contact()
    assert machine.accounted() == 11


def test_a_gap_that_the_resident_took_from_the_ring_still_stands_for_all_its_records(machine):
    """The resident deletes the gap from the ring without reading it, and its records are still counted."""
    machine.lose(500)
    machine.measure(RING_FLOOR + 4)
    machine.contact()
    machine.spool._bounds = Bounds(60 * 1024, 0)
    while machine.outbox.oldest_seq() == 1:
        machine.measure(40)
    machine.collector.restore(0)
    machine.contact()
    assert machine.accounted() == machine.made


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_gap_whose_bytes_were_damaged_still_stands_for_all_its_records(machine, acknowledged):
    """The gap's records are counted without its bytes, before its delivery and in a new epoch."""
    machine.lose(500)
    machine.measure(2)
    machine.outbox.number_pending(10)
    if acknowledged:
        machine.contact()
        machine.collector.restore(0)
    machine.connection.execute("UPDATE outbox SET wire = x'1201' WHERE seq = 1")
    machine.contact()
    assert machine.accounted() == 502
    (gap,) = machine.collector.gaps()
    assert (gap.reason, gap.records) == (pb.GAP_REASON_SPOOL_DAMAGED, 500)


def test_epochs_too_old_to_be_named_are_told_all_the_same(machine):
    """Records of the first epochs are declared, though there were more epochs than the agent remembers."""
    for _ in range(FORMER_EPOCHS + 3):
        machine.deliver(8)
        machine.outbox.new_epoch()
    machine.contact()
    assert len(machine.outbox.former()) == FORMER_EPOCHS
    machine.collector.restore(0)
    machine.contact()
    assert machine.accounted() == machine.made == 8 * (FORMER_EPOCHS + 3)


def test_a_spool_in_place_of_a_damaged_one_knows_what_the_gaps_stood_for(machine, tmp_path):
    """After damage of the spool, a restored collector gets gaps for all that it had, and for the damage."""
    machine.lose(500)
    machine.deliver(8)
    machine.connection.execute("DROP TABLE quarantine")
    open_spool(tmp_path / "spool.db", BOUNDS, machine.now).close()
    with closing(connect(tmp_path / "spool.db")) as connection:
        machine.connect(connection, tmp_path / "spool.db")
        machine.collector.restore(0)
        machine.contact()
        assert machine.accounted() == machine.made + 1


def test_gaps_numbered_by_an_agent_of_0_1_are_counted_once_it_is_0_2(machine):
    """Version 0.1 kept no count of gaps; gaps that are still there are counted after the upgrade."""
    machine.lose(500)
    machine.outbox.number_pending(10)
    machine.outbox.set_control({ControlKey.GAPS: None})
    machine.deliver(8)
    assert machine.outbox.oldest_seq() > 1
    machine.collector.restore(0)
    machine.contact()
    assert machine.accounted() == machine.made


def test_what_gaps_stand_for_is_bounded_and_never_too_little(machine):
    """Beyond the bound the oldest counts are merged: a range may count too many records, never too few."""
    epoch, last = machine.outbox.epoch(), GAPS_KEPT + 50
    store_gap_counts(machine.connection, dict.fromkeys(range(1, last + 1), 3))
    assert records_between(machine.connection, epoch, 1, last) == 3 * last
    assert records_between(machine.connection, epoch, 51, last) >= 3 * (last - 50)
    assert records_between(machine.connection, epoch, last, last) == 3
    assert records_between(machine.connection, epoch, 5, 4) == 0


@pytest.mark.parametrize(
    "value", ['{"00": {"1": 9e999}}', "{", "[]", '{"zz": {}}', '{"00": 3}', '{"00": {"a": 1}}']
)
def test_a_damaged_count_stops_nothing(machine, value):
    """With a damaged count each number is one record, and new gaps are counted."""
    machine.outbox.set_control({ControlKey.GAPS: value.replace("00", machine.outbox.epoch().hex())})
    machine.lose(500)
    machine.deliver(8)
    machine.collector.restore(0)
    machine.contact()
    assert machine.accounted() == machine.made
