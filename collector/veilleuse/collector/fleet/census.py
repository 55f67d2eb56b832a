# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the fleet: devices in service, their place, their time by day type (pure). docs/methodology.md §6's
M and N.

With an inventory, its assets are the fleet. An asset counts from its day of service, or for the whole period
where no day is given. An enrolled machine without an asset is matched with an unmatched asset of its class
and entity. It counts in addition only where the inventory has fewer assets than were measured. A machine that
has left counts only where the inventory lists none of its class and entity. Without an inventory, the fleet
is the enrolled machines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.model.hosts import Host, HostStatus, Site
from veilleuse.collector.model.inventory import DAYS_PER_YEAR, Asset, PowerContext
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.wire.vocabulary import DeviceClass, Population


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """One device over a stretch of time in one place."""

    from_day: date

    host_id: HostId | None
    """Enrolled machine of the device, else its last one; None for an asset without one."""
    entity: str
    site: str
    zone: str
    """Grid zone; the default zone where the site is not declared."""
    population: Population | None
    """None for a device that only an inventory knows."""
    device_class: str
    power_context: PowerContext
    model: str
    """Vendor and model."""
    age_years: float | None
    """Age at the end of the stretch; None: the date of service is not known."""
    refurbished: bool | None
    milliseconds: Mapping[DayType, int]
    """Time in service, whole civil days by type; the sum is > 0."""
    inventoried: bool
    """False: an enrolled machine without an asset."""
    has_left: bool = False
    """True when the device's machine is no longer enrolled, and no other machine replaces it."""
    end_day: date = date.min
    """Exclusive; before `from_day` where the device has no time."""
    asset_id: int | None = None
    """Asset of the inventory."""


_PERSONAL: Final = frozenset(
    one.value
    for one in (*DeviceClass, EnergyClass.MONITOR)
    if one not in (DeviceClass.SERVER, DeviceClass.VIRTUAL_MACHINE, DeviceClass.UNKNOWN)
)
"""Classes of devices that persons use: PCs and screens."""


def is_under_rule(device: FleetDevice) -> bool:
    """Return whether a device is under the rule of disclosure, by its population; without one, whether it is
    a PC or a screen.
    """
    if device.population is None:
        return device.device_class in _PERSONAL
    return device.population not in EXEMPT


def population_of(device: FleetDevice) -> Population | None:
    """Return the population of a device; without one, colleges have classroom PCs. None: a switch."""
    if device.population is not None:
        return device.population
    if not is_under_rule(device):
        return Population.SERVER if device.device_class == DeviceClass.SERVER.value else None
    return Population.CLASSROOM if device.power_context is PowerContext.EPLE else Population.WORKSTATION


class DayTypes:
    """Cumulative lengths of the days by type, for each site and population over one period."""

    def __init__(
        self,
        first: date,
        end: date,
        time_zones: Mapping[str, str],
        day_type: Callable[[str, Population | None, date], DayType],
        *,
        default_time_zone: str,
    ) -> None:
        """Take the period [first, end) and the calendars.

        `time_zones`: site → IANA zone; `default_time_zone` for a site that is not declared. `day_type(site,
        population, day)` follows the calendar in force on that day.
        """
        self.first, self.end = first, end
        self._time_zones, self._default_time_zone = time_zones, default_time_zone
        self._day_type = day_type
        self._sums: dict[tuple[str, Population | None], list[Counter[DayType]]] = {}
        self._between: dict[tuple[str, Population | None, date, date], dict[DayType, int]] = {}

    def between(
        self, site: str, population: Population | None, start: date, end: date
    ) -> Mapping[DayType, int]:
        """Return the milliseconds of each day type in [start, end), cut to the period."""
        start, end = max(start, self.first), min(end, self.end)
        if start >= end:
            return {}
        key = (site, population, start, end)
        if key not in self._between:  # most devices are there for the whole period
            self._between[key] = self._look(site, population, start, end)
        return self._between[key]

    def _look(self, site: str, population: Population | None, start: date, end: date) -> dict[DayType, int]:
        sums = self._sums.get((site, population))
        if sums is None:
            sums = self._sums[site, population] = self._count(site, population)
        low, high = sums[(start - self.first).days], sums[(end - self.first).days]
        return {kind: high[kind] - low[kind] for kind in DayType if high[kind] > low[kind]}

    def _count(self, site: str, population: Population | None) -> list[Counter[DayType]]:
        time_zone = self._time_zones.get(site, self._default_time_zone)
        sums = [Counter[DayType]()]
        day = self.first
        while day < self.end:
            following = day + timedelta(days=1)
            length = day_start_unix_milliseconds(following, time_zone) - day_start_unix_milliseconds(
                day, time_zone
            )
            sums.append(sums[-1] + Counter({self._day_type(site, population, day): length}))
            day = following
        return sums


def default_context(population: Population | None) -> PowerContext:
    """Return the power context of a machine without an asset:
    a college's PCs are on the college's own contract.
    """
    return PowerContext.EPLE if population is Population.CLASSROOM else PowerContext.OWN_SITE


def at_default_context(key: GroupKey) -> GroupKey:
    """Return the key of a group with its power context; by default that of its population."""
    return key._replace(power_context=key.power_context or default_context(key.population))


class Census:
    """Devices in service over a period."""

    def __init__(
        self,
        day_types: DayTypes,
        sites: Iterable[Site],
        *,
        default_zone: str,
        today: date,
        current_tree: bool = False,
    ) -> None:
        """Take the sites and dates of the census.

        `default_zone`: grid zone of sites that are not declared. `today`: first day without data.
        `current_tree`: each asset keeps its current place for the whole period.
        """
        self._current_tree = current_tree
        self._days = day_types
        self._sites = {site.site: site for site in sites}
        self._default_zone = default_zone
        self._end = min(day_types.end, today)

    def devices(self, assets: Iterable[Asset], hosts: Iterable[Host]) -> Iterator[FleetDevice]:
        """Yield the devices of all assets, then of the enrolled machines without an asset.
        Virtual machines are excluded.
        """
        fleet = {host.host_id: host for host in hosts}
        matched: set[HostId] = set()
        for asset in assets:
            matched.update(asset.host_ids)
            yield from self._of_asset(asset, _machine_of(asset, fleet))
        for host_id, host in fleet.items():
            if host_id not in matched:
                yield from self._of_host(host)

    def _of_asset(self, asset: Asset, host: Host | None) -> Iterator[FleetDevice]:
        if asset.device_class == DeviceClass.VIRTUAL_MACHINE.value:
            return
        host_id = asset.host_ids[-1] if asset.host_ids else None
        first = asset.in_service_on or self._days.first  # it was in service before its agent was installed
        last = min(asset.out_of_service_on or self._end, self._end)
        placements = asset.placements[-1:] if self._current_tree else asset.placements
        for number, place in enumerate(placements):
            start = max(first, place.from_day) if number else first
            following = placements[number + 1 :]
            end = min(last, following[0].from_day) if following else last
            site = place.site or (host.site if host else "")
            population = asset.population or (host.population if host else None)
            length = self._days.between(site, population, start, end)
            if length:
                yield FleetDevice(
                    start,
                    host_id,
                    place.entity,
                    site,
                    _zone(site, self._sites, self._default_zone),
                    population,
                    asset.device_class,
                    asset.power_context,
                    " ".join(part for part in (asset.vendor, asset.model) if part),
                    _age_years(asset.in_service_on, end),
                    asset.refurbished,
                    length,
                    inventoried=True,
                    has_left=asset.host_id is None and host_id is not None,
                    end_day=end,
                    asset_id=asset.asset_id,
                )

    def _of_host(self, host: Host) -> Iterator[FleetDevice]:
        if host.facts.device_class is DeviceClass.VIRTUAL_MACHINE or host.status is HostStatus.PENDING:
            return
        has_left = host.status in (HostStatus.REVOKED, HostStatus.FORGOTTEN)
        end = min(self._end, _after_contact(host)) if has_left else self._end
        length = self._days.between(host.site, host.population, host.enrolled_on, end)
        if length:
            standing = device_of_host(host, self._sites, self._default_zone)
            yield replace(standing, milliseconds=length, has_left=has_left, end_day=end)


def _machine_of(asset: Asset, fleet: Mapping[HostId, Host]) -> Host | None:
    """Return the asset's enrolled machine, else its last one."""
    return next((fleet[host_id] for host_id in reversed(asset.host_ids) if host_id in fleet), None)


def _zone(site: str, sites: Mapping[str, Site], default: str) -> str:
    return sites[site].zone if site in sites else default


def device_of_host(host: Host, sites: Mapping[str, Site], default_zone: str) -> FleetDevice:
    """Return the device of a machine as it enrolled, without any time in service."""
    return FleetDevice(
        host.enrolled_on,
        host.host_id,
        host.org_entity,
        host.site,
        _zone(host.site, sites, default_zone),
        host.population,
        host.facts.device_class.value,
        default_context(host.population),
        " ".join(part for part in (host.facts.vendor, host.facts.model) if part),
        None,
        None,
        {},
        inventoried=False,
    )


def _age_years(since: date | None, until: date) -> float | None:
    return None if since is None else max(0, (until - since).days) / DAYS_PER_YEAR


def _after_contact(host: Host) -> date:
    """Return the day after the last contact of a machine that left;
    its enrolment day when it never called.
    """
    if host.last_contact_unix_milliseconds is None:
        return host.enrolled_on
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=host.last_contact_unix_milliseconds)
    return instant.date() + timedelta(days=1)
