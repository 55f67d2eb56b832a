# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make the machines of a year, for the tests of the yearly figure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import date

from tests.support.memory_store import host, site
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.closed_years.reduce import reduce_year
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.fleet.census import Census, DayTypes, FleetDevice
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import ObservedMachine
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.inventory import Asset, Headcount, Placement
from veilleuse.collector.model.months import COLUMNS, NOTHING, PLACE, DayType, HostPeriod, Vector
from veilleuse.collector.model.records import HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Population, State

FIRST, END = date(2025, 1, 1), date(2026, 1, 1)
DAY = 86_400_000
WATT = 1
"""1 W in millijoules per millisecond."""


def figures(
    first: date,
    end: date,
    dimensions: Collection[str],
    standings: Iterable[FleetDevice],
    machines: Iterable[tuple[ObservedMachine, FleetDevice]],
    *,
    assumptions: Assumptions,
    k_anonymity: int,
    virtual: Iterable[tuple[ObservedMachine, FleetDevice]] = (),
    headcounts: Collection[Headcount] = (),
    rooms: Collection[RoomFigure] = (),
) -> PeriodFigures:
    """Return the figures of an open period as reports.fleet_year makes them, without rows of rooms."""
    kept = reduce_year(
        first,
        end,
        standings,
        machines,
        k=k_anonymity,
        virtual=virtual,
        headcounts=headcounts,
        for_ever=False,
        in_groups=True,
    )
    return restate_year(replace(kept, rooms=tuple(rooms)), dimensions, assumptions, lambda _: True)


def vector(**values: int) -> Vector:
    """Return a vector with these columns; the others are 0."""
    made = list(NOTHING)
    for name, value in values.items():
        made[PLACE[name]] = value
    assert len(made) == len(COLUMNS)
    return tuple(made)


def weekday(_site: str, _population: Population | None, day: date) -> DayType:
    """Return the day type: Monday to Friday are open, the others closed."""
    return DayType.CLOSED if day.isoweekday() > 5 else DayType.OPEN


def census(
    *hosts: Host,
    assets: tuple[Asset, ...] = (),
    today: date = END,
    current_tree: bool = False,
    default_zone: str = "FR",
) -> list[FleetDevice]:
    """Return a year's device standings; both sites are in UTC, so that every day has 24 hours."""
    sites = (site("hq"), site("annexe"))
    days = DayTypes(FIRST, END, {"hq": "UTC", "annexe": "UTC"}, weekday, default_time_zone="UTC")
    made = Census(days, sites, default_zone=default_zone, today=today, current_tree=current_tree)
    return list(made.devices(assets, hosts))


def asset(number: int, entity: str = "E1", **more: object) -> Asset:
    """Return an asset, by default a tower of a workstation at the site `hq`."""
    values: dict[str, object] = {
        "device_class": "tower",
        "placements": (Placement(date(2020, 1, 1), entity, "hq"),),
        "population": Population.WORKSTATION,
    }
    return Asset(number, **(values | more))  # type: ignore[arg-type]


def worked(
    one: Host, watts: int = 50, method: Method = Method.LOAD_MODELLED, days: int = 261, **more: int
) -> ObservedMachine:
    """Return a machine observed in 2025: half of `days` open days on at `watts`, the other half off at 0 W;
    off at 0 W on 104 closed days. Relative uncertainty of energy 10 %."""
    on = days * DAY // 2
    energy = on * watts * WATT
    values = {
        "on_active_ac_milliseconds": on,
        "off_ac_milliseconds": days * DAY - on,
        f"{method}_milliseconds": days * DAY,
        f"{method}_energy_millijoules": energy,
        f"{method}_uncertainty_millijoules": energy // 10,
        f"{State.ON_ACTIVE}_energy_millijoules": energy,
    }
    closed = 104 * DAY
    off = {"off_ac_milliseconds": closed, f"{method}_milliseconds": closed}
    return told(one.host_id, {DayType.OPEN: vector(**(values | more)), DayType.CLOSED: vector(**off)})


def told(host_id: HostId, days: dict[DayType, Vector]) -> ObservedMachine:
    """Return a machine with one row of each day type, as the store returns them."""
    rows = [HostPeriod(host_id, FIRST, kind, Band.OPEN, values) for kind, values in days.items()]
    return ObservedMachine(host_id, rows)


def workstation(number: int, entity: str = "E1", **more: object) -> Host:
    """Return a workstation that enrolled on 1 January 2025."""
    return host(number, entity=entity, enrolled=FIRST, **more)  # type: ignore[arg-type]
