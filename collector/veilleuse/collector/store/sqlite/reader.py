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
from typing import Any, Final

from veilleuse.collector.model.attribution import HostHour
from veilleuse.collector.model.calendars import CalendarVersion, SchoolPeriod
from veilleuse.collector.model.calibration import StoredFit
from veilleuse.collector.model.factors import FactorVersion
from veilleuse.collector.model.hosts import Host, LatestCertificate, Site
from veilleuse.collector.model.records import Cell, DataKind, DaySize, Grain, HostId, Point
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import (
    BalanceRow,
    DerivedCell,
    DerivedRow,
    EnergySums,
    LedgerEntry,
    PointSumRow,
    SumRow,
    UnitSumRow,
)
from veilleuse.collector.ports.months import KeptRows, MonthSource, OldestKept
from veilleuse.collector.store.directory import DATA_FILE
from veilleuse.collector.store.sqlite.batch import VALUE_COLUMNS
from veilleuse.collector.store.sqlite.calendars import SqliteCalendars
from veilleuse.collector.store.sqlite.calibration import SqliteCalibrations
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.diagnostics import balance, latest_certificates, ran_since, sizes
from veilleuse.collector.store.sqlite.factors import SqliteFactors
from veilleuse.collector.store.sqlite.grid import SqliteIntensities
from veilleuse.collector.store.sqlite.hours import host_hours, hour_sums, oldest_hours
from veilleuse.collector.store.sqlite.migrations import open_current
from veilleuse.collector.store.sqlite.month_rows import PeriodRows
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
    BANDS,
    BOUNDARIES,
    POINT_KINDS,
    POPULATIONS,
    STATES,
    SUPPLIES,
    number,
)
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import BUCKETS, CELL_SUMS
from veilleuse.wire.vocabulary import DeviceClass, Population, State

PAGE_ROWS: Final = 4_096
_KEYS: Final = {
    "sums": "band, state, supply",
    "point_sums": "band, state, supply, point_id",
    "unit_sums": "unit_id",
    "derived": "band, state, supply, method",
}
"""Columns of each primary key after (grain, start, host_id)."""


class SqliteReader:
    """Runs queries on connections of its own, one a thread. Iterators stream in the order (start, host).

    The rows of one host in one period are one snapshot, and so is a page of some thousand rows. A longer
    snapshot would keep the WAL from restarting while a slow caller takes the rows.
    """

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

    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        """Yield sums with start ≤ key < end; keys as in Grain."""
        columns = ", ".join(("band", "state", "supply", *VALUE_COLUMNS))
        for host_id, key, *cell in self._pages("sums", columns, grain, start, end):
            yield SumRow(HostId(host_id), grain, key, _cell(cell))

    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]:
        """Yield energy by point with start ≤ key < end."""
        points = {
            row[0]: Point(POINT_KINDS[row[1]], row[2], BOUNDARIES[row[3]], row[4])
            for row in self._rows("SELECT point_id, kind, domain, boundary, subject FROM points")
        }
        columns = (
            "band, state, supply, point_id, energy_millijoules, covered_milliseconds,"
            " update_window_energy_millijoules"
        )
        for host_id, key, band, state, supply, point_id, energy, covered, window in self._pages(
            "point_sums", columns, grain, start, end
        ):
            point = points.get(point_id) or self._point(point_id)
            yield PointSumRow(
                HostId(host_id),
                grain,
                key,
                BANDS[band],
                STATES[state],
                SUPPLIES[supply],
                point,
                energy,
                covered,
                window,
            )

    def unit_sums(self, grain: Grain, start: int, end: int) -> Iterator[UnitSumRow]:
        """Yield CPU time by unit with start ≤ key < end."""
        names: dict[int, str] = dict(self._rows("SELECT unit_id, name FROM units"))
        for host_id, key, unit_id, spent in self._pages(
            "unit_sums", "unit_id, cpu_milliseconds", grain, start, end
        ):
            if unit_id not in names:  # stored after the first query
                names.update(self._rows("SELECT unit_id, name FROM units WHERE unit_id = ?", unit_id))
            yield UnitSumRow(HostId(host_id), grain, key, names[unit_id], spent)

    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        """Yield derived cells with start ≤ key < end; DAY includes clock records, by the site's civil day."""
        columns = "band, state, supply, method, milliseconds, energy_millijoules, uncertainty_millijoules"
        for host_id, key, band, state, supply, method, *values in self._pages(
            "derived", columns, grain, start, end
        ):
            cell = DerivedCell(BANDS[band], STATES[state], SUPPLIES[supply], Method(method), *values)
            yield DerivedRow(HostId(host_id), grain, key, cell)

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

    def host_ids(self) -> tuple[HostId, ...]:
        """Return all host ids, in order."""
        return tuple(HostId(row[0]) for row in self._rows("SELECT host_id FROM hosts ORDER BY host_id"))

    def kept(self, years: Sequence[int], months: Sequence[date], after: HostId, upto: HostId) -> KeptRows:
        """Return months and years of the hosts after < id ≤ upto, as one snapshot."""
        return PeriodRows(self._database()).kept(years, months, after, upto)

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
        database = self._database()
        with database.translated():
            return database.connection.execute(sql, values).fetchall()

    def _pages(self, table: str, columns: str, grain: Grain, start: int, end: int) -> Iterator[Any]:
        """Yield host_id, start and `columns` in key order; no read transaction is open between two pages."""
        sql = (
            f"SELECT host_id, start, {columns} FROM {table} WHERE grain = ? AND (start, host_id) > (?, ?) AND start < ?"
            f" ORDER BY start, host_id, {_KEYS[table]} LIMIT ?"
        )
        after, size = (start, -1), PAGE_ROWS
        while True:
            rows = self._rows(sql, grain, *after, end, size)
            if len(rows) < size:
                yield from rows
                return
            last = rows[-1][:2]
            whole = next((at for at in range(size, 0, -1) if rows[at - 1][:2] != last), 0)
            if not whole:  # one host has more rows in one period than a page holds
                size *= 2
                continue
            yield from rows[:whole]
            host_id, key, *_ = rows[whole - 1]
            after = (key, host_id)

    def _point(self, point_id: int) -> Point:
        """Read a point stored after the first query."""
        ((kind, domain, boundary, subject),) = self._rows(
            "SELECT kind, domain, boundary, subject FROM points WHERE point_id = ?", point_id
        )
        return Point(POINT_KINDS[kind], domain, BOUNDARIES[boundary], subject)


def _cell(row: list[Any]) -> Cell:
    """Build a Cell from (band, state, supply, VALUE_COLUMNS)."""
    band, state, supply, milliseconds, *rest = row
    buckets: dict[str, Any] = {}
    position = len(CELL_SUMS)
    for name, size in BUCKETS.items():
        values = tuple(rest[position : position + size])
        position += size
        buckets[name] = () if values[0] is None else values
    sums: dict[str, Any] = dict(zip(CELL_SUMS, rest, strict=False))
    return Cell(BANDS[band], STATES[state], SUPPLIES[supply], milliseconds, **sums, **buckets)
