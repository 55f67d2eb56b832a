# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What every store must do, whatever its backend: ports.IngestStore, DeriveStore, Registry, Reader. PROMISES.md §2.2."""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.pushes import (
    HOUR,
    MONDAY_10H,
    NOW,
    WORKSTATION,
    Stream,
    cell,
    clock,
    day,
    enrol,
    gap,
    measurement,
    rapl,
    realistic,
    site,
    week,
)
from veilleuse.collector import settings
from veilleuse.collector.codec import cells_from_wire
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model import (
    AgentId,
    AppendResult,
    Certificate,
    DerivedCell,
    DerivedRecord,
    DirtyPeriod,
    Grain,
    HostId,
    HostStatus,
    LedgerEntry,
    Point,
)
from veilleuse.collector.ports import DeriveStore, IngestStore, Reader, Registry
from veilleuse.collector.store.sqlite import SqliteReader, create_store
from veilleuse.wire.chain import chain_start
from veilleuse.wire.ladder import Method
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    Band,
    Boundary,
    DeviceClass,
    PointKind,
    Population,
    State,
    Supply,
)

LIMITS = settings.Store(free_bytes_minimum=0)
FIRST_HOUR_DAY = date(2026, 3, 2).toordinal()
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT, "machine")


@dataclass
class Backend:
    """One open store, seen through the ports alone."""

    ingest: IngestStore
    derive: DeriveStore
    registry: Registry
    reader: Reader


def _sqlite(directory: Path) -> Iterator[Backend]:
    with (
        closing(create_store(directory, LIMITS, simulated=False, now_unix_milliseconds=NOW)) as store,
        closing(SqliteReader(directory)) as reader,
    ):
        yield Backend(store.ingest, store.derive, store.registry, reader)


BACKENDS = {"sqlite": _sqlite}


@pytest.fixture(params=BACKENDS)
def store(request: Any, tmp_path: Path) -> Iterator[Backend]:
    """An empty store with one site."""
    for backend in BACKENDS[request.param](tmp_path / "data"):
        backend.registry.put_site(site())
        yield backend


# --- marks and chains


def test_a_new_stream_begins_at_zero(store):
    """An unknown epoch stands at mark 0 with the start of its chain."""
    host = enrol(store.registry)
    position = store.ingest.position(host, b"12345678")
    assert (position.mark, position.chain) == (0, chain_start(b"12345678"))


def test_a_run_is_stored_and_the_mark_advances(store):
    """Three records in two pushes: mark 3, the chain of the agent, three rows."""
    stream = Stream(enrol(store.registry))
    first = stream.send(measurement(clock()), measurement(clock(MONDAY_10H + 60_000)))
    second = stream.send(measurement(clock(MONDAY_10H + 120_000)))
    (one, two) = store.ingest.append([first, second])
    assert (one.result, one.mark, one.stored_records) == (AppendResult.STORED, 2, 2)
    assert (two.result, two.mark, two.chain) == (AppendResult.STORED, 3, stream.chains[3])
    assert store.reader.record_count() == 3
    position = store.ingest.position(stream.host_id, stream.epoch)
    assert (position.mark, position.chain) == (3, stream.chains[3])


def test_a_run_that_begins_too_late_is_told_where_to_begin(store):
    """first_seq > mark + 1: nothing is stored."""
    stream = Stream(enrol(store.registry))
    stream.add(realistic(MONDAY_10H), realistic(MONDAY_10H + 300_000))
    (outcome,) = store.ingest.append([stream.push(2)])
    assert (outcome.result, outcome.mark, outcome.chain) == (
        AppendResult.EXPECTED_EARLIER,
        0,
        stream.chains[0],
    )
    assert store.reader.record_count() == 0


def test_a_push_sent_again_changes_nothing(store):
    """A lost answer: the same push is acknowledged again as duplicates, the sums stand."""
    stream = Stream(enrol(store.registry))
    push = stream.send(realistic(MONDAY_10H), gap(milliseconds=5000))
    store.ingest.append([push])
    before = _everything(store)
    (again,) = store.ingest.append([push])
    assert (again.result, again.mark, again.duplicate_records) == (AppendResult.STORED, 2, 2)
    (twice, thrice) = store.ingest.append([push, push])
    assert twice.duplicate_records == thrice.duplicate_records == 2
    assert _everything(store) == before


def test_the_same_push_twice_in_one_group_is_stored_once(store):
    """The second one finds what the first one stored, inside the transaction."""
    stream = Stream(enrol(store.registry))
    push = stream.send(realistic(MONDAY_10H))
    (one, two) = store.ingest.append([push, push])
    assert (one.stored_records, two.stored_records, two.duplicate_records) == (1, 0, 1)
    assert store.reader.record_count() == 1


def test_a_run_across_the_mark_stores_only_what_is_new(store):
    """Records at or below the mark are duplicates, the rest is stored."""
    stream = Stream(enrol(store.registry))
    stream.add(*(measurement(clock(MONDAY_10H + i * 60_000)) for i in range(5)))
    store.ingest.append([stream.push(1, 3)])
    (outcome,) = store.ingest.append([stream.push(2, 5)])
    assert (outcome.stored_records, outcome.duplicate_records, outcome.mark) == (2, 2, 5)
    assert store.reader.record_count() == 5


@pytest.mark.parametrize("first", [1, 2, 3])
def test_another_history_is_a_conflict(store, first):
    """A copy of the spool that went on differently: its chain at the mark differs, nothing is written."""
    stream = Stream(enrol(store.registry))
    stream.add(measurement(clock()), measurement(clock(MONDAY_10H + 60_000)))
    store.ingest.append([stream.push()])
    other = Stream(stream.host_id, epoch=stream.epoch)
    other.add(measurement(clock()), realistic(MONDAY_10H + 300_000), realistic(MONDAY_10H + 600_000))
    before = _everything(store)
    (outcome,) = store.ingest.append([other.push(first)])
    assert (outcome.result, outcome.mark, outcome.chain) == (
        AppendResult.CONFLICT,
        2,
        stream.chains[2],
    )
    assert _everything(store) == before


def test_below_the_mark_each_record_is_compared(store):
    """A run that ends below the mark is acknowledged when it is the same, a conflict when it is not."""
    stream = Stream(enrol(store.registry))
    stream.add(*(measurement(clock(MONDAY_10H + i * 60_000)) for i in range(4)))
    store.ingest.append([stream.push()])
    other = Stream(stream.host_id, epoch=stream.epoch)
    other.add(measurement(clock()), realistic(MONDAY_10H))
    (same, different) = store.ingest.append([stream.push(1, 2), other.push(1, 2)])
    assert (same.result, same.duplicate_records, same.mark) == (AppendResult.STORED, 2, 4)
    assert different.result is AppendResult.CONFLICT


def test_a_wrong_chain_before_is_a_conflict_from_the_first_record_on(store):
    """A stream nobody knows must begin at the start of its chain."""
    stream = Stream(enrol(store.registry))
    push = replace(stream.send(realistic(MONDAY_10H)), chain_before=bytes(32))
    (outcome,) = store.ingest.append([push])
    assert outcome.result is AppendResult.CONFLICT
    assert store.reader.record_count() == 0


def test_in_a_new_epoch_what_is_stored_is_acknowledged_and_not_summed_again(store):
    """A spool that made a new epoch sends its ring again: replayed, and the sums stand."""
    old = Stream(enrol(store.registry))
    records = [realistic(MONDAY_10H + i * 300_000) for i in range(3)]
    store.ingest.append([old.send(*records)])
    before = _sums(store)
    new = Stream(old.host_id)
    (outcome,) = store.ingest.append([new.send(*records, realistic(MONDAY_10H + HOUR))])
    assert (outcome.replayed_records, outcome.stored_records, outcome.mark) == (3, 1, 4)
    assert store.reader.record_count() == 4
    assert {key: value for key, value in _sums(store).items() if key in before} != before, "the day grew"
    (again,) = store.ingest.append([new.push()])
    assert (again.duplicate_records, again.mark) == (4, 4)


def test_a_replay_is_recognised_within_one_group(store):
    """Both epochs arrive together: the second finds the first."""
    old = Stream(enrol(store.registry))
    new = Stream(old.host_id)
    record = realistic(MONDAY_10H)
    (one, two) = store.ingest.append([old.send(record), new.send(record)])
    assert (one.stored_records, two.replayed_records) == (1, 1)


def test_undated_gaps_of_two_epochs_both_count(store):
    """Nothing tells two gaps without a period apart; a dated one is told by its bytes."""
    old = Stream(enrol(store.registry))
    new = Stream(old.host_id)
    dated = pb.Record(
        gap=pb.Gap(
            reason=pb.GAP_REASON_DISABLED,
            records=1,
            spans=[pb.GapSpan(period=clock(MONDAY_10H, 2 * HOUR), milliseconds=2 * HOUR)],
        )
    )
    store.ingest.append([old.send(gap(records=2), dated), new.send(gap(records=2), dated)])
    assert sorted(store.reader.gap_totals()) == [
        (old.host_id, "disabled", 1, 2 * HOUR),
        (old.host_id, "spool_cap", 4, 0),
    ]


def test_streams_of_two_hosts_do_not_touch(store):
    """The same epoch on two hosts is two streams."""
    one, two = (
        Stream(enrol(store.registry), epoch=b"samesame"),
        Stream(enrol(store.registry), epoch=b"samesame"),
    )
    outcomes = store.ingest.append([one.send(realistic(MONDAY_10H)), two.send(realistic(MONDAY_10H))])
    assert [outcome.stored_records for outcome in outcomes] == [1, 1]


def test_one_poisoned_push_fails_alone(store):
    """A push the database cannot take leaves the rest of its group stored, and the memory of the marks right."""
    good, bad = Stream(enrol(store.registry)), Stream(enrol(store.registry))
    poison = bad.send(realistic(MONDAY_10H))
    record = poison.records[0]
    too_big = replace(record.cells[0], disk_read_bytes=2**70)
    poison = replace(poison, records=(replace(record, cells=(too_big,)),))
    outcomes = store.ingest.append([good.send(realistic(MONDAY_10H)), poison])
    assert [outcome.result for outcome in outcomes] == [AppendResult.STORED, AppendResult.FAILED]
    assert store.ingest.position(bad.host_id, bad.epoch).mark == 0
    assert store.ingest.position(good.host_id, good.epoch).mark == 1
    (after,) = store.ingest.append([bad.push()])
    assert after.stored_records == 1


# --- sums


def test_a_clock_record_counts_in_its_hour_and_in_the_civil_day_of_its_site(store):
    """23:30 UTC on 1 March is 2 March in Paris; the day's sum is keyed by the local date."""
    stream = Stream(enrol(store.registry))
    late = MONDAY_10H - 10 * HOUR - HOUR // 2  # 2026-03-01T23:30Z
    store.ingest.append([stream.send(realistic(late), realistic(MONDAY_10H))])
    hours = list(store.reader.sums(Grain.HOUR, 0, 2**62))
    assert {row.start for row in hours} == {MONDAY_10H - 11 * HOUR, MONDAY_10H}
    days = list(store.reader.sums(Grain.DAY, 0, 2**62))
    assert {row.start for row in days} == {FIRST_HOUR_DAY}
    assert sum(row.cell.milliseconds for row in days) == 600_000


def test_dates_and_weeks_are_their_own_keys(store):
    """A workstation's day and week records are summed under the day number, and the Monday's."""
    stream = Stream(enrol(store.registry, Population.WORKSTATION), WORKSTATION)
    closed = cell(3600_000, band=pb.BAND_CLOSED)
    store.ingest.append(
        [
            stream.send(
                measurement(day(date(2026, 3, 4)), [closed]), measurement(week(2026, 10), [cell(7200_000)])
            )
        ]
    )
    assert [row.start for row in store.reader.sums(Grain.DAY, 0, 2**62)] == [date(2026, 3, 4).toordinal()]
    assert [row.start for row in store.reader.sums(Grain.WEEK, 0, 2**62)] == [FIRST_HOUR_DAY]
    assert {(p.grain, p.start) for p in store.derive.dirty(9)} == {
        (Grain.DAY, date(2026, 3, 4).toordinal()),
        (Grain.WEEK, FIRST_HOUR_DAY),
    }


def test_absent_is_not_zero(store):
    """A sum nobody measured stays None beside one that was measured as 0, and takes the first measured value."""
    stream = Stream(enrol(store.registry))
    store.ingest.append(
        [
            stream.send(
                measurement(clock(), [cell(disk_read_bytes=0)]),
                measurement(clock(MONDAY_10H + 60_000), [cell(network_sent_bytes=7)]),
            )
        ]
    )
    (row,) = store.reader.sums(Grain.HOUR, 0, 2**62)
    assert (row.cell.disk_read_bytes, row.cell.disk_written_bytes, row.cell.network_sent_bytes) == (
        0,
        None,
        7,
    )
    assert row.cell.cpu_bucket_milliseconds == ()
    store.ingest.append([stream.send(measurement(clock(MONDAY_10H + 120_000), [cell(disk_written_bytes=5)]))])
    (row,) = store.reader.sums(Grain.HOUR, 0, 2**62)
    assert (row.cell.disk_read_bytes, row.cell.disk_written_bytes) == (0, 5)
    assert row.cell.milliseconds == 180_000


def test_buckets_add_up(store):
    """Buckets of each kind, each at its own place."""
    stream = Stream(enrol(store.registry))
    cpu = [0] * 12 + [60_000]
    fields: dict[str, Any] = {"cpu_covered_milliseconds": 60_000, "cpu_bucket_milliseconds": cpu}
    memory: dict[str, Any] = {"memory_bucket_milliseconds": [1, 2, 3, 4, 5]}
    store.ingest.append([stream.send(measurement(clock(), [cell(**fields)]))])
    store.ingest.append([stream.send(measurement(clock(MONDAY_10H + 60_000), [cell(**fields, **memory)]))])
    (row,) = store.reader.sums(Grain.HOUR, 0, 2**62)
    assert row.cell.cpu_bucket_milliseconds == (*[0] * 12, 120_000)
    assert row.cell.memory_bucket_milliseconds == (1, 2, 3, 4, 5)
    assert row.cell.network_rate_milliseconds == ()


def test_millijoules_are_conserved(store):
    """Σ mJ of all cells sent = Σ point sums by hour = Σ point sums by day, per point, exactly."""
    chance = random.Random(7)
    hosts = [enrol(store.registry) for _ in range(3)]
    streams = [Stream(host) for host in hosts]
    sent: Counter[tuple[HostId, str]] = Counter()
    for step in range(40):
        stream = streams[step % 3]
        energies = [(i, chance.randrange(300_000), 60_000) for i in range(2)]
        record = measurement(
            clock(MONDAY_10H + chance.randrange(3000) * 60_000),
            [cell(band=1 + step % 3, energies=energies)],
            [rapl("package-0"), rapl("dram")],
        )
        for (_, energy, _), name in zip(energies, ("package-0", "dram"), strict=True):
            sent[stream.host_id, name] += energy
        store.ingest.append([stream.send(record)])
    for grain in (Grain.HOUR, Grain.DAY):
        found: Counter[tuple[HostId, str]] = Counter()
        for row in store.reader.point_sums(grain, 0, 2**62):
            found[row.host_id, row.point.domain] += row.energy_millijoules
        assert found == sent


def test_sensor_gaps_are_summed_apart_from_lost_records(store):
    """Milliseconds of a sensor's gap, with no record lost."""
    stream = Stream(enrol(store.registry))
    lost = [pb.GapTotal(reason=pb.GAP_REASON_SENSOR_LOST, milliseconds=20_000, source="linux_rapl")]
    store.ingest.append([stream.send(measurement(gaps=lost), gap(records=3, milliseconds=99))])
    assert sorted(store.reader.gap_totals()) == [
        (stream.host_id, "sensor_lost", 0, 20_000),
        (stream.host_id, "spool_cap", 3, 99),
    ]


# --- an independent model


@dataclass(frozen=True)
class _Action:
    stream: int
    first: int
    last: int


_RECORDS = 8
_actions = st.lists(
    st.builds(_Action, st.integers(0, 3), st.integers(1, _RECORDS), st.integers(1, _RECORDS)).filter(
        lambda action: action.first <= action.last
    ),
    max_size=12,
)


@pytest.mark.parametrize("backend", BACKENDS)
@hypothesis_settings(max_examples=60, deadline=None)
@given(actions=_actions, groups=st.lists(st.integers(1, 4), max_size=12))
def test_any_sequence_of_pushes_gives_what_the_model_says(backend, actions, groups):
    """Replays, rollbacks, overlaps, forks and new epochs in any order: the marks and the sum of a dictionary."""
    with tempfile.TemporaryDirectory() as directory:
        for store in BACKENDS[backend](Path(directory)):
            store.registry.put_site(site())
            _compare_with_model(store, actions, groups)


def _compare_with_model(store: Backend, actions: list[_Action], groups: list[int]) -> None:
    host = enrol(store.registry)
    # Streams 0 and 1 share an epoch and their first half: a fork. 2 replays 0 in a new epoch. 3 is of its own.
    streams = [
        Stream(host, epoch=b"AAAAAAAA"),
        Stream(host, epoch=b"AAAAAAAA"),
        Stream(host, epoch=b"BBBBBBBB"),
    ]
    streams.append(Stream(enrol(store.registry), epoch=b"AAAAAAAA"))
    for number, stream in enumerate(streams):
        for seq in range(_RECORDS):
            fork = 100 if number == 1 and seq >= _RECORDS // 2 else 0
            energy = seq + 1 + fork
            stream.add(
                measurement(
                    clock(MONDAY_10H + seq * 60_000), [cell(energies=[(0, energy, 60_000)])], [rapl()]
                )
            )
    marks: dict[tuple[HostId, bytes], list[bytes]] = {}
    stored: set[tuple[HostId, bytes]] = set()
    energy_of: Counter[HostId] = Counter()
    queue = list(actions)
    sizes = iter(groups)
    while queue:
        size = next(sizes, 1)
        group, queue = queue[:size], queue[size:]
        outcomes = store.ingest.append([streams[a.stream].push(a.first, a.last) for a in group])
        for action, outcome in zip(group, outcomes, strict=True):
            stream = streams[action.stream]
            line = marks.setdefault((stream.host_id, stream.epoch), [])
            expected = _model(line, stream, action)
            assert outcome.result is expected, (action, outcome)
            if expected is AppendResult.STORED:
                for wire in stream.wires[len(line) : action.last]:
                    line.append(wire)
                    if (stream.host_id, wire) not in stored:
                        stored.add((stream.host_id, wire))
                        energy_of[stream.host_id] += cells_from_wire(wire)[0].energies[0][1]
            assert outcome.mark == len(line)
    found: Counter[HostId] = Counter()
    for row in store.reader.point_sums(Grain.HOUR, 0, 2**62):
        found[row.host_id] += row.energy_millijoules
    assert found == energy_of
    assert store.reader.record_count() == len(stored)


def _model(line: list[bytes], stream: Stream, action: _Action) -> AppendResult:
    if action.first > len(line) + 1:
        return AppendResult.EXPECTED_EARLIER
    if stream.wires[: min(action.last, len(line))] == line[: action.last]:
        return AppendResult.STORED
    if (
        action.last < len(line)
        and stream.wires[action.first - 1 : action.last] == line[action.first - 1 : action.last]
    ):
        return AppendResult.STORED  # below the mark, only the records sent are compared
    return AppendResult.CONFLICT


# --- derive


def test_derive_sees_the_records_and_clears_the_mark(store):
    """Dirty → cells → derived → clean; a later record makes the hour dirty again and is the only first time."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H), realistic(MONDAY_10H + 300_000))])
    (period,) = store.derive.dirty(10)
    assert period == DirtyPeriod(stream.host_id, Grain.HOUR, MONDAY_10H)
    records = store.derive.record_cells(period)
    assert [record.first_time for record in records] == [True, True]
    assert [record.cells for record in records] == [r.cells for r in stream.push().records]
    _derive(store, period, 1000)
    assert store.derive.dirty(10) == ()
    store.ingest.append([stream.send(realistic(MONDAY_10H + 600_000))])
    assert [r.first_time for r in store.derive.record_cells(store.derive.dirty(1)[0])] == [False, False, True]


def test_a_record_that_arrives_while_derive_works_keeps_the_mark(store):
    """The mark is cleared only for what derive had seen."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H))])
    (period,) = store.derive.dirty(10)
    seen = store.derive.record_cells(period)
    store.ingest.append([stream.send(realistic(MONDAY_10H + 300_000))])
    _derive(store, period, 1000, [record.record_id for record in seen])
    assert store.derive.dirty(10) == (period,)


def test_derived_hours_are_carried_into_the_day_and_replaced_not_added(store):
    """Deriving an hour again with a better method replaces it, in the day too."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H), realistic(MONDAY_10H + HOUR))])
    one, two = store.derive.dirty(10)
    _derive(store, one, 1000)
    _derive(store, two, 500)
    assert _derived(store, Grain.DAY) == {(FIRST_HOUR_DAY, Method.CLASS_DEFAULT): 1500}
    assert store.derive.mark_all_dirty() == 2
    _derive(store, one, 1100, method=Method.METERED)
    assert _derived(store, Grain.DAY) == {
        (FIRST_HOUR_DAY, Method.CLASS_DEFAULT): 500,
        (FIRST_HOUR_DAY, Method.METERED): 1100,
    }
    assert _derived(store, Grain.HOUR) == {
        (MONDAY_10H, Method.METERED): 1100,
        (MONDAY_10H + HOUR, Method.CLASS_DEFAULT): 500,
    }


def test_oldest_marks_come_first(store):
    """Periods are derived in the order they were made dirty."""
    stream = Stream(enrol(store.registry))
    for hours in (5, 1, 3):
        store.ingest.append([stream.send(realistic(MONDAY_10H + hours * HOUR))])
    assert [p.start for p in store.derive.dirty(2)] == [MONDAY_10H + 5 * HOUR, MONDAY_10H + HOUR]
    assert store.reader.dirty_count() == 3


def test_the_ledger_only_goes_up(store):
    """Entries of one key add up; another factor is another key; a decrease is refused and undoes its derivation."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H))])
    (period,) = store.derive.dirty(1)
    store.derive.write_derived(period, [], [], [_ledger(10), _ledger(5), _ledger(7, "0.0569")])
    assert sorted(entry.energy_millijoules for entry in store.reader.ledger()) == [7, 15]
    assert Decimal(store.reader.ledger()[0].factor_kgco2e_per_kwh) == Decimal("0.0521")
    with pytest.raises(ValueError, match="only goes up"):
        store.derive.write_derived(period, [_derived_cell(9)], [], [_ledger(-1)])
    assert list(store.reader.derived(Grain.HOUR, 0, 2**62)) == []


# --- registry


def test_a_token_is_used_no_more_often_than_it_may(store):
    """Two uses of two, then none; none when revoked, expired or unknown."""
    token_id = _token(store.registry, max_uses=2)
    assert [store.registry.use_token(token_id, NOW) for _ in range(3)] == [True, True, False]
    late, revoked = _token(store.registry), _token(store.registry)
    assert not store.registry.use_token(late, NOW + HOUR)
    assert store.registry.revoke_token(revoked)
    assert not store.registry.use_token(revoked, NOW)
    assert not store.registry.use_token(999, NOW)
    assert not store.registry.revoke_token(999)
    token = store.registry.token_by_hash(token_id.to_bytes(32, "big"))
    assert token is not None
    assert (token.uses, token.max_uses, token.networks, token.revoked) == (
        2,
        2,
        ("10.0.0.0/8", "::1/128"),
        False,
    )
    assert [one.revoked for one in store.registry.tokens()] == [False, False, True]


def test_certificates_are_found_by_what_makes_a_call_idempotent(store):
    """By serial, by (token, key), by (previous serial, key), and the newest of a host."""
    host = enrol(store.registry)
    first = Certificate("0a", host, 1, bytes(32), b"der1", NOW, NOW + HOUR, token_id=1)
    second = Certificate("0b", host, 2, bytes([1]) * 32, b"der2", NOW, NOW + HOUR, previous_serial="0a")
    for certificate in (first, second):
        store.registry.insert_certificate(certificate)
    assert store.registry.certificate_by_serial("0a") == first
    assert store.registry.certificate_by_token(1, bytes(32)) == first
    assert store.registry.certificate_by_token(1, bytes([1]) * 32) is None
    assert store.registry.certificate_by_previous("0a", bytes([1]) * 32) == second
    assert store.registry.latest_certificate(host) == second
    assert store.registry.latest_certificate(HostId(77)) is None


def test_a_host_is_what_it_said_last(store):
    """Facts and health of a Hello; no facts keep the former ones; status, names apart."""
    host_id = enrol(store.registry)
    facts = pb.Facts(device_class=pb.DEVICE_CLASS_SERVER, vendor="Dell Inc.", cpu_count=8)
    health = pb.Health(agent_version="0.1.0", spool_records=3)
    store.registry.record_hello(
        host_id,
        facts_wire=facts.SerializeToString(),
        health_wire=health.SerializeToString(),
        now_unix_milliseconds=NOW + 5,
    )
    store.registry.record_hello(host_id, facts_wire=None, health_wire=None, now_unix_milliseconds=NOW + 9)
    store.registry.set_status(host_id, HostStatus.SUSPENDED)
    (host,) = store.reader.hosts()
    assert host == store.registry.host(host_id) == store.registry.host_by_agent_id(host.agent_id)
    assert (host.facts.device_class, host.facts.vendor, host.facts.memory_bytes) == (
        DeviceClass.SERVER,
        "Dell Inc.",
        None,
    )
    assert host.health is not None
    assert (host.health.spool_records, host.health.resident_rss_bytes) == (3, None)
    assert (host.status, host.last_contact_unix_milliseconds) == (HostStatus.SUSPENDED, NOW + 9)
    store.registry.put_name(host.agent_id, "srv-01")
    assert store.registry.names() == {host.agent_id: "srv-01"}


def test_a_workstation_s_contact_is_a_date(store):
    """The hour of a contact is nowhere, whatever it was."""
    host_id = enrol(store.registry, Population.WORKSTATION)
    for now in (NOW, NOW + 7 * HOUR):
        store.registry.record_hello(host_id, facts_wire=None, health_wire=None, now_unix_milliseconds=now)
        host = store.registry.host(host_id)
        assert host is not None
        assert host.last_contact_unix_milliseconds == NOW - NOW % (24 * HOUR)


def test_a_site_that_moves_takes_its_time_zone_along(store):
    """A corrected time zone applies to the records that come after it."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H))])
    store.registry.put_site(site(time_zone="Pacific/Auckland"))
    store.ingest.append([stream.send(realistic(MONDAY_10H + 3 * HOUR))])
    assert {row.start for row in store.reader.sums(Grain.DAY, 0, 2**62)} == {
        FIRST_HOUR_DAY,
        FIRST_HOUR_DAY + 1,
    }
    assert store.registry.site("lyon").time_zone == "Pacific/Auckland"
    with pytest.raises(UsageError, match="no site 'paris'"):
        store.registry.site("paris")


def test_the_instance_nonce_is_kept(store):
    """Empty at first, then the last one set."""
    host = enrol(store.registry)
    assert store.registry.instance_id(host) == b""
    store.registry.set_instance_id(host, bytes(16))
    assert store.registry.instance_id(host) == bytes(16)


# --- helpers


def _sums(store: Backend) -> dict[Any, int]:
    return {
        (row.host_id, row.grain, row.start, row.cell.band, row.cell.state): row.cell.milliseconds
        for grain in Grain
        for row in store.reader.sums(grain, 0, 2**62)
    }


def _everything(store: Backend) -> Any:
    points = [row for grain in Grain for row in store.reader.point_sums(grain, 0, 2**62)]
    sums = [row for grain in Grain for row in store.reader.sums(grain, 0, 2**62)]
    return points, sums, store.reader.gap_totals(), store.reader.record_count()


def _derived_cell(energy: int, method: Method = Method.CLASS_DEFAULT) -> DerivedCell:
    return DerivedCell(Band.OPEN, State.ON_ACTIVE, Supply.AC, method, 60_000, energy, energy // 10)


def _derive(
    store: Backend,
    period: DirtyPeriod,
    energy: int,
    record_ids: list[int] | None = None,
    method: Method = Method.CLASS_DEFAULT,
) -> None:
    if record_ids is None:
        record_ids = [record.record_id for record in store.derive.record_cells(period)]
    records = [DerivedRecord(record_id, energy) for record_id in record_ids]
    store.derive.write_derived(period, [_derived_cell(energy, method)], records, [])


def _derived(store: Backend, grain: Grain) -> dict[tuple[int, Method], int]:
    return {
        (row.start, row.cell.method): row.cell.energy_millijoules
        for row in store.reader.derived(grain, 0, 2**62)
    }


def _ledger(energy: int, factor: str = "0.0521") -> LedgerEntry:
    return LedgerEntry(
        "DSI",
        "lyon",
        Population.SERVER,
        DeviceClass.SERVER,
        Method.CLASS_DEFAULT,
        State.ON_IDLE,
        "ademe",
        factor,
        energy,
    )


def _token(registry: Registry, max_uses: int = 1) -> int:
    number = len(registry.tokens()) + 1
    return registry.insert_token(
        token_sha256=number.to_bytes(32, "big"),
        created_unix_milliseconds=NOW,
        expires_unix_milliseconds=NOW + HOUR,
        max_uses=max_uses,
        networks=("10.0.0.0/8", "::1/128"),
        org_entity="DSI",
        site="lyon",
        population=Population.SERVER,
        approve=False,
    )


def test_the_same_agent_cannot_enrol_twice(store):
    """The agent id is unique."""
    host = enrol(store.registry)
    known = store.registry.host(host)
    assert known is not None
    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        store.registry.insert_host(
            agent_id=AgentId(known.agent_id),
            token_id=1,
            org_entity="DSI",
            site="lyon",
            population=Population.SERVER,
            status=HostStatus.ACTIVE,
            enrolled_on=date(2026, 3, 1),
            facts_wire=os.urandom(0),
        )
    assert store.registry.hosts_of_token(1) == (host,)
