# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the readers of a data directory that most reports need.

Readers work beside the writer, in any process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import date
from typing import Protocol

from veilleuse.collector.model.attribution import HostHour
from veilleuse.collector.model.calendars import CalendarVersion
from veilleuse.collector.model.calibration import StoredFit
from veilleuse.collector.model.factors import FactorVersion
from veilleuse.collector.model.hosts import (
    Host,
    LastRecord,
    LatestCertificate,
    Site,
)
from veilleuse.collector.model.meters import MeterDeclarations, MeterReading
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.records import (
    DataKind,
    DaySize,
    Grain,
    HostId,
)
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import (
    BalanceRow,
    DerivedRow,
    EnergySums,
    LedgerEntry,
    PointSumRow,
    SumRow,
    UnitSumRow,
)
from veilleuse.collector.ports.imports import (
    IntensityReader,
)
from veilleuse.collector.ports.months import (
    MonthReader,
    OldestKept,
)
from veilleuse.wire.vocabulary import Population, State


class Reader(Protocol):
    """Read-only queries of metrics, pages and reports. Any number of readers, in any process."""

    def data_kind(self) -> DataKind: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]: ...  # as Calendars.versions
    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        """Yield sums with start ≤ key < end (key as in Grain)."""

    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]: ...
    def unit_sums(self, grain: Grain, start: int, end: int) -> Iterator[UnitSumRow]: ...
    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        """Yield derived cells; DAY covers clock records too (by civil day of the site)."""

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Return the totals since the data directory was created, per key."""

    def gap_totals(self) -> tuple[tuple[HostId, str, int, int], ...]:
        """Return (host, reason, records, milliseconds)."""

    def balance(self, first_day: date, last_day: date, *, by_hour: bool = True) -> Iterator[BalanceRow]:
        """Yield stored, declared lost and missing time per host and whole period (R18).

        Periods are in [first_day, last_day], both included. Servers and classroom PCs by civil day of the
        site, workstations by ISO week. Only periods between the days of the host's first and last record
        count, both excluded. In (start, host) order. `by_hour`: an hour reported twice does not hide a
        missing one on the same day. Without it, a year of a fleet is read in seconds.
        """

    def last_records(self, since_unix_milliseconds: int) -> tuple[LastRecord, ...]:
        """Return the newest derived clock record of each host, in an hour begun since then."""

    def state_totals(self) -> tuple[tuple[HostId, State, int], ...]:
        """Return (host, state, milliseconds) of all records ever stored: updated on insert, never scanned."""

    def rollouts(self) -> tuple[Rollout, ...]:
        """Return the same as Configurations.rollouts."""

    def forgotten_states(self) -> tuple[tuple[str, str, State, int], ...]:
        """Return (entity, site, state, milliseconds) of forgotten servers, which counters still include."""

    def record_count(self) -> int: ...
    def dirty_count(self) -> int: ...
    def dirty_span(self) -> tuple[int, int] | None:
        """Return the sequence numbers of the oldest and newest waiting mark, of hours if there are any.

        The numbers restart when none was left.
        """


class PeriodReader(Protocol):
    """Machines' periods, read-only, in any process."""

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Yield the sums of every host by day type and band over the civil days [first, end): `period_from`
        is `first`.

        Whole calendar years cost one row per host, day type and band. Months not stored, out of date or
        partial are computed from their days. Raises UsageError where these days are deleted. In host order.
        """

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Yield the same by month: `period_from` is the month's first day. In (month, host) order.

        Both are firsts of a month (ValueError otherwise).
        """


class HourReader(Protocol):
    """Hours of machines with grid intensities, for the indicative ledger; read-only, in any process."""

    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def hour_sums(
        self, labels: Mapping[int, int], population: Population | None = None
    ) -> Iterator[tuple[HostId, int, EnergySums]]:
        """Yield (host, label, derived energy) of the given hours: hour, Unix ms → label.
        Hours of one label are summed.

        Of one population, or of all machines; the same pair may come more than once.
        """

    def oldest_hours(self) -> dict[HostId, int]:
        """Return the start of each host's oldest stored hour with energy, Unix ms.
        Machines without hours are absent.
        """

    def intensities(self) -> IntensityReader:
        """Return the grid intensities of the same store; for the calling thread."""


class DataReader(Reader, MonthReader, HourReader, Protocol):
    """Queries data.db, except tables that have their own reader. Safe from any thread."""

    def contacts(self) -> tuple[Host, ...]:
        """Return all machines without their facts and health: quick, also in the process that receives."""

    def factor_versions(self) -> tuple[FactorVersion, ...]:
        """Return FactorReader.versions."""

    def calibrations(self) -> tuple[StoredFit, ...]:
        """Return Calibrations.stored."""

    def host_hours(self, host_id: HostId, start: int, end: int) -> Iterator[HostHour]:
        """Yield the stored hours of one machine that begin in [start, end), Unix ms, for attribution."""

    def oldest(self, population: Population, ended_by: date) -> OldestKept:
        """Return the age of a population's oldest rows, and the number of ended months not stored."""

    def months_due(self, before: date) -> int:
        """Count months of machines that ended by then (the 1st of a month) and are not stored up to date."""

    def sizes(self) -> tuple[DaySize, ...]:
        """Return the sizes of all days, oldest first."""

    def ran_since(self, today: date) -> date:
        """Return the first of the consecutive days up to `today` on which `serve` ran."""

    def latest_certificates(self) -> tuple[LatestCertificate, ...]:
        """Return the newest certificate of each active machine that has one."""


class BoundedReader(DataReader, Protocol):
    """Extends DataReader by a time limit of queries, for requests over HTTP."""

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Interrupt queries of this thread that take longer. Raises QueryTooSlow."""

    def to_its_end(self) -> AbstractContextManager[None]:
        """Suspend the limit of `within` for this thread."""

    def check_time(self) -> None:
        """Raise QueryTooSlow when the limit of `within` has passed."""


class MeteringReader(Protocol):
    """Reads meters that several machines share; read-only, any process."""

    def declarations(self) -> MeterDeclarations:
        """Return all declarations, by name."""

    def hours(self, meters: Iterable[str], start: int, end: int) -> dict[str, dict[int, MeterReading]]:
        """Return meter → hour → its best reading, of hours with start ≤ hour < end (Unix ms)."""

    def first_read(self) -> int | None:
        """Return the oldest stored hour of any meter (Unix ms); None without readings."""

    def last_read(self) -> dict[str, int]:
        """Return every meter ever read by an agent, declared or not → its newest hour (Unix ms)."""
