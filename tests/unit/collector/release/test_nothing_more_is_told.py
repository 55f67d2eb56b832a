# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a released month does not tell of a machine does not move the fleet's energy. docs/decisions/0046."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest

from tests.support.memory_store import host, site
from tests.support.released import release
from tests.support.stored_year import StoredYear
from tests.support.year import DAY, vector
from veilleuse.collector.calendars.periods import slices
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.inventory import Asset, Placement
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.collector.release.fleet import ReleaseAssumptions
from veilleuse.collector.release.months import estimate_months
from veilleuse.collector.release.rows import FleetRow
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

FIRST, END = date(2026, 3, 1), date(2026, 5, 1)
K = 10
MONTHS = tuple(slices(FIRST, END, by_month=True))
PUPILS = 40
"""Number of the first classroom PC: they are too few to publish."""


def month_of(
    number: int, month: date, opened: int, closed: int, method: Method = Method.METERED
) -> list[HostPeriod]:
    """Return a machine's month: 8 h on at these watts on 20 open and on 8 closed days, else off."""
    rows = []
    for kind, days, watts in ((DayType.OPEN, 20, opened), (DayType.CLOSED, 8, closed)):
        on, off = days * DAY // 3, days * DAY * 2 // 3
        values = {
            "on_active_ac_milliseconds": on,
            "off_ac_milliseconds": off,
            "on_active_energy_millijoules": on * watts,
            f"{method}_milliseconds": on + off,
            f"{method}_energy_millijoules": on * watts,
            f"{method}_uncertainty_millijoules": on * watts // 20,
        }
        rows.append(HostPeriod(HostId(number), month, kind, Band.OPEN, vector(**values)))
    return rows


def fleet() -> StoredYear:
    """Return 14 laptops of A, 6 of B, 12 of C, and 4 classroom PCs of A; 10 more are listed of A and B."""
    hosts: list[Host] = []
    rows: list[HostPeriod] = []
    for number, entity in enumerate("A" * 14 + "B" * 6 + "C" * 12, 1):
        hosts.append(host(number, DeviceClass.LAPTOP, entity=entity))
    hosts += [
        host(PUPILS + number, DeviceClass.LAPTOP, Population.CLASSROOM, entity="A") for number in range(4)
    ]
    for one in hosts:
        for part in MONTHS:
            rows += month_of(one.host_id, part.first, 20 + one.host_id, 5 + one.host_id % 3)
    spare = [
        Asset(100 + number, "laptop", (Placement(date(2020, 1, 1), entity, "hq"),), Population.WORKSTATION)
        for number, entity in enumerate("A" * 10 + "B" * 10)
    ]
    assets = [
        Asset(
            one.host_id, "laptop", (Placement(date(2020, 1, 1), one.org_entity, "hq"),), one.population,
            host_id=one.host_id,
        )
        for one in hosts
    ]  # fmt: skip
    return StoredYear((site("hq"),), tuple(hosts), (*assets, *spare), tuple(rows))


def rows_of(stored: StoredYear) -> list[FleetRow]:
    """Return the fleet's rows of both months, without their uncertainties."""
    made = estimate_months(
        [release(stored.sources(), part, K) for part in MONTHS],
        ReleaseAssumptions({"laptop": (3_000_000,) * 3}, K),
    )
    return [replace(row, u_own_ppm=0, u_shared_ppm=0, u_model_ppm=0) for rows in made for row in rows]


def changed(stored: StoredYear, change: Callable[[HostPeriod], HostPeriod]) -> StoredYear:
    """Return the same fleet with changed months."""
    return replace(stored, months=tuple(map(change, stored.months)))


def without_the_pupils(row: HostPeriod) -> HostPeriod:
    """Change the energy of a machine whose family is withheld."""
    return (
        month_of(row.host_id, row.period_from, 90, 1)[row.day_type is DayType.CLOSED]
        if row.host_id == PUPILS
        else row
    )


def on_sunday(row: HostPeriod) -> HostPeriod:
    """Move energy of one machine from its open days to its closed days."""
    if row.host_id != 3:
        return row
    # 20 open days of 8 h lose 2 W, 8 closed ones gain 5 W.
    return month_of(3, row.period_from, 23 - 2, 5 + 5)[row.day_type is DayType.CLOSED]


def by_a_model(row: HostPeriod) -> HostPeriod:
    """Give one machine's energy another method."""
    if row.host_id != 3:
        return row
    made = month_of(3, row.period_from, 23, 5, Method.COUNTER_MODELLED)
    return made[row.day_type is DayType.CLOSED]


def imputed(row: HostPeriod) -> HostPeriod:
    """Impute a day of one machine."""
    if row.host_id != 3:
        return row
    more = vector(imputed_milliseconds=DAY, imputed_energy_millijoules=9 * DAY)
    return row._replace(values=tuple(map(int.__add__, row.values, more)))


@pytest.mark.parametrize("change", [without_the_pupils, on_sunday, by_a_model, imputed])
def test_a_change_that_is_not_published_moves_nothing(change: Callable[[HostPeriod], HostPeriod]):
    """Machines of a withheld family, a Sunday, a method and imputed energy are in no number."""
    stored = fleet()
    other = changed(stored, change)
    assert other.months != stored.months
    assert rows_of(other) == rows_of(stored)


def test_a_change_that_is_published_moves_the_figure():
    """Otherwise the test above would prove nothing."""
    stored = fleet()
    rows = rows_of(stored)
    assert {row.source for row in rows} == {"own", "branch", "default"}
    other = changed(
        stored,
        lambda row: (
            month_of(3, row.period_from, 24, 5)[row.day_type is DayType.CLOSED] if row.host_id == 3 else row
        ),
    )
    assert rows_of(other) != rows


def test_a_machine_that_left_is_no_count():
    """A revoked machine without an asset would tell the day of its last contact: it is not counted."""
    stored = fleet()
    gone = host(50, DeviceClass.LAPTOP, entity="A", status=HostStatus.REVOKED, last_contact=1_773_000_000_000)
    assert rows_of(replace(stored, host_list=(*stored.host_list, gone))) == rows_of(stored)
