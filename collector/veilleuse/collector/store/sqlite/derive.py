# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads and writes for derive. Implements ports.DeriveStore; runs in the writer's thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import civil_day, day_bounds
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DerivedCell, DirtyPeriod, PeriodResult, RecordCells
from veilleuse.collector.store.sqlite.batch import CELL_KEYS, UnreadCells
from veilleuse.collector.store.sqlite.connection import Database, padded
from veilleuse.collector.store.sqlite.months import StaleMonths
from veilleuse.collector.wire_codec import cells_from_wire, number
from veilleuse.wire.ladder import Method

NOT_DERIVABLE: Final = -1
"""Value of records.derived_energy_millijoules when no energy could be derived; NULL: not yet tried."""

_GRAINS: Final = {int(grain): grain for grain in Grain}
_METHODS: Final = {method: method.value for method in Method}

_Period: TypeAlias = tuple[int, int, int]
"""(grain, start, host_id): the head of the key of both tables of cells."""
_Key: TypeAlias = tuple[int, int, int, str]
_Values: TypeAlias = tuple[int, int, int]
_Cells: TypeAlias = dict[_Key, _Values]

_CELL: Final = (
    "INSERT INTO {table} (grain, start, host_id, band, state, supply, method, milliseconds, energy_millijoules,"
    " uncertainty_millijoules) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (grain, start, host_id, band, state, supply, method) DO UPDATE SET"
    " milliseconds = milliseconds + excluded.milliseconds,"
    " energy_millijoules = energy_millijoules + excluded.energy_millijoules,"
    " uncertainty_millijoules = uncertainty_millijoules + excluded.uncertainty_millijoules"
)
"""Columns of both tables of cells."""
_STANDING: Final = (
    "SELECT grain, start, host_id, band, state, supply, method, milliseconds, energy_millijoules,"
    " uncertainty_millijoules FROM {table} WHERE (grain, start, host_id) IN (VALUES {periods})"
)
_HOURS: Final = (
    "SELECT band, state, supply, method, milliseconds, energy_millijoules, uncertainty_millijoules FROM {table}"
    " WHERE host_id = ? AND grain = ? AND start >= ? AND start < ?"
)
_DELETE: Final = "DELETE FROM {table} WHERE grain = ? AND start = ? AND host_id = ?"
_LEDGER: Final = (
    "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " energy_millijoules = energy_millijoules + excluded.energy_millijoules"
)
_CLEAR: Final = (
    "DELETE FROM dirty WHERE host_id = ? AND grain = ? AND start = ? AND NOT EXISTS (SELECT 1 FROM records"
    " WHERE records.host_id = dirty.host_id AND records.grain = dirty.grain"
    " AND records.bucket = dirty.start AND records.record_id > ?)"
)
_BEFORE_ALL: Final = -(2**63)
"""A number below that of any record."""


class SqliteDerive:
    """Reads dirty periods, writes derived cells and the ledger."""

    def __init__(self, database: Database, stale: StaleMonths, unread: UnreadCells) -> None:
        self._database = database
        self._stale = stale
        self._unread = unread

    def dirty(self, limit: int) -> tuple[DirtyPeriod, ...]:
        """Return at most `limit` dirty periods, oldest marks first."""
        rows = self._database.rows(
            "SELECT host_id, grain, start FROM dirty ORDER BY turn, host_id, grain, start LIMIT ?", limit
        )
        return tuple(DirtyPeriod(HostId(host), _GRAINS[grain], start) for host, grain, start in rows)

    def record_cells(self, period: DirtyPeriod) -> tuple[RecordCells, ...]:
        """Return all measurements of the period, in the order they were stored."""
        rows = self._database.rows(
            "SELECT record_id, derived_energy_millijoules IS NULL, wire FROM records"
            " WHERE host_id = ? AND grain = ? AND bucket = ? ORDER BY record_id",
            period.host_id,
            period.grain,
            period.start,
        )
        return tuple(
            RecordCells(record_id, bool(first), self._unread.take(record_id) or cells_from_wire(wire))
            for record_id, first, wire in rows
        )

    def write_derived(self, results: Sequence[PeriodResult]) -> None:
        """Write derived periods in one transaction, each table in the order of its key.

        Replaces the periods' cells, adds the hours' differences to their civil days, sets the energy of each
        record, advances the ledger and clears the dirty marks. A mark stays when a record arrived after the
        given ones.
        """
        with self._database.transaction() as connection:
            zones = {_period(one.period): one.time_zone for one in results}
            mixed = [one.period for one in results if one.has_hours and one.period.grain is Grain.DAY]
            for table, new in (
                ("derived", {_period(one.period): _by_key(one.cells) for one in results}),
                ("derived_screens", {_period(one.period): _by_key(one.screens) for one in results}),
            ):
                for period in mixed:
                    self._add_hours(table, period, zones[_period(period)], new[_period(period)])
                self._replace(table, new, zones)
            connection.executemany(
                "UPDATE records SET derived_energy_millijoules = ? WHERE record_id = ?",
                [
                    (NOT_DERIVABLE if r.energy_millijoules is None else r.energy_millijoules, r.record_id)
                    for one in results
                    for r in one.records
                ],
            )
            connection.executemany(_LEDGER, _ledger_rows(results))
            connection.executemany(
                _CLEAR,
                [
                    (
                        one.period.host_id,
                        one.period.grain,
                        one.period.start,
                        max((r.record_id for r in one.records), default=_BEFORE_ALL),
                    )
                    for one in results
                ],
            )

    def put_aside(self, period: DirtyPeriod) -> None:
        """Clear the mark of a period that cannot be derived; earlier results stay."""
        sql = "DELETE FROM dirty WHERE host_id = ? AND grain = ? AND start = ?"
        self._database.write(sql, period.host_id, period.grain, period.start)

    def mark_all_dirty(self) -> int:
        """Mark every period that still has records; returns their number."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO dirty SELECT DISTINCT host_id, grain, bucket, (SELECT coalesce(max(turn), 0) + 1 FROM dirty)"
                " FROM records WHERE grain > 0 ON CONFLICT DO NOTHING"
            )
            return int(connection.execute("SELECT count(*) FROM dirty").fetchone()[0])

    def _replace(self, table: str, new: Mapping[_Period, _Cells], zones: Mapping[_Period, str]) -> None:
        """Replace the cells of periods, and add new − old of each hour to its civil day."""
        many = self._database.connection.executemany
        old = self._standing(table, new)
        changed = {period: cells for period, cells in new.items() if cells != old.get(period, {})}
        if not changed:
            return
        days: defaultdict[_Period, defaultdict[_Key, _Values]] = defaultdict(_no_cells)
        stale: set[_Period] = set()
        for period, cells in changed.items():
            grain, start, host_id = period
            if grain == Grain.HOUR:
                day = (int(Grain.DAY), civil_day(ZoneInfo(zones[period]), start), host_id)
                _add_difference(days[day], old.get(period, {}), cells)
                period = day
            stale.add(period)
        many(_DELETE.format(table=table), sorted(old.keys() & changed.keys()))
        moved = {day: {key: by for key, by in cells.items() if any(by)} for day, cells in days.items()}
        many(_CELL.format(table=table), sorted([*_rows(changed), *_rows(moved)]))
        many(
            _DELETE.format(table=table) + " AND milliseconds = 0 AND energy_millijoules = 0",
            [day for day, cells in moved.items() if any(ms <= 0 and mj <= 0 for ms, mj, _ in cells.values())],
        )
        self._stale.mark({(HostId(host_id), (grain, start)) for grain, start, host_id in stale})

    def _add_hours(self, table: str, day: DirtyPeriod, time_zone: str, cells: _Cells) -> None:
        """Add the stored hours of a civil day to the cells of its own records: both together are the day."""
        bounds = day_bounds(ZoneInfo(time_zone), day.start)
        rows = self._database.rows(_HOURS.format(table=table), day.host_id, Grain.HOUR, *bounds)
        for *key, milliseconds, energy, uncertainty in rows:
            before = cells.get(tuple(key), (0, 0, 0))
            cells[tuple(key)] = (before[0] + milliseconds, before[1] + energy, before[2] + uncertainty)

    def _standing(self, table: str, periods: Collection[_Period]) -> dict[_Period, _Cells]:
        """Return the cells of these periods in the table; a period without cells is absent."""
        if not periods:
            return {}
        asked = padded([*periods])
        sql = _STANDING.format(table=table, periods=", ".join(["(?, ?, ?)"] * len(asked)))
        values = [value for period in asked for value in period]
        found: defaultdict[_Period, _Cells] = defaultdict(dict)
        for row in self._database.connection.execute(sql, values).fetchall():
            found[row[:3]][row[3:7]] = row[7:]
        return found


def _period(period: DirtyPeriod) -> _Period:
    return int(period.grain), period.start, period.host_id


def _no_cells() -> defaultdict[_Key, _Values]:
    return defaultdict(lambda: (0, 0, 0))


def _by_key(cells: Sequence[DerivedCell]) -> _Cells:
    return {
        (*CELL_KEYS[cell.band, cell.state, cell.supply], _METHODS[cell.method]): (
            cell.milliseconds,
            cell.energy_millijoules,
            cell.uncertainty_millijoules,
        )
        for cell in cells
    }


def _add_difference(sums: defaultdict[_Key, _Values], old: _Cells, new: _Cells) -> None:
    """Add new − old."""
    for sign, cells in ((1, new), (-1, old)):
        for key, (milliseconds, energy, uncertainty) in cells.items():
            before = sums[key]
            sums[key] = (
                before[0] + sign * milliseconds,
                before[1] + sign * energy,
                before[2] + sign * uncertainty,
            )


def _rows(cells: Mapping[_Period, _Cells]) -> list[tuple[int | str, ...]]:
    return [(*period, *key, *values) for period, sums in cells.items() for key, values in sums.items()]


def _ledger_rows(results: Sequence[PeriodResult]) -> list[tuple[int | str, ...]]:
    sums: defaultdict[tuple[Any, ...], int] = defaultdict(int)
    for result in results:
        for one in result.ledger:
            if one.energy_millijoules < 0:
                raise ValueError("the ledger only goes up")
            place = (one.org_entity, one.site, one.population, one.device_class)
            factor = (one.factor_id, one.factor_kgco2e_per_kwh)
            sums[*place, one.method, one.state, *factor] += one.energy_millijoules
    return [
        (
            entity,
            site,
            number(population),
            device_class.value,
            _METHODS[method],
            number(state),
            *factor,
            energy,
        )
        for (entity, site, population, device_class, method, state, *factor), energy in sums.items()
    ]
