# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the sender's half of the spool on real files: order, numbers, chain, ring, epochs. docs/wire.md §1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.fakes.agent import EPOCH_START, record
from tests.support.waiting import random_moment
from veilleuse.agent.errors import SpoolBusy, SpoolDamaged
from veilleuse.agent.model import Gap
from veilleuse.agent.sending.encode import WireEncoder, encode_record
from veilleuse.agent.spool.database import connect
from veilleuse.agent.spool.outbox import QUARANTINE_ROWS, Outbox, Ring
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.limits import MAX_PUSH_BYTES
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import GapReason

NOW = EPOCH_START
HOUR = 3_600_000


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an empty outbox with a ring of an hour and 3 records."""
    path = tmp_path / "spool.db"
    with closing(connect(path)) as connection:
        yield Outbox(connection, path, WireEncoder(), Ring(milliseconds=HOUR, records=3))


def measure(outbox: Outbox, *indices: int) -> None:
    """Append rows as the resident does."""
    rows = [(record(index).to_json(),) for index in indices]
    outbox._connection.executemany("INSERT INTO pending (body) VALUES (?)", rows)


def fill(outbox: Outbox, first: int, last: int) -> None:
    """Append and number the records first … last."""
    measure(outbox, *range(first, last + 1))
    outbox.number_pending(10_000)


def chain_holds(outbox: Outbox) -> bool:
    """Check that numbers are contiguous and that each chain value follows from the one before."""
    rows = outbox._connection.execute("SELECT seq, wire, chain FROM outbox ORDER BY seq").fetchall()
    chain = chain_start(outbox.epoch()) if rows and rows[0][0] == 1 else None
    for position, (seq, wire, value) in enumerate(rows):
        if seq != rows[0][0] + position or (chain is not None and chain_next(chain, wire) != value):
            return False
        chain = value
    return True


def test_numbers_begin_at_one_and_the_chain_at_the_epoch(outbox):
    """The numbers are 1, 2, 3; chain_n = SHA-256(chain_{n-1} ‖ bytes), chain_0 = SHA-256(epoch)."""
    measure(outbox, 0, 1, 2)
    assert outbox.number_pending(256) == 3
    run = outbox.unacknowledged(0, 256, MAX_PUSH_BYTES)
    assert [one.seq for one in run] == [1, 2, 3]
    assert run[0].chain == chain_next(chain_start(outbox.epoch()), encode_record(record(0)))
    assert outbox.chain_at(0) == chain_start(outbox.epoch())
    assert outbox.chain_at(2) == run[1].chain
    assert chain_holds(outbox)
    assert outbox.number_pending(256) == 0


def test_rows_are_numbered_only_while_few_wait(outbox):
    """At most `limit` rows are numbered and unacknowledged, so that the spool's bound can drop the rest."""
    measure(outbox, *range(10))
    assert outbox.number_pending(4) == 4
    assert outbox.number_pending(4) == 0
    outbox.acknowledge(3, NOW)
    assert outbox.number_pending(4) == 3
    assert outbox.last_seq() == 7
    assert outbox.count_waiting()[0] == 7


def test_a_run_is_bounded_in_rows_and_bytes(outbox):
    """A run has at most `limit` rows and `max_bytes` bytes, but at least one record."""
    fill(outbox, 0, 9)
    size = len(outbox.unacknowledged(0, 1, 1)[0].wire)
    assert len(outbox.unacknowledged(0, 4, MAX_PUSH_BYTES)) == 4
    assert len(outbox.unacknowledged(0, 100, 3 * size)) == 3
    assert [one.seq for one in outbox.unacknowledged(7, 100, MAX_PUSH_BYTES)] == [8, 9, 10]
    assert outbox.unacknowledged(10, 100, MAX_PUSH_BYTES) == ()


def test_the_ring_keeps_by_age_and_by_number(outbox):
    """The ring keeps records younger than its hours, the last few of any age, and the last row."""
    fill(outbox, 0, 9)
    outbox.acknowledge(10, NOW)
    assert outbox.oldest_seq() == 1
    fill(outbox, 10, 11)
    outbox.acknowledge(12, NOW + HOUR)
    assert outbox.oldest_seq() == 10
    assert outbox.acknowledged_seq() == outbox.last_seq() == 12
    fill(outbox, 12, 12)
    assert outbox.last_seq() == 13
    assert chain_holds(outbox)


def test_numbers_go_on_when_nothing_is_kept(tmp_path):
    """An empty ring still remembers the last number, so that none is given twice."""
    path = tmp_path / "spool.db"
    with closing(connect(path)) as connection:
        outbox = Outbox(connection, path, WireEncoder(), Ring(milliseconds=0, records=0))
        for index in range(5):
            fill(outbox, index, index)
            outbox.acknowledge(index + 1, NOW + index)
        assert outbox.last_seq() == 5
        assert len(connection.execute("SELECT * FROM outbox").fetchall()) == 1


def test_the_ring_is_bounded_in_bytes(tmp_path):
    """Acknowledged records never fill the spool, whatever their age."""
    path = tmp_path / "spool.db"
    with closing(connect(path)) as connection:
        outbox = Outbox(connection, path, WireEncoder(), Ring(milliseconds=HOUR, records=3, max_bytes=20_000))
        fill(outbox, 0, 999)
        outbox.acknowledge(1_000, NOW)
        (kept,) = connection.execute("SELECT SUM(LENGTH(wire)) FROM outbox").fetchone()
        assert 15_000 < kept <= 21_000
        assert outbox.acknowledged_seq() == 1_000
        assert chain_holds(outbox)


def test_going_back_within_the_ring(outbox):
    """`rewind` un-acknowledges records; beyond the ring it refuses and changes nothing."""
    fill(outbox, 0, 9)
    outbox.acknowledge(10, NOW)
    assert outbox.rewind(4)
    assert outbox.acknowledged_seq() == 4
    assert [one.seq for one in outbox.unacknowledged(4, 10, MAX_PUSH_BYTES)] == [5, 6, 7, 8, 9, 10]
    outbox.acknowledge(10, NOW + HOUR)
    outbox.acknowledge(10, NOW + 2 * HOUR)
    assert outbox.oldest_seq() == 8
    assert not outbox.rewind(6)
    assert outbox.acknowledged_seq() == 10
    assert outbox.rewind(7)


def test_a_gap_takes_the_number_of_what_was_refused(outbox):
    """The rest is chained again, the original and the reason are in quarantine, and the drop is counted."""
    fill(outbox, 0, 4)
    original = outbox.unacknowledged(1, 1, MAX_PUSH_BYTES)[0].wire
    outbox.replace_with_gap(2, "bad")
    run = outbox.unacknowledged(0, 10, MAX_PUSH_BYTES)
    assert [one.seq for one in run] == [1, 2, 3, 4, 5]
    assert pb.Record.FromString(run[1].wire).gap.reason == pb.GAP_REASON_REFUSED
    assert chain_holds(outbox)
    assert outbox.control("drops") == '{"refused": 1}'
    kept = outbox._connection.execute("SELECT seq, epoch, wire, reason FROM quarantine").fetchall()
    assert kept == [(2, outbox.epoch().hex(), original, "bad")]


def test_the_quarantine_is_bounded(outbox):
    """The oldest rows are deleted."""
    fill(outbox, 0, QUARANTINE_ROWS + 9)
    for seq in range(1, QUARANTINE_ROWS + 11):
        outbox.replace_with_gap(seq, "bad")
    rows = outbox._connection.execute("SELECT MIN(seq), COUNT(*) FROM quarantine").fetchone()
    assert rows == (11, QUARANTINE_ROWS)


def test_the_quarantine_is_bounded_in_bytes(tmp_path):
    """The bound holds however large the refused records are."""
    path = tmp_path / "spool.db"
    with closing(connect(path)) as connection:
        outbox = Outbox(connection, path, WireEncoder(), Ring(quarantine_bytes=5_000))
        fill(outbox, 0, 199)
        for seq in range(1, 201):
            outbox.replace_with_gap(seq, "bad")
        rows, size, last = connection.execute(
            "SELECT COUNT(*), SUM(LENGTH(wire)), MAX(seq) FROM quarantine"
        ).fetchone()
        assert 3_000 < size <= 5_000
        assert last == 200
        assert outbox.count_quarantined() == rows


def test_a_new_epoch_keeps_the_bytes_and_the_order(outbox):
    """All kept records, with the ring, get numbers from 1 under the new epoch, with the same bytes."""
    fill(outbox, 0, 4)
    outbox.acknowledge(2, NOW)
    before, epoch = [one.wire for one in outbox.unacknowledged(0, 10, MAX_PUSH_BYTES)], outbox.epoch()
    outbox.new_epoch()
    run = outbox.unacknowledged(0, 10, MAX_PUSH_BYTES)
    assert outbox.epoch() != epoch
    assert [one.seq for one in run] == [1, 2, 3, 4, 5]
    assert [one.wire for one in run] == before
    assert outbox.acknowledged_seq() == 0
    assert chain_holds(outbox)


def test_a_delivered_gap_without_dates_is_not_sent_again(outbox):
    """A delivered gap without dates is not sent again: a collector could not recognise it."""
    undated = Gap(GapReason.CLOCK_UNKNOWN, ((None, 5_000),), 1).to_json()
    dated = Gap(GapReason.SPOOL_CAP, ((record(0).period, 60_000),), 1).to_json()
    for body in (undated, dated, undated):
        outbox._connection.execute("INSERT INTO pending (body) VALUES (?)", (body,))
    outbox.number_pending(10)
    outbox.acknowledge(2, NOW)
    wires = [one.wire for one in outbox.unacknowledged(0, 10, MAX_PUSH_BYTES)]
    outbox.new_epoch()
    assert [one.wire for one in outbox.unacknowledged(0, 10, MAX_PUSH_BYTES)] == wires[1:]


def test_another_identity_is_not_sent_what_the_former_one_delivered(outbox):
    """A new stream has the unacknowledged records alone, without the ring."""
    fill(outbox, 0, 4)
    outbox.acknowledge(2, NOW)
    wires = [one.wire for one in outbox.unacknowledged(2, 10, MAX_PUSH_BYTES)]
    outbox.new_stream()
    assert [one.wire for one in outbox.unacknowledged(0, 10, MAX_PUSH_BYTES)] == wires


def test_a_gap_for_what_left_the_ring_says_when_it_was(outbox):
    """The new epoch begins with Gap{ring_expired} over the lost minutes, then all kept records."""
    fill(outbox, 0, 9)
    outbox.acknowledge(10, NOW)
    outbox.acknowledge(10, NOW + 2 * HOUR)
    assert outbox.oldest_seq() == 8
    outbox.new_epoch(lost_after=4)
    run = outbox.unacknowledged(0, 10, MAX_PUSH_BYTES)
    assert len(run) == 4
    gap = pb.Record.FromString(run[0].wire).gap
    assert (gap.reason, gap.records) == (pb.GAP_REASON_RING_EXPIRED, 3)
    (span,) = gap.spans
    assert span.period.clock.start_unix_milliseconds == EPOCH_START + 4 * 60_000
    assert (span.period.clock.duration_milliseconds, span.milliseconds) == (180_000, 180_000)
    assert outbox.control("drops") == '{"ring_expired": 3}'
    assert chain_holds(outbox)


def test_a_sender_whose_spool_was_replaced_ends(outbox, tmp_path):
    """A sender writes nothing once its spool file has been replaced."""
    measure(outbox, 0)
    (tmp_path / "spool.db").rename(tmp_path / "spool.db.damaged-1")
    with closing(connect(tmp_path / "spool.db")), pytest.raises(SpoolDamaged, match="was replaced"):
        outbox.number_pending(10)


def test_control_values_are_exchanged_when_they_stand_as_told(outbox):
    """All values are exchanged, or none."""
    outbox.set_control({"a": "1"})
    assert not outbox.exchange({"a": "1", "b": "2"}, {"a": None})
    assert outbox.exchange({"a": "1", "b": None}, {"a": None, "b": "3"})
    assert (outbox.control("a"), outbox.control("b")) == (None, "3")


def test_an_unreadable_row_becomes_a_gap(outbox):
    """An unreadable row becomes a gap, is counted, and does not stop the queue."""
    measure(outbox, 0)
    outbox._connection.execute("INSERT INTO pending (body) VALUES ('{\"period\":')")
    measure(outbox, 1)
    assert outbox.number_pending(10) == 3
    gap = pb.Record.FromString(outbox.unacknowledged(1, 1, MAX_PUSH_BYTES)[0].wire).gap
    assert (gap.reason, gap.records) == (pb.GAP_REASON_SPOOL_DAMAGED, 1)
    assert outbox.control("drops") == '{"spool_damaged": 1}'


def test_two_processes_take_turns(outbox, tmp_path):
    """While another process writes, numbering raises SpoolBusy and changes nothing."""
    measure(outbox, 0)
    outbox._connection.execute("PRAGMA busy_timeout = 50")
    with closing(connect(tmp_path / "spool.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolBusy):
            outbox.number_pending(10)
        other.execute("ROLLBACK")
    assert outbox.number_pending(10) == 1


@pytest.mark.any_date
def test_killed_at_any_moment_no_number_is_used_twice(tmp_path):
    """R3: after kills during numbering and acknowledging, each row is there once and the chain holds."""
    path = tmp_path / "spool.db"
    with closing(connect(path)) as db:
        rows = [(record(index).to_json(),) for index in range(3_000)]
        db.execute("BEGIN")
        db.executemany("INSERT INTO pending (body) VALUES (?)", rows)
        db.execute("COMMIT")
    code = (
        "import sys; from pathlib import Path; from veilleuse.agent.spool.outbox import Outbox, Ring;"
        "from veilleuse.agent.sending.encode import WireEncoder; from veilleuse.agent.spool.database import connect;"
        "path = Path(sys.argv[1]); box = Outbox(connect(path), path, WireEncoder(), Ring(0, 100_000, 1 << 30));"
        "print('on', flush=True)\n"
        "while box.number_pending(7):\n    box.acknowledge(box.last_seq(), 1)"
    )
    chance = Random(8)
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        random_moment(chance, 0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    with closing(connect(path)) as db:
        outbox = Outbox(db, path, WireEncoder(), Ring(0, 100_000, 1 << 30))
        while outbox.number_pending(10_000):
            outbox.acknowledge(outbox.last_seq(), 1)
        wires = [row[0] for row in db.execute("SELECT wire FROM outbox ORDER BY seq")]
        assert wires == [encode_record(record(index)) for index in range(3_000)]
        assert chain_holds(outbox)


class OutboxMachine(RuleBasedStateMachine):
    """In any order of events, produced = acknowledged + waiting, in order, and the chain holds."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "spool.db"
        self.connection = connect(path)
        self.connection.execute("PRAGMA synchronous = OFF")
        self.outbox = Outbox(self.connection, path, WireEncoder(), Ring(milliseconds=0, records=4))
        self.made = 0
        self.now = NOW
        self.acknowledged: list[int] = []  # indices, as the collector would hold them
        self.epochs = {self.outbox.epoch()}

    def teardown(self) -> None:
        self.connection.close()
        self.folder.cleanup()

    def waiting(self) -> list[int]:
        """Return the indices of the numbered, unacknowledged records."""
        run = self.outbox.unacknowledged(self.outbox.acknowledged_seq(), 10_000, 1 << 30)
        starts = [
            pb.Record.FromString(one.wire).measurement.period.clock.start_unix_milliseconds for one in run
        ]
        return [(start - EPOCH_START) // 60_000 for start in starts]

    @rule(count=st.integers(1, 6))
    def append(self, count: int) -> None:
        measure(self.outbox, *range(self.made, self.made + count))
        self.made += count

    @rule(limit=st.integers(1, 8))
    def number(self, limit: int) -> None:
        self.outbox.number_pending(limit)

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        waiting = self.waiting()
        count = round(share * len(waiting))
        self.now += 1
        self.outbox.acknowledge(self.outbox.acknowledged_seq() + count, self.now)
        self.acknowledged += waiting[:count]

    @rule(back=st.integers(0, 6))
    def rewind(self, back: int) -> None:
        mark = max(0, self.outbox.acknowledged_seq() - back)
        gone = self.outbox.acknowledged_seq() - mark
        if self.outbox.rewind(mark) and gone:
            del self.acknowledged[-gone:]

    @rule()
    def another_epoch(self) -> None:
        ring = self.outbox.acknowledged_seq() - self.outbox.oldest_seq() + 1
        self.outbox.new_epoch()
        if ring > 0:  # sent again: the collector recognises them
            del self.acknowledged[-ring:]
        assert self.outbox.epoch() not in self.epochs
        self.epochs.add(self.outbox.epoch())

    @invariant()
    def nothing_lost_nothing_twice(self) -> None:
        pending = self.connection.execute("SELECT COUNT(*) FROM pending").fetchone()[0]
        assert self.acknowledged + self.waiting() == list(range(self.made - pending))
        assert chain_holds(self.outbox)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = hypothesis_settings(max_examples=30, stateful_step_count=20, deadline=None)
