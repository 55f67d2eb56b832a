# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with months and years: ports.MonthStore and ports.MonthReader."""

from __future__ import annotations

from datetime import date

from tests.conformance.backends import Backend
from tests.support import pushes
from tests.support.pushes import (
    HOUR,
    WORKSTATION,
    Stream,
    cell,
    day,
    enrol,
    measurement,
    realistic,
    week,
)
from veilleuse.collector.model.months import COLUMNS, NOTHING, PLACE, DayType, HostPeriod, add_vectors
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DerivedCell, DirtyPeriod, PeriodResult
from veilleuse.collector.ports.months import Limits, StaleMonth
from veilleuse.wire.ladder import Method
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Population, State, Supply

MARCH, APRIL, MAY = (date(2026, month, 1) for month in (3, 4, 5))
ALL = HostId(2**62)
NEVER = Limits(0, 0, 0, 0)
MONDAY = date(2026, 3, 9).toordinal()
"""A day that touches no month but its own."""
MONDAY_10H = pushes.MONDAY_10H + 7 * 24 * HOUR


def row(
    host_id: HostId, month: date, amount: int, kind: DayType = DayType.OPEN, band: Band = Band.OPEN
) -> HostPeriod:
    """Return a row with `amount` in one column and twice that in another."""
    values = list(NOTHING)
    values[PLACE["on_active_ac_milliseconds"]] = amount
    values[PLACE["imputed_milliseconds"]] = 2 * amount
    return HostPeriod(host_id, month, kind, band, tuple(values))


def pushed(store: Backend, *starts: int) -> Stream:
    """Return a server's stream with derived records of five minutes from each start."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(*(realistic(start) for start in starts))])
    derive(store)
    return stream


def derive(store: Backend, energy: int = 1_000) -> None:
    """Derive all dirty periods, each with `energy` millijoules."""
    while periods := store.derive.dirty(100):
        for period in periods:
            store.derive.write_derived([PeriodResult(period, "Europe/Paris", [derived(energy)])])
            store.derive.put_aside(period)


def derived(energy: int) -> DerivedCell:
    """Return a derived cell of five minutes with `energy` millijoules."""
    return DerivedCell(Band.OPEN, State.ON_ACTIVE, Supply.AC, Method.CLASS_DEFAULT, 300_000, energy, 0)


def kept(store: Backend, years: tuple[int, ...] = (), months: tuple[date, ...] = ()) -> list[HostPeriod]:
    """Return the stored rows of all machines for these years and months."""
    found = store.roll_reader.kept(years, months, HostId(-1), ALL)
    return [*found.years, *found.months]


def test_a_record_marks_its_month_and_a_machine_with_work_waiting_is_not_due(store):
    """The record's transaction marks the month; the mark stays until the month is written."""
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(realistic(MONDAY_10H))])
    assert store.rolls.due(APRIL, 10) == ()
    derive(store)
    assert store.rolls.due(MARCH, 10) == ()
    assert store.rolls.due(APRIL, 10) == (StaleMonth(stream.host_id, MARCH),)
    store.rolls.write_month(stream.host_id, MARCH, [row(stream.host_id, MARCH, 5)])
    assert store.rolls.due(APRIL, 10) == ()


def test_rows_of_one_population_are_read_alone(store):
    """Reading servers leaves out a workstation's rows, stale months and id."""
    stream = pushed(store, MONDAY_10H)
    store.rolls.write_month(stream.host_id, MARCH, [row(stream.host_id, MARCH, 5)])
    reader, others = store.roll_reader, set(Population) - {Population.SERVER}
    assert reader.host_ids(Population.SERVER) == reader.host_ids() == (stream.host_id,)
    found = reader.kept((2026,), (MARCH,), HostId(-1), ALL, Population.SERVER)
    assert (len(found.years), len(found.months)) == (1, 1)
    for one in others:
        assert reader.host_ids(one) == ()
        assert not any(reader.kept((2026,), (MARCH,), HostId(-1), ALL, one))


def test_a_month_under_way_is_stored_and_due_again_when_its_days_change(store):
    """Readers then see no stale month. Its mark stays, so that it is stored once more when it has ended."""
    stream = pushed(store, MONDAY_10H)
    march, start = StaleMonth(stream.host_id, MARCH), StaleMonth(HostId(-1), MARCH)
    for amount in (5, 6):
        assert store.rolls.under_way(start, 9, with_servers=True) == (march,)
        assert store.rolls.under_way(march, 9, with_servers=True) == ()
        assert store.rolls.under_way(start, 9, with_servers=False) == ()
        store.rolls.write_month(
            stream.host_id, MARCH, [row(stream.host_id, MARCH, amount)], is_under_way=True
        )
        assert store.rolls.under_way(start, 9, with_servers=True) == ()
        assert store.rolls.due(APRIL, 10) == (march,)
        found = store.roll_reader.kept((2026,), (), HostId(-1), ALL)
        assert (found.years[0].value("on_active_ac_milliseconds"), found.stale) == (amount, frozenset())
        store.ingest.append([stream.send(realistic(MONDAY_10H + amount * HOUR))])
        assert store.rolls.under_way(start, 9, with_servers=True) == ()  # it waits to be derived
        derive(store)
    store.rolls.write_month(stream.host_id, MARCH, [])
    assert store.rolls.due(APRIL, 10) == ()


def test_deriving_differently_marks_and_deriving_the_same_does_not(store):
    """A corrected model also leads to corrected months; the same result again marks nothing."""
    stream = pushed(store, MONDAY_10H)
    store.rolls.write_month(stream.host_id, MARCH, [])
    period = DirtyPeriod(stream.host_id, Grain.HOUR, MONDAY_10H)
    store.derive.write_derived([PeriodResult(period, "Europe/Paris", [derived(1_000)])])
    assert store.rolls.due(APRIL, 10) == ()
    store.derive.write_derived([PeriodResult(period, "Europe/Paris", [derived(1_001)])])
    assert store.rolls.due(APRIL, 10) == (StaleMonth(stream.host_id, MARCH),)


def test_a_year_is_always_the_sum_of_its_months(store):
    """A year equals the sum of its months, column by column, after writing, rewriting and retention."""
    hosts = [pushed(store, MONDAY_10H).host_id for _ in range(2)]
    for host_id in hosts:
        store.rolls.write_month(
            host_id, MARCH, [row(host_id, MARCH, 5), row(host_id, MARCH, 7, DayType.CLOSED, Band.NIGHT)]
        )
        store.rolls.write_month(host_id, APRIL, [row(host_id, APRIL, 11)])
    store.rolls.write_month(hosts[0], MARCH, [row(hosts[0], MARCH, 6)])
    for expired in (1, 0):
        months = kept(store, months=(MARCH, APRIL))
        for year in kept(store, years=(2026,)):
            assert year.period_from == date(2026, 1, 1)
            total = NOTHING
            for month in months:
                if (month.host_id, month.day_type, month.band) == (year.host_id, year.day_type, year.band):
                    total = add_vectors(total, month.values)
            assert year.values == total
        assert store.rolls.expire_rest(hosts[1], Limits(0, 0, 0, APRIL.toordinal())) == expired
    assert [one.value("on_active_ac_milliseconds") for one in kept(store, years=(2026,))] == [17, 11]


def test_rows_come_in_order_and_by_machines_asked_for(store):
    """Rows are ordered by (host, day type, band) within a year or month; hosts with after < id ≤ upto."""
    hosts = [pushed(store, MONDAY_10H).host_id for _ in range(3)]
    for host_id in reversed(hosts):
        rows = [row(host_id, MARCH, 1, kind, band) for kind in DayType for band in Band]
        store.rolls.write_month(host_id, MARCH, rows)
        assert store.roll_reader.kept((), (MARCH,), HostId(host_id - 1), host_id).months == rows
    expected = [(host_id, kind, band) for host_id in hosts for kind in DayType for band in Band]
    assert [(one.host_id, one.day_type, one.band) for one in kept(store, years=(2026,))] == expected
    assert store.roll_reader.host_ids() == tuple(hosts)


def test_what_is_stale_is_told_with_what_was_kept_of_it(store):
    """Stale months and their stored rows are read in the same state as the other rows."""
    stream = pushed(store, MONDAY_10H)
    store.rolls.write_month(stream.host_id, MARCH, [row(stream.host_id, MARCH, 5)])
    store.ingest.append([stream.send(realistic(MONDAY_10H + HOUR))])
    found = store.roll_reader.kept((2026,), (), HostId(-1), ALL)
    assert found.stale == {StaleMonth(stream.host_id, MARCH)}
    assert found.stale_rows == [row(stream.host_id, MARCH, 5)]
    assert len(found.years) == 1


def test_a_source_is_the_same_for_the_writer_and_for_readers(store):
    """Writer and readers get the same source: days with sums and energies, first and last day."""
    stream = pushed(store, MONDAY_10H, MONDAY_10H + 24 * HOUR)
    host = store.registry.host(stream.host_id)
    assert host is not None
    site = store.registry.site(host.site)
    source = store.rolls.source(host, site, MARCH)
    assert source == store.roll_reader.month_source(host, site, MARCH)
    assert source.units.starts == {(Grain.DAY, MONDAY), (Grain.DAY, MONDAY + 1)}
    assert (source.first_day, source.last_day) == (MONDAY, MONDAY + 1)
    assert sum(one.energy_millijoules for one in source.units.energies) == 2_000
    assert (
        sum(one.milliseconds for one in source.units.sums)
        == sum(one.known_milliseconds for one in source.known)
        > 0
    )
    assert all(len(one.carried) == len(COLUMNS[15:31]) + 4 + 1 for one in source.units.sums)


def test_a_month_is_given_with_what_is_known_around_it(store):
    """A source has 56 days to the month's end and the weeks that begin in them, then four days, no week."""
    host_id = enrol(store.registry, Population.WORKSTATION, enrolled_on=date(2026, 1, 1))
    stream = Stream(host_id, WORKSTATION)
    days = [date(2026, 1, 3), date(2026, 1, 4), date(2026, 2, 10), date(2026, 3, 4), date(2026, 3, 5)]
    store.ingest.append(
        [
            stream.send(
                *(measurement(day(one), [cell(HOUR, band=pb.BAND_CLOSED)]) for one in days),
                *(measurement(week(2026, number), [cell(HOUR)]) for number in (1, 2, 7, 9, 10)),
            )
        ]
    )
    derive(store)
    host = store.registry.host(host_id)
    assert host is not None
    site = store.registry.site(host.site)
    assert site is not None
    known = store.rolls.source(host, site, date(2026, 2, 1)).known
    mondays = [date.fromisocalendar(2026, number, 1) for number in (2, 7, 9)]
    assert {(one.grain, one.start) for one in known} == {
        *((Grain.DAY, one.toordinal()) for one in days[1:4]),
        *((Grain.WEEK, one.toordinal()) for one in mondays),
    }
    assert {(one.grain, *one[3:]) for one in known} == {
        (Grain.DAY, HOUR, 0, 0, HOUR, 0, 0),  # its energy is of the open band
        (Grain.WEEK, HOUR, 300_000, 1_000, HOUR, 300_000, 1_000),
    }


def test_days_are_moved_once_their_month_is_kept_and_counted_as_gone(store):
    """Days move out of every table once their month is stored. The next source has them in `gone`; when no
    day is left, it has the month's measurements there."""
    stream = pushed(store, MONDAY_10H, MONDAY_10H + 24 * HOUR)
    host = store.registry.host(stream.host_id)
    assert host is not None
    site = store.registry.site(host.site)
    assert store.rolls.expiring(host, site, MONDAY + 1, 8) is None
    store.rolls.write_month(host.host_id, MARCH, [row(host.host_id, MARCH, 5)])
    units = store.rolls.expiring(host, site, MONDAY + 1, 8)
    assert units is not None
    assert units.starts == {(Grain.DAY, MONDAY)}
    for expected in (2, 4):
        store.rolls.move(host.host_id, units.starts, {MARCH: [row(host.host_id, MARCH, 2)]})
        assert store.rolls.source(host, site, MARCH).gone == (row(host.host_id, MARCH, expected),)
    assert list(store.reader.sums(Grain.DAY, MONDAY, MONDAY + 1)) == []
    assert list(store.reader.derived(Grain.DAY, MONDAY, MONDAY + 1)) == []
    assert list(store.reader.point_sums(Grain.DAY, MONDAY, MONDAY + 1)) == []
    assert store.rolls.expire_rest(host.host_id, NEVER) == 0
    rest = store.rolls.expiring(host, site, MONDAY + 9, 8)
    assert rest is not None
    store.rolls.move(host.host_id, rest.starts, {MARCH: [row(host.host_id, MARCH, 2)]})
    assert store.rolls.expire_rest(host.host_id, NEVER) == 1
    (gone,) = store.rolls.source(host, site, MARCH).gone
    assert (gone.value("on_active_ac_milliseconds"), gone.value("imputed_milliseconds")) == (5, 0)
    assert kept(store, months=(MARCH,)) == [row(host.host_id, MARCH, 5)]


def test_records_and_hours_expire_and_are_counted(store):
    """Records and hours before a bound are deleted; the sums of the day stay."""
    stream = pushed(store, MONDAY_10H, MONDAY_10H + 3 * HOUR)
    limits = Limits(0, MONDAY_10H + HOUR, 0, 0)
    steps = 0
    while store.rolls.expire_rest(stream.host_id, limits):
        steps += 1
        assert steps < 10
    assert store.reader.record_count() == 1
    assert {one.start for one in store.reader.sums(Grain.HOUR, 0, 2**62)} == {MONDAY_10H + 3 * HOUR}
    assert {one.start for one in store.reader.sums(Grain.DAY, 0, 2**62)} == {MONDAY}
    assert store.rolls.expire_population(Population.SERVER, limits) == 0
