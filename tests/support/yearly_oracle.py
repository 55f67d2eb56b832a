# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compute a year by docs/methodology.md §6, §8 and §10 in fractions, from an inventory and months.

This module shares no code with the product's `account`, `fleet` and `closed_years`, so it cannot share their
errors. It is simple where the page is. Strata are class × place, and a mean is Σy/Σm. The fleet's time is
that of the inventory's days, and the factor is applied once.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from veilleuse.collector.model.calendars import SchoolPeriod
from veilleuse.collector.model.hosts import Host, HostStatus, Site
from veilleuse.collector.model.inventory import Asset
from veilleuse.collector.model.months import COLUMNS, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import DeviceClass, Population

KINDS = ("open", "school_holiday", "closed")
KWH = 3_600_000_000
METHODS = ("metered", "battery", "counter_calibrated", "counter_modelled", "load_modelled", "class_default")
STATES = ("on_active", "on_idle", "asleep", "off")
SUPPLIES = ("ac", "battery", "unknown")
DAY = timedelta(days=1)
OWN_MEAN = 10
"""A stratum with at least this number of machines has its own mean. docs/methodology.md §6."""


class Stratum(NamedTuple):
    """Device class × place."""

    device_class: str
    entity: str
    site: str
    population: str
    context: str


@dataclass
class Sums:
    """Sums of a stratum or of a row; milliseconds and millijoules by day type."""

    fleet: Counter[str] = field(default_factory=Counter)
    accounted: Counter[str] = field(default_factory=Counter)
    energy: Counter[str] = field(default_factory=Counter)
    devices: int = 0
    spare: int = 0
    known_milliseconds: int = 0
    hosts: set[HostId] = field(default_factory=set)
    machines: int = 0
    is_plain: bool = True
    """False: the sample of its class has two ages, and is weighted by docs/methodology.md §6."""
    estimate: Fraction = Fraction(0)

    def add(self, other: Sums) -> None:
        """Add all sums of another stratum, except `spare`."""
        for mine, theirs in (
            (self.fleet, other.fleet),
            (self.accounted, other.accounted),
            (self.energy, other.energy),
        ):
            mine.update(theirs)
        self.devices += other.devices
        self.known_milliseconds += other.known_milliseconds
        self.hosts |= other.hosts
        self.machines += other.machines
        self.is_plain &= other.is_plain
        self.estimate += other.estimate


@dataclass(frozen=True)
class World:
    """The input: sites, holidays, inventory, machines and their months."""

    sites: Mapping[str, Site]
    school_sites: frozenset[str]
    holidays: tuple[SchoolPeriod, ...]
    assets: tuple[Asset, ...]
    hosts: Mapping[HostId, Host]
    months: tuple[HostPeriod, ...]
    today: date
    lengths: dict[tuple[str, date, date], Counter[str]] = field(default_factory=dict)
    """Results of `time_in`, kept because they are needed often."""


def kind_of(world: World, site: str, day: date) -> str:
    """Return the day type: Monday to Friday are open, except in holidays of the site's schools."""
    if day.weekday() >= 5:
        return "closed"
    away = site in world.school_sites and any(one.first <= day <= one.last for one in world.holidays)
    return "school_holiday" if away else "open"


@cache
def day_length(day: date, time_zone: str) -> int:
    """Return the milliseconds between two local midnights, or the first moments after missing midnights."""
    zone = ZoneInfo(time_zone)
    ends = [datetime(one.year, one.month, one.day, tzinfo=zone) for one in (day, day + timedelta(days=1))]
    return round((ends[1].timestamp() - ends[0].timestamp()) * 1000)


def time_in(world: World, site: str, first: date, end: date) -> Counter[str]:
    """Return the milliseconds of one device over [first, end), by day type."""
    found = world.lengths.get((site, first, end))
    if found is None:
        found = world.lengths[site, first, end] = Counter()
        zone = world.sites[site].time_zone if site in world.sites else "Europe/Paris"
        for offset in range(max(0, (end - first).days)):
            day = first + timedelta(days=offset)
            found[kind_of(world, site, day)] += day_length(day, zone)
    return found


def stays(world: World, asset: Asset) -> Iterator[tuple[date, date, str, str]]:
    """Yield (from, to, entity, site) of an asset's placements while it is in service."""
    begun = asset.in_service_on or date.min
    gone = min(asset.out_of_service_on or date.max, world.today)
    days = [date.min, *(one.from_day for one in asset.placements[1:]), date.max]
    for place, (first, end) in zip(asset.placements, pairwise(days), strict=True):
        yield max(first, begun), min(end, gone), place.entity, place.site


def strata(world: World, first: date, end: date) -> dict[Stratum, Sums]:
    """Return M, N, m, y and n of every stratum over [first, end), which are whole months."""
    found: defaultdict[Stratum, Sums] = defaultdict(Sums)
    where = _inventory(world, first, end, found)
    in_service, matched = set(where), {one.host_id for one in world.assets if one.host_id}
    physical = {
        host_id: host
        for host_id, host in world.hosts.items()
        if host.facts.device_class is not DeviceClass.VIRTUAL_MACHINE
    }
    for host_id in physical.keys() - in_service:
        where[host_id] = [(date.min, _enrolled(physical[host_id]))]
    _beside(world, first, end, [one for one in physical.values() if one.host_id not in matched], found)
    _measure(world, first, end, where, found)
    apart = {physical[host_id].facts.device_class.value for host_id in matched & physical.keys() - in_service}
    for stratum, sums in found.items():
        _what_was_measured_was_there(sums)
        sums.is_plain = stratum.device_class not in apart
    return {stratum: sums for stratum, sums in found.items() if sums.devices or sums.machines}


def _inventory(
    world: World, first: date, end: date, found: defaultdict[Stratum, Sums]
) -> dict[HostId, list[tuple[date, Stratum]]]:
    """Add the inventory's devices; return the strata of each of its machines, with their first days."""
    where: dict[HostId, list[tuple[date, Stratum]]] = {}
    for asset in world.assets:
        if asset.device_class == "virtual_machine":
            continue
        host = world.hosts.get(asset.host_id) if asset.host_id else None
        population = asset.population or (host.population if host else None)
        counted: set[Stratum] = set()
        for begun, gone, entity, site in stays(world, asset):
            time = time_in(world, site, max(first, begun), min(end, gone))
            if not time:
                continue
            stratum = Stratum(
                asset.device_class, entity, site, str(population or ""), str(asset.power_context)
            )
            sums = found[stratum]
            sums.fleet.update(time)
            if stratum not in counted:
                sums.devices += 1
                sums.spare += asset.host_id is None
            counted.add(stratum)
            if asset.host_id:
                where.setdefault(asset.host_id, []).append((begun, stratum))
    return where


def _beside(
    world: World, first: date, end: date, unmatched: Iterable[Host], found: defaultdict[Stratum, Sums]
) -> None:
    """Add machines without an asset. Each takes the place of an asset without a machine while there are such.
    A machine that left is not added to a stratum with an inventory."""
    listed = {stratum for stratum, sums in found.items() if sums.devices}
    for host in unmatched:
        has_left = host.status is HostStatus.REVOKED
        gone = world.today
        if has_left:
            gone = min(gone, _last_heard(host) + DAY)
        time = time_in(world, host.site, max(first, host.enrolled_on), min(end, gone))
        stratum = _enrolled(host)
        if not time or (has_left and stratum in listed):
            continue
        if found[stratum].spare:
            found[stratum].spare -= 1
        else:
            found[stratum].fleet.update(time)
            found[stratum].devices += 1


def _last_heard(host: Host) -> date:
    """Return the UTC day of the host's last contact."""
    return datetime.fromtimestamp((host.last_contact_unix_milliseconds or 0) / 1000, UTC).date()


def _enrolled(host: Host) -> Stratum:
    context = "eple" if host.population is Population.CLASSROOM else "own_site"
    return Stratum(host.facts.device_class.value, host.org_entity, host.site, str(host.population), context)


def _measure(
    world: World,
    first: date,
    end: date,
    where: Mapping[HostId, list[tuple[date, Stratum]]],
    found: defaultdict[Stratum, Sums],
) -> None:
    """Add each machine's month to the stratum where the machine was on the row's first day."""
    counted: dict[tuple[HostId, Stratum], int] = {}
    for row in world.months:
        if not first <= row.period_from < end or row.host_id not in where:
            continue
        stood = [stratum for begun, stratum in where[row.host_id] if begun <= row.period_from]
        stratum = stood[-1] if stood else where[row.host_id][0][1]
        sums = found[stratum]
        sums.energy[str(row.day_type)] += energy_of(row)
        accounted = sum(column(row, f"{one}_milliseconds") for one in METHODS) + column(
            row, "imputed_milliseconds"
        )
        sums.accounted[str(row.day_type)] += accounted
        sums.known_milliseconds += sum(
            column(row, f"{state}_{supply}_milliseconds") for state in STATES for supply in SUPPLIES
        )
        sums.hosts.add(row.host_id)
        counted[row.host_id, stratum] = counted.get((row.host_id, stratum), 0) + accounted
    for (_, stratum), accounted in counted.items():
        found[stratum].machines += accounted > 0


def _what_was_measured_was_there(sums: Sums) -> None:
    """Raise fleet sums below the measured ones. If a day type lacks time, other day types give it, because
    the machines' own site may classify the same days differently."""
    sums.devices = max(sums.devices, sums.machines)
    more = {kind: max(0, sums.accounted[kind] - sums.fleet[kind]) for kind in KINDS}
    left = {kind: max(0, sums.fleet[kind] - sums.accounted[kind]) for kind in KINDS}
    taken = _shared(min(sum(more.values()), sum(left.values())), left)
    for kind in KINDS:
        sums.fleet[kind] += more[kind] - taken[kind]


def _shared(whole: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Share `whole` in proportion to the weights, in whole milliseconds; the last kind gets the rest."""
    total = sum(weights.values())
    found = {kind: whole * weight // total if total else 0 for kind, weight in weights.items()}
    for kind in reversed(KINDS):
        more = min(whole - sum(found.values()), weights[kind] - found[kind])
        found[kind] += more
    return found


def column(row: HostPeriod, name: str) -> int:
    """Return one column of a row's vector."""
    return row.values[COLUMNS.index(name)]


def energy_of(row: HostPeriod) -> int:
    """Return a row's derived and imputed energy, in millijoules."""
    return sum(column(row, f"{one}_energy_millijoules") for one in (*METHODS, "imputed"))


def estimate(found: Mapping[Stratum, Sums]) -> None:
    """Set Ê = Σ M·R̂ of each stratum: its own mean from ten machines on, else its class's, else the class
    default. Observed energy is never scaled."""
    classes: defaultdict[str, Sums] = defaultdict(Sums)
    for stratum, sums in found.items():
        classes[stratum.device_class].add(sums)
    for stratum, sums in found.items():
        whole = classes[stratum.device_class]
        sums.estimate = Fraction(sum(sums.energy.values()))
        for kind in KINDS:
            missing = sums.fleet[kind] - sums.accounted[kind]
            for of in (sums, whole):
                if of.accounted[kind] and (of is whole or sums.machines >= OWN_MEAN):
                    sums.estimate += missing * Fraction(of.energy[kind], of.accounted[kind])
                    break
            else:
                sums.estimate += missing * default_watts().get((stratum.device_class, kind), Fraction(0))


def grouped(found: Mapping[Stratum, Sums], sites: Mapping[str, Site]) -> dict[tuple[str, ...], Sums]:
    """Return the sums by entity × class × population × context × zone."""
    rows: defaultdict[tuple[str, ...], Sums] = defaultdict(Sums)
    for stratum, sums in found.items():
        zone = sites[stratum.site].zone if stratum.site in sites else ""
        rows[stratum.entity, stratum.device_class, stratum.population, stratum.context, zone].add(sums)
    return dict(rows)


def whole(found: Iterable[Sums]) -> Sums:
    """Return the total of all strata or rows."""
    total = Sums()
    for sums in found:
        total.add(sums)
    return total


@cache
def default_watts() -> dict[tuple[str, str], Fraction]:
    """Return (class, day type) → watts, from the shipped table."""
    return {
        (row["device_class"], kind): Fraction(row[f"{kind}_watts"])
        for row in _table("inventory_class_defaults")
        for kind in KINDS
    }


class Factor(NamedTuple):
    """A factor in kgCO2e/kWh, with its parts combustion, upstream and losses."""

    total: Fraction
    parts: tuple[Fraction, Fraction, Fraction] | None
    provisional: bool


def factor(zone: str, year: int) -> Factor:
    """Return ADEME's factor for France, of that year or the last year before it; its parts by the table, else
    by shares. Other zones have Ember's."""
    if zone != "FR":
        rows = {
            int(row["year"]): row for row in _table("electricity_factors_owid_ember") if row["iso2"] == zone
        }
        at = max(one for one in rows if one <= year)
        return Factor(Fraction(rows[at]["gco2e_per_kwh"]) / 1000, None, at < year)
    values = {
        (int(row["valid_from"][:4]), row["component"]): Fraction(row["value_kgco2e_per_kwh"])
        for row in _table("electricity_factors_fr")
        if row["ledger"] == "official"
    }
    at = max(one for one, component in values if one <= year and component == "total")
    total = values[at, "total"]
    names = ("combustion", "upstream", "losses")
    if (at, "combustion") in values:
        combustion, upstream, losses = (values[at, name] for name in names)
    else:
        combustion, upstream, losses = (total * Fraction(one) for one in ("0.650", "0.259", "0.091"))
    return Factor(total, (combustion, upstream, losses), at < year)


@cache
def _table(name: str) -> list[dict[str, str]]:
    text = resources.files("veilleuse.collector").joinpath("data", f"{name}.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
