# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of monthly sums, their retention, and what is made of them: closed and kept years, publications.

docs/decisions/0031 and 0039.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, Protocol

from veilleuse.collector.model.calendars import CalendarVersion, SchoolPeriod
from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear, KeptYear, PackedFile
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.months import CPU_COLUMNS, IDLE_COLUMNS, OWN_CPU, SCREEN_COLUMNS, HostPeriod
from veilleuse.collector.model.publications import Publication, PublicationHold, PublicationKind
from veilleuse.collector.model.records import Grain, HostId, Point
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Population, State, Supply

HISTORY_DAYS: Final = 56
"""8 weeks up to the end of the month: docs/methodology.md §4, rule 1."""
AFTER_DAYS: Final = 4
"""Days after a month that show whether a silence is longer than 72 h."""
CARRIED_COLUMNS: Final = (*IDLE_COLUMNS, *CPU_COLUMNS, *SCREEN_COLUMNS[:-3], OWN_CPU)
"""Sums of a cell that a vector takes unchanged."""


class UnitSum(NamedTuple):
    """Sums of one cell of a day or a week."""

    grain: Grain
    """DAY or WEEK."""
    start: int
    band: Band
    state: State
    supply: Supply
    milliseconds: int
    update_window_milliseconds: int
    carried: tuple[int, ...]
    """CARRIED_COLUMNS; 0 where nothing was measured."""


class UnitPoint(NamedTuple):
    """Energy of one point of the machine itself in such a cell."""

    grain: Grain
    start: int
    band: Band
    state: State
    supply: Supply
    point: Point
    energy_millijoules: int
    covered_milliseconds: int
    update_window_energy_millijoules: int | None


class UnitEnergy(NamedTuple):
    """Derived energy of such a cell."""

    grain: Grain
    start: int
    band: Band
    state: State
    supply: Supply
    method: Method
    milliseconds: int
    energy_millijoules: int
    uncertainty_millijoules: int


@dataclass(frozen=True, slots=True)
class Units:
    """Days and weeks of one machine."""

    sums: tuple[UnitSum, ...] = ()
    points: tuple[UnitPoint, ...] = ()
    energies: tuple[UnitEnergy, ...] = ()
    screens: tuple[UnitEnergy, ...] = ()
    night_hours: tuple[tuple[int, int], ...] = ()
    """(hour, milliseconds on in its `night` cells), classroom PCs only; with the morning after the last day.
    """

    @property
    def starts(self) -> frozenset[tuple[Grain, int]]:
        """Grain and start of each day and week."""
        found = {(row.grain, row.start) for row in self.sums}
        return frozenset(found | {(row.grain, row.start) for row in (*self.energies, *self.screens)})


class KnownBand(NamedTuple):
    """Known time and energy of one band of a day or a week."""

    grain: Grain
    start: int
    band: Band
    known_milliseconds: int
    """Time of known state, and time of unknown state with an energy."""
    derived_milliseconds: int
    """Part of it with an energy."""
    energy_millijoules: int
    on_milliseconds: int
    on_derived_milliseconds: int
    on_energy_millijoules: int


@dataclass(frozen=True, slots=True)
class MonthSource:
    """Inputs of one machine's month."""

    host_id: HostId
    month: date
    units: Units
    """Days of the month that retention has left, and weeks in it or across its edges."""
    known: tuple[KnownBand, ...]
    """Known bands of the 56 days up to its end and the 4 days after it, and of the weeks that begin in them.
    """
    first_day: int | None
    """Day number of the machine's first day, or of any day before the month; None: no report ever."""
    last_day: int | None
    psys: PsysCheck
    gone: tuple[HostPeriod, ...] = ()
    """Sums of its deleted days."""
    kept: tuple[HostPeriod, ...] = ()
    """The month as stored before."""


class StaleMonth(NamedTuple):
    """A month to store or recompute."""

    host_id: HostId
    month: date


@dataclass(frozen=True, slots=True)
class Limits:
    """Age limits of one machine on a day; day numbers, exclusive: what ended by then is deleted."""

    days: int
    """Limit of days and weeks, with their sources where these have no limit of their own."""
    hours_unix_milliseconds: int
    """Limit of records and sums of hours."""
    records: int
    """Limit of records of days and weeks."""
    months: int
    """Limit of months: those that ended by that day."""
    closed_years: frozenset[int] = frozenset()
    """Definitively closed years: their months are deleted."""
    kept_years: frozenset[int] | None = None
    """Years whose months may be deleted by age; None: all years."""


@dataclass(frozen=True, slots=True)
class OldestKept:
    """Age of a population's oldest rows, and the reason why they stay."""

    day: int | None
    """Day number; None where there is none."""
    week: int | None
    """Day number of its Monday."""
    month: int | None
    hour_unix_milliseconds: int | None
    stale_months: int
    """(machine, month) not stored yet that ended by the requested day."""


class KeptRows(NamedTuple):
    """Stored rows of some machines, read in one transaction."""

    years: Sequence[HostPeriod]
    """Rows of a year are together, in (host, day type, band) order."""
    months: Sequence[HostPeriod]
    """Rows in the same order."""
    stale: frozenset[StaleMonth]
    """Stale months, of years or months."""
    stale_rows: Sequence[HostPeriod]
    """Stored rows of the stale months: out of date, and contained in the rows of the years."""


class MonthStore(Protocol):
    """Store of months, called through the writer: each write is a transaction, or part of the caller's."""

    def due(self, before: date, limit: int) -> tuple[StaleMonth, ...]:
        """Return months that ended before a 1st and are not stored up to date,
        of machines without dirty periods.

        Oldest first.
        """

    def under_way(self, after: StaleMonth, limit: int, *, with_servers: bool) -> tuple[StaleMonth, ...]:
        """Return months from `after.month` on that are not stored, or out of date, of machines without dirty
        periods.

        In (month, host) order, those after `after`; `with_servers`: of servers too.
        """

    def source(self, host: Host, site: Site, month: date) -> MonthSource:
        """Return the current inputs of a month."""

    def write_month(
        self, host_id: HostId, month: date, rows: Sequence[HostPeriod], *, is_under_way: bool = False
    ) -> None:
        """Replace the stored month; its year is updated and its mark removed.

        The mark of a month under way stays, as stored: the month is stored again once it has ended. Where a
        gap separates an ended month from the month before, the months between are marked: the machine was
        silent and is back.
        """

    def drop_mark(self, host_id: HostId, month: date) -> None:
        """Remove the mark of a deleted machine."""

    # --- retention

    def expiring(self, host: Host, site: Site, limit: int, most_days: int) -> Units | None:
        """Return its oldest days and weeks that ended by `limit`, over at most `most_days` days (≥ 7).

        Units() where there are none; None where one of their months is not stored up to date.
        """

    def psys(self, host_id: HostId) -> PsysCheck:
        """Return its platform counter and its battery's discharge."""

    def move(
        self,
        host_id: HostId,
        starts: Collection[tuple[Grain, int]],
        gone: Mapping[date, Sequence[HostPeriod]],
    ) -> None:
        """Delete these days and weeks from every table; add their sums, by month, to the deleted sums."""

    def expire_rest(self, host_id: HostId, limits: Limits) -> int:
        """Delete some rows beyond the limits other than days and weeks, ≤ 20 ms;
        return their number. 0: none is left.
        """

    def expire_population(self, population: Population, limits: Limits) -> int:
        """Delete some rows in time order, as expire_rest: gaps of its machines, readings of shared meters."""

    def sweep(self) -> bool:
        """Overwrite deleted data in all files, outside a transaction.
        False while a reader still needs the old state.
        """


class MonthReader(Protocol):
    """Read-only part of the store of months, in any process."""

    def host_ids(self, population: Population | None = None) -> tuple[HostId, ...]:
        """Return the hosts of a population, or all, in order."""

    def kept(
        self,
        years: Sequence[int],
        months: Sequence[date],
        after: HostId,
        upto: HostId,
        population: Population | None = None,
    ) -> KeptRows:
        """Return the stored rows of the hosts after < id ≤ upto, of one population or all, in one
        transaction.
        """

    def month_source(self, host: Host, site: Site, month: date) -> MonthSource: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]: ...
    def school_periods(self) -> tuple[SchoolPeriod, ...]: ...


class PendingMonths(NamedTuple):
    """Data of a year that its figure does not contain yet."""

    periods: int
    """Hours, days and weeks that wait to be derived."""
    months: int
    """(machine, month) not stored, or out of date."""


class MayGo(NamedTuple):
    """Data of an expired year that may be deleted, because the year is closed or its statistics are
    stored.
    """

    months: frozenset[int] | None = None
    """Years whose months of machines may be deleted; None: all."""
    readings_until: int | None = None
    """Readings of shared meters from this moment on (Unix ms) stay; None: none does."""


class ClosedYearReader(Protocol):
    """Closed years, read-only, in any process."""

    def revisions(self, year: int | None = None) -> tuple[ClosedYear, ...]:
        """Return all revisions, or one year's, by year and revision."""

    def file(self, one: ClosedYear) -> ClosedFile:
        """Return the content of a revision. Raises StoreDamaged."""

    def waiting(self, year: int) -> PendingMonths:
        """Return the pending data of the year."""

    def kept_years(self) -> tuple[KeptYear, ...]:
        """Return the years with stored statistics that are not closed, in order."""

    def kept_file(self, one: KeptYear) -> ClosedFile:
        """Return the terms (`report`) and statistics of a kept year, without a signature.
        Raises StoreDamaged.
        """

    def first_year(self) -> int | None:
        """Return the first year with a stored month of a machine or reading of a meter;
        None = there is none.
        """

    def has_months(self, first: date, end: date, populations: Collection[Population]) -> bool:
        """Return whether a month that begins in [first, end) is stored of any machine of these
        populations.
        """

    def has_readings(self, first: date, end: date) -> bool:
        """Return whether a reading of any meter is stored of an hour that begins in these UTC days."""

    def definitive_years(self) -> frozenset[int]:
        """Return the years with a definitive revision: their months of PCs may be deleted."""


class ClosedYears(ClosedYearReader, Protocol):
    """Closed years with writes. Used like the Registry."""

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """Store the next revision of its year; statistics kept while it was open are deleted.

        Raises AdminError when it is not the next.
        """

    def keep(self, one: KeptYear, file: PackedFile | None) -> None:
        """Replace the kept statistics of the year; None: it cannot be kept.
        Raises AdminError when it is closed.
        """

    def may_go(self, today: date) -> MayGo:
        """Return the data of ended years that retention may delete."""


class PublicationSummary(NamedTuple):
    """A PublicationSummary is a publication without its content."""

    kind: PublicationKind
    first: date
    end: date
    """Exclusive."""
    format: int
    k_anonymity: int
    method_version: str
    published_unix_milliseconds: int
    content_bytes: int


class PublicationReader(Protocol):
    """Publications, read-only, in any process and thread."""

    def summary(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        """Return a publication without its content; None without one. Fast, even for large content."""

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """Return a publication as published; None without one."""

    def years(self) -> frozenset[int]:
        """Return the years of the stored publications."""

    def waits(self, first: date, end: date) -> bool:
        """Return whether records of machines under the disclosure rule,
        of days in [first, end), wait to be derived.
        """

    def hold(self) -> PublicationHold | None:
        """Return what may not be published since a restore; None without such a restore."""


class Publications(Protocol):
    """Publications with writes, in the writer's thread;
    each write is a transaction, or part of the caller's.
    """

    def put(self, one: Publication) -> bool:
        """Store a publication where its kind and period have none. False: one exists and stays.

        Raises AdminError when there is no room.
        """

    def summaries(self) -> tuple[PublicationSummary, ...]:
        """Return all, by period and kind."""

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """Return a publication as published; None without one."""

    def remove(self, kind: PublicationKind, first: date, end: date) -> None:
        """Delete one publication, if there is one."""

    def take_back(self, first: date, end: date, servers_from: date = date.min) -> int:
        """Delete the publications inside [first, end); return their number.

        What was measured of servers in a month that began before `servers_from` stays.
        """

    def expire(self, until: date, years: Collection[int]) -> int:
        """Delete the publications that ended by `until`, or began in one of the years;
        return their number.
        """
