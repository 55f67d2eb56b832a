# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with pushes, whatever its backend: ports.IngestStore and Reader.
docs/wire.md §2."""

from __future__ import annotations

import random
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.architecture.tree import ROOT
from tests.conformance.backends import BACKENDS, MONDAY, Backend
from tests.support.pushes import (
    HOUR,
    MONDAY_10H,
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
from veilleuse.collector import store as backend_choice
from veilleuse.collector.model.records import AppendResult, Grain, HostId
from veilleuse.collector.wire_codec import cells_from_wire
from veilleuse.wire.chain import chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    Population,
)

_SHARED = {"__init__", "directory"}
"""Modules of store/ that are no backend."""


def test_every_backend_is_under_test():
    """BACKENDS lists every module or folder of store/; a missing one would not be tested."""
    root = Path(backend_choice.__file__).parent
    found = {path.relative_to(root).parts[0].removesuffix(".py") for path in root.rglob("*.py")}
    differing = (found - _SHARED) ^ set(BACKENDS)
    assert not differing, f"add to BACKENDS in tests/conformance/backends.py: {sorted(differing)}"


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_is_protected(name: str):
    """An import contract names each backend; without it, any module could import one."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    protected = {one for each in contracts["contracts"] for one in each.get("protected_modules", ())}
    assert f"veilleuse.collector.store.{name}" in protected, (
        f"add veilleuse.collector.store.{name} to the contract 'One backend behind the store' in pyproject.toml"
    )


# --- marks and chains


def test_a_new_stream_begins_at_zero(store):
    """An unknown epoch has mark 0 and the start of its chain."""
    host = enrol(store.registry)
    position = store.ingest.position(host, b"12345678")
    assert (position.mark, position.chain) == (0, chain_start(b"12345678"))


def test_a_run_is_stored_and_the_mark_advances(store):
    """Three records in two pushes give mark 3, the agent's chain and three rows."""
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
    """A push with first_seq > mark + 1 stores nothing, and its answer has the mark."""
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
    """A push sent again after a lost answer is acknowledged as duplicates, and the sums do not change."""
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
    """The second push is compared with the first inside the same transaction."""
    stream = Stream(enrol(store.registry))
    push = stream.send(realistic(MONDAY_10H))
    (one, two) = store.ingest.append([push, push])
    assert (one.stored_records, two.stored_records, two.duplicate_records) == (1, 0, 1)
    assert store.reader.record_count() == 1


def test_a_run_across_the_mark_stores_only_what_is_new(store):
    """Records at or below the mark are duplicates; the others are stored."""
    stream = Stream(enrol(store.registry))
    stream.add(*(measurement(clock(MONDAY_10H + i * 60_000)) for i in range(5)))
    store.ingest.append([stream.push(1, 3)])
    (outcome,) = store.ingest.append([stream.push(2, 5)])
    assert (outcome.stored_records, outcome.duplicate_records, outcome.mark) == (2, 2, 5)
    assert store.reader.record_count() == 5


@pytest.mark.parametrize("first", [1, 2, 3])
def test_another_history_is_a_conflict(store, first):
    """A copied spool that continued differently has another chain at the mark: nothing is written."""
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
    """A run that ends below the mark is acknowledged if it is the same, and a conflict if not."""
    stream = Stream(enrol(store.registry))
    stream.add(*(measurement(clock(MONDAY_10H + i * 60_000)) for i in range(4)))
    store.ingest.append([stream.push()])
    other = Stream(stream.host_id, epoch=stream.epoch)
    other.add(measurement(clock()), realistic(MONDAY_10H))
    (same, different) = store.ingest.append([stream.push(1, 2), other.push(1, 2)])
    assert (same.result, same.duplicate_records, same.mark) == (AppendResult.STORED, 2, 4)
    assert different.result is AppendResult.CONFLICT


def test_a_wrong_chain_before_is_a_conflict_from_the_first_record_on(store):
    """The first push of an unknown stream must begin at the start of its chain."""
    stream = Stream(enrol(store.registry))
    push = replace(stream.send(realistic(MONDAY_10H)), chain_before=bytes(32))
    (outcome,) = store.ingest.append([push])
    assert outcome.result is AppendResult.CONFLICT
    assert store.reader.record_count() == 0


def test_in_a_new_epoch_what_is_stored_is_acknowledged_and_not_summed_again(store):
    """A spool with a new epoch sends its ring again: replayed records are not added to the sums."""
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
    """Two epochs with the same record in one group: the second is a replay."""
    old = Stream(enrol(store.registry))
    new = Stream(old.host_id)
    record = realistic(MONDAY_10H)
    (one, two) = store.ingest.append([old.send(record), new.send(record)])
    assert (one.stored_records, two.replayed_records) == (1, 1)


def test_undated_gaps_of_two_epochs_both_count(store):
    """Gaps without a period look alike, so both count; a dated gap is recognised by its bytes."""
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
    assert store.reader.server_sums().gaps() == {"disabled": (1, 2 * HOUR), "spool_cap": (4, 0)}


def test_streams_of_two_hosts_do_not_touch(store):
    """The same epoch on two hosts is two streams."""
    one, two = (
        Stream(enrol(store.registry), epoch=b"samesame"),
        Stream(enrol(store.registry), epoch=b"samesame"),
    )
    outcomes = store.ingest.append([one.send(realistic(MONDAY_10H)), two.send(realistic(MONDAY_10H))])
    assert [outcome.stored_records for outcome in outcomes] == [1, 1]


def test_one_poisoned_push_fails_alone(store):
    """A push that the database rejects leaves the other pushes of its group stored, and the kept marks
    correct. The refusal names the record at fault; with a gap in its place the others are stored."""
    good, bad = Stream(enrol(store.registry)), Stream(enrol(store.registry))
    poison = bad.send(*(realistic(MONDAY_10H + i * 300_000) for i in range(3)))
    one, record, three = poison.records
    too_big = record.cells[0]._replace(any_core_busy_milliseconds=2**70)
    poison = replace(poison, records=(one, record._replace(cells=(too_big,)), three))
    outcomes = store.ingest.append([good.send(realistic(MONDAY_10H)), poison])
    assert [outcome.result for outcome in outcomes] == [AppendResult.STORED, AppendResult.REFUSED]
    assert outcomes[1].refusals == ((2, "not_storable"),)
    assert store.ingest.position(bad.host_id, bad.epoch).mark == 0
    assert store.ingest.position(good.host_id, good.epoch).mark == 1
    assert store.reader.record_count() == 1
    mended = Stream(bad.host_id, epoch=bad.epoch)
    mended.add(bad.wires[0], gap(pb.GAP_REASON_REFUSED), bad.wires[2])
    (after,) = store.ingest.append([mended.push()])
    assert (after.stored_records, after.mark) == (3, 3)
    assert store.reader.record_count() == 4


# --- sums


def test_a_clock_record_counts_in_its_hour_and_in_the_civil_day_of_its_site(store):
    """A record at 23:30 UTC on 1 March counts on 2 March in Paris; a day's sum has the local date as key."""
    stream = Stream(enrol(store.registry))
    late = MONDAY_10H - 10 * HOUR - HOUR // 2  # 2026-03-01T23:30Z
    store.ingest.append([stream.send(realistic(late), realistic(MONDAY_10H))])
    hours = list(store.reader.sums(Grain.HOUR, 0, 2**62))
    assert {row.start for row in hours} == {MONDAY_10H - 11 * HOUR, MONDAY_10H}
    days = list(store.reader.sums(Grain.DAY, 0, 2**62))
    assert {row.start for row in days} == {MONDAY}
    assert sum(row.cell.milliseconds for row in days) == 600_000


def test_dates_and_weeks_are_their_own_keys(store):
    """A workstation's records are summed under the number of the day, or of the week's Monday."""
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
    assert [row.start for row in store.reader.sums(Grain.WEEK, 0, 2**62)] == [MONDAY]
    assert {(p.grain, p.start) for p in store.derive.dirty(9)} == {
        (Grain.DAY, date(2026, 3, 4).toordinal()),
        (Grain.WEEK, MONDAY),
    }


def test_absent_is_not_zero(store):
    """A sum that was never measured stays None beside a measured 0, and takes the first measured value."""
    stream = Stream(enrol(store.registry))
    store.ingest.append(
        [
            stream.send(
                measurement(clock(), [cell(any_core_busy_milliseconds=0)]),
                measurement(clock(MONDAY_10H + 60_000), [cell(idle_beyond_15_minutes_milliseconds=7)]),
            )
        ]
    )
    (row,) = store.reader.sums(Grain.HOUR, 0, 2**62)
    found = row.cell
    assert (found.any_core_busy_milliseconds, found.update_window_milliseconds) == (0, None)
    assert found.idle_beyond_15_minutes_milliseconds == 7
    assert row.cell.cpu_bucket_milliseconds == ()
    store.ingest.append(
        [stream.send(measurement(clock(MONDAY_10H + 120_000), [cell(update_window_milliseconds=5)]))]
    )
    (row,) = store.reader.sums(Grain.HOUR, 0, 2**62)
    assert (row.cell.any_core_busy_milliseconds, row.cell.update_window_milliseconds) == (0, 5)
    assert row.cell.milliseconds == 180_000


def test_buckets_add_up(store):
    """Buckets of each kind are added place by place; a kind that was never sent stays empty."""
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
    """The millijoules of all cells of a point equal its sums by hour and by day exactly."""
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
    """A sensor's gap is summed in milliseconds, without a lost record."""
    stream = Stream(enrol(store.registry))
    lost = [pb.GapTotal(reason=pb.GAP_REASON_SENSOR_LOST, milliseconds=20_000, source="linux_rapl")]
    store.ingest.append([stream.send(measurement(gaps=lost), gap(records=3, milliseconds=99))])
    assert store.reader.server_sums().gaps() == {"sensor_lost": (0, 20_000), "spool_cap": (3, 99)}


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
# A fork below the mark, where another epoch brought the records: this epoch has none to compare with.
@example(actions=[_Action(2, 1, 5), _Action(0, 1, 6), _Action(1, 1, 5)], groups=[])
@given(actions=_actions, groups=st.lists(st.integers(1, 4), max_size=12))
def test_any_sequence_of_pushes_gives_what_the_model_says(backend, actions, groups):
    """Replays, rollbacks, overlaps, forks and new epochs in any order give the model's marks and sum."""
    with tempfile.TemporaryDirectory() as directory:
        for store in BACKENDS[backend](Path(directory)):
            store.registry.put_site(site())
            vars(store.ingest)["_today"] = lambda: MONDAY  # nothing has expired
            _compare_with_model(store, actions, groups)


def _compare_with_model(store: Backend, actions: list[_Action], groups: list[int]) -> None:
    host = enrol(store.registry)
    # Streams 0 and 1 share an epoch and their first half (a fork). Stream 2 replays 0 in a new epoch. Stream
    # 3 belongs to another host.
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
        return AppendResult.STORED  # below the mark, only the sent records are compared
    return AppendResult.CONFLICT


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
    units = [row for grain in Grain for row in store.reader.unit_sums(grain, 0, 2**62)]
    return points, sums, units, store.reader.server_sums().gaps(), store.reader.record_count()
