# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Publishes the released months that are due, their indicators, and the fleet's energy of each.

docs/methodology.md §6, *Released months*.

The running collector checks each day. A process of its own computes (`python -m
veilleuse.collector.app.month_publisher`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final, TypeAlias

from veilleuse.collector.account.ghg_items import declarations, home_share
from veilleuse.collector.account.group_sums import merge_small_groups
from veilleuse.collector.account.observations import tally_periods
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.calendars.periods import Slice, add_months, months_before, slices
from veilleuse.collector.disclosure.partition import PerimeterOf
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.fleet.census import FleetDevice, at_default_context, default_context, is_under_rule
from veilleuse.collector.fleet.estimator import class_microwatts
from veilleuse.collector.indicators import TABLE
from veilleuse.collector.model.calibration import MILLION
from veilleuse.collector.model.closed_years import canonical
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.indicators import NO_USE, IndicatorMachine, Targets, add_uses
from veilleuse.collector.model.inventory import Headcount, PowerContext
from veilleuse.collector.model.months import OWN_KEPT_DAYS, OWN_WAIT_DAYS, WAIT_DAYS
from veilleuse.collector.model.publications import Publication
from veilleuse.collector.model.query import ALL_OVER, GroupKey, Query, key_of_host, perimeters_in_force
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Group
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.release.counts import count_fleet, count_screens, sole_sites
from veilleuse.collector.release.fleet import ReleaseAssumptions
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.indicator_rows import INDICATORS, IndicatorMonth
from veilleuse.collector.release.indicators import MonthContext, build_indicators
from veilleuse.collector.release.months import ReleasedMonth, estimate_months
from veilleuse.collector.release.own_use import OWN_USE, OwnMonth, build_own_use
from veilleuse.collector.release.publications import PublicationCache, Publish, is_held
from veilleuse.collector.release.rows import FLEET, FleetRow, HomePart, at_site
from veilleuse.collector.release.servers import (
    SERVERS,
    ServerMonth,
    cells_of_servers,
    with_servers_and_rooms,
    without_sites,
)
from veilleuse.collector.release.tables import PARTITION, Month, hosts_of_month, make_month
from veilleuse.collector.reports.fleet_year import fleet_devices, servers_in_rooms
from veilleuse.collector.reports.inputs import Sources, is_cut
from veilleuse.collector.reports.machines import Stretch, machines_of
from veilleuse.collector.reports.readers import SobrietySources
from veilleuse.collector.reports.rooms import compute_rooms
from veilleuse.collector.settings import RetentionSettings
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import DeviceClass, Population

_OWN_KEPT: Final = timedelta(days=OWN_KEPT_DAYS + OWN_WAIT_DAYS)
"""Time for which the days of what the collector used wait for the publication of their month."""
REFRESH_DAYS: Final = 7
"""Longest time, in days, until a correction of declarations reaches the published fleet."""
_RULED: Final = (Population.WORKSTATION, Population.CLASSROOM)
_NEVER_AT_HOME: Final = (PowerContext.HOME, PowerContext.HOSTED)


Tell: TypeAlias = Callable[[str, str], None]
"""Takes a word of the words' list `step`, and the month or year."""


def tell_nobody(_step: str, _at: str) -> None:
    """Tell nobody."""


class FleetPublisher:
    """Publishes what is due on one day."""

    def __init__(
        self,
        sources: SobrietySources,
        publish: Publish,
        k: int,
        today: date,
        targets: Targets | None = None,
        kept_months: int = RetentionSettings().pc_monthly_months,
        tell: Tell = tell_nobody,
    ) -> None:
        """Take the current `k`, the fewest machines of a published group, and how long months are kept.

        `tell` hears of each step of each month, or of the fleet's year, before its work.
        """
        self._tell = tell
        self._sobriety, self._sources, self._publish = sources, sources.base, publish
        self._published, self._k, self._today = self._sources.published, k, today
        self._targets = targets or Targets()
        self._since = months_before(today, kept_months)
        self._hold = self._published.hold()
        self._months = PublicationCache(FORM, self._published, publish, k)
        self._indicators = PublicationCache(INDICATORS, self._published, publish, k)
        self._servers = PublicationCache(SERVERS, self._published, publish, k)
        self._own = PublicationCache(OWN_USE, self._published, publish, k)

    def run(self, *, fleet: bool = True) -> list[str]:
        """Publish all; return the months whose records wait to be derived. Raises CollectorError.

        `fleet`: also the fleet's energy of each month.
        """
        first = self._sources.closings.first_year()
        definitive = self._sources.closings.definitive_years()
        enrolled = min((host.enrolled_on for host in self._sources.hosts), default=self._today)
        waiting: list[str] = []
        # A week has days of two years: the first machine may have some before it was enrolled.
        for year in range(max(first or 0, enrolled.year), self._today.year + 1):
            if year not in definitive:
                waiting += self._run_year(year, fleet=fleet)
        return waiting

    def _run_year(self, year: int, *, fleet: bool) -> list[str]:
        first, end = date(year, 1, 1), date(year + 1, 1, 1)
        months, waiting = list[Slice](), list[str]()
        for part in slices(first, end, by_month=True):
            if part.end + timedelta(days=WAIT_DAYS) > self._today:
                break
            if part.end <= self._since:
                continue  # its publication is deleted, and machines may still have it: never a second one
            if is_held(self._published, self._hold, part.first, part.end):
                continue
            if self._published.waits(part.first, part.end):
                waiting.append(f"{part.first:%Y-%m}")
                break
            months.append(part)
        contents = [(self._release(part), self._servers_of(part)) for part in months]
        last = months[-1].end if months else first
        is_measured = any(map(any, contents)) or self._sources.may_have_months(first, last)
        if fleet and is_measured and self._is_due(months):
            self._publish_fleet(months, contents)
        return waiting

    # --- months

    def _servers_of(self, part: Slice) -> ServerMonth | None:
        """Return what was measured of servers and rooms in a month; publish it where it is not."""
        may_be = self._sources.exempt_hosts or self._sources.metering.declarations().meters
        compute = partial(compute_servers, self._sources, part) if may_be else None
        found = self._servers.figures(part.first, part.end, self._today, compute)
        return None if found is None or SERVERS.is_empty(found) else found

    def _release(self, part: Slice) -> Month | None:
        """Return the published month; publish it where it is not. None: nothing is published of it."""
        at = f"{part.first:%Y-%m}"
        self._tell("release", at)
        is_stored = self._sources.closings.has_months(part.first, part.end, _RULED)
        make = partial(compute_month, self._sources, part, self._k) if is_stored else None
        found = self._months.figures(part.first, part.end, self._today, make)
        month = None if found is None or FORM.is_empty(found) else found
        if self._sources.may_have_months(part.first, part.end):
            self._tell("indicators", at)
            compute = partial(self._compute_indicators, part, month)
            indicators = self._indicators.figures(part.first, part.end, self._today, compute)
            if self._today - part.first < _OWN_KEPT:
                self._tell("own_use", at)
                own = partial(self._compute_own_use, part, month, indicators)
                self._own.figures(part.first, part.end, self._today, own)
        return month

    def _compute_indicators(self, part: Slice, month: Month | None) -> IndicatorMonth:
        """Compute the indicators of a month. States that machines report now are not of a month long over."""
        found = compute_month_indicators(self._sobriety, part, month, self._k, self._targets)
        if self._today < add_months(part.end, 1) + timedelta(days=WAIT_DAYS):
            return found
        return replace(found, rows=tuple(row for row in found.rows if TABLE[row.indicator].has_history))

    def _compute_own_use(
        self, part: Slice, month: Month | None, indicators: IndicatorMonth | None
    ) -> OwnMonth:
        machines, context = _machines_of_month(self._sobriety, part, month, self._k, self._targets)
        counted = self._sources.reader.own_use(part.first, part.end)
        return build_own_use(machines, context, indicators, counted)

    # --- fleet

    def _is_due(self, months: Iterable[Slice]) -> bool:
        """Return whether the fleet of a year is to be computed: a month is new, or declarations changed."""
        found = [self._published.summary(FLEET.kind, part.first, part.end) for part in months]
        days = [
            _day(one.published_unix_milliseconds)
            for one in found
            if one is not None and one.format == FLEET.format
        ]
        if len(days) < len(found):
            year = found and next(iter(months)).first.year
            return not (year and not days and self._is_too_late(year))
        imported = self._sources.inventory.inventory_imported_on()
        declared = _day(self._sources.declared_powers.declared_unix_milliseconds)
        last = min(days, default=self._today)
        is_old = (self._today - last).days >= REFRESH_DAYS
        return (is_old or declared >= last or (imported is not None and imported >= last)) and bool(days)

    def _is_too_late(self, year: int) -> bool:
        """Return whether months of the year were deleted before any was published."""
        first, end = date(year, 1, 1), date(year + 1, 1, 1)
        return first < self._since and is_cut(self._sources.periods, first, end, self._sources.hosts)

    def _publish_fleet(
        self, months: list[Slice], contents: list[tuple[Month | None, ServerMonth | None]]
    ) -> None:
        self._tell("fleet", f"{months[0].first:%Y}")
        powers = self._sources.declared_powers.powers
        declared = frozenset(one.device_class for one in powers)
        assumptions = ReleaseAssumptions(class_microwatts(powers), self._k, declared)
        ks = [self._k_of(part) for part in months]
        released, sites = [], []
        for part, (content, servers), k in zip(months, contents, ks, strict=True):
            devices = fleet_devices(self._sources, part, self._today)
            cells, hidden = (content.cells, content.hidden_cells) if content else ((), ())
            counts = count_fleet(devices), count_screens(devices)
            released.append(ReleasedMonth(cells, hidden, *counts, cells_of_servers(servers), k))
            sites.append(sole_sites(devices))
        headcounts = self._sources.inventory.headcounts()
        rows = [
            [_placed(row, headcounts, part) for row in of_month]
            for part, of_month in zip(months, estimate_months(released, assumptions), strict=True)
        ]
        servers_of = [servers for _, servers in contents]
        settled = with_servers_and_rooms(servers_of, rows, months)
        for part, of_month, k, of_part in zip(months, settled, ks, sites, strict=True):
            fleet = tuple(at_site(row, of_part) for row in of_month)
            text = canonical(FLEET.encode(fleet)).decode()
            one = Publication(FLEET.kind, part.first, part.end, FLEET.format, k, METHOD_VERSION, 0, text)
            self._publish(one)

    def _k_of(self, part: Slice) -> int:
        """Return the rule under which the cells of a month were published."""
        found = self._published.summary(FORM.kind, part.first, part.end)
        return self._k if found is None else found.k_anonymity


def _day(unix_milliseconds: int) -> date:
    return datetime.fromtimestamp(unix_milliseconds / MILLISECONDS_PER_SECOND, UTC).date()


def compute_month(sources: Sources, part: Slice, k: int) -> Month:
    """Compute a month as it is published, from the present data."""
    return make_month(
        sources.reader,
        part,
        k,
        _places_by_inventory(sources, part),
        _perimeter_of(sources, part),
        sources.same,
    )


def compute_servers(sources: Sources, part: Slice) -> ServerMonth:
    """Compute what was measured of servers and rooms in a month, from the present data."""
    hosts = {host.host_id: host for host in sources.exempt_hosts}
    places = _places_of_servers(sources, part, hosts)
    dimensions = ("entity", "site", "device_class", "power_context", "month")
    query = Query(
        part.first, part.end, dimensions, 1, part.end, same=sources.same, now_unix_milliseconds=ALL_OVER
    )
    periods = Periods(sources.reader, hosts.values())
    tallies = tally_periods(sources.reader, periods, query, hosts.values(), places)
    cells = [
        Group(key, tally.freeze(key.population, frozenset(), exact=False))
        for key, tally in sorted(tallies.items(), key=lambda one: one[0].order)
        if tally.hosts
    ]
    servers = servers_in_rooms(sources, Query(part.first, part.end, (), 1, part.end))
    # Loss and overhead are of all machines of a meter, of few PCs too.
    rooms = (
        without_sites(room)
        for room in compute_rooms(sources, part.first, part.end, servers, part.end)
        if not servers.holds_others(room.room)
    )
    return ServerMonth(part, tuple(cells), tuple(rooms))


def _places_of_servers(sources: Sources, part: Slice, hosts: Mapping[HostId, Host]) -> dict[HostId, GroupKey]:
    """Return the key of each server at its last place in the month, else at that of its enrolment."""
    sites = {site.site: site for site in sources.reader.sites()}
    virtual = {
        host_id
        for asset in sources.assets
        if asset.device_class == DeviceClass.VIRTUAL_MACHINE.value
        for host_id in asset.host_ids
    }
    found = {}
    for host_id, host in hosts.items():
        context = default_context(host.population)
        key = key_of_host(host, sites[host.site], part.first, part.end, context)
        if host_id in virtual:
            key = key._replace(memo=True, device_class=DeviceClass.VIRTUAL_MACHINE.value)
        found[host_id] = key
    machines = {asset.asset_id: asset.host_ids for asset in sources.assets}
    for device in fleet_devices(sources, part, part.end):
        own = (device.host_id,) if device.asset_id is None else machines[device.asset_id]
        for one in hosts.keys() & own:
            if not found[one].memo:
                key = _key_of(device, hosts[one])
                found[one] = key._replace(power_context=device.power_context)
    return found


def compute_month_indicators(
    sources: SobrietySources, part: Slice, month: Month | None, k: int, targets: Targets
) -> IndicatorMonth:
    """Compute the indicators of a month as they are published, from the present data.

    `month`: its published rows of PCs; None without one.
    """
    base = sources.base
    machines, context = _machines_of_month(sources, part, month, k, targets)
    hosts = {host.host_id: host for host in base.hosts}
    places = {one.host_id: context.places[one.host_id] for one in machines if one.population in EXEMPT}
    sums: tuple[Group, ...] = ()
    if places:
        dimensions = ("entity", "site", "device_class", "power_context", "month")
        query = replace(
            Query(part.first, part.end, dimensions, k, same=base.same),
            now_unix_milliseconds=ALL_OVER,
        )
        chosen = [hosts[host_id] for host_id in places]
        tallies = tally_periods(base.reader, Periods(base.reader, chosen), query, chosen, places)
        sums = tuple(merge_small_groups(tallies, k)[0])
    return build_indicators(machines, sums, context)


def _machines_of_month(
    sources: SobrietySources, part: Slice, month: Month | None, k: int, targets: Targets
) -> tuple[tuple[IndicatorMachine, ...], MonthContext]:
    """Return the machines of a month, and its rows and rule.

    A server that the inventory calls a PC is none of them.
    """
    base = sources.base
    by_inventory = _places_by_inventory(base, part)
    sites = {site.site: site for site in base.reader.sites()}
    stretch = Stretch((part.first, part.end), part.end, part.end - timedelta(days=1))
    pcs = hosts_of_month(base.hosts, part, by_inventory)
    servers = [host for host in base.hosts if host.population in EXEMPT and host.host_id not in by_inventory]
    chosen = sorted((*pcs, *servers), key=lambda host: host.host_id)
    machines = _as_one(machines_of(sources, stretch, chosen, base.assets), base.same)
    places = {
        host.host_id: key_of_host(host, sites[host.site], part.first, part.end).over() for host in base.hosts
    }
    listed = places | {host_id: place.over() for host_id, place in by_inventory.items()}
    of_servers = {
        one.host_id: places[one.host_id]._replace(
            entity=one.entity, site=one.site, power_context=one.power_context
        )
        for one in machines
        if one.population in EXEMPT
    }
    context = MonthContext(
        month or Month(part, (), (), (), ()),
        {host_id: place.coarsen(PARTITION) for host_id, place in listed.items()} | of_servers,
        k,
        targets,
        _perimeter_of(base, part),
        frozenset(base.same.get(host.host_id, host.host_id) for host in pcs),
    )
    return machines, context


def _as_one(
    machines: Iterable[IndicatorMachine], same: Mapping[HostId, HostId]
) -> tuple[IndicatorMachine, ...]:
    """Return the machines, those of one reinstalled device as its last one, with the use of all."""
    found: dict[HostId, IndicatorMachine] = {}
    for one in machines:
        host_id = same.get(one.host_id, one.host_id)
        before = found.get(host_id)
        if before is None:
            found[host_id] = replace(one, host_id=host_id)
            continue
        last = one if one.host_id == host_id else before
        bands = {
            band: add_uses(before.bands.get(band, NO_USE), one.bands.get(band, NO_USE))
            for band in before.bands.keys() | one.bands.keys()
        }
        observed = before.observed_milliseconds + one.observed_milliseconds
        found[host_id] = replace(
            last,
            host_id=host_id,
            bands=bands,
            observed_milliseconds=observed,
            own_cpu_milliseconds=before.own_cpu_milliseconds + one.own_cpu_milliseconds,
        )
    return tuple(found.values())


def _perimeter_of(sources: Sources, part: Slice) -> PerimeterOf:
    perimeters = perimeters_in_force(sources.perimeters, part.first.year)
    return lambda key: perimeters.of(at_default_context(key)) or ""


def _places_by_inventory(sources: Sources, part: Slice) -> dict[HostId, GroupKey]:
    """Return the key of each machine that the inventory lists, at its last place in the month."""
    hosts = {host.host_id: host for host in sources.hosts}
    machines = {asset.asset_id: asset.host_ids for asset in sources.assets}
    return {
        host_id: _key_of(device, hosts[host_id])
        for device in fleet_devices(sources, part, part.end)
        if device.asset_id is not None and is_under_rule(device)
        for host_id in machines[device.asset_id]
        if host_id in hosts
    }


def _key_of(device: FleetDevice, host: Host) -> GroupKey:
    return GroupKey(
        period_to=device.end_day,
        zone=device.zone,
        population=host.population,
        memo=host.facts.device_class is DeviceClass.VIRTUAL_MACHINE,
        entity=device.entity,
        site=device.site,
        device_class=device.device_class,
    )


def _placed(row: FleetRow, headcounts: Iterable[Headcount], part: Slice) -> FleetRow:
    """Return a row with its power context, and its share at home."""
    key = at_default_context(row.key)
    context = key.power_context
    row = replace(row, key=key)
    is_carried = key.device_class == DeviceClass.LAPTOP.value and key.population is Population.WORKSTATION
    if not is_carried or context in _NEVER_AT_HOME or key.entity is None:
        return row
    headcounts = tuple(headcounts)
    share = home_share(headcounts, key.entity, part.first, part.end)
    if not share:
        return row
    home = HomePart(round(share * MILLION), declarations(headcounts, key.entity)[0].entity)
    return replace(row, home=home)
