# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test displays, update windows and units in records: exact, absent if unknown, without a time of day."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes.measuring import METER, NOON, PACKAGE
from veilleuse.agent.model import Cell, ClockPeriod, DatePeriod, PointEnergy, Record, Tick, body_from_json
from veilleuse.agent.resident.cell_sums import UNITS_WHILE_GROWING
from veilleuse.agent.resident.fold import Fold, SiteCalendar
from veilleuse.agent.sending.encode import encode_record
from veilleuse.wire.bands import DEFAULT_CALENDAR, OpenSpan
from veilleuse.wire.limits import HOUR_MILLISECONDS as HOUR
from veilleuse.wire.limits import MAX_RECORD_BYTES, MAX_UNITS_PER_CELL, OTHER_UNITS
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Population, State, Supply

PARIS = ZoneInfo("Europe/Paris")
WEDNESDAY = 3
ON_KEY = (Band.OPEN, State.ON_ACTIVE, Supply.AC)


def on(start: int, milliseconds: int = 10_000, **fields: Any) -> Tick:
    """Return an active tick of 1 W at each of two points."""
    fields.setdefault(
        "energies",
        (PointEnergy(PACKAGE, milliseconds, milliseconds), PointEnergy(METER, milliseconds, milliseconds)),
    )
    state = fields.pop("state", State.ON_ACTIVE)
    return Tick(start, milliseconds, state, Supply.AC, **fields)


def site(*windows: OpenSpan) -> SiteCalendar:
    """Return the default calendar with update windows."""
    return SiteCalendar(DEFAULT_CALENDAR._replace(update_windows=windows), "ab" * 32)


def fold_all(fold: Fold, ticks: list[Tick]) -> list[Record]:
    """Return all closed and open records."""
    return [record for tick in ticks for record in fold.add(tick)] + list(fold.flush())


def on_cells(records: list[Record]) -> list[Cell]:
    """Return the cells of active time."""
    return [cell for one in records for (_, state, _), cell in one.cells.items() if state is State.ON_ACTIVE]


def test_displays_are_counted_in_time():
    """Two screens for ten seconds are 20 s; zero is a counted zero; a poll without a count adds nothing."""
    ticks = [
        on(NOON, displays_on=(0, 2, 1, 0)),
        on(NOON + 10_000),
        on(NOON + 20_000, displays_on=(0, 1, 0, 0)),
    ]
    (record,) = fold_all(Fold(Population.WORKSTATION, HOUR), ticks)
    cell = record.cells[ON_KEY]
    assert cell.buckets["display_milliseconds"] == [0, 30_000, 10_000, 0]
    (wire,) = pb.Record.FromString(encode_record(record)).measurement.cells
    assert [(one.size, one.milliseconds) for one in wire.displays] == [
        (1, 0),
        (2, 30_000),
        (3, 10_000),
        (4, 0),
    ]
    (bare,) = fold_all(Fold(Population.WORKSTATION, HOUR), [on(NOON)])
    assert "display_milliseconds" not in bare.cells[ON_KEY].buckets
    assert not pb.Record.FromString(encode_record(bare)).measurement.cells[0].displays


@pytest.mark.parametrize("state", [State.ASLEEP, State.OFF, State.UNKNOWN])
def test_who_is_not_on_shows_nothing(state):
    """A cell that is not on carries only time and energy: the collector refuses load there."""
    tick = on(NOON, state=state, displays_on=(1, 1, 1, 1), units=(("unit:a", 5),))
    (record,) = fold_all(Fold(Population.SERVER, HOUR, site(OpenSpan(WEDNESDAY, 0, 1_440))), [tick])
    cell = record.cells[Band.OPEN, state, Supply.AC]
    assert (cell.buckets, cell.sums, cell.units, cell.window_energies) == ({}, {}, {}, {})


def test_without_windows_nothing_is_said_of_them():
    """Without declared windows the sum is absent; with them it is zero outside, time and energy inside."""
    (record,) = fold_all(Fold(Population.SERVER, HOUR), [on(NOON)])
    assert "update_window_milliseconds" not in record.cells[ON_KEY].sums
    window = site(OpenSpan(WEDNESDAY, 13 * 60, 14 * 60))
    outside, inside = fold_all(Fold(Population.SERVER, HOUR, window), [on(NOON), on(NOON + HOUR)])
    assert outside.cells[ON_KEY].sums["update_window_milliseconds"] == 0
    assert outside.cells[ON_KEY].window_energies == {}
    assert inside.cells[ON_KEY].sums["update_window_milliseconds"] == 10_000
    assert inside.cells[ON_KEY].window_energies == {PACKAGE: (10_000, 10_000), METER: (10_000, 10_000)}


def in_window(unix_milliseconds: int, windows: tuple[OpenSpan, ...]) -> bool:
    """Check whether the site's local time is inside a window."""
    local = datetime.fromtimestamp(unix_milliseconds / 1000, PARIS)
    minute = local.hour * 60 + local.minute
    return any(
        w.iso_weekday == local.isoweekday() and w.start_minute <= minute < w.end_minute for w in windows
    )


@settings(max_examples=40, deadline=None)
@given(
    windows=st.lists(
        st.tuples(st.integers(1, 7), st.integers(0, 1_438)).flatmap(
            lambda at: st.integers(at[1] + 1, 1_440).map(lambda end: OpenSpan(at[0], at[1], end))
        ),
        min_size=1,
        max_size=7,
        unique_by=lambda window: window.iso_weekday,
    ).map(lambda many: tuple(sorted(many))),
    start=st.sampled_from(
        [NOON, int(datetime(2026, 3, 28, 23, tzinfo=UTC).timestamp()) * 1000, NOON + 11 * HOUR - 90_000]
    ),
    length=st.sampled_from([10_000, 47_000, 59_999]),
    restart=st.booleans(),
)
def test_a_server_s_window_time_is_that_of_the_wall_clock(windows, start, length, restart):
    """Over midnight, clock changes and restarts, the sum is the time inside the windows by local time."""
    fold, calendar = Fold(Population.SERVER, 60_000, site(*windows)), site(*windows)
    records: list[Record] = []
    ticks = [on(start + n * length, length) for n in range(150)]
    for tick in ticks:
        records += fold.add(tick)
        if restart:
            fold, _ = Fold.from_json(fold.to_json(), Population.SERVER, 60_000)
    assert fold.site == calendar
    records += fold.flush()
    end = start + 150 * length
    minutes = range(start - start % 60_000, end, 60_000)
    expected = sum(min(m + 60_000, end) - max(m, start) for m in minutes if in_window(m, windows))
    cells = on_cells(records)
    assert sum(cell.sums["update_window_milliseconds"] for cell in cells) == expected
    for point in (PACKAGE, METER):  # 1 W: 1 mJ is 1 ms
        inside = sum(cell.window_energies.get(point, (0, 0))[0] for cell in cells)
        assert abs(inside - expected) <= len(cells), "each split is within one unit of its share"
        assert sum(cell.energies[point][0] for cell in cells) == 150 * length


@pytest.mark.promise("P3")
@pytest.mark.parametrize("population", [Population.SERVER, Population.CLASSROOM])
def test_a_window_never_cuts_a_period(population):
    """P3: ten minutes of a window within an hour are absent from that hour's record; other hours have 0."""
    window = site(OpenSpan(WEDNESDAY, 13 * 60 + 20, 13 * 60 + 30))
    ticks = [on(NOON + n * 30_000, 30_000) for n in range(360)]
    records = fold_all(Fold(population, HOUR, window), ticks)
    told = [cell.sums.get("update_window_milliseconds") for cell in on_cells(records)]
    assert told == [0, None, 0]
    assert not any(cell.window_energies for cell in on_cells(records))


@pytest.mark.promise("P14")
def test_equal_sums_at_other_hours_are_the_same_records(figure):
    """P14: weeks with equal sums at other hours of other days give the same bytes."""
    monday = NOON - 60 * HOUR  # 00:00 in Paris, in winter; NOON is a Wednesday's

    def week(*busy: range) -> list[bytes]:
        ticks = [
            on(monday + minute * 60_000, 60_000)
            if any(minute in hours for hours in busy)
            else on(monday + minute * 60_000, 60_000, state=State.OFF, energies=())
            for minute in range(7 * 24 * 60)
        ]
        return sorted(encode_record(one) for one in fold_all(Fold(Population.WORKSTATION, HOUR), ticks))

    day, hour = 24 * 60, 60
    early = week(range(9 * hour, 12 * hour), range(day + hour, day + 2 * hour))
    late = week(range(3 * day + 14 * hour, 3 * day + 17 * hour), range(day + 4 * hour, day + 5 * hour))
    figure(f"{len(set(early) ^ set(late))} of {len(early)} records of a week differ after a change of hours")
    assert early == late
    assert early != week(range(9 * hour, 12 * hour), range(2 * day + hour, 2 * day + 2 * hour))


@pytest.mark.promise("P3")
def test_a_workstation_tells_no_window_of_its_open_band_and_no_short_one():
    """P3: a sum that would leave part of a band under three hours is absent, as is any of the open band."""
    tuesday = NOON - 24 * HOUR - 12 * HOUR  # 00:00 in Paris
    ticks = [on(tuesday + n * 60_000, 60_000) for n in range(48 * 60)]

    def told(*windows: OpenSpan) -> dict[Any, Any]:
        records = fold_all(Fold(Population.WORKSTATION, HOUR, site(*windows)), ticks)
        return {
            (record.period.day.isoweekday() if isinstance(record.period, DatePeriod) else "week", band): (
                cell.sums.get("update_window_milliseconds")
            )
            for record in records
            for (band, state, _), cell in record.cells.items()
            if state is State.ON_ACTIVE
        }

    assert told(OpenSpan(2, 60, 240)) == {  # three hours of Tuesday's night
        (2, Band.NIGHT): 3 * HOUR,
        (2, Band.CLOSED): 0,
        (3, Band.NIGHT): 0,
        (3, Band.CLOSED): 0,
        ("week", Band.OPEN): None,
    }
    short = told(OpenSpan(2, 60, 239), OpenSpan(3, 12 * 60, 13 * 60))
    assert short[2, Band.NIGHT] is None
    assert short[3, Band.NIGHT] == 0
    assert short["week", Band.OPEN] is None


def test_another_population_cuts_windows_anew():
    """A server that becomes a workstation reports no window that only a server may report."""
    fold = Fold(Population.SERVER, 300_000, site(OpenSpan(WEDNESDAY, 12 * 60, 13 * 60)))
    list(fold.add(on(NOON)))
    (server,) = fold.change_grain(Population.WORKSTATION, HOUR)
    assert server.cells[ON_KEY].sums["update_window_milliseconds"] == 10_000
    (workstation,) = fold_all(fold, [on(NOON + 10_000)])
    assert "update_window_milliseconds" not in workstation.cells[ON_KEY].sums


@pytest.mark.parametrize("population", [Population.WORKSTATION, Population.CLASSROOM])
def test_units_are_of_servers_only(population):
    """Unit times outside a server are ignored."""
    (record,) = fold_all(Fold(population, HOUR), [on(NOON, units=(("unit:nginx", 5),))])
    assert record.cells[ON_KEY].units == {}


def test_many_units_are_merged_when_they_are_sent():
    """The largest units keep their names and the rest is `unit:other`; a growing cell stays bounded."""
    units = tuple((f"unit:s{n:03}", 1_000 + n) for n in range(UNITS_WHILE_GROWING))
    fold = Fold(Population.SERVER, HOUR)
    (record,) = fold_all(fold, [on(NOON, units=units)])
    assert len(record.cells[ON_KEY].units) == UNITS_WHILE_GROWING
    (wire,) = pb.Record.FromString(encode_record(record)).measurement.cells
    names = [unit.name for unit in wire.units]
    assert (len(names), names) == (MAX_UNITS_PER_CELL, sorted(names))
    assert {"unit:s255", "unit:s193", OTHER_UNITS} <= set(names)
    assert "unit:s192" not in names
    assert sum(unit.cpu_milliseconds for unit in wire.units) == sum(spent for _, spent in units)
    (record,) = fold_all(fold, [on(NOON, units=(*units, ("unit:one-more", 1)))])
    assert len(record.cells[ON_KEY].units) == MAX_UNITS_PER_CELL
    assert sum(record.cells[ON_KEY].units.values()) == sum(spent for _, spent in units) + 1


def test_a_record_with_units_everywhere_fits():
    """18 active cells with more units than allowed and the longest names stay below MAX_RECORD_BYTES."""
    cells = {}
    for band in Band:
        for state in (State.ON_ACTIVE, State.ON_IDLE):
            for supply in Supply:
                cell = cells[band, state, supply] = Cell(HOUR)
                for number in range(200):
                    cell.add_unit(f"unit:{number:058}", 2**40 + number)
    record = Record(ClockPeriod(NOON, HOUR), "", 1, cells, {})
    wire = encode_record(record)
    assert len(wire) < MAX_RECORD_BYTES - 16_000
    sent = sum(u.cpu_milliseconds for c in pb.Record.FromString(wire).measurement.cells for u in c.units)
    assert sent == sum(sum(cell.units.values()) for cell in cells.values())


def test_a_row_of_an_older_agent_and_a_row_for_one():
    """Rows of an older agent are read unchanged; new parts are added after the ones that it reads."""
    old = (
        '{"period":["date","2026-11-25"],"calendar":"","rule":1,"points":[["rapl","package-0","component","machine"]],'
        '"cells":[["night","on_idle","ac",10000,[[0,5,10000]],{"cpu_busy_milliseconds":3},{}]],"gaps":[],"rss":0}'
    )
    record = body_from_json(old)
    assert isinstance(record, Record)
    assert record.to_json() == old
    cell = record.cells[Band.NIGHT, State.ON_IDLE, Supply.AC]
    cell.add_window_energy(PACKAGE, 4, 9_000)
    cell.add_unit("unit:nginx", 12)
    new = record.to_json()
    assert new == old[:-1] + ',"windows":[[0,0,4,9000]],"units":[[0,{"unit:nginx":12}]]}'
    assert body_from_json(new) == record
    assert record.period == DatePeriod(date(2026, 11, 25))
