# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What was measured of servers and rooms in a month is stored once: the fleet needs no reading again."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from tests.support.filled import Filled, cell, civil
from tests.support.machines import settings_in
from tests.support.publishing import Publishing, publish_months
from tests.support.rooms import END, FIRST, HOUR, HOURS, SINCE, Room, stands
from veilleuse.collector.calendars.periods import Slice, slices
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.query import Query
from veilleuse.collector.release.figures import PublishedFleet, sum_fleet
from veilleuse.collector.release.rows import FLEET, FleetMonth
from veilleuse.collector.release.servers import SERVERS
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

pytestmark = pytest.mark.any_date

MARCH = Slice(FIRST, END)
YEAR, NEXT = date(2025, 1, 1), date(2026, 1, 1)
APRIL, FEBRUARY = date(2025, 4, 6), date(2026, 2, 5)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """Return a room with nothing yet."""
    return Room(settings_in(tmp_path))


def fleet(data: Filled, part: Slice = MARCH) -> FleetMonth:
    """Return the published rows of a month."""
    found = Publishing(data).find(PublicationKind.FLEET, part.first, part.end)
    assert found is not None
    return FLEET.decode(json.loads(found.content), part.first, part.end)


def read_nothing_again(data: Filled, room: Room) -> None:
    """Delete readings and days as retention does, and forget the first server."""
    with data.store.transaction():
        data.store.data.connection.execute("DELETE FROM meter_hours")
    while data.store.forgetting.forget_slice(room.servers[0]):
        pass
    host = data.store.registry.host(room.servers[0])
    assert host is not None
    while not data.store.forgetting.forget_host(host, b"\0" * 32):
        pass


def test_servers_and_rooms_stay_after_their_readings(room: Room):
    """A month taken back after its readings went, and one of its servers, has the same rows to the digit."""
    room.server(300), room.server(200)
    room.meter(1_000)
    room.declare(stands())
    with Filled(room.settings.data_dir) as data:
        publish_months(data, APRIL)
        before = fleet(data)
        assert sum(row.energy_millijoules for row in before) == 1_000 * HOURS * HOUR
        read_nothing_again(data, room)
        data.store.publications.take_back(FIRST, END, APRIL)
        publish_months(data, APRIL)
        assert fleet(data) == before
        kept = Publishing(data).find(PublicationKind.SERVERS, FIRST, END)
        assert kept is not None
        month = SERVERS.decode(json.loads(kept.content), FIRST, END)
        assert json.loads(json.dumps(SERVERS.encode(month))) == json.loads(kept.content)


def test_a_room_read_from_october_on_is_estimated_before(room: Room):
    """Nine months have the mean power of the other three: the interval holds the truth, and they are weak."""
    october = date(2025, 10, 1)
    room.server(300, YEAR, NEXT)
    room.meter(1_000, first=october, end=NEXT)
    room.declare(stands())
    months = slices(YEAR, NEXT, by_month=True)
    with Filled(room.settings.data_dir) as data:
        publish_months(data, FEBRUARY)
        rows = [(part, fleet(data, part)) for part in months]
    query = Query(YEAR, NEXT, (), 10, FEBRUARY)
    (total,) = sum_fleet(Slice(YEAR, NEXT), rows, query, random_roll_out=False).rows
    truth, (low, high) = 1_000 * 365 * 24 * HOUR, total.estimate.bounds_millijoules
    assert total.estimate.energy_millijoules == pytest.approx(truth, rel=0.01)
    assert 0.8 * truth > low
    assert high > 1.2 * truth
    unread = sum((part.end - part.first).days for part in months if part.end <= october)
    weak = sum(row.weak_millijoules for _, of_month in rows for row in of_month)
    assert weak == pytest.approx(700 * unread * 24 * HOUR, rel=0.01)
    assert total.estimate.representativeness == "not demonstrated"


def test_a_meter_below_its_servers_is_no_census(room: Room):
    """The meter reads 400 W, its servers 500: what is above is weak, and the row is no census."""
    room.server(300), room.server(200)
    room.meter(400)
    room.declare(stands())
    with Filled(room.settings.data_dir) as data:
        publish_months(data, APRIL)
        rows = fleet(data)
    (other,) = [row for row in rows if row.measured is not None and row.measured.room is not None]
    assert (other.energy_millijoules, other.weak_millijoules) == (0, 100 * HOURS * HOUR)
    figures = sum_fleet(
        MARCH,
        [(MARCH, rows)],
        Query(FIRST, END, (), 10, APRIL),
        random_roll_out=False,
    )
    assert figures.total is not None
    assert figures.total.estimate.representativeness == "not demonstrated"


def test_a_changed_k_moves_no_published_month(room: Room):
    """Ten PCs published at k = 10 have the same rows after k is 12, when the fleet is made again."""
    hosts = [
        room.filled.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, site="dc", enrolled_on=SINCE)
        for _ in range(10)
    ]
    for host in hosts:
        night = [cell(State.ON_IDLE, HOUR, Band.NIGHT), cell(State.OFF, 8 * HOUR, Band.NIGHT)]
        room.filled.push(host, [(civil(date(2025, 3, day)), night) for day in range(1, 31)])
    room.declare()
    with Filled(room.settings.data_dir) as data:
        publish_months(data, APRIL)
        before = fleet(data)
        assert sum(row.known_milliseconds for row in before) > 0
        publish_months(data, date(2025, 4, 20), k=12)
        assert PublishedFleet(Publishing(data)).has(MARCH)
        assert fleet(data) == before
