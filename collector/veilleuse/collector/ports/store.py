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
from veilleuse.collector.model.hosts import Host, HostStatus, LatestCertificate, Site
from veilleuse.collector.model.meters import MeterDeclarations, MeterReading
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.records import AgentId, DataKind, DaySize, HostId
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import (
    BalanceRow,
    EnergySums,
    GroupPower,
    LedgerEntry,
    ServerGroup,
    ServerUse,
)
from veilleuse.collector.ports.imports import IntensityReader
from veilleuse.collector.ports.months import MonthReader, OldestKept
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass, Population, State


class Reader(Protocol):
    """Read-only queries of metrics, pages and reports. Any number of readers, in any process."""

    def data_kind(self) -> DataKind: ...
    def hosts(self, population: Population | None = None) -> tuple[Host, ...]:
        """Return the machines of one population or all, in the order of enrolment."""

    def places(self) -> frozenset[tuple[Population, str]]:
        """Return the populations of machines, each with an entity of enrolment: quick for any fleet."""

    def sites(self) -> tuple[Site, ...]: ...
    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]: ...  # as Calendars.versions
    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Return the totals since the data directory was created, per key."""

    def balance(
        self,
        first_day: date,
        last_day: date,
        *,
        by_hour: bool = True,
        population: Population | None = None,
    ) -> Iterator[BalanceRow]:
        """Yield stored, declared lost and missing time per host and whole period (R18).

        Periods are in [first_day, last_day], both included. Servers and classroom PCs by civil day of the
        site, workstations by ISO week. Only periods between the days of the host's first and last record
        count, both excluded. In (start, host) order. `by_hour`: an hour reported twice does not hide a
        missing one on the same day. Without it, a year of a fleet is read in seconds. `population`: None for
        all.
        """

    def state_totals(self) -> tuple[tuple[HostId, State, int], ...]:
        """Return (host, state, milliseconds) of all records ever stored: updated on insert, never scanned."""

    def rollouts(self) -> tuple[Rollout, ...]:
        """Return the same as Configurations.rollouts."""

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

    def hosts(self, population: Population | None = None) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def hour_sums(
        self, labels: Mapping[int, int], population: Population | None = None
    ) -> Iterator[tuple[HostId, int, EnergySums]]:
        """Yield (host, label, derived energy) of the given hours: hour, Unix ms → label.
        Hours of one label are summed.

        Of one population, or of all machines; the same pair may come more than once.
        """

    def oldest_hours(self, population: Population | None = None) -> dict[HostId, int]:
        """Return the start of each host's oldest stored hour with energy, Unix ms, of one population or all.
        Machines without hours are absent.
        """

    def intensities(self) -> IntensityReader:
        """Return the grid intensities of the same store; for the calling thread."""


class ServerSumReader(Protocol):
    """Sums of servers for looks (/metrics, first page, `top`), and what looks tell of PCs.

    They are kept by the transaction that stores or derives: no query grows with the records. Sums of days go
    back to the day before yesterday, UTC.
    """

    def changes(self, after: int) -> Iterator[tuple[int, Host]]:
        """Yield (number of the change, server) of servers that changed after that number, in its order."""

    def wrong_tables(self) -> tuple[str, ...]:
        """Return the names of the sums that differ from what they are made of; reads three days of it.

        Totals for ever are left out: they hold servers that were forgotten.
        """

    def number_of_servers(self) -> int: ...
    def server_ids(self) -> frozenset[HostId]: ...
    def places(self) -> frozenset[tuple[str, str, Population]]:
        """Return (entity, site, population) of all machines."""

    def active_pcs(self, limit: int) -> int:
        """Count active PCs, up to `limit`."""

    def pc_counts(self) -> dict[tuple[Population, HostStatus], tuple[int, date]]:
        """Return (number, first day of enrolment) of PCs by population and status; reads every PC's row."""

    def states(self, day: date) -> dict[tuple[ServerGroup, State], int]:
        """Return the milliseconds of a civil day."""

    def energies(self, day: date) -> dict[tuple[ServerGroup, Method, State], EnergySums]:
        """Return the derived energy of a civil day, without its uncertainty."""

    def hours(self, start: int, end: int) -> dict[tuple[DeviceClass, Method], dict[int, int]]:
        """Return the energy, mJ, of the hours start ≤ hour < end (Unix ms) that have any."""

    def seen(self, day: date) -> dict[ServerGroup, int]:
        """Return the number of servers with a known state on a civil day."""

    def times(self, day: date, longer_than_milliseconds: int) -> dict[HostId, int]:
        """Return the stored time of a civil day, ms, of servers with more, and of all that are not active."""

    def power(self, now_unix_milliseconds: int, contact_milliseconds: int) -> dict[ServerGroup, GroupPower]:
        """Return the power of active servers now.

        A record counts up to its length, one contact interval and one minute after its end.
        """

    def totals(self) -> dict[tuple[str, str, State], int]:
        """Return milliseconds by entity, site and state since the data directory was created."""

    def gaps(self) -> dict[str, tuple[int, int]]:
        """Return reason → (whole records, milliseconds) of gaps that servers declared."""

    def powers(
        self, now_unix_milliseconds: int, contact_milliseconds: int
    ) -> Iterator[tuple[AgentId, ServerGroup, float]]:
        """Yield the active servers with a power now, W, in the order of enrolment."""

    def day_energies(self, day: date) -> Iterator[tuple[AgentId, ServerGroup, Method, int]]:
        """Yield the energy, mJ, of each server and method on any civil day, in the order of enrolment."""

    def busiest(
        self, now_unix_milliseconds: int, contact_milliseconds: int, day: date, limit: int
    ) -> tuple[ServerUse, ...]:
        """Return the active servers of the highest power, then those without one; `day`: of their sums."""


class DataReader(Reader, MonthReader, HourReader, Protocol):
    """Queries data.db, except tables that have their own reader. Safe from any thread."""

    def server_sums(self) -> ServerSumReader:
        """Return the sums of servers, for the calling thread."""

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

    def own_use(self, first: date, end: date) -> dict[str, int] | None:
        """Return what the collector used on the UTC days [first, end), by name; None where it is not known:
        it did not count yet on the first one, or the days are deleted.
        """

    def latest_certificates(self) -> tuple[LatestCertificate, ...]:
        """Return the newest certificate of each active machine that has one."""


class BoundedReader(DataReader, Protocol):
    """Extends DataReader by a time limit of queries, for requests over HTTP."""

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Interrupt queries of this thread that take longer. Raises QueryTooSlow."""

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
