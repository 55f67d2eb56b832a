# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the grouped queries of ports.Reader in every store: they equal the sums of its rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

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
    measurement,
    site,
    week,
)
from veilleuse.collector.model.calendars import BEFORE_ALL, CalendarVersion, Declaration
from veilleuse.collector.model.records import Grain
from veilleuse.collector.model.sums import DerivedCell, DerivedRecord, EnergySums, StateSums
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.ladder import Method
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Population, State, Supply

NIGHT_IDLE: dict[str, Any] = {"band": pb.BAND_NIGHT, "state": pb.STATE_ON_IDLE}
MONDAY_22H_PARIS = MONDAY_10H + 11 * HOUR


@pytest.fixture(params=BACKENDS)
def store(request: Any, tmp_path: Path) -> Iterator[Backend]:
    """Give an empty store with one site."""
    for backend in BACKENDS[request.param](tmp_path / "data"):
        backend.registry.put_site(site())
        yield backend


def _fill(store: Backend) -> None:
    """Store two servers for each of three hours on two days, and one workstation with a week."""
    for start in (MONDAY_10H, MONDAY_10H + HOUR, MONDAY_10H + 24 * HOUR):
        for _ in range(2):
            stream = Stream(enrol(store.registry))
            idle = cell(30_000, state=pb.STATE_ON_IDLE, idle_beyond_15_minutes_milliseconds=20_000)
            battery = cell(20_000, state=pb.STATE_ON_IDLE, supply=pb.SUPPLY_BATTERY)
            store.ingest.append(
                [
                    stream.send(measurement(clock(start + 60_000 * i), [cell(10_000), idle, battery]))
                    for i in (0, 1)
                ]
            )
    desk = Stream(enrol(store.registry, Population.WORKSTATION), WORKSTATION)
    store.ingest.append(
        [desk.send(measurement(week(2026, 10), [cell(7 * HOUR), cell(HOUR, state=pb.STATE_OFF)]))]
    )


def test_states_are_added_up(store):
    """States per host, band and state equal the sums of the rows over any range, both supplies together; a
    sum that was never measured stays None."""
    _fill(store)
    for grain, start, end in (
        (Grain.HOUR, 0, 2**62),
        (Grain.DAY, MONDAY, MONDAY + 1),
        (Grain.DAY, MONDAY + 1, MONDAY + 9),
        (Grain.WEEK, MONDAY, MONDAY + 1),
        (Grain.WEEK, MONDAY + 1, MONDAY + 9),
    ):
        expected: defaultdict[Any, StateSums] = defaultdict(StateSums)
        for row in store.reader.sums(grain, start, end):
            one = row.cell
            expected[row.host_id, (one.band, one.state)] += StateSums(
                one.milliseconds,
                one.idle_beyond_15_minutes_milliseconds,
                one.idle_beyond_30_minutes_milliseconds,
                one.idle_beyond_60_minutes_milliseconds,
            )
        found = list(store.reader.state_sums(grain, start, end))
        assert {(host, key): sums for host, key, sums in found} == expected
        assert len(found) == len(expected)
    idle = {
        sums for _, (_, state), sums in store.reader.state_sums(Grain.DAY, 0, 2**62) if state is State.ON_IDLE
    }
    assert idle == {StateSums(100_000, 40_000, None, None)}


def test_energies_are_added_up(store):
    """Energies per host, method, band and state equal the sums of the rows over any range."""
    _fill(store)
    for number, period in enumerate(store.derive.dirty(99)):
        cells = [
            DerivedCell(Band.OPEN, State.ON_IDLE, supply, method, 5_000, 10**number, 3)
            for supply in (Supply.AC, Supply.BATTERY)
            for method in (Method.METERED, Method.LOAD_MODELLED)
        ]
        records = [DerivedRecord(one.record_id, 1) for one in store.derive.record_cells(period)]
        store.derive.write_derived(period, cells, records, [])
    for grain, start, end in ((Grain.DAY, MONDAY, MONDAY + 1), (Grain.DAY, 0, 2**62), (Grain.WEEK, 0, 2**62)):
        expected: defaultdict[Any, EnergySums] = defaultdict(EnergySums)
        for row in store.reader.derived(grain, start, end):
            one = row.cell
            expected[row.host_id, (one.method, one.band, one.state)] += EnergySums(
                one.milliseconds, one.energy_millijoules, one.uncertainty_millijoules
            )
        found = list(store.reader.energy_sums(grain, start, end))
        assert {(host, key): sums for host, key, sums in found} == expected
        assert len(found) == len(expected) > 0


def test_dates_on_at_night_are_counted(store):
    """Dates with more than 4 h on at night are counted, idle included; exactly 4 h, off, or another band are
    not."""
    hour = HOUR
    nights = {
        2: [cell(3 * hour, **NIGHT_IDLE), cell(hour + 1, band=pb.BAND_NIGHT)],
        3: [cell(4 * hour, **NIGHT_IDLE)],
        4: [cell(8 * hour, band=pb.BAND_NIGHT, state=pb.STATE_OFF)],
        5: [cell(8 * hour, band=pb.BAND_CLOSED, state=pb.STATE_ON_IDLE)],
        6: [cell(5 * hour, **NIGHT_IDLE)],
    }
    desk = Stream(enrol(store.registry, Population.WORKSTATION), WORKSTATION)
    quiet = Stream(enrol(store.registry, Population.WORKSTATION), WORKSTATION)
    store.ingest.append(
        [desk.send(measurement(day(date(2026, 3, number)), cells)) for number, cells in nights.items()]
        + [quiet.send(measurement(day(date(2026, 3, 2)), nights[4]))]
    )
    assert list(store.reader.dates_on(MONDAY, MONDAY + 7, 4 * hour)) == [(desk.host_id, 2)]
    assert list(store.reader.dates_on(MONDAY, MONDAY + 4, 4 * hour)) == [(desk.host_id, 1)]


def test_hours_on_at_night_of_one_population(store):
    """Milliseconds on at night are summed per hour, both states and all records; other populations and bands
    are left out."""
    school, server = Stream(enrol(store.registry, Population.CLASSROOM)), Stream(enrol(store.registry))
    records = [
        measurement(clock(MONDAY_22H_PARIS), [cell(20_000, **NIGHT_IDLE), cell(40_000, band=pb.BAND_NIGHT)]),
        measurement(clock(MONDAY_22H_PARIS + 60_000), [cell(60_000, **NIGHT_IDLE)]),
        measurement(clock(MONDAY_22H_PARIS + HOUR), [cell(60_000, band=pb.BAND_NIGHT, state=pb.STATE_OFF)]),
        measurement(clock(MONDAY_22H_PARIS - HOUR), [cell(60_000, band=pb.BAND_CLOSED)]),
    ]
    store.ingest.append([stream.send(*records) for stream in (school, server)])
    found = Counter(
        {(host, hour): on for host, hour, on in store.reader.night_hours(Population.CLASSROOM, 0, 2**62)}
    )
    assert found == {(school.host_id, MONDAY_22H_PARIS): 120_000}
    assert not list(store.reader.night_hours(Population.CLASSROOM, 0, MONDAY_22H_PARIS))


def test_the_calendars_of_a_site_are_read_as_they_were_put(store):
    """Calendars are read oldest first, and the newest is the site's; a site without any has its present one,
    valid from the beginning."""
    place = site()
    (only,) = store.reader.calendars(place)
    assert (only.from_day, only.calendar.to_json()) == (BEFORE_ALL, place.calendar_json)
    old = CalendarVersion(BEFORE_ALL, DEFAULT_CALENDAR._replace(open_spans=()), Declaration(()), 2025)
    new = CalendarVersion(date(2026, 4, 1), DEFAULT_CALENDAR, Declaration(DEFAULT_CALENDAR.open_spans), 2026)
    store.registry.put_site(replace(place, calendar_json=new.calendar.to_json()))
    store.calendars.put(place.site, [old, new])
    (now,) = store.reader.sites()
    assert store.reader.calendars(now) == store.calendars.versions(now) == (old, new)


def test_marks_have_an_oldest_and_a_newest(store):
    """Without marks the span is None; the oldest mark is cleared first, a new one is the newest."""
    assert store.reader.dirty_span() is None
    stream = Stream(enrol(store.registry))
    store.ingest.append([stream.send(measurement(clock(MONDAY_10H + i * HOUR))) for i in range(3)])
    oldest, newest = store.reader.dirty_span()
    assert newest == oldest + 2
    (period,) = store.derive.dirty(1)
    ids = [DerivedRecord(one.record_id, 1) for one in store.derive.record_cells(period)]
    store.derive.write_derived(period, [], ids, [])
    assert store.reader.dirty_span() == (oldest + 1, newest)
