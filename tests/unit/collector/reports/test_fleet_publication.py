# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the publication of months: what counts as a machine, what is exempt, and what is never published
twice."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

from tests.support.filled import Filled, cell, civil, week
from tests.support.inventories import Listed, put_inventory
from tests.support.publishing import Publishing
from tests.support.rolled import roll
from tests.support.sources import opened
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.indicator_rows import INDICATORS
from veilleuse.collector.release.rows import FLEET, FleetMonth
from veilleuse.collector.release.tables import Month
from veilleuse.collector.reports.indicators import sum_for_indicators
from veilleuse.collector.settings import ReportingSettings
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

SEP = Slice(date(2026, 9, 1), date(2026, 10, 1))
NIGHTS = [date(2026, 9, day) for day in range(1, 29)]
OCTOBER = date(2026, 10, 5)


def filled(folder: Path) -> Filled:
    """Return a data directory whose machines enrol in September."""
    return Filled(folder / "data", clock=lambda: datetime(2026, 9, 1, 8, tzinfo=UTC).timestamp())


def laptops(data: Filled, number: int, entity: str) -> list[HostId]:
    """Add laptops that are known in all nights of September."""
    hosts = [
        data.add_host(
            Population.WORKSTATION, DeviceClass.LAPTOP, entity=entity, enrolled_on=date(2026, 8, 31)
        )
        for _ in range(number)
    ]
    for place, host in enumerate(hosts):
        night = [cell(State.ON_IDLE, 3_600_000 + place, Band.NIGHT), cell(State.OFF, 30_000_000, Band.NIGHT)]
        data.push(host, [(civil(day), night) for day in NIGHTS])
    data.derive()
    return hosts


def published(data: Filled, today: date = OCTOBER) -> tuple[Month, FleetMonth]:
    """Publish what is due; return September."""
    publishing = Publishing(data)
    roll(data, today)
    assert publishing.publish_months(today) == []
    month = publishing.find(PublicationKind.RELEASE, SEP.first, SEP.end)
    fleet = publishing.find(PublicationKind.FLEET, SEP.first, SEP.end)
    assert month is not None
    assert fleet is not None
    return (
        FORM.decode(json.loads(month.content), SEP.first, SEP.end),
        FLEET.decode(json.loads(fleet.content), SEP.first, SEP.end),
    )


def test_a_reinstalled_machine_is_one_machine(tmp_path):
    """Nine machines, one of them installed again, are not ten: their entity has no row of its own."""
    with filled(tmp_path) as data:
        hosts, others = laptops(data, 10, "A"), laptops(data, 12, "B")
        devices = [(one,) for one in hosts[:8]] + [(hosts[8], hosts[9])]
        listed = [Listed(one, "A") for one in devices] + [Listed((one,), "B") for one in others]
        put_inventory(data, listed, OCTOBER)
        month, _ = published(data)
    assert [(group.key.entity, group.sums.hosts) for group in month.cells] == [("autres", 21)]
    assert [group.sums.hosts for group in month.uses] == [21]


def test_a_machine_is_at_the_place_of_its_device_before_it_was_installed_again(tmp_path):
    """An earlier machine of a device that moved counts where the device is."""
    with filled(tmp_path) as data:
        hosts, others = laptops(data, 11, "A"), laptops(data, 11, "B")
        listed = [*[Listed((one,), "A") for one in hosts[:10]], *[Listed((one,), "B") for one in others[:10]]]
        put_inventory(data, [*listed, Listed((hosts[10], others[10]), "B")], OCTOBER)
        month, _ = published(data)
    assert [(group.key.entity, group.sums.hosts) for group in month.cells] == [("A", 10), ("B", 11)]


def test_a_workstation_of_the_inventory_is_in_no_row_without_the_rule(tmp_path):
    """A tower that enrolled as a server, and is a workstation for the inventory, has no row of its own."""
    with filled(tmp_path) as data:
        tower = data.add_host(Population.SERVER, DeviceClass.TOWER, enrolled_on=date(2026, 8, 31))
        data.push(tower, [(civil(day), [cell(State.ON_IDLE, 36_000_000, Band.NIGHT)]) for day in NIGHTS])
        others = laptops(data, 12, "B")
        put_inventory(
            data, [Listed((tower,), "A", "tower"), *(Listed((one,), "B") for one in others)], OCTOBER
        )
        _, fleet = published(data)
        told = Publishing(data).find(PublicationKind.INDICATORS, SEP.first, SEP.end)
        with opened(data.directory, ReportingSettings()) as sources:
            assert sources.exempt_hosts == ()  # nor has it rows of days, or a page
            days = Query(date(2026, 9, 1), date(2026, 9, 3), ("site",), 10, OCTOBER)
            assert sum_for_indicators(sources, days, only_released=True).groups == ()
    assert [row.key.entity for row in fleet if row.measured is not None] == []
    assert sum(row.machines for row in fleet) == 13
    assert told is not None
    indicators = INDICATORS.decode(json.loads(told.content), SEP.first, SEP.end)
    assert {row.key.population for row in indicators.rows} == {Population.WORKSTATION}
    assert indicators.servers == ()


def test_a_population_that_has_not_called_yet_withholds_no_month(tmp_path):
    """A classroom PC that enrolled before the year and was never on: the others' months are published."""
    with filled(tmp_path) as data:
        laptops(data, 12, "A")
        data.add_host(Population.CLASSROOM, DeviceClass.TOWER, enrolled_on=date(2025, 12, 1))
        month, fleet = published(data)
    assert month.cells
    assert {row.key.population for row in fleet} == {Population.WORKSTATION, Population.CLASSROOM}


def test_a_year_before_the_first_machine_is_not_published(tmp_path):
    """A PC's week has two days of December, and the PC was enrolled in January."""
    with filled(tmp_path) as data:
        hosts = [
            data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, enrolled_on=date(2026, 1, 1))
            for _ in range(12)
        ]
        for host in hosts:
            data.push(host, [(week(date(2026, 1, 1)), [cell(State.ON_IDLE, 36_000_000, Band.OPEN)])])
        data.derive()
        roll(data, date(2026, 2, 5))
        assert data.store.closings.has_months(date(2025, 12, 1), date(2026, 1, 1), (Population.WORKSTATION,))
        Publishing(data).publish_months(date(2026, 2, 5))
        assert {one.first.year for one in data.store.publications.summaries()} == {2026}


def test_a_month_is_not_published_again_when_it_is_too_old(tmp_path):
    """Machines may keep months longer than their publication: a second one would tell who was forgotten."""
    with filled(tmp_path) as data:
        hosts = laptops(data, 12, "A")
        published(data)
        late = date(2028, 4, 3)  # 18 months and two days after its end
        assert data.store.publications.expire(SEP.end, ())
        while data.store.forgetting.forget_slice(hosts[0]):
            pass
        Publishing(data).publish_months(late)
        assert [one for one in data.store.publications.summaries() if one.end <= SEP.end] == []
