# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of what keeps months: days in, months out, and what retention takes. docs/decisions/0031."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, Protocol

from veilleuse.collector.model.calendars import CalendarVersion, SchoolPeriod
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.months import CPU_COLUMNS, IDLE_COLUMNS, SCREEN_COLUMNS, HostPeriod
from veilleuse.collector.model.records import Grain, HostId, Point
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Population, State, Supply

HISTORY_DAYS: Final = 56
"""8 weeks up to the end of the month: docs/methodology.md §4, rule 1."""
AFTER_DAYS: Final = 4
"""A silence that goes on for these after a month is longer than 72 h."""
CARRIED_COLUMNS: Final = (*IDLE_COLUMNS, *CPU_COLUMNS, *SCREEN_COLUMNS[:-3])
"""Of a cell's sums, those that a vector has as they are."""


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
    """(hour, milliseconds on in its `night` cells), classroom PCs only; those of the morning after the last day too."""

    @property
    def starts(self) -> frozenset[tuple[Grain, int]]:
        """Of each day and week."""
        found = {(row.grain, row.start) for row in self.sums}
        return frozenset(found | {(row.grain, row.start) for row in (*self.energies, *self.screens)})


class KnownBand(NamedTuple):
    """What is known of one band of a day or a week."""

    grain: Grain
    start: int
    band: Band
    known_milliseconds: int
    """Of all states but `unknown`."""
    derived_milliseconds: int
    """Of these, with an energy."""
    energy_millijoules: int
    on_milliseconds: int
    on_derived_milliseconds: int
    on_energy_millijoules: int


@dataclass(frozen=True, slots=True)
class MonthSource:
    """What a month of one machine is made of."""

    host_id: HostId
    month: date
    units: Units
    """Its days, and the weeks that lie in it or across its edges; those that retention left."""
    known: tuple[KnownBand, ...]
    """Of the 56 days up to its end and the 4 days after it, and of the weeks that begin in them."""
    first_day: int | None
    """Day number of the machine's first day, or of any day before the month; None: it never told of any."""
    last_day: int | None
    psys: PsysCheck
    gone: tuple[HostPeriod, ...] = ()
    """What its days that are gone had."""
    kept: tuple[HostPeriod, ...] = ()
    """The month as it was kept before."""


class StaleMonth(NamedTuple):
    """A month to be kept (again)."""

    host_id: HostId
    month: date


@dataclass(frozen=True, slots=True)
class Limits:
    """What of one machine is too old on a day; day numbers, exclusive: what ended by then goes."""

    days: int
    """Days and weeks, with what they were made of where that has no longer a limit of its own."""
    hours_unix_milliseconds: int
    """Records and sums of hours."""
    records: int
    """Records of days and weeks."""
    months: int
    """Months that ended by that day."""
    closed_years: frozenset[int] = frozenset()
    """Closed definitively: their months go."""
    kept_years: frozenset[int] | None = None
    """Only months of these go because they are too old; None: of all years."""


@dataclass(frozen=True, slots=True)
class OldestKept:
    """How old the oldest rows of a population are, and what keeps them."""

    day: int | None
    """Day number; None where there is none."""
    week: int | None
    """Of its Monday."""
    month: int | None
    hour_unix_milliseconds: int | None
    stale_months: int
    """(machine, month) not kept yet that ended by the day asked."""


class KeptRows(NamedTuple):
    """One state of what is kept of some machines."""

    years: Sequence[HostPeriod]
    """A year's together, in (host, day type, band) order."""
    months: Sequence[HostPeriod]
    """Likewise."""
    stale: frozenset[StaleMonth]
    """Of either."""
    stale_rows: Sequence[HostPeriod]
    """What is kept of these: no longer true, and in the rows of the years."""


class RollStore(Protocol):
    """Called through the writer: each write is a transaction, or part of the caller's."""

    def due(self, before: date, limit: int) -> tuple[StaleMonth, ...]:
        """Months that ended by then (the 1st of one) and are not kept as they are, of machines of which nothing waits to be derived;
        oldest first."""

    def source(self, host: Host, site: Site, month: date) -> MonthSource:
        """What it is made of, now."""

    def write_month(self, host_id: HostId, month: date, rows: Sequence[HostPeriod]) -> None:
        """In place of what was kept of it; its year follows, its mark goes. Where no month before it touches it, those between are
        marked: the machine was silent, and has now come back."""

    def drop_mark(self, host_id: HostId, month: date) -> None:
        """Of a machine that is no more."""

    # --- retention

    def expiring(self, host: Host, site: Site, limit: int, most_days: int) -> Units | None:
        """Its days and weeks that ended by `limit`, at most so many days (≥ 7) from the oldest on; Units() where there is none, None
        where one of their months is not kept as it is."""

    def psys(self, host_id: HostId) -> PsysCheck:
        """Its platform counter beside its battery's discharge."""

    def move(
        self,
        host_id: HostId,
        starts: Collection[tuple[Grain, int]],
        gone: Mapping[date, Sequence[HostPeriod]],
    ) -> None:
        """Take these days and weeks out of every table; what the months had of them, by month, is added to what is gone."""

    def expire_rest(self, host_id: HostId, limits: Limits) -> int:
        """Some rows of what is older than the limits but days and weeks, ≤ 20 ms; how many. 0: none is left."""

    def expire_population(self, population: Population, limits: Limits) -> int:
        """Likewise of what lies in the order of time: declared gaps of its machines, readings of meters that several share."""

    def sweep(self) -> bool:
        """Outside a transaction: what was deleted is in no file any more. False while a reader still needs the old state."""


class RollReader(Protocol):
    """The same, read-only, in any process."""

    def host_ids(self) -> tuple[HostId, ...]:
        """All, in order."""

    def kept(self, years: Sequence[int], months: Sequence[date], after: HostId, upto: HostId) -> KeptRows:
        """Of the hosts after < id ≤ upto, as one state."""

    def month_source(self, host: Host, site: Site, month: date) -> MonthSource: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]: ...
    def school_periods(self) -> tuple[SchoolPeriod, ...]: ...
