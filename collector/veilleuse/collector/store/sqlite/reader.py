# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads for all outlets: any number, in any process, never blocking the writer.

Implements ports.DataReader.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from veilleuse.collector.model.attribution import HostHour
from veilleuse.collector.model.calendars import CalendarVersion, SchoolPeriod
from veilleuse.collector.model.calibration import StoredFit
from veilleuse.collector.model.factors import FactorVersion
from veilleuse.collector.model.hosts import Host, LatestCertificate, Site
from veilleuse.collector.model.records import DataKind, DaySize, HostId
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import (
    BalanceRow,
    EnergySums,
    LedgerEntry,
)
from veilleuse.collector.ports.months import KeptRows, MonthSource, OldestKept
from veilleuse.collector.store.directory import DATA_FILE
from veilleuse.collector.store.sqlite.calendars import SqliteCalendars
from veilleuse.collector.store.sqlite.calibration import SqliteCalibrations
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.diagnostics import (
    balance,
    latest_certificates,
    own_use,
    ran_since,
    sizes,
)
from veilleuse.collector.store.sqlite.factors import SqliteFactors
from veilleuse.collector.store.sqlite.grid import SqliteIntensities
from veilleuse.collector.store.sqlite.hours import host_hours, hour_sums, oldest_hours
from veilleuse.collector.store.sqlite.migrations import open_current
from veilleuse.collector.store.sqlite.month_rows import PeriodRows, of_population
from veilleuse.collector.store.sqlite.registry_rows import (
    CONTACT_COLUMNS,
    HOST_COLUMNS,
    SITE_COLUMNS,
    host_from_row,
    read_data_kind,
    site_from_row,
)
from veilleuse.collector.store.sqlite.remote_config import SqliteConfigurations
from veilleuse.collector.store.sqlite.server_sums import SqliteServerSums
from veilleuse.collector.wire_codec import (
    POPULATIONS,
    STATES,
    number,
)
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass, Population, State


class SqliteReader:
    """Runs queries on connections of its own, one a thread."""

    def __init__(self, directory: Path) -> None:
        """Raises DataDirectoryError without a database or with an old one, StoreTooNew, StoreDamaged."""
        self._path = directory / DATA_FILE
        self._local = threading.local()
        self._opened: list[Database] = []
        self._lock = threading.Lock()
        self._database()

    def data_kind(self) -> DataKind:
        """Tell whether the data are real or simulated."""
        database = self._database()
        with database.translated():
            return read_data_kind(database.connection)

    def hosts(self, population: Population | None = None) -> tuple[Host, ...]:
        """Return the hosts of one population or all, in the order of enrolment."""
        sql = f"SELECT {HOST_COLUMNS} FROM hosts WHERE population = ifnull(?, population) ORDER BY host_id"
        only = None if population is None else number(population)
        return tuple(map(host_from_row, self._rows(sql, only)))

    def places(self) -> frozenset[tuple[Population, str]]:
        """Return the populations of machines, each with an entity of enrolment."""
        rows = self._rows("SELECT DISTINCT population, org_entity FROM hosts")
        return frozenset((POPULATIONS[population], entity) for population, entity in rows)

    def contacts(self) -> tuple[Host, ...]:
        """Return all hosts without facts and health: fast, also in the process that receives."""
        rows = self._rows(f"SELECT {CONTACT_COLUMNS} FROM hosts ORDER BY host_id")
        return tuple(map(host_from_row, rows))

    def sites(self) -> tuple[Site, ...]:
        """Return all sites, by name."""
        return tuple(map(site_from_row, self._rows(f"SELECT {SITE_COLUMNS} FROM sites ORDER BY site")))

    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]:
        """Return the versions of a site's calendar, oldest first, never empty. Raises StoreDamaged."""
        return SqliteCalendars(self._database()).versions(site)

    def factor_versions(self) -> tuple[FactorVersion, ...]:
        """Return every imported factor, in the order of import. Raises StoreDamaged."""
        return SqliteFactors(self._database()).versions()

    def host_hours(self, host_id: HostId, start: int, end: int) -> Iterator[HostHour]:
        """Yield hours of one machine with any stored value that begin in [start, end), Unix milliseconds."""
        return host_hours(self._rows, host_id, start, end)

    def hour_sums(
        self, labels: Mapping[int, int], population: Population | None = None
    ) -> Iterator[tuple[HostId, int, EnergySums]]:
        """Yield (host, label, derived energy).

        `labels`: hour in Unix milliseconds → label. Port: ports.HourReader.
        """
        return hour_sums(self._rows, labels, population)

    def intensities(self) -> SqliteIntensities:
        """Return the intensities of grids, on this thread's connection: ports.IntensityReader."""
        return SqliteIntensities(self._database())

    def oldest_hours(self, population: Population | None = None) -> dict[HostId, int]:
        """Return the oldest hour with energy of each host of one population or all."""
        return oldest_hours(self._rows, population)

    def server_sums(self) -> SqliteServerSums:
        """Return the sums of servers, on this thread's connection: ports.ServerSumReader."""
        return SqliteServerSums(self._rows)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Return totals since the data directory was created, by key, in key order."""
        rows = self._rows(
            "SELECT org_entity, site, population, device_class, method, state, factor_id, factor_kgco2e_per_kwh,"
            " energy_millijoules FROM ledger ORDER BY 1, 2, 3, 4, 5, 6, 7, 8"
        )
        return tuple(
            LedgerEntry(
                entity,
                site,
                POPULATIONS[population],
                DeviceClass(device),
                Method(method),
                STATES[state],
                factor_id,
                factor,
                energy,
            )
            for entity, site, population, device, method, state, factor_id, factor, energy in rows
        )

    def balance(
        self,
        first_day: date,
        last_day: date,
        *,
        by_hour: bool = True,
        population: Population | None = None,
    ) -> Iterator[BalanceRow]:
        """Yield whole days and weeks inside each host's first and last record, in the order (start, host)."""
        return balance(self._rows, first_day, last_day, by_hour=by_hour, population=population)

    def state_totals(self) -> tuple[tuple[HostId, State, int], ...]:
        """Return (host, state, milliseconds) of all records ever stored."""
        rows = self._rows("SELECT host_id, state, milliseconds FROM state_totals")
        return tuple((HostId(host), STATES[state], milliseconds) for host, state, milliseconds in rows)

    def sizes(self) -> tuple[DaySize, ...]:
        """Return the sizes of all days, oldest first."""
        return sizes(self._rows)

    def ran_since(self, today: date) -> date:
        """Return the first of the consecutive days up to `today` on which `serve` ran."""
        return ran_since(self._rows, today)

    def own_use(self, first: date, end: date) -> dict[str, int] | None:
        """Return what the collector used on the days [first, end), by name; None where it is not known."""
        return own_use(self._rows, first, end)

    def latest_certificates(self) -> tuple[LatestCertificate, ...]:
        """Return the newest certificate of each active machine that has one."""
        return latest_certificates(self._rows)

    def record_count(self) -> int:
        """Return the number of stored records."""
        return int(self._rows("SELECT value FROM totals WHERE name = 'records'")[0][0])

    def dirty_count(self) -> int:
        """Return the number of periods that wait for derive."""
        return int(self._rows("SELECT count(*) FROM dirty")[0][0])

    def rollouts(self) -> tuple[Rollout, ...]:
        """Return the configuration of each population that has ever had one."""
        return SqliteConfigurations(self._database()).rollouts()

    def dirty_span(self) -> tuple[int, int] | None:
        """Return the oldest and newest turn among the marks for derive, of hours if any; turns restart at
        none.
        """
        sql = "SELECT coalesce(min(nullif(turn, 0)), min(turn)), max(turn) FROM dirty"
        ((oldest, newest),) = self._rows(sql)
        return None if oldest is None else (oldest, newest)

    # --- months and years: ports.MonthReader

    def host_ids(self, population: Population | None = None) -> tuple[HostId, ...]:
        """Return the ids of a population, or all, in order."""
        rows = self._rows(f"SELECT host_id FROM hosts WHERE 1{of_population(population)} ORDER BY host_id")
        return tuple(HostId(row[0]) for row in rows)

    def kept(
        self,
        years: Sequence[int],
        months: Sequence[date],
        after: HostId,
        upto: HostId,
        population: Population | None = None,
    ) -> KeptRows:
        """Return months and years of the hosts after < id ≤ upto, as one snapshot."""
        return PeriodRows(self._database()).kept(years, months, after, upto, population)

    def month_source(self, host: Host, site: Site, month: date) -> MonthSource:
        """Return the rows that a month of a machine is computed from."""
        return PeriodRows(self._database()).month_source(host, site, month)

    def oldest(self, population: Population, ended_by: date) -> OldestKept:
        """Return the age of a population's oldest rows, and the number of its ended months that are not
        stored.
        """
        return PeriodRows(self._database()).oldest(population, ended_by)

    def months_due(self, before: date) -> int:
        """Return the number of machines' months that ended by then (the 1st of a month) and are stale."""
        return int(self._rows("SELECT count(*) FROM stale_months WHERE month < ?", before.toordinal())[0][0])

    def calibrations(self) -> tuple[StoredFit, ...]:
        """See Calibrations.stored."""
        return SqliteCalibrations(self._database()).stored()

    def school_periods(self) -> tuple[SchoolPeriod, ...]:
        """See Calendars.school_periods."""
        return SqliteCalendars(self._database()).school_periods()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            while self._opened:
                self._opened.pop().close()

    # --- connections

    def _database(self) -> Database:
        database: Database | None = getattr(self._local, "database", None)
        if database is None:
            database = self._local.database = open_current(self._path, "data")
            with self._lock:
                self._opened.append(database)
        return database

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return self._database().rows(sql, *values)
