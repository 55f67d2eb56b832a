# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does for derive: ports.DeriveStore."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from tests.conformance.backends import MONDAY, Backend
from tests.support.pushes import HOUR, MONDAY_10H, Stream, day, enrol, measurement, realistic
from tests.support.sound import NIGHT
from veilleuse.collector.model.records import Grain
from veilleuse.collector.model.sums import DerivedCell, DerivedRecord, DirtyPeriod, LedgerEntry, PeriodResult
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import (
    Band,
    DeviceClass,
    Population,
    State,
    Supply,
)


def test_derive_sees_the_records_and_clears_the_mark(store):
    """Writing derived cells clears the mark; a later record marks the hour again, and it alone is derived for
    the first time."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H), realistic(MONDAY_10H + 300_000))])
    (period,) = store.derive.dirty(10)
    assert period == DirtyPeriod(stream.host_id, Grain.HOUR, MONDAY_10H)
    records = store.derive.record_cells(period)
    assert [record.first_time for record in records] == [True, True]
    for read in (records, store.derive.record_cells(period)):  # the second time from their bytes
        assert [record.cells for record in read] == [r.cells for r in stream.push().records]
    _derive(store, period, 1000)
    assert store.derive.dirty(10) == ()
    store.ingest.append([stream.send(realistic(MONDAY_10H + 600_000))])
    assert [r.first_time for r in store.derive.record_cells(store.derive.dirty(1)[0])] == [False, False, True]


def test_a_record_that_arrives_while_derive_works_keeps_the_mark(store):
    """The mark is cleared only for records that derive has read."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H))])
    (period,) = store.derive.dirty(10)
    seen = store.derive.record_cells(period)
    store.ingest.append([stream.send(realistic(MONDAY_10H + 300_000))])
    _derive(store, period, 1000, [record.record_id for record in seen])
    assert store.derive.dirty(10) == (period,)


def test_derived_hours_are_carried_into_the_day_and_replaced_not_added(store):
    """Deriving an hour again with a better method replaces its energy, also in the day."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H), realistic(MONDAY_10H + HOUR))])
    one, two = store.derive.dirty(10)
    store.derive.write_derived(
        [
            PeriodResult(period, "Europe/Paris", [_derived_cell(energy)])
            for period, energy in ((two, 500), (one, 1000))
        ]
    )
    assert _derived(store, Grain.DAY) == {(MONDAY, Method.CLASS_DEFAULT): 1500}
    assert store.derive.mark_all_dirty() == 2
    _derive(store, one, 1100, method=Method.METERED)
    assert _derived(store, Grain.DAY) == {
        (MONDAY, Method.CLASS_DEFAULT): 500,
        (MONDAY, Method.METERED): 1100,
    }
    assert _derived(store, Grain.HOUR) == {
        (MONDAY_10H, Method.METERED): 1100,
        (MONDAY_10H + HOUR, Method.CLASS_DEFAULT): 500,
    }


def test_a_day_of_its_own_counts_beside_its_hours(store):
    """A machine may send a day before it sends hours of the same day: both add up, in either order, and
    deriving one again replaces it alone."""
    stream = Stream(enrol(store.registry))
    when = date.fromordinal(MONDAY)
    store.ingest.append([stream.send(realistic(MONDAY_10H), measurement(day(when), [NIGHT]))])
    hour, whole = sorted(store.derive.dirty(10), key=lambda period: period.grain)
    for order in ((hour, whole), (whole, hour)):
        store.derive.mark_all_dirty()
        for period, energy in zip(order, (1000, 30), strict=True):
            _derive(store, period, energy, has_hours=True)
        assert _derived(store, Grain.DAY) == {(MONDAY, Method.CLASS_DEFAULT): 1030}
    store.derive.mark_all_dirty()
    both = [
        PeriodResult(period, "Europe/Paris", [_derived_cell(7)], has_hours=True) for period in (whole, hour)
    ]
    store.derive.write_derived(both)
    assert _derived(store, Grain.DAY) == {(MONDAY, Method.CLASS_DEFAULT): 14}


def test_oldest_marks_come_first(store):
    """Periods are derived in the order in which they were marked."""
    stream = Stream(enrol(store.registry))
    for hours in (5, 1, 3):
        store.ingest.append([stream.send(realistic(MONDAY_10H + hours * HOUR))])
    assert [p.start for p in store.derive.dirty(2)] == [MONDAY_10H + 5 * HOUR, MONDAY_10H + HOUR]
    assert store.reader.dirty_count() == 3


def test_the_power_is_that_of_the_newest_derived_record_while_it_is_recent(store):
    """Records that wait to be derived, or are derived later though they are older, do not count."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(*(realistic(MONDAY_10H + hours * HOUR) for hours in range(4)))])
    periods = store.derive.dirty(10)
    ordered = sorted(periods, key=lambda period: period.start)
    for period in (ordered[0], ordered[2], ordered[1]):
        _derive(store, period, period.start // HOUR)
    since = MONDAY_10H + 2 * HOUR
    sums = store.reader.server_sums()
    (power,) = sums.power(since + 600_000, 60_000).values()
    assert power == (1, pytest.approx(since // HOUR / 300_000), since + 300_000)
    assert [watts for _, _, watts in sums.powers(since + 600_000, 60_000)] == [power.watts]
    assert sums.power(since + HOUR, 60_000) == {}


def test_the_ledger_only_goes_up(store):
    """Entries of one key add up; another factor is another key; a decrease is refused and its derivation is
    rolled back."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H))])
    (period,) = store.derive.dirty(1)
    store.derive.write_derived(
        [PeriodResult(period, "Europe/Paris", [], [], [_ledger(10), _ledger(5), _ledger(7, "0.0569")])]
    )
    assert sorted(entry.energy_millijoules for entry in store.reader.ledger()) == [7, 15]
    assert Decimal(store.reader.ledger()[0].factor_kgco2e_per_kwh) == Decimal("0.0521")
    with pytest.raises(ValueError, match="only goes up"):
        store.derive.write_derived(
            [PeriodResult(period, "Europe/Paris", [_derived_cell(9)], [], [_ledger(-1)])]
        )
    assert list(store.reader.derived(Grain.HOUR, 0, 2**62)) == []


def _derived_cell(energy: int, method: Method = Method.CLASS_DEFAULT) -> DerivedCell:
    return DerivedCell(Band.OPEN, State.ON_ACTIVE, Supply.AC, method, 60_000, energy, energy // 10)


def _derive(
    store: Backend,
    period: DirtyPeriod,
    energy: int,
    record_ids: list[int] | None = None,
    method: Method = Method.CLASS_DEFAULT,
    *,
    has_hours: bool = False,
) -> None:
    if record_ids is None:
        record_ids = [record.record_id for record in store.derive.record_cells(period)]
    records = [DerivedRecord(record_id, energy) for record_id in record_ids]
    store.derive.write_derived(
        [PeriodResult(period, "Europe/Paris", [_derived_cell(energy, method)], records, has_hours=has_hours)]
    )


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
