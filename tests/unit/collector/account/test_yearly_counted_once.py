# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The yearly figure counts nothing twice and compares like with like. docs/methodology.md §3, §6 and §10."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.support import yearly_oracle as oracle
from tests.support.memory_store import host
from tests.support.stored_year import StoredYear
from tests.support.year import END, FIRST, vector
from tests.unit.collector.account.test_billing import TERMS, fleet, only, period
from tests.unit.collector.fleet.test_yearly_rooms import ROOM, servers
from tests.unit.collector.reports.test_yearly_oracle import HOLIDAYS, SCHOOL, SITES, _told, gone, month
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.server_rooms import with_rooms
from veilleuse.collector.account.statement import build_statement
from veilleuse.collector.model.factors import Contract, StoredContract
from veilleuse.collector.model.figures import EmissionsRow, EmissionsStatement
from veilleuse.collector.model.hosts import Host, MachineFacts
from veilleuse.collector.model.inventory import Asset, Placement
from veilleuse.collector.model.meters import (
    FOR_EVER,
    DeclaredMeter,
    MeterBoundary,
    MeterDeclarations,
    MeterReading,
    MeterShare,
    SharePart,
)
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.sums import EnergySums
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.wire.units import MILLIJOULES_PER_KWH as KWH
from veilleuse.wire.vocabulary import Band, DeviceClass, PointKind, Population

YEAR = (date(2024, 1, 1), date(2025, 1, 1))
TOLD = (3, 15)
"""Its months, counted from START."""
GREEN = Contract(
    1, "green", "S", FIRST, END, Decimal(10**9), Decimal("0.01"), Decimal(10), True, "GO", "bill"
)


def tower(number: int = 1, **more: Any) -> Host:
    """Return a tower that enrolled before the year, at a site with school holidays."""
    return host(number, DeviceClass.TOWER, enrolled=date(2023, 1, 1), entity="E1", place="hq", **more)


def stored(
    hosts: tuple[Host, ...], assets: tuple[Asset, ...], months: tuple[HostPeriod, ...], **more: Any
) -> StoredYear:
    """Return a stored year at the sites of the oracle."""
    return StoredYear(tuple(SITES.values()), hosts, assets, months, HOLIDAYS, SCHOOL, **more)


def asset_of(one: Host | None, *placements: Placement, device_class: str = "tower", **more: Any) -> Asset:
    """Return an asset that has been in service since 2023."""
    return Asset(
        one.host_id if one else 99,
        device_class,
        placements or (Placement(date(2023, 1, 1), "E1", "hq"),),
        population=Population.WORKSTATION,
        host_id=one.host_id if one else None,
        in_service_on=date(2023, 1, 1),
        **more,
    )


def asked(
    kept: StoredYear,
    first: date = YEAR[0],
    end: date = YEAR[1],
    today: date = date(2026, 1, 1),
    grouping: tuple[str, ...] = ("entity",),
) -> EmissionsStatement:
    """Return the report with k = 1."""
    return emissions_report_of(kept.sources(), Query(first, end, grouping, 1, today)).statement


def total(kept: StoredYear, *more: Any) -> EmissionsRow:
    """Return the total of its one period."""
    found: EmissionsRow = only(asked(kept, *more).totals)
    return found


def test_a_day_has_one_type_whatever_its_site():
    """A PC enrolled at a site with school holidays; its inventory site has none. All 366 days are measured.
    Its holidays count as open days of the other site, and no further days are extrapolated.
    """
    one = tower()
    there = asset_of(one, Placement(date(2023, 1, 1), "E1", "annexe"))
    row = total(stored((one,), (there,), tuple(_told(one, TOLD, 4, 40, metered=False))))
    assert row.activity.machine_days_fleet == row.activity.machine_days_observed == 366
    assert row.energy.extrapolated_millijoules == 0
    assert row.energy.kwh_total == pytest.approx(366 * 24 * 40 / 1000)


def test_a_move_in_a_period_that_is_not_whole_months():
    """A machine moves on 1 February: of 15 January to 15 March, 17 days are in E1, 43 in E2, all measured."""
    one = tower()
    moved = asset_of(one, Placement(date(2023, 1, 1), "E1", "hq"), Placement(date(2024, 2, 1), "E2", "hq"))
    first, end = date(2024, 1, 15), date(2024, 3, 15)
    rows = []
    for begun, until in (
        (first, date(2024, 2, 1)),
        (date(2024, 2, 1), date(2024, 3, 1)),
        (date(2024, 3, 1), end),
    ):
        for kind, time in oracle.time_in(_site_calendars(), "hq", begun, until).items():
            values = vector(
                on_active_ac_milliseconds=time // 2,
                off_ac_milliseconds=time - time // 2,
                metered_milliseconds=time,
                metered_energy_millijoules=40 * time,
                on_active_energy_millijoules=40 * time,
            )
            rows.append(HostPeriod(one.host_id, begun, DayType(kind), Band.OPEN, values))
    made = asked(stored((one,), (moved,), tuple(rows)), first, end)
    assert {row.key.entity: row.activity.machine_days_observed for row in made.rows} == {"E1": 17, "E2": 43}
    row = only(made.totals)
    assert (row.activity.machine_days_fleet, row.energy.extrapolated_millijoules) == (60, 0)


def test_a_machine_that_came_back_is_one_machine():
    """Five PCs spend May in E2. E1 has five machines, not ten: too few for a mean of its own."""
    places = (("E1", date(2023, 1, 1)), ("E2", date(2024, 5, 1)), ("E1", date(2024, 6, 1)))
    stays = [Placement(day, entity, "hq") for entity, day in places]
    elsewhere = Placement(date(2023, 1, 1), "E3", "hq")
    hosts = tuple(map(tower, range(1, 7)))
    assets = tuple(asset_of(one, *stays, refurbished=True) for one in hosts[:5])
    assets += (asset_of(hosts[5], elsewhere, refurbished=True),)
    months = [row for one in hosts[:5] for row in _told(one, TOLD, 2, 40, metered=False)]
    months += _told(hosts[5], TOLD, 4, 100, metered=False)
    rows = {row.key.entity: row for row in asked(stored(hosts, assets, tuple(months))).rows}
    told: dict[Any, Any] = {entity: (row.activity.n, row.activity.n_fleet) for entity, row in rows.items()}
    assert told == {"E1": (5, 5), "E2": (5, 5), "E3": (1, 1)}
    class_watts = (5 * 0.5 * 40 + 100) / (5 * 0.5 + 1)
    watts = 0.5 * 40 + 0.5 * class_watts
    assert rows["E1"].energy.kwh_total == pytest.approx(5 * 335 * 24 * watts / 1000, rel=1e-6)


def _site_calendars() -> oracle.World:
    return oracle.World(SITES, SCHOOL, HOLIDAYS, (), {}, (), date.max)


def test_a_virtual_machine_of_the_inventory_is_a_memo():
    """The agent does not know its class, but the inventory says virtual: its host has the energy."""
    one = replace(tower(), facts=MachineFacts(DeviceClass.UNKNOWN))
    guest = asset_of(one, device_class="virtual_machine")
    physical = tower(2)
    months = (*_told(one, TOLD, 4, 40, metered=False), *_told(physical, TOLD, 4, 40, metered=False))
    made = asked(stored((one, physical), (guest, asset_of(physical)), months), grouping=("device_class",))
    assert only(made.totals).energy.kwh_total == pytest.approx(366 * 24 * 40 / 1000)
    memo = only(made.memo)
    assert (memo.key.device_class, memo.activity.n) == ("virtual_machine", 1)


def test_a_machine_that_was_installed_anew():
    """Revoked on 30 June and enrolled again on 1 July with another key, one asset has 366 measured days."""
    old, new = gone(tower(1), date(2024, 6, 30)), replace(tower(2), enrolled_on=date(2024, 7, 1))
    months = (*_told(old, (3, 9), 4, 40, metered=False), *_told(new, (9, 15), 4, 40, metered=False))
    row = total(stored((old, new), (asset_of(new),), months))
    assert row.activity.machine_days_fleet == pytest.approx(366)
    assert row.energy.extrapolated_millijoules == 0
    alone = total(
        stored((old, new), (), months)
    )  # without an inventory the fleet is the enrolled machines, to their last contact
    assert alone.activity.machine_days_fleet == pytest.approx(366)


def test_a_machine_that_was_installed_anew_elsewhere():
    """The agents say E9 and a small form factor; the inventory has a tower that moved from E1 to E2 on
    1 October. It is one machine, all measured, in each entity for its months.
    """
    facts = MachineFacts(DeviceClass.SFF)
    old = replace(gone(tower(1), date(2024, 6, 30)), facts=facts, org_entity="E9")
    new = replace(tower(2), enrolled_on=date(2024, 7, 1), facts=facts, org_entity="E9")
    months = (*_told(old, (3, 9), 4, 40, metered=False), *_told(new, (9, 15), 4, 40, metered=False))
    places = (Placement(date(2023, 1, 1), "E1", "hq"), Placement(date(2024, 10, 1), "E2", "hq"))
    asset = asset_of(new, *places, earlier_host_ids=(old.host_id,))
    made = asked(stored((old, new), (asset,), months))
    told: dict[Any, Any] = {
        row.key.entity: (row.activity.n, row.activity.n_fleet, row.activity.machine_days_observed)
        for row in made.rows
    }
    assert told == {
        "E1": (1, 1, pytest.approx(274 - 1 / 24)),  # daylight saving time begins
        "E2": (1, 1, pytest.approx(92 + 1 / 24)),  # and ends
    }
    row = only(made.totals)
    assert (row.activity.n, row.energy.extrapolated_millijoules) == (1, 0)
    assert row.activity.machine_days_fleet == pytest.approx(366)
    assert row.energy.kwh_total == pytest.approx(366 * 24 * 40 / 1000)


def test_a_machine_that_was_revoked_and_is_nobody_else_yet():
    """Its half year belongs to its asset, which is in service all year.
    An unknown machine of the same kind is taken for that asset."""
    old = replace(gone(tower(1), date(2024, 6, 30)), org_entity="E9")
    asset = replace(asset_of(None), earlier_host_ids=(old.host_id,))
    row = total(stored((old,), (asset,), tuple(_told(old, (3, 9), 4, 40, metered=False))))
    assert (row.activity.n, row.activity.n_fleet) == (1, 1)
    assert (row.activity.machine_days_fleet, row.activity.machine_days_observed) == pytest.approx(
        (366, 182 - 1 / 24)
    )
    stranger = replace(tower(2), enrolled_on=date(2024, 7, 1))
    months = (*_told(old, (3, 9), 4, 40, metered=False), *_told(stranger, (9, 15), 4, 40, metered=False))
    row = total(stored((old, stranger), (asset,), months))
    assert row.activity.machine_days_fleet == pytest.approx(366)
    assert row.energy.extrapolated_millijoules == 0


def test_a_virtual_machine_that_was_installed_anew_is_a_memo():
    """Both identities give one memo line of one machine."""
    unknown = MachineFacts(DeviceClass.UNKNOWN)
    old = replace(gone(tower(1), date(2024, 6, 30)), facts=unknown)
    new = replace(tower(2), enrolled_on=date(2024, 7, 1), facts=unknown)
    guest = asset_of(new, device_class="virtual_machine", earlier_host_ids=(old.host_id,))
    months = (*_told(old, (3, 9), 4, 40, metered=False), *_told(new, (9, 15), 4, 40, metered=False))
    made = asked(stored((old, new), (guest,), months), grouping=("device_class",))
    assert [(row.key.device_class, row.activity.n) for row in made.memo] == [("virtual_machine", 1)]
    assert not made.rows


def test_a_roll_out_makes_no_fleet_smaller():
    """Ten towers without a date of service count for the whole year, though their agents came in July."""
    there = [replace(tower(number), enrolled_on=date(2024, 7, 1)) for number in range(1, 11)]
    months = tuple(row for one in there for row in _told(one, (9, 15), 4, 40, metered=False))
    row = total(
        stored(tuple(there), tuple(replace(asset_of(one), in_service_on=None) for one in there), months)
    )
    assert row.activity.n_fleet == 10
    assert row.activity.machine_days_fleet == pytest.approx(3660)
    assert row.energy.kwh_total == pytest.approx(10 * 366 * 24 * 40 / 1000)


def test_a_year_half_over_is_compared_with_no_whole_one():
    """On 1 July half of the machine days are over, which is no change of the fleet."""
    one = tower()
    kept = stored((one,), (asset_of(one),), tuple(_told(one, (3, 21), 4, 40, metered=False)))
    this_year = (month(15), month(27))
    running = total(kept, *this_year, date(2025, 7, 1))
    assert running.energy.kwh_total is not None
    assert running.change.not_compared == "running"
    over = total(kept, *this_year, date(2026, 1, 1))
    assert over.change.not_compared == "coverage"
    by_month = asked(kept, *this_year, date(2025, 3, 10), ("month",)).totals
    assert [row.change.not_compared != "running" for row in by_month] == [
        True,
        True,
        *[False] * (len(by_month) - 2),
    ]


def test_a_zone_without_a_factor_in_the_year_before():
    """ADEME's first factor is of 2021: its emissions and its change in kWh are known, the factor's effect is
    not."""
    one = tower()
    rows = tuple(
        row._replace(period_from=row.period_from.replace(year=row.period_from.year - 4 + more))
        for more, watts in ((0, 40), (1, 400))
        for row in _told(one, (3, 15), 4, watts, metered=False)
    )
    early = replace(asset_of(one), in_service_on=date(2019, 1, 1))
    row = total(stored((one,), (early,), rows), date(2021, 1, 1), date(2022, 1, 1))
    assert row.emissions.kgco2e_total is not None
    assert row.change.fleet_effect_kwh is not None
    assert row.change.factor_effect_kgco2e is None


def test_a_device_of_no_energy_needs_no_factor_for_a_contract():
    """A device without an estimate at a site without a known grid leaves the market line unchanged."""
    one = tower()
    other = asset_of(None, Placement(date(2023, 1, 1), "E1", "nowhere"), device_class="other")
    kept = stored((one,), (asset_of(one), other), tuple(_told(one, TOLD, 4, 40, metered=False)))
    bought = replace(GREEN, valid_from=YEAR[0], valid_to=YEAR[1])
    kept.contract_list = (StoredContract(bought, 0, "a", "b"),)
    assert total(kept).emissions.kgco2e_market == pytest.approx((total(kept).energy.kwh_total or 0) * 0.01)


def by_site() -> PeriodFigures:
    """Return figures of servers whose row has no class."""
    made = servers()
    (row,) = made.rows
    return replace(made, rows=(replace(row, key=row.key._replace(entity=None, device_class=None)),))


def test_a_room_and_its_servers_have_a_contract_each():
    """Grouped by site alone, the servers' row and the room's have equal keys; each has its own kWh at the
    contract's factor."""
    made = build_statement([with_rooms(by_site(), [ROOM], ())], replace(TERMS, contracts=(GREEN,)))
    for row in (*made.rows, *made.totals):
        assert row.emissions.kgco2e_market == pytest.approx((row.energy.kwh_total or 0) * 0.01)
    assert sum(row.energy.kwh_total or 0 for row in made.rows) == pytest.approx(
        only(made.totals).energy.kwh_total
    )


def test_a_room_is_compared_with_the_room():
    """A room with twice the energy changes by 55 kWh; the servers beside it have no demonstrated change."""
    twice = replace(
        ROOM, other_millijoules=2 * 30 * KWH, ups_loss_millijoules=10 * KWH, overhead_millijoules=40 * KWH
    )
    before = replace(with_rooms(by_site(), [ROOM], ()), first=date(2024, 1, 1), end=date(2025, 1, 1))
    made = build_statement([with_rooms(by_site(), [twice], ())], replace(TERMS, before={0: before}))
    of_servers, of_room = list[Any](made.rows)
    assert (of_servers.change.not_compared, of_servers.change.watts_effect_kwh) == ("intervals", None)
    assert of_room.change.watts_effect_kwh == 55


def test_with_k_of_one_everything_is_shown():
    """With k = 1 even one machine's methods are published."""
    one = tower()
    row = total(stored((one,), (asset_of(one),), tuple(_told(one, TOLD, 4, 40, metered=True))))
    assert row.energy.measured_millijoules == row.energy.energy_millijoules
    assert only(period(fleet(10)).rows).withheld == frozenset()


def test_a_room_from_its_meter_down():
    """A meter behind a UPS of 80 % reads 1 kWh an hour in January in Tokyo, and in hours around it.
    A server's declared share is 60 %: of 744 kWh of IT 297.6 belong to no machine; the UPS loses 186.
    """
    start = round(datetime(2023, 12, 31, 15, tzinfo=UTC).timestamp() * 1000)  # midnight there
    hours = {
        start + at * 3_600_000: MeterReading("ups", PointKind.PDU, KWH, 3_600_000) for at in range(-5, 749)
    }
    one = host(
        1, DeviceClass.SERVER, Population.SERVER, enrolled=date(2023, 1, 1), entity="E1", place="tokyo"
    )
    share = MeterShare("ups", one.host_id, SharePart.MACHINE, 600_000, date(2023, 1, 1), FOR_EVER)
    meter = DeclaredMeter("ups", "tokyo", "R1", MeterBoundary.UPS_OUTPUT, None, 800_000)
    told = _told(one, (3, 4), 4, 600, metered=True)
    drawn = EnergySums(3_600_000, KWH * 6 // 10, 0)
    kept = stored(
        (one,),
        (),
        tuple(told),
        metering=MeterDeclarations((meter,), (share,)),
        readings={"ups": hours},
        hours=tuple((one.host_id, hour, drawn) for hour in hours),
    )
    made = asked(kept, date(2024, 1, 1), date(2024, 2, 1), date(2026, 1, 1), ("site", "device_class"))
    (room,) = [row for row in made.rows if row.key.device_class == "other_room"]
    assert (room.room.top_down_kwh, room.room.kwh_it, room.room.kwh_ups_loss, room.room.overhead) == (
        744,
        297.6,
        186,
        "not_included",
    )
    total = only(made.totals)
    assert total.room.kwh_it == total.room.top_down_kwh == 744
    assert total.energy.kwh_total == 744 + 186
    assert total.emissions.kgco2e_total == pytest.approx(float((744 + 186) * oracle.factor("JP", 2024).total))
