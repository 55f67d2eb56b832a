# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the census: which machines were in service, where and how long. docs/methodology.md §5 and §6."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from tests.support.memory_store import host, site
from tests.support.year import DAY, END, FIRST, asset, census, weekday, workstation
from veilleuse.collector.fleet.census import Census, DayTypes
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.inventory import Placement, PowerContext
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import DeviceClass, Population


def days(standing) -> dict[str, float]:
    """Return machine-days by day type."""
    return {str(kind): time / DAY for kind, time in standing.milliseconds.items()}


def test_without_inventory_the_fleet_is_what_enrolled():
    """A workstation that enrolled on New Year's Day has 261 weekdays and 104 weekend days in 2025."""
    (one,) = census(workstation(1))
    assert days(one) == {"open": 261, "closed": 104}
    assert (one.entity, one.zone, one.device_class, one.inventoried) == ("E1", "FR", "sff", False)
    assert one.power_context is PowerContext.OWN_SITE


def test_a_college_hangs_on_its_own_contract():
    """A classroom PC outside the inventory has the power context eple."""
    (one,) = census(host(1, population=Population.CLASSROOM, enrolled=FIRST))
    assert one.power_context is PowerContext.EPLE


def test_what_is_no_device():
    """Virtual machines, pending machines and machines of other times are not in the fleet."""
    gone = host(
        4, enrolled=date(2024, 1, 1), status=HostStatus.REVOKED, last_contact=stamp(date(2024, 12, 30))
    )
    never = host(5, enrolled=FIRST, status=HostStatus.FORGOTTEN)
    assert not census(
        host(1, DeviceClass.VIRTUAL_MACHINE, enrolled=FIRST),
        host(2, enrolled=FIRST, status=HostStatus.PENDING),
        host(3, enrolled=END),
        gone,
        never,
        assets=(asset(9, device_class="virtual_machine"),),
    )


def stamp(day: date) -> int:
    """Return noon of the day, UTC, in milliseconds."""
    return round(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)


def test_a_machine_that_left():
    """A revoked machine counts until the day of its last contact."""
    left = host(1, enrolled=FIRST, status=HostStatus.REVOKED, last_contact=stamp(date(2025, 1, 3)))
    (one,) = census(left)
    assert days(one) == {"open": 3}


def test_nothing_has_happened_yet():
    """Days from today on do not count."""
    (one,) = census(workstation(1), today=date(2025, 1, 3))
    assert days(one) == {"open": 2}
    assert not census(workstation(1), today=FIRST)


def test_an_asset_is_in_service_between_its_dates():
    """An asset in service from 1 March to 1 April counts for March, and its age is one month at the end."""
    (one,) = census(
        assets=(asset(1, in_service_on=date(2025, 3, 1), out_of_service_on=date(2025, 4, 1), vendor="Dell"),)
    )
    assert days(one) == {"open": 21, "closed": 10}
    assert one.age_years == pytest.approx(31 / 365.25)
    assert (one.model, one.inventoried, one.host_id) == ("Dell", True, None)
    assert not census(assets=(asset(1, in_service_on=END),))


def test_machines_of_one_place_have_their_own_dates():
    """Machines at one site count from and until their own dates."""
    until = [date(2025, month, 1) for month in (2, 3, 4)]
    one, two, three = census(
        assets=tuple(asset(number, out_of_service_on=end) for number, end in enumerate(until, 1))
    )
    assert [sum(days(each).values()) for each in (one, two, three)] == [31, 59, 90]


def test_a_matched_asset_is_one_machine():
    """An asset and its agent's machine count once. Without a date of purchase the asset was there before its
    agent; else a roll-out would make the fleet smaller."""
    late, there = host(7, enrolled=date(2025, 12, 1)), (Placement(FIRST, "E2", ""),)
    (one,) = census(late, assets=(asset(1, host_id=HostId(7), placements=there),))
    assert (one.entity, one.site, one.host_id) == ("E2", "hq", HostId(7))
    (other,) = census(assets=(asset(1, placements=there),))
    assert sum(days(one).values()) == sum(days(other).values()) == 365


def test_an_asset_was_other_machines_before():
    """A machine that is revoked and enrolled again stays one device. Revoked alone, the device stays in the
    fleet and may be matched with a later machine."""
    old = host(6, enrolled=FIRST, status=HostStatus.REVOKED, last_contact=stamp(date(2025, 5, 1)))
    new = host(7, place="annexe", enrolled=date(2025, 6, 1))
    nowhere = (Placement(FIRST, "E2", ""),)
    (one,) = census(
        old, new, assets=(asset(1, host_id=HostId(7), earlier_host_ids=(HostId(6),), placements=nowhere),)
    )
    assert (one.host_id, one.site, one.has_left, sum(days(one).values())) == (HostId(7), "annexe", False, 365)
    (one,) = census(old, assets=(asset(1, earlier_host_ids=(HostId(6),), placements=nowhere),))
    assert (one.host_id, one.site, one.has_left, sum(days(one).values())) == (HostId(6), "hq", True, 365)


def test_an_asset_of_an_unknown_machine_and_place():
    """A forgotten host leaves its asset in the fleet; an undeclared site takes the default zone."""
    (one,) = census(
        assets=(
            asset(
                1, host_id=HostId(99), population=None, placements=(Placement(date(2020, 1, 1), "E", "moon"),)
            ),
        ),
        default_zone="DE",
    )
    assert (one.site, one.zone, one.population) == ("moon", "DE", None)
    assert sum(days(one).values()) == 365


def test_moves():
    """An asset that moved on 1 July counts at both places; pro forma it counts at its present place."""
    moved = asset(
        1,
        placements=(
            Placement(date(2020, 1, 1), "E1", "hq"),
            Placement(date(2025, 7, 1), "E2", "annexe"),
            Placement(date(2030, 1, 1), "E3", "hq"),
        ),
    )
    before, after = census(assets=(moved,))
    assert (before.entity, before.from_day, sum(days(before).values())) == ("E1", FIRST, 181)
    assert (after.entity, after.site, sum(days(after).values())) == ("E2", "annexe", 184)
    (now,) = census(assets=(moved,), current_tree=True)
    assert (now.entity, sum(days(now).values())) == ("E3", 365)


def test_days_have_their_own_lengths():
    """In Lyon the last Sunday of March has 23 hours, that of October 25."""
    sites = {"hq": "Europe/Paris"}
    march, october = (
        DayTypes(
            date(2025, month, day),
            date(2025, month, day + 1),
            sites,
            weekday,
            default_time_zone="Europe/Paris",
        )
        for month, day in ((3, 30), (10, 26))
    )
    hour = DAY // 24
    for known in ("hq", "nowhere"):
        assert march.between(known, None, FIRST, END) == {DayType.CLOSED: 23 * hour}
        assert october.between(known, None, FIRST, END) == {DayType.CLOSED: 25 * hour}
    assert not march.between("hq", None, END, FIRST)


def test_sites_are_looked_up_once():
    """Each day of a site is looked up once per population, however many machines the site has."""
    asked: list[date] = []

    def kind(_site: str, _population: object, day: date) -> DayType:
        asked.append(day)
        return DayType.OPEN

    fleet = [workstation(number) for number in range(1, 50)]
    days_of = DayTypes(FIRST, END, {}, kind, default_time_zone="UTC")
    standings = list(Census(days_of, (site(),), default_zone="FR", today=END).devices((), fleet))
    assert len(standings) == 49
    assert len(asked) == 365
