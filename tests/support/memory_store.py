# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implement `ports.Reader` over plain lists in memory, for tests of the code that reads a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from veilleuse.collector.model.calendars import BEFORE_ALL, CalendarVersion
from veilleuse.collector.model.hosts import Host, HostStatus, LastRecord, MachineFacts, Site
from veilleuse.collector.model.records import AgentId, Cell, DataKind, Grain, HostId
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import (
    ON_STATES,
    BalanceRow,
    DerivedCell,
    DerivedRow,
    EnergySums,
    LedgerEntry,
    PointSumRow,
    StateSums,
    SumRow,
    UnitSumRow,
)
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

    def hosts(self) -> tuple[Host, ...]:
        return tuple(self.host_list)

    def sites(self) -> tuple[Site, ...]:
        return tuple(self.site_list)

    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]:
        alone = (CalendarVersion(BEFORE_ALL, Calendar.from_json(site.calendar_json)),)
        return self.versions.get(site.site, alone)

    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        return (row for row in self.sum_rows if row.grain is grain and start <= row.start < end)

    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]:
        return iter(())

    def unit_sums(self, grain: Grain, start: int, end: int) -> Iterator[UnitSumRow]:
        return iter(())

    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        return (row for row in self.derived_rows if row.grain is grain and start <= row.start < end)

    def state_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Band, State], StateSums]]:
        for row in self.sums(grain, start, end):
            cell = row.cell
            idle = (
                cell.idle_beyond_15_minutes_milliseconds,
                cell.idle_beyond_30_minutes_milliseconds,
                cell.idle_beyond_60_minutes_milliseconds,
            )
            yield row.host_id, (cell.band, cell.state), StateSums(cell.milliseconds, *idle)

    def energy_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        return self._energies(self.derived_rows, grain, start, end)

    def screen_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        return self._energies(self.screen_rows, grain, start, end)

    def _energies(
        self, rows: list[DerivedRow], grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        for row in rows:
            if row.grain is not grain or not start <= row.start < end:
                continue
            cell = row.cell
            values = (cell.milliseconds, cell.energy_millijoules, cell.uncertainty_millijoules)
            yield row.host_id, (cell.method, cell.band, cell.state), EnergySums(*values)

    def dates_on(self, start: int, end: int, longer_than_milliseconds: int) -> Iterator[tuple[HostId, int]]:
        on = self._on_at_night(Grain.DAY, start, end)
        return ((host_id, 1) for (host_id, _), length in on.items() if length > longer_than_milliseconds)

    def night_hours(self, population: Population, start: int, end: int) -> Iterator[tuple[HostId, int, int]]:
        others = {one.host_id for one in self.host_list if one.population is not population}
        for (host_id, hour), length in self._on_at_night(Grain.HOUR, start, end).items():
            if host_id not in others:
                yield host_id, hour, length

    def _on_at_night(self, grain: Grain, start: int, end: int) -> Counter[tuple[HostId, int]]:
        on: Counter[tuple[HostId, int]] = Counter()
        for row in self.sums(grain, start, end):
            if row.cell.band is Band.NIGHT and row.cell.state in ON_STATES:
                on[row.host_id, row.start] += row.cell.milliseconds
        return on

    def ledger(self) -> tuple[LedgerEntry, ...]:
        return ()

    def gap_totals(self) -> tuple[tuple[HostId, str, int, int], ...]:
        return ()

    def balance(self, first_day: date, last_day: date, *, by_hour: bool = True) -> Iterator[BalanceRow]:
        return iter(())

    def last_records(self, since_unix_milliseconds: int) -> tuple[LastRecord, ...]:
        return ()

    def rollouts(self) -> tuple[Rollout, ...]:
        return ()

    def forgotten_states(self) -> tuple[tuple[str, str, State, int], ...]:
        return ()

    def state_totals(self) -> tuple[tuple[HostId, State, int], ...]:
        return ()

    def record_count(self) -> int:
        return 0

    def dirty_count(self) -> int:
        return self.dirty

    def dirty_span(self) -> tuple[int, int] | None:
        return (1, self.dirty) if self.dirty else None
