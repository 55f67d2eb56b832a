# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads machines' months as stored; recomputes stale ones from their days. Implements ports.PeriodReader.

A year is read from its rows: one per machine, day type and band. Where one of its months is stale, the stored
month is subtracted from the year and the recomputed one added. Most of a year is the year without its other
months.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from operator import add, sub
from typing import Final, TypeAlias

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.months import NOTHING, DayType, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.collector.months.aggregate import Key
from veilleuse.collector.months.imputation import month_rows
from veilleuse.collector.months.site_days import SiteCalendars, SiteDays
from veilleuse.collector.ports.months import KeptRows, MonthReader, StaleMonth
from veilleuse.wire.vocabulary import Band, Population

PAGE_HOSTS: Final = 512
"""Machines per read transaction: a longer one would keep the WAL from being reset."""
_MOST_MONTHS: Final = 6
"""Months of a year that are read one by one."""
_ORDER: Final = tuple((kind, band) for kind in DayType for band in Band)


class Periods:
    """Period reader over a store reader; for one thread at a time.

    A long-lived instance sees changes of the store, but not new enrolments: build a new one for these.
    """

    def __init__(self, reader: MonthReader, hosts: Iterable[Host] | None = None) -> None:
        """Take the machines whose days are read where a month is cut or stale; None: all.

        Where they are of one population, rows of the others are not read.
        """
        self._reader = reader
        self._chosen = None if hosts is None else tuple(hosts)
        populations = {host.population for host in self._chosen or ()}
        self._population = populations.pop() if len(populations) == 1 else None
        self._site_calendars = SiteCalendars(reader.calendars, reader.school_periods)
        self._fleet: dict[HostId, Host] | None = None
        self._sites: dict[str, Site] = {}
        self._windows: dict[tuple[str, Population, Slice], SiteDays] = {}

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Implements ports.PeriodReader. Raises StoreDamaged;
        UsageError where the period cuts a month with deleted days.
        """
        edges, inside = _edges(first, end)
        years, months, left_out = _cut(inside.first, inside.end) if inside else ([], [], [])
        self._site_calendars.discard_declarations()
        self._windows.clear()
        for after, upto in self._pages():
            kept = self._reader.kept(years, [*months, *left_out], after, upto, self._population)
            rows = self._page(first, kept, left_out)
            yield from self._with_edges(rows, first, edges, (after, upto)) if edges else rows

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Implements ports.PeriodReader. Raises ValueError, StoreDamaged."""
        for month in _months(first, end):
            self._site_calendars.discard_declarations()
            for after, upto in self._pages():
                yield from self._page(month, self._reader.kept((), (month,), after, upto, self._population))

    def _pages(self) -> Iterator[tuple[HostId, HostId]]:
        hosts = self._reader.host_ids(self._population)
        ends = [*hosts[PAGE_HOSTS - 1 :: PAGE_HOSTS], *hosts[-1:]]
        return zip([HostId(-1), *ends], ends, strict=False)

    def _page(self, first: date, kept: KeptRows, left_out: Sequence[date] = ()) -> Iterator[HostPeriod]:
        if not kept.stale and not (kept.years and kept.months):
            only = kept.years or kept.months
            if all(row.period_from == first for row in only):  # one year, or one month: as stored
                yield from only
                return
        yield from _sum_rows(self._true(kept, left_out), first)

    def _true(self, kept: KeptRows, left_out: Sequence[date]) -> _Parts:
        """Return the stored rows with each stale month replaced by its recomputed rows, and without
        `left_out`.
        """
        found, years = _parts(kept.years), {row.period_from.year for row in kept.years}
        stale = {one for one in kept.stale if one.month not in left_out}
        less = [row for row in kept.months if row.period_from in left_out]
        less += (row for row in kept.stale_rows if row.period_from.year in years and row[:2] in stale)
        _add(found, less, sub)
        more = (row for row in kept.months if row.period_from not in left_out)
        _add(found, (row for row in more if row[:2] not in stale))
        for one in sorted(stale):
            _add(found, self._now(one))
        return found

    def _now(self, one: StaleMonth) -> Sequence[HostPeriod]:
        """Recompute a month from its days; empty for a machine that is not read, or forgotten meanwhile."""
        host = self._hosts().get(one.host_id)
        if host is None:
            return ()
        site = self._sites[host.site]
        source = self._reader.month_source(host, site, one.month)
        return month_rows(source, self._site_calendars.days(site, host.population), site.time_zone)

    def _hosts(self) -> dict[HostId, Host]:
        if self._fleet is None:
            chosen = self._reader.hosts() if self._chosen is None else self._chosen
            self._fleet = {host.host_id: host for host in chosen}
            self._sites = {site.site: site for site in self._reader.sites()}
        return self._fleet

    def _with_edges(
        self, rows: Iterator[HostPeriod], first: date, edges: Sequence[Slice], hosts: tuple[HostId, HostId]
    ) -> Iterator[HostPeriod]:
        """Yield whole months, with parts of months recomputed from their days."""
        found = _parts(rows)
        for host_id, host in self._hosts().items():
            if hosts[0] < host_id <= hosts[1]:
                for edge in edges:
                    _add(found, self._part(host, edge))
        yield from _sum_rows(found, first)

    def _part(self, host: Host, part: Slice) -> Sequence[HostPeriod]:
        """Return the rows of a stretch within one month."""
        site = self._sites[host.site]
        key = (site.site, host.population, part)
        if key not in self._windows:
            self._windows[key] = self._site_calendars.days(site, host.population).within(part.first, part.end)
        source = self._reader.month_source(host, site, part.first.replace(day=1))
        if source.gone:
            raise UsageError(
                f"days of {part.first:%Y-%m} are gone, only the month is kept: let --from and --to be "
                "the 1st of a month"
            )
        return month_rows(source, self._windows[key], site.time_zone)


_Parts: TypeAlias = defaultdict[HostId, dict[Key, HostPeriod]]
"""Sums of rows, by machine and key."""


def _parts(rows: Iterable[HostPeriod]) -> _Parts:
    found: _Parts = defaultdict(dict)
    _add(found, rows)
    return found


def _add(found: _Parts, rows: Iterable[HostPeriod], sign: Callable[[int, int], int] = add) -> None:
    """Add rows to the sums, or subtract them."""
    for row in rows:
        of_host, key = found[row.host_id], (row.day_type, row.band)
        before = of_host.get(key)
        if before is None and sign is add:
            of_host[key] = row
            continue
        values = tuple(map(sign, before.values if before else NOTHING, row.values))
        apportioned = row.apportioned or (before is not None and before.apportioned)
        of_host[key] = HostPeriod(row.host_id, row.period_from, *key, values, apportioned)


def _sum_rows(found: _Parts, first: date) -> Iterator[HostPeriod]:
    for host_id in sorted(found):
        of_host = found[host_id]
        for key in _ORDER:
            row = of_host.get(key)
            if row is not None and any(row.values):
                yield HostPeriod(host_id, first, *key, row.values, row.apportioned)


def _edges(first: date, end: date) -> tuple[list[Slice], Slice | None]:
    """Return the parts of [first, end) that are not whole months, and the whole months between them."""
    low, high = _next_month(first) if first.day > 1 else first, end.replace(day=1)
    if low > high:  # within one month
        return [Slice(first, end)], None
    parts = [Slice(first, low), Slice(high, end)]
    return [part for part in parts if part.first < part.end], Slice(low, high) if low < high else None


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _cut(first: date, end: date) -> tuple[list[int], list[date], list[date]]:
    """Return the years to read for [first, end), the months outside them, and the months of them outside
    [first, end).

    Most of a year is read as a year: fewer rows. Its rows are `apportioned` where a week of any month was.
    """
    years, months, left_out = [], [], []
    for year in range(first.year, (end - timedelta(days=1)).year + 1):
        inside = list(_months(max(first, date(year, 1, 1)), min(end, date(year + 1, 1, 1))))
        if len(inside) <= _MOST_MONTHS:
            months += inside
            continue
        years.append(year)
        left_out += [one for one in _months(date(year, 1, 1), date(year + 1, 1, 1)) if one not in inside]
    return years, months, left_out


def _months(first: date, end: date) -> Iterator[date]:
    if first.day != 1 or end.day != 1:
        raise ValueError(f"{first} to {end}: both must be the 1st of a month")
    while first < end:
        yield first
        first = _next_month(first)
