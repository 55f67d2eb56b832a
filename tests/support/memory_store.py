# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implement `ports.Reader` over plain lists in memory, for tests of the code that reads a store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date

from tests.support.stored_sums import DerivedRow, SumRow
from veilleuse.collector.account.observations import ObservedGroups, gather_periods
from veilleuse.collector.model.calendars import BEFORE_ALL, CalendarVersion
from veilleuse.collector.model.hosts import Host, HostStatus, MachineFacts, Site
from veilleuse.collector.model.months import COLUMNS, IDLE_COLUMNS, DayType, HostPeriod
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import AgentId, Cell, DataKind, Grain, HostId
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import BalanceRow, DerivedCell, LedgerEntry
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

DAY = 86_400_000
HOUR = 3_600_000


def site(name: str = "hq", zone: str = "FR", calendar: Calendar = DEFAULT_CALENDAR) -> Site:
    """Return a site with a calendar."""
    return Site(name, zone, calendar.time_zone, calendar.to_json())


def host(
    number: int,
    device_class: DeviceClass = DeviceClass.SFF,
    population: Population = Population.WORKSTATION,
    *,
    entity: str = "IT",
    place: str = "hq",
    enrolled: date = date(2026, 1, 1),
    status: HostStatus = HostStatus.ACTIVE,
    last_contact: int | None = None,
) -> Host:
    """Return a host whose number also makes its agent id; by default an active workstation."""
    return Host(
        HostId(number),
        AgentId(number.to_bytes(16, "big")),
        entity,
        place,
        population,
        status,
        MachineFacts(device_class),
        enrolled,
        last_contact,
    )


@dataclass
class MemoryReader:
    """This reader implements `ports.Reader` over its lists."""

    host_list: list[Host]
    site_list: list[Site] = field(default_factory=lambda: [site()])
    sum_rows: list[SumRow] = field(default_factory=list)
    screen_rows: list[DerivedRow] = field(default_factory=list)
    derived_rows: list[DerivedRow] = field(default_factory=list)
    simulated: bool = False
    dirty: int = 0
    versions: dict[str, tuple[CalendarVersion, ...]] = field(default_factory=dict)
    """Site → versions of its calendar; a site that is missing has only its own calendar."""

    def state(
        self,
        number: int,
        day: date,
        band: Band,
        state: State,
        milliseconds: int,
        *,
        grain: Grain = Grain.DAY,
        **more: int,
    ) -> None:
        """Add a sum of state time of the day, or of the week that begins on that day."""
        cell = Cell(band, state, Supply.AC, milliseconds, **more)  # type: ignore[arg-type]
        self.sum_rows.append(SumRow(HostId(number), grain, day.toordinal(), cell))

    def energy(
        self,
        number: int,
        day: date,
        band: Band,
        state: State,
        method: Method,
        milliseconds: int,
        energy: int,
        uncertainty: int = 0,
        *,
        grain: Grain = Grain.DAY,
    ) -> None:
        """Add derived energy and its uncertainty in millijoules, of that day or the week from it on."""
        cell = DerivedCell(band, state, Supply.AC, method, milliseconds, energy, uncertainty)
        self.derived_rows.append(DerivedRow(HostId(number), grain, day.toordinal(), cell))

    def data_kind(self) -> DataKind:
        return DataKind(self.simulated)

    def hosts(self, population: Population | None = None) -> tuple[Host, ...]:
        return tuple(one for one in self.host_list if population in (None, one.population))

    def places(self) -> frozenset[tuple[Population, str]]:
        return frozenset((one.population, one.org_entity) for one in self.host_list)

    def sites(self) -> tuple[Site, ...]:
        return tuple(self.site_list)

    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]:
        alone = (CalendarVersion(BEFORE_ALL, Calendar.from_json(site.calendar_json)),)
        return self.versions.get(site.site, alone)

    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        return (row for row in self.sum_rows if row.grain is grain and start <= row.start < end)

    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        return (row for row in self.derived_rows if row.grain is grain and start <= row.start < end)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        return ()

    def balance(
        self, first_day: date, last_day: date, *, by_hour: bool = True, population: Population | None = None
    ) -> Iterator[BalanceRow]:
        return iter(())

    def rollouts(self) -> tuple[Rollout, ...]:
        return ()

    def state_totals(self) -> tuple[tuple[HostId, State, int], ...]:
        return ()

    def record_count(self) -> int:
        return 0

    def dirty_count(self) -> int:
        return self.dirty

    def dirty_span(self) -> tuple[int, int] | None:
        return (1, self.dirty) if self.dirty else None


@dataclass
class MemoryPeriods:
    """Implements `ports.PeriodReader` over the days of a reader, and over rows of the same machines."""

    reader: MemoryReader
    rows: list[HostPeriod] = field(default_factory=list)

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        found: defaultdict[tuple[HostId, Band], Counter[str]] = defaultdict(Counter)
        days = Grain.DAY, first.toordinal(), end.toordinal()
        for row in self.reader.sums(*days):
            cell, values = row.cell, found[row.host_id, row.cell.band]
            values[f"{cell.state}_{cell.supply}_milliseconds"] += cell.milliseconds
            for column in IDLE_COLUMNS:
                values[column] += getattr(cell, column) or 0
        for one in self.reader.derived(*days):
            of, values = one.cell, found[one.host_id, one.cell.band]
            values[f"{of.method}_milliseconds"] += of.milliseconds
            values[f"{of.method}_energy_millijoules"] += of.energy_millijoules
            values[f"{of.method}_uncertainty_millijoules"] += of.uncertainty_millijoules
            values[f"{of.state}_energy_millijoules"] += of.energy_millijoules
        for one in self.reader.screen_rows:
            of, values = one.cell, found[one.host_id, one.cell.band]
            if days[1] <= one.start < days[2]:
                values["screens_milliseconds"] += of.milliseconds
                values["screens_energy_millijoules"] += of.energy_millijoules
                values["screens_uncertainty_millijoules"] += of.uncertainty_millijoules
        made = [
            HostPeriod(host_id, first, DayType.OPEN, band, tuple(values[column] for column in COLUMNS))
            for (host_id, band), values in found.items()
        ]
        made += [row for row in self.rows if first <= row.period_from < end]
        return iter(sorted(made, key=lambda row: row.host_id))

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        return self.host_periods(first, end)


def gather(reader: MemoryReader, query: Query, hosts: Iterable[Host] | None = None) -> ObservedGroups:
    """Return the groups of a query over the days of a reader."""
    return gather_periods(reader, MemoryPeriods(reader), query, hosts)
