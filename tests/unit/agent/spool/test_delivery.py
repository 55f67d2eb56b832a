# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test both halves of a real spool, a failing collector and backups of both: produced = stored + declared."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.support.delivery import MINUTE, Fault, ModelCollector, is_gap, minutes_of
from tests.support.fakes.agent import EPOCH_START, record
from tests.support.records import count_pending
from veilleuse.agent.errors import AgentError, SpoolError
from veilleuse.agent.model import Gap
from veilleuse.agent.sending import session
from veilleuse.agent.sending.encode import WireEncoder, encode_record
from veilleuse.agent.sending.session import Sender
from veilleuse.agent.spool import database
from veilleuse.agent.spool.database import Bounds, FileSpool, connect, gap_over, gap_row
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import GapReason

BOUNDS = Bounds(max_bytes=160 * 1024, disk_reserve_bytes=500_000_000)
"""This bound holds some 250 rows."""
QUEUED_ROWS = 90
"""Bound of the rows in memory. The resident's own bound has the same name."""
RING = Ring(milliseconds=60 * MINUTE, records=6, max_bytes=24 * 1024, quarantine_bytes=4 * 1024)
PAGES_WITHOUT_BOUND = 1 << 30
FAULTS = st.lists(st.sampled_from(Fault), max_size=6)
MACHINE = hypothesis_settings(
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


class Delivery(RuleBasedStateMachine):
    """Everything but the network is real; each run ends with `quiet`."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="veilleuse-delivery-")
        self.path = Path(self.folder.name) / "spool.db"
        self.collector = ModelCollector()
        self.collector.meanwhile = lambda: self.append(2)
        self.now = EPOCH_START + 86_400_000
        self.made = 0
        """Number of minutes measured so far, in any state of the machine."""
        self.undated = 0
        self.timeline: set[int] = set()
        """Minutes that this machine has measured, as far as it remembers."""
        self.queue: list[str] = []
        """Rows that could not be written yet, as in the resident's memory."""
        self.backups: list[tuple[bytes, set[int], list[str]]] = []
        self.went_back = self.restored = False
        self.disk_free = True
        self.open()

    def open(self) -> None:
        self.connections = [connect(self.path, busy_timeout_milliseconds=0) for _ in range(2)]
        for connection in self.connections:
            connection.execute("PRAGMA synchronous = OFF")
        resident, session = self.connections
        self.spool = FileSpool(resident, self.path, BOUNDS)
        self.outbox = Outbox(session, self.path, WireEncoder(), RING)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()

    def teardown(self) -> None:
        try:
            self.quiet()
        finally:
            self.close()
            self.folder.cleanup()

    # ------------------------------------------------------------------------------ what happens

    @rule(count=st.one_of(st.integers(1, 6), st.integers(20, 90)))
    def append(self, count: int) -> None:
        """Write new minutes as the resident does; rows that cannot be written wait."""
        minutes = range(self.made, self.made + count)
        self.made += count
        self.timeline |= set(minutes)
        self.write(record(minute).to_json() for minute in minutes)

    @rule()
    def append_undated(self) -> None:
        """Write a gap without a date."""
        self.undated += 1
        self.write([gap_row(Gap(GapReason.CLOCK_UNKNOWN, ((None, 10_000 + self.undated),), 1))])

    def write(self, bodies: Iterable[str]) -> None:
        self.queue += bodies
        try:
            self.spool.append(self.queue, {})
        except SpoolError:
            if len(self.queue) > QUEUED_ROWS:  # as Resident._keep
                half = len(self.queue) // 2
                self.queue[:half] = [gap_over(GapReason.SPOOL_CAP, self.queue[:half]).to_json()]
        else:
            self.queue.clear()

    @rule(faults=FAULTS, minutes=st.integers(0, 90))
    def contact(self, faults: list[Fault], minutes: int = 1) -> None:
        """Run a sender, which any fault may stop."""
        self.now += minutes * MINUTE
        self.collector.faults = iter(faults)
        with suppress(AgentError):
            Sender(self.outbox, self.collector, pb.Facts(model="PC"), lambda: self.now).contact()

    @rule(ahead=st.integers(0, 5))
    def refuse(self, ahead: int) -> None:
        """Make the collector refuse that minute for ever."""
        self.collector.refused.add(self.made + ahead)

    @rule(ahead=st.integers(0, 5))
    def poison(self, ahead: int) -> None:
        """Make the collector refuse any request with that minute."""
        self.collector.poison.add(self.made + ahead)

    @rule(on=st.booleans())
    def refuse_dated_gaps(self, on: bool) -> None:
        """Make the collector refuse dated gaps, as if a period were full."""
        self.collector.refuses_dated_gaps = on

    @rule(which=st.lists(st.floats(0, 1), min_size=1, max_size=3))
    def damage(self, which: list[float]) -> None:
        """Change bytes of numbered rows on the disk, which SQLite does not notice."""
        db = self.connections[0]
        numbered = db.execute("SELECT seq, wire FROM outbox ORDER BY seq").fetchall()
        # A damaged gap is sent again without a date, and could hide a loss. test_ring_expired.py tests that.
        rows = [row for row in numbered if not is_gap(row[1])]
        for place in which if rows and self.disk_free else ():
            seq, wire = rows[round(place * (len(rows) - 1))]
            changed = wire[:20] + bytes([wire[20] ^ 1]) + wire[21:] if len(wire) > 20 else wire
            db.execute("UPDATE outbox SET wire = ? WHERE seq = ?", (changed, seq))
            self.went_back = True  # a stored record may now also be in a gap

    @rule(free=st.booleans())
    def disk(self, free: bool) -> None:
        """Fill the disk, so that no file grows, or free it."""
        self.disk_free = free
        for connection in self.connections:
            connection.execute(f"PRAGMA max_page_count = {PAGES_WITHOUT_BOUND if free else 1}")

    @rule()
    def back_up(self) -> None:
        """Take a snapshot of the machine."""
        self.backups.append((self.path.read_bytes(), set(self.timeline), list(self.queue)))

    @precondition(lambda self: self.backups)
    @rule(which=st.floats(0, 1))
    def roll_back(self, which: float) -> None:
        """Return the machine to a snapshot, and start a new sender and resident."""
        content, timeline, queue = self.backups[round(which * (len(self.backups) - 1))]
        self.close()
        self.path.write_bytes(content)
        self.timeline, self.queue = set(timeline), list(queue)
        self.went_back = True
        self.open()

    @rule(which=st.floats(0, 1))
    def restore(self, which: float) -> None:
        """Restore the collector from a backup."""
        back = round(which * (len(self.collector.states) - 1))
        if back < len(self.collector.states) - 1:
            self.collector.restore(back)
            self.went_back = self.restored = True

    # -------------------------------------------------------------------------------- what must hold

    def quiet(self) -> None:
        """Let everything succeed: all that waits is delivered, and each minute is accounted for."""
        self.disk(free=True)
        for _ in range(60):
            self.write(())
            self.contact([])
            if not self.queue and not count_pending(self.spool):
                break
        assert not self.queue
        assert count_pending(self.spool) == 0, "something blocks the queue"
        self.check()

    def check(self) -> None:
        made = {encode_record(record(minute)) for minute in range(self.made)}
        strange = [wire for _, wire in self.collector.held.wires if wire not in made and not is_gap(wire)]
        assert not strange, "never measured"
        stored = self.collector.measurements()
        assert not {minute for minute, times in stored.items() if times > 1}, "stored twice"
        dated: Counter[int] = Counter()
        undated_records = 0
        for gap in self.collector.gaps():
            if gap.reason == pb.GAP_REASON_CLOCK_UNKNOWN:
                continue
            minutes = minutes_of(gap)
            whole = all(span.HasField("period") for span in gap.spans) and gap.spans
            if whole and gap.records == len(minutes):
                assert sum(span.milliseconds for span in gap.spans) == len(minutes) * MINUTE
            assert len(minutes) <= gap.records, "a gap over more than it says"
            undated_records += gap.records - len(minutes)
            dated.update(minutes)
        told = set(stored) | set(dated)
        assert told <= set(range(self.made)), "of no minute there ever was"
        missing = self.timeline - told
        assert len(missing) <= undated_records, f"lost without a word: {sorted(missing)[:9]}"
        if not self.went_back:
            assert not set(stored) & set(dated), "declared lost, and stored"
            assert max(dated.values(), default=1) == 1, "declared lost twice"
            self.check_exactly(stored, undated_records - len(missing))

    def check_exactly(self, stored: Counter[int], left: int) -> None:
        """Check that no gap is superfluous either, where nothing was rolled back or restored."""
        undated = [gap for gap in self.collector.gaps() if gap.reason == pb.GAP_REASON_CLOCK_UNKNOWN]
        lost = self.undated - len(undated)
        assert left == lost, (
            f"{left} records declared of which there is nothing to tell; {lost} undated gaps went"
        )
        seen = Counter(gap.spans[0].milliseconds for gap in undated)
        assert max(seen.values(), default=1) == 1
        told = sum(span.milliseconds for gap in self.collector.gaps() for span in gap.spans)
        told += len(stored) * MINUTE
        passed = self.made * MINUTE + sum(10_000 + number for number in range(1, self.undated + 1))
        assert told == passed, f"{passed - told} ms of the gaps astray"


def run(examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    """Do so many runs of up to 60 steps; raise what a run finds."""
    run_state_machine_as_test(
        Delivery, settings=hypothesis_settings(MACHINE, max_examples=examples, phases=phases)
    )


@pytest.mark.promise("R18", "R12", "R13")
def test_every_minute_is_stored_once_or_declared(figure):
    """Each minute is stored once or declared, after any losses, refusals, damage, full disks and restores."""
    run(40, (Phase.explicit, Phase.generate))
    figure("0 minutes lost without a declared gap, 0 stored twice, in 40 random sequences of up to 60 steps")


@pytest.mark.long
@pytest.mark.promise("R18", "R12", "R13")
def test_every_minute_is_stored_once_or_declared_at_length(figure):
    """The same holds over 100 times as many runs."""
    run(4_000, (Phase.explicit, Phase.generate))
    figure(
        "0 minutes lost without a declared gap, 0 stored twice, in 4,000 random sequences of up to 60 steps"
    )


# ---------------------------------------------------------------------------- defects that it must find


def numbers_and_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete the next row after each numbering."""
    sound = Outbox.number_pending

    def lossy(self: Outbox, limit: int) -> int:
        numbered = sound(self, limit)
        if numbered:
            self._connection.execute("DELETE FROM pending WHERE id = (SELECT min(id) FROM pending)")
        return numbered

    monkeypatch.setattr(Outbox, "number_pending", lossy)


def new_epoch_without_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a new epoch with unacknowledged rows alone."""
    monkeypatch.setattr(Outbox, "new_epoch", lambda self, lost_after=None, former=None: self.new_stream())


def forgets_former_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not ask for records of former epochs that have left the ring."""
    monkeypatch.setattr(Sender, "_lacks_former", lambda self: False)


def believes_damaged_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send records without a check of their chain."""
    monkeypatch.setattr(session, "_find_damaged", lambda chain, run: None)


def drops_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare a gap with one record too few."""
    sound = database.gap_over

    def one_fewer(reason: GapReason, bodies: Iterable[str]) -> Gap:
        gap = sound(reason, bodies)
        return gap._replace(records=max(1, gap.records - 1), spans=gap.spans[1:])

    monkeypatch.setattr(database, "gap_over", one_fewer)


def numbers_and_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number a row again after the collector has refused it."""
    sound = Outbox.replace_with_gap

    def twice(self: Outbox, seq: int, reason: str, *, damaged: bool = False) -> None:
        (wire,) = self._connection.execute("SELECT wire FROM outbox WHERE seq = ?", (seq,)).fetchone()
        sound(self, seq, reason, damaged=damaged)
        self._connection.execute("INSERT INTO pending (body) VALUES (?)", (gap_json(wire),))

    monkeypatch.setattr(Outbox, "replace_with_gap", twice)


def gap_json(wire: bytes) -> str:
    """Return a gap as the resident would write it."""
    return Gap(GapReason.REFUSED, ((None, len(wire)),), 1).to_json()


@pytest.mark.parametrize(
    "mutant", [numbers_and_loses, believes_damaged_bytes, drops_without_a_gap, numbers_and_keeps]
)
def test_it_can_fail(mutant, monkeypatch):
    """The test finds each of these defects."""
    found(mutant, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("mutant", [new_epoch_without_the_ring, forgets_former_epochs])
def test_it_can_fail_at_length(mutant, monkeypatch):
    """The longer test finds these defects, which need several faults."""
    found(mutant, monkeypatch)


def found(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the runs fail with this defect."""
    mutant(monkeypatch)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(1_500, (Phase.generate,))
