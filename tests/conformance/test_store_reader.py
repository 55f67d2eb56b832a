# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the grouped queries of ports.Reader in every store: they equal the sums of its rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from tests.conformance.backends import Backend
from tests.support.pushes import (
    HOUR,
    MONDAY_10H,
    WORKSTATION,
    Stream,
    cell,
    clock,
    enrol,
    measurement,
    site,
    week,
)
from veilleuse.collector.model.calendars import BEFORE_ALL, CalendarVersion, Declaration
from veilleuse.collector.model.sums import DerivedRecord, PeriodResult
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

NIGHT_IDLE: dict[str, Any] = {"band": pb.BAND_NIGHT, "state": pb.STATE_ON_IDLE}
MONDAY_22H_PARIS = MONDAY_10H + 11 * HOUR


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
    store.derive.write_derived([PeriodResult(period, "Europe/Paris", [], ids)])
    assert store.reader.dirty_span() == (oldest + 1, newest)
