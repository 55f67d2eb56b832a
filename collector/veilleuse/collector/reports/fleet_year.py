# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the fleet's figures of any period: stored data → PeriodFigures. docs/methodology.md §6."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby

from veilleuse.collector.account.row import DIMENSIONS, PeriodFigures
from veilleuse.collector.account.statement import ChooseFactor
from veilleuse.collector.calendars.periods import Slice, check_period, slices
from veilleuse.collector.closed_years.published_rows import load_closed, require_publishable
from veilleuse.collector.closed_years.reduce import reduce_year
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.errors import UnknownZone, UsageError
from veilleuse.collector.factors.book import book_of
from veilleuse.collector.fleet.census import Census, DayTypes, FleetDevice, device_of_host
from veilleuse.collector.fleet.class_defaults import class_microwatts
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import ObservedMachine, group_by_machine, hardware_name
from veilleuse.collector.fleet.samples import CalibratedWall, HardwareModel
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.model.calibration import WALL
from veilleuse.collector.model.closed_years import ClosedYear, KeptYear, YearState
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.inventory import Asset, Headcount
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.years import PERIODS
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.reports.inputs import Sources, is_cut
from veilleuse.collector.reports.kept_years import alone, kept_rooms, load_kept, require_told
from veilleuse.collector.reports.rooms import ServersInRooms, rooms
from veilleuse.wire.vocabulary import DeviceClass, Population


@dataclass(frozen=True, slots=True)
class YearQuery:
    """Period, grouping and rule of an emissions report.

    Raises UsageError for an unknown dimension, or a period that is empty or out of range.
    """

    first: date
    end: date
    """Exclusive end."""
    dimensions: tuple[str, ...]
    k_anonymity: int
    """Fewest machines of a group that may be shown; 1 = the caller applies the rule."""
    today: date
    current_tree: bool = False
    """True: everything at its present place, pro forma. False: at its place of then."""
    is_compared: bool = False
    """True when the report shows the change from or to another year, with margins."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.dimensions if name not in DIMENSIONS]
        if unknown:
            raise UsageError(f"cannot group by '{unknown[0]}': use {', '.join(DIMENSIONS)}")
        check_period(self.first, self.end)


@dataclass(slots=True)
class _Known:
    """Inputs that all stretches share."""

    sources: Sources
    query: YearQuery
    assumptions: Assumptions
    hosts: tuple[Host, ...] = ()
    sites: dict[str, Site] = field(default_factory=dict)
    assets: tuple[Asset, ...] = ()
    headcounts: tuple[Headcount, ...] = ()
    same: dict[HostId, HostId] = field(default_factory=dict)
    """Machine of a reinstalled asset → the asset's last machine, which maps to itself."""
    virtual: frozenset[HostId] = frozenset()
    """Virtual machines, by their agents' facts or by the inventory."""
    site_calendars: SiteCalendars = field(init=False)

    def __post_init__(self) -> None:
        rolls = self.sources.reader
        self.hosts = self.sources.hosts
        self.sites = {site.site: site for site in rolls.sites()}
        self.assets = self.sources.assets
        self.headcounts = self.sources.inventory.headcounts()
        self.same = {
            host_id: asset.host_ids[-1]
            for asset in self.assets
            if len(asset.host_ids) > 1
            for host_id in asset.host_ids
        }
        self.virtual = frozenset(
            host.host_id for host in self.hosts if host.facts.device_class is DeviceClass.VIRTUAL_MACHINE
        ) | frozenset(
            host_id
            for asset in self.assets
            if asset.device_class == DeviceClass.VIRTUAL_MACHINE.value
            for host_id in asset.host_ids
        )
        self.site_calendars = SiteCalendars(rolls.calendars, rolls.school_periods)

    def stood(self, host: Host) -> FleetDevice:
        """Return the device of a host by its enrolment."""
        return device_of_host(host, self.sites, self.sources.reporting.zone)

    def host_periods(self, part: Slice) -> Iterator[HostPeriod]:
        """Yield the stored rows machine by machine; the machines of one asset become one machine."""
        together: list[HostPeriod] = []
        for row in self.sources.periods.host_periods(part.first, part.end):
            if row.host_id in self.same:
                together.append(row._replace(host_id=self.same[row.host_id]))
            else:
                yield row
        yield from sorted(together, key=lambda row: row.host_id)


def year_figures(sources: Sources, query: YearQuery, assumptions: Assumptions) -> tuple[PeriodFigures, ...]:
    """Compute the figures of each stretch: the period cut at 1 January, or at each month if asked."""
    with without_garbage_collection():
        known = _Known(sources, query, assumptions)
        closed = {told.year: told for told in sources.closings.revisions()}
        return tuple(
            _closed_stretch(known, part, told)
            if (told := closed.get(part.first.year)) is not None and _is_kept_alone(known, part, told)
            else _kept_stretch(known, part, kept)
            if (kept := alone(sources, part.first, part.end)) is not None
            else _stretch(known, part)
            for part in slices(query.first, query.end, by_month="month" in query.dimensions)
        )


def _is_kept_alone(known: _Known, part: Slice, told: ClosedYear) -> bool:
    """Return true when only the statistics of a closed year are left.

    The year is closed definitively, or its first months are deleted.
    """
    return told.state is YearState.CLOSED_DEFINITIVE or is_cut(
        known.sources.periods, part.first, part.end, known.hosts
    )


def _closed_stretch(known: _Known, part: Slice, told: ClosedYear) -> PeriodFigures:
    """Compute a closed year from its statistics: its machines' months are deleted.

    Raises UsageError for a part of the year.
    """
    query = known.query
    closed = load_closed(known.sources.closings, told)
    require_publishable(
        closed,
        k=query.k_anonymity,
        current_tree=query.current_tree,
        dimensions=query.dimensions,
    )
    if (part.first, part.end) != (closed.kept.first, closed.kept.end):
        raise UsageError(
            f"{told.year} is closed: what is kept of it is the whole year, not {part.first} to {part.end}"
        )
    return restate_year(closed.kept, query.dimensions, known.assumptions)


def _kept_stretch(known: _Known, part: Slice, told: KeptYear) -> PeriodFigures:
    """Compute an open year from the statistics that the collector kept: its machines' months are deleted.

    Raises UsageError.
    """
    query, found = known.query, load_kept(known.sources.closings, told)
    require_told(found, k=query.k_anonymity, current_tree=query.current_tree)
    return restate_year(found.kept, query.dimensions, found.under(known.assumptions))


def year_kept(sources: Sources, query: YearQuery) -> YearStatistics:
    """Reduce the whole period of the query, one year, to its statistics."""
    with without_garbage_collection():
        return _kept(_Known(sources, query, Assumptions()), Slice(query.first, query.end), for_ever=True)


def servers_in_rooms(sources: Sources, query: YearQuery) -> ServersInRooms:
    """Return the servers with their rooms over the whole period."""
    known, part = _Known(sources, query, Assumptions()), Slice(query.first, query.end)
    return _all_stood(known, part).servers


@dataclass(frozen=True, slots=True)
class _Stood:
    """Places of machines and devices over a stretch."""

    devices: list[FleetDevice]
    """Machines and screens in service."""
    machines: dict[HostId, Sequence[FleetDevice]]
    """Machine → its successive devices, without virtual machines."""
    virtual: dict[HostId, FleetDevice]
    servers: ServersInRooms


def _all_stood(known: _Known, part: Slice) -> _Stood:
    devices = list(_standings(known, part))
    virtual = {
        host.host_id: replace(known.stood(host), device_class=DeviceClass.VIRTUAL_MACHINE.value)
        for host in known.hosts
        if host.host_id in known.virtual
    }
    places: dict[HostId, list[FleetDevice]] = defaultdict(list)
    for standing in devices:
        if standing.host_id is not None and standing.host_id not in virtual:
            places[standing.host_id].append(standing)
    elsewhere = _elsewhere(known, places)
    everywhere = [*devices, *(standing for stood in elsewhere.values() for standing in stood)]
    servers = ServersInRooms(known.sources, part.first, part.end, everywhere, known.same)
    return _Stood(devices, places | elsewhere, virtual, servers)


def _kept(known: _Known, part: Slice, *, for_ever: bool) -> YearStatistics:
    """Reduce the machines and the fleet of a stretch to cells of k or more, with the rooms."""
    stood = _all_stood(known, part)
    kept = reduce_year(
        part.first,
        part.end,
        stood.devices,
        _placed(known, part, stood.machines),
        k=known.query.k_anonymity,
        virtual=_virtual(known, part, stood.virtual),
        headcounts=known.headcounts,
        for_ever=for_ever,
        in_groups=known.query.is_compared,
    )
    found = None if for_ever else kept_rooms(known.sources, part.first, part.end)
    if found is None:
        found = tuple(rooms(known.sources, part.first, part.end, stood.servers, known.query.today))
    return replace(kept, rooms=tuple(found))


def _elsewhere(
    known: _Known, places: Mapping[HostId, Sequence[FleetDevice]]
) -> dict[HostId, Sequence[FleetDevice]]:
    """Return devices, by enrolment, of machines without a place in the period: their measurements still
    count.
    """
    return {
        host.host_id: (known.stood(host),)
        for host in known.hosts
        if host.host_id not in places and host.host_id not in known.virtual
    }


def _stretch(known: _Known, part: Slice) -> PeriodFigures:
    """Compute an open stretch as a closing would: cells are merged before the estimate."""
    return restate_year(_kept(known, part, for_ever=False), known.query.dimensions, known.assumptions)


def _standings(known: _Known, part: Slice) -> Iterable[FleetDevice]:
    def kind(site: str, population: Population | None, day: date) -> DayType:
        found = known.sites.get(site)
        if found is None:  # unknown calendar: docs/methodology.md §5
            return DayType.CLOSED if day.isoweekday() > 5 else DayType.OPEN
        return known.site_calendars.days(found, population or Population.SERVER).kind(day)

    zones, reporting = {name: site.time_zone for name, site in known.sites.items()}, known.sources.reporting
    census = Census(
        DayTypes(part.first, part.end, zones, kind, default_time_zone=reporting.time_zone),
        known.sites.values(),
        default_zone=reporting.zone,
        today=known.query.today,
        current_tree=known.query.current_tree,
    )
    return census.devices(known.assets, known.hosts)


def _placed(
    known: _Known, part: Slice, places: Mapping[HostId, Sequence[FleetDevice]]
) -> Iterator[tuple[ObservedMachine, FleetDevice]]:
    """Yield each machine with its device; a machine that moved is split by month.

    Machines move on the 1st of a month.
    """
    moved: set[HostId] = set()
    for one in group_by_machine(known.host_periods(part)):
        stood = places.get(one.host_id, ())
        if len(stood) == 1:
            yield one, stood[0]
        elif stood:
            moved.add(one.host_id)
    if moved:
        months = [
            row
            for month in slices(part.first, part.end, by_month=True)
            for row in known.host_periods(month)
            if row.host_id in moved
        ]
        months.sort(key=lambda row: row.host_id)
        for host_id, rows in groupby(months, lambda row: row.host_id):
            by_place = defaultdict(list)
            for row in rows:
                by_place[_stood(places[host_id], row.period_from)].append(row)
            for number, own in by_place.items():
                for one in group_by_machine(own):
                    yield one, places[host_id][number]


def _stood(stood: Sequence[FleetDevice], day: date) -> int:
    """Return the index of the machine's device on a day; 0 before the first one."""
    return max((number for number, one in enumerate(stood) if one.from_day <= day), default=0)


def _virtual(
    known: _Known, part: Slice, virtual: Mapping[HostId, FleetDevice]
) -> Iterator[tuple[ObservedMachine, FleetDevice]]:
    if virtual:
        rows = (row for row in known.host_periods(part) if row.host_id in virtual)
        for one in group_by_machine(rows):
            yield one, virtual[one.host_id]


def is_whole_year(query: YearQuery) -> bool:
    """Return true for exactly one calendar year."""
    first, end = query.first, query.end
    return (first.month, first.day) == (1, 1) and end == first.replace(year=first.year + 1)


def before(query: YearQuery) -> YearQuery | None:
    """Return the same stretch of the year before; None when out of range, or 29 February alone."""
    if query.first.year - 1 < PERIODS.first:
        return None
    first, end = _year_before(query.first), _year_before(query.end)
    return replace(query, first=first, end=end) if first < end else None


def _year_before(day: date) -> date:
    """Return the same day a year before; 1 March for 29 February, as start and as exclusive end."""
    return date(day.year - 1, 3, 1) if (day.month, day.day) == (2, 29) else day.replace(year=day.year - 1)


def assumptions(sources: Sources, *, random_roll_out: bool = False) -> Assumptions:
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
        class_microwatts=class_microwatts(),
        calibrations=calibrated,
    )


def chooser(sources: Sources) -> ChooseFactor:
    """Return a function (zone, year) → factor, which raises UnknownZone."""
    book = book_of(sources.factors.versions())

    def choose(zone: str, year: int) -> ChosenFactor:
        try:
            return book.choose(zone, year)
        except UnknownZone as error:
            raise UnknownZone(f"{error}; {_whose(sources, zone)}") from error

    return choose


def _whose(sources: Sources, zone: str) -> str:
    sites = sorted(site.site for site in sources.reader.sites() if site.zone == zone)
    if sites:
        named = ", ".join(f"'{site}'" for site in sites)
        return f"it is the zone of the site {named} ('veilleuse factors import FILE' brings ADEME's, of French zones)"
    return "it is reporting.zone, of devices whose site nobody declared: set one that 'veilleuse factors list' has"
