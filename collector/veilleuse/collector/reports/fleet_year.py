# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the fleet's figures of any period: stored data → PeriodFigures. docs/methodology.md §6."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby

from veilleuse.collector.account.change import NoComparison
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.statement import ChooseFactor
from veilleuse.collector.calendars.periods import Slice, slices
from veilleuse.collector.closed_years.published_rows import load_closed, require_publishable
from veilleuse.collector.closed_years.reduce import reduce_year
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.errors import UnknownZone, UsageError
from veilleuse.collector.factors.book import book_of
from veilleuse.collector.fleet.census import Census, DayTypes, FleetDevice, device_of_host
from veilleuse.collector.fleet.estimator import Assumptions, class_microwatts
from veilleuse.collector.fleet.observations import ObservedMachine, group_by_machine, hardware_name
from veilleuse.collector.fleet.samples import CalibratedWall, HardwareModel
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.model.calibration import WALL
from veilleuse.collector.model.closed_years import ClosedYear, KeptYear, YearState
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.inventory import Asset, Headcount
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.query import PERIOD_YEARS, Query, perimeters_in_force
from veilleuse.collector.model.records import HostId
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.reports.inputs import Sources, is_cut
from veilleuse.collector.reports.rooms import ServersInRooms, compute_rooms
from veilleuse.collector.reports.year_statistics_file import (
    find_sole_statistics,
    load_kept,
    read_kept_rooms,
    require_answerable,
)
from veilleuse.wire.vocabulary import DeviceClass, Population


@dataclass(slots=True)
class _Inputs:
    """Inputs that all stretches share."""

    sources: Sources
    query: Query
    assumptions: Assumptions
    hosts: tuple[Host, ...] = ()
    sites: dict[str, Site] = field(default_factory=dict)
    assets: tuple[Asset, ...] = ()
    headcounts: tuple[Headcount, ...] = ()
    same: Mapping[HostId, HostId] = field(default_factory=dict)
    """See Sources."""
    virtual: frozenset[HostId] = frozenset()
    """Virtual machines, by their agents' facts or by the inventory."""
    site_calendars: SiteCalendars = field(init=False)

    def __post_init__(self) -> None:
        rolls = self.sources.reader
        self.hosts = self.sources.hosts
        self.sites = {site.site: site for site in rolls.sites()}
        self.assets = self.sources.assets
        self.headcounts = self.sources.inventory.headcounts()
        self.same = self.sources.same
        self.virtual = frozenset(
            host.host_id for host in self.hosts if host.facts.device_class is DeviceClass.VIRTUAL_MACHINE
        ) | frozenset(
            host_id
            for asset in self.assets
            if asset.device_class == DeviceClass.VIRTUAL_MACHINE.value
            for host_id in asset.host_ids
        )
        self.site_calendars = SiteCalendars(rolls.calendars, rolls.school_periods)

    def device_of(self, host: Host) -> FleetDevice:
        """Return the device of a host by its enrolment."""
        return device_of_host(host, self.sites, self.sources.reporting.zone)

    def host_periods(self, part: Slice) -> Iterator[HostPeriod]:
        """Yield the stored rows machine by machine; the machines of one asset become one machine."""
        together: list[HostPeriod] = []
        rows = self.sources.periods.host_periods(part.first, part.end)
        for row in rows:
            if row.host_id in self.same:
                together.append(row._replace(host_id=self.same[row.host_id]))
            else:
                yield row
        yield from sorted(together, key=lambda row: row.host_id)


def year_figures(sources: Sources, query: Query, assumptions: Assumptions) -> tuple[PeriodFigures, ...]:
    """Compute the figures of each stretch: the period cut at 1 January, or at each month if asked."""
    with without_garbage_collection():
        inputs = _Inputs(sources, query, assumptions)
        closed = {closed_year.year: closed_year for closed_year in sources.closings.revisions()}
        return tuple(
            _restate_closed_year(inputs, part, closed_year)
            if (closed_year := closed.get(part.first.year)) is not None
            and _has_only_statistics(inputs, part, closed_year)
            else _restate_kept_year(inputs, part, kept)
            if (kept := find_sole_statistics(sources, part.first, part.end)) is not None
            else _restate_open_stretch(inputs, part)
            for part in slices(query.first, query.end, by_month="month" in query.dimensions)
        )


def _has_only_statistics(inputs: _Inputs, part: Slice, closed_year: ClosedYear) -> bool:
    """Return true when only the statistics of a closed year are left.

    The year is closed definitively, or its first months are deleted.
    """
    return closed_year.state is YearState.CLOSED_DEFINITIVE or is_cut(
        inputs.sources.periods, part.first, part.end, inputs.hosts
    )


def _restate_closed_year(inputs: _Inputs, part: Slice, closed_year: ClosedYear) -> PeriodFigures:
    """Compute a closed year from its statistics: its machines' months are deleted.

    Raises UsageError for a part of the year.
    """
    query = inputs.query
    closed = load_closed(inputs.sources.closings, closed_year)
    require_publishable(
        closed,
        k=query.k_anonymity,
        current_tree=query.current_tree,
        dimensions=query.dimensions,
    )
    if (part.first, part.end) != (closed.kept.first, closed.kept.end):
        raise UsageError(
            f"{closed_year.year} is closed: what is kept of it is the whole year, not {part.first} to {part.end}"
        )
    return restate_year(closed.kept, query.dimensions, inputs.assumptions, level=query.level)


def _restate_kept_year(inputs: _Inputs, part: Slice, kept_year: KeptYear) -> PeriodFigures:
    """Compute an open year from the statistics that the collector kept: its machines' months are deleted.

    Raises UsageError.
    """
    query, found = inputs.query, load_kept(inputs.sources.closings, kept_year)
    require_answerable(found, k=query.k_anonymity, current_tree=query.current_tree)
    known = found.with_stored_calibrations(inputs.assumptions)
    return restate_year(found.kept, query.dimensions, known, level=query.level)


def fleet_devices(sources: Sources, part: Slice, today: date) -> list[FleetDevice]:
    """Return all devices in service in a stretch."""
    query = Query(part.first, part.end, (), 1, today)
    return list(_fleet_devices(_Inputs(sources, query, Assumptions()), part))


def reduce_whole_year(sources: Sources, query: Query) -> YearStatistics:
    """Reduce the whole period of the query, one year, to its statistics."""
    with without_garbage_collection():
        return _reduce_stretch(
            _Inputs(sources, query, Assumptions()), Slice(query.first, query.end), for_ever=True
        )


def servers_in_rooms(sources: Sources, query: Query) -> ServersInRooms:
    """Return the servers with their rooms over the whole period."""
    inputs, part = _Inputs(sources, query, Assumptions()), Slice(query.first, query.end)
    _leave_out_others(inputs)
    return _find_places(inputs, part).servers


def _leave_out_others(inputs: _Inputs) -> None:
    """Leave out what cannot be a server: of a fleet, its days take most of the time."""
    servers = {host.host_id for host in inputs.hosts if host.population is Population.SERVER}
    kept, left = [], set[HostId]()
    for asset in inputs.assets:
        if asset.population is Population.SERVER or (
            asset.population is None and not servers.isdisjoint(asset.host_ids)
        ):
            kept.append(asset)
        else:
            left.update(asset.host_ids)
    inputs.assets = tuple(kept)
    inputs.hosts = tuple(host for host in inputs.hosts if host.host_id in servers - left)


@dataclass(frozen=True, slots=True)
class _Places:
    """Places of machines and devices over a stretch."""

    devices: list[FleetDevice]
    """Machines and screens in service."""
    machines: dict[HostId, Sequence[FleetDevice]]
    """Machine → its successive devices, without virtual machines."""
    virtual: dict[HostId, FleetDevice]
    servers: ServersInRooms


def _find_places(inputs: _Inputs, part: Slice) -> _Places:
    devices = list(_fleet_devices(inputs, part))
    virtual = {
        host.host_id: replace(inputs.device_of(host), device_class=DeviceClass.VIRTUAL_MACHINE.value)
        for host in inputs.hosts
        if host.host_id in inputs.virtual
    }
    places: dict[HostId, list[FleetDevice]] = defaultdict(list)
    for standing in devices:
        if standing.host_id is not None and standing.host_id not in virtual:
            places[standing.host_id].append(standing)
    elsewhere = _devices_by_enrolment(inputs, places)
    everywhere = [*devices, *(standing for own_devices in elsewhere.values() for standing in own_devices)]
    servers = ServersInRooms(inputs.sources, part.first, part.end, everywhere, inputs.same)
    return _Places(devices, places | elsewhere, virtual, servers)


def _reduce_stretch(inputs: _Inputs, part: Slice, *, for_ever: bool) -> YearStatistics:
    """Reduce the machines and the fleet of a stretch to cells of k or more, with the rooms."""
    places = _find_places(inputs, part)
    kept = reduce_year(
        part.first,
        part.end,
        _join_stays(places.devices),
        _machines_with_devices(inputs, part, places.machines),
        k=inputs.query.k_anonymity,
        virtual=_virtual_machines(inputs, part, places.virtual),
        headcounts=inputs.headcounts,
        for_ever=for_ever,
        in_groups=inputs.query.is_compared,
        perimeters=perimeters_in_force(inputs.sources.perimeters, part.first.year),
    )
    found = None if for_ever else read_kept_rooms(inputs.sources, part.first, part.end)
    if found is None:
        found = tuple(compute_rooms(inputs.sources, part.first, part.end, places.servers, inputs.query.today))
    return replace(kept, rooms=tuple(found))


def _devices_by_enrolment(
    inputs: _Inputs, places: Mapping[HostId, Sequence[FleetDevice]]
) -> dict[HostId, Sequence[FleetDevice]]:
    """Return devices, by enrolment, of machines without a place in the period: their measurements still
    count.
    """
    return {
        host.host_id: (inputs.device_of(host),)
        for host in inputs.hosts
        if host.host_id not in places and host.host_id not in inputs.virtual
    }


def _restate_open_stretch(inputs: _Inputs, part: Slice) -> PeriodFigures:
    """Compute an open stretch as a closing would: cells are merged before the estimate."""
    kept, query = _reduce_stretch(inputs, part, for_ever=False), inputs.query
    return restate_year(kept, query.dimensions, inputs.assumptions, level=query.level)


def _fleet_devices(inputs: _Inputs, part: Slice) -> Iterable[FleetDevice]:
    def kind(site: str, population: Population | None, day: date) -> DayType:
        found = inputs.sites.get(site)
        if found is None:  # unknown calendar: docs/methodology.md §5
            return DayType.CLOSED if day.isoweekday() > 5 else DayType.OPEN
        return inputs.site_calendars.days(found, population or Population.SERVER).kind(day)

    zones, reporting = {name: site.time_zone for name, site in inputs.sites.items()}, inputs.sources.reporting
    census = Census(
        DayTypes(part.first, part.end, zones, kind, default_time_zone=reporting.time_zone),
        inputs.sites.values(),
        default_zone=reporting.zone,
        today=inputs.query.today,
        current_tree=inputs.query.current_tree,
    )
    return census.devices(inputs.assets, inputs.hosts)


def _join_stays(devices: Iterable[FleetDevice]) -> Iterator[FleetDevice]:
    """Yield the devices, those of one asset at one place as one: the last, with the time of all."""
    joined: dict[tuple[int, str, str], FleetDevice] = {}
    for one in devices:
        if one.asset_id is None:
            yield one
            continue
        key = one.asset_id, one.entity, one.site
        if before := joined.get(key):
            times = Counter(before.milliseconds) + Counter(one.milliseconds)
            one = replace(one, milliseconds=times)
        joined[key] = one
    yield from joined.values()


def _machines_with_devices(
    inputs: _Inputs, part: Slice, places: Mapping[HostId, Sequence[FleetDevice]]
) -> Iterator[tuple[ObservedMachine, FleetDevice]]:
    """Yield each machine with its device; a machine that moved once for each place, also if it came back.

    Machines move on the 1st of a month.
    """
    moved: set[HostId] = set()
    for one in group_by_machine(inputs.host_periods(part)):
        own_devices = places.get(one.host_id, ())
        if len(own_devices) == 1:
            yield one, own_devices[0]
        elif own_devices:
            moved.add(one.host_id)
    if moved:
        months = [
            row
            for month in slices(part.first, part.end, by_month=True)
            for row in inputs.host_periods(month)
            if row.host_id in moved
        ]
        months.sort(key=lambda row: row.host_id)
        for host_id, rows in groupby(months, lambda row: row.host_id):
            by_place = defaultdict(list)
            for row in rows:
                by_place[_device_index(places[host_id], row.period_from)].append(row)
            for number, own in by_place.items():
                for one in group_by_machine(own):
                    yield one, places[host_id][number]


def _device_index(own_devices: Sequence[FleetDevice], day: date) -> int:
    """Return the index of the machine's last device at its place on a day; before the first one, at the first
    place.
    """
    there = own_devices[max((at for at, one in enumerate(own_devices) if one.from_day <= day), default=0)]
    place = there.asset_id, there.entity, there.site
    return max(at for at, one in enumerate(own_devices) if (one.asset_id, one.entity, one.site) == place)


def _virtual_machines(
    inputs: _Inputs, part: Slice, virtual: Mapping[HostId, FleetDevice]
) -> Iterator[tuple[ObservedMachine, FleetDevice]]:
    if virtual:
        rows = (row for row in inputs.host_periods(part) if row.host_id in virtual)
        for one in group_by_machine(rows):
            yield one, virtual[one.host_id]


def compare_with_year_before(
    sources: Sources, query: Query, known: Assumptions, number: int
) -> tuple[dict[int, PeriodFigures], dict[int, str]]:
    """Return (figures of the year before by period index, reason without a comparison by period index).

    The year before has the same stretches, method, grouping and disclosure rule. A stretch that has not ended
    is not compared: a half year cannot be compared with a whole one.
    """
    stretches = slices(query.first, query.end, by_month="month" in query.dimensions)
    running = {
        place: NoComparison.RUNNING.value for place, asked in enumerate(stretches) if asked.end > query.today
    }
    found = _figures_of_year_before(sources, query, known, number)
    if isinstance(found, NoComparison):
        return {}, dict.fromkeys(range(number), found.value) | running
    earlier = {
        place: period
        for place, period in enumerate(found)
        if place not in running and period.total is not None and period.total.estimate.energy_millijoules
    }
    return earlier, dict.fromkeys(range(number), NoComparison.NO_DATA.value) | running


def _figures_of_year_before(
    sources: Sources, query: Query, known: Assumptions, number: int
) -> Sequence[PeriodFigures] | NoComparison:
    earlier = query_of_year_before(query)
    if earlier is None or not query.is_compared:
        return NoComparison.NO_DATA
    try:
        found = year_figures(sources, earlier, known)
    except UsageError:  # closed, and not stored in this grouping
        return NoComparison.NOT_KEPT
    if len(found) != number:
        return NoComparison.NO_DATA
    closed = {one.year for one in sources.closings.revisions()}
    closed |= {one.year for one in sources.closings.kept_years() if one.stands_alone}
    if earlier.first.year not in closed and is_cut(
        sources.periods, earlier.first, earlier.end, sources.hosts
    ):
        return NoComparison.GONE
    return found


def has_data(sources: Sources, query: Query | None) -> bool:
    """Return true when the period has any machine, or its year is closed or kept.

    Most first years have no year before.
    """
    if query is None:
        return False
    closings = sources.closings
    years = {one.year for one in closings.revisions()} | {one.year for one in closings.kept_years()}
    if query.first.year in years:
        return True
    try:
        return next(iter(sources.periods.host_periods(query.first, query.end)), None) is not None
    except UsageError:  # some of its days are deleted: no comparison is possible
        return False


def query_of_year_before(query: Query) -> Query | None:
    """Return the same stretch of the year before; None when out of range, or 29 February alone."""
    if query.first.year - 1 < PERIOD_YEARS.first:
        return None
    first, end = _day_a_year_before(query.first), _day_a_year_before(query.end)
    return replace(query, first=first, end=end) if first < end else None


def _day_a_year_before(day: date) -> date:
    """Return the same day a year before; 1 March for 29 February, as start and as exclusive end."""
    return date(day.year - 1, 3, 1) if (day.month, day.day) == (2, 29) else day.replace(year=day.year - 1)


def read_assumptions(sources: Sources, *, random_roll_out: bool = False) -> Assumptions:
    """Read the current assumptions.

    Raises StoreDamaged, and ConfigurationError when a shipped table cannot be read.
    """
    calibrated: dict[HardwareModel, CalibratedWall] = {}
    for stored in sources.reader.calibrations():
        kept = stored.kept
        if stored.ended_unix_milliseconds is None and kept.fit.quantity.startswith(WALL):
            name = hardware_name(f"{kept.hardware.vendor} {kept.hardware.model}")
            calibrated[kept.hardware.device_class.value, name] = CalibratedWall(
                kept.fit, kept.provenance.meter
            )
    return Assumptions(
        random_roll_out=random_roll_out,
        class_microwatts=class_microwatts(sources.declared_powers.powers),
        declared=frozenset(sources.declared_powers.by_class),
        calibrations=calibrated,
    )


def factor_chooser(sources: Sources) -> ChooseFactor:
    """Return a function (zone, year) → factor, which raises UnknownZone."""
    book = book_of(sources.factors.versions())

    def choose(zone: str, year: int) -> ChosenFactor:
        try:
            return book.choose(zone, year)
        except UnknownZone as error:
            raise UnknownZone(f"{error}; {_describe_zone_use(sources, zone)}") from error

    return choose


def _describe_zone_use(sources: Sources, zone: str) -> str:
    sites = sorted(site.site for site in sources.reader.sites() if site.zone == zone)
    if sites:
        named = ", ".join(f"'{site}'" for site in sites)
        return f"it is the zone of the site {named} ('veilleuse factors import FILE' brings ADEME's, of French zones)"
    return "it is reporting.zone, of devices whose site nobody declared: set one that 'veilleuse factors list' has"
