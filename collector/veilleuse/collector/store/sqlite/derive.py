# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads and writes for derive. Implements ports.DeriveStore; runs in the writer's thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import civil_day
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DerivedCell, DerivedRecord, DirtyPeriod, LedgerEntry, RecordCells
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.months import StaleMonths
from veilleuse.collector.wire_codec import cells_from_wire, number

NOT_DERIVABLE: Final = -1
"""Value of records.derived_energy_millijoules when no energy could be derived; NULL: not yet tried."""

_Key: TypeAlias = tuple[int, int, int, str]
_Values: TypeAlias = tuple[int, int, int]

_DERIVED: Final = "derived"
_SCREENS: Final = "derived_screens"
_CELL: Final = (
    "INSERT INTO {table} (host_id, grain, start, band, state, supply, method, milliseconds, energy_millijoules,"
    " uncertainty_millijoules) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (grain, start, host_id, band, state, supply, method) DO UPDATE SET"
    " milliseconds = milliseconds + excluded.milliseconds,"
    " energy_millijoules = energy_millijoules + excluded.energy_millijoules,"
    " uncertainty_millijoules = uncertainty_millijoules + excluded.uncertainty_millijoules"
)
"""Columns of both tables of cells."""
_LEDGER: Final = (
    "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " energy_millijoules = energy_millijoules + excluded.energy_millijoules"
)


_BEFORE_ALL: Final = -(2**63)
"""A number below that of any record."""


class SqliteDerive:
    """Reads dirty periods, writes derived cells and the ledger."""

    def __init__(self, database: Database, stale: StaleMonths) -> None:
        self._database = database
        self._stale = stale

    def dirty(self, limit: int) -> tuple[DirtyPeriod, ...]:
        """Return at most `limit` dirty periods, oldest marks first."""
        with self._database.translated():
            rows = self._database.connection.execute(
                "SELECT host_id, grain, start FROM dirty ORDER BY turn, host_id, grain, start LIMIT ?",
                (limit,),
            ).fetchall()
        return tuple(DirtyPeriod(HostId(host), Grain(grain), start) for host, grain, start in rows)

    def record_cells(self, period: DirtyPeriod) -> tuple[RecordCells, ...]:
        """Return all measurements of the period, in the order they were stored."""
        with self._database.translated():
            rows = self._database.connection.execute(
                "SELECT record_id, derived_energy_millijoules IS NULL, wire FROM records"
                " WHERE host_id = ? AND grain = ? AND bucket = ? ORDER BY record_id",
                (period.host_id, period.grain, period.start),
            ).fetchall()
        return tuple(
            RecordCells(record_id, bool(first), cells_from_wire(wire)) for record_id, first, wire in rows
        )

    def write_derived(
        self,
        period: DirtyPeriod,
        cells: Sequence[DerivedCell],
        records: Sequence[DerivedRecord],
        ledger: Sequence[LedgerEntry],
        screens: Sequence[DerivedCell] = (),
    ) -> None:
        """Write a derived period in one transaction.

        Replaces the period's cells, adds an hour's difference to its civil day, sets the energy of each
        record, advances the ledger and clears the dirty mark. The mark stays when a record arrived after the
        given ones.
        """
        with self._database.transaction() as connection:
            self._replace(_DERIVED, period, _summed(cells))
            self._replace(_SCREENS, period, _summed(screens))
            connection.executemany(
                "UPDATE records SET derived_energy_millijoules = ? WHERE record_id = ?",
                [
                    (NOT_DERIVABLE if r.energy_millijoules is None else r.energy_millijoules, r.record_id)
                    for r in records
                ],
            )
            connection.executemany(_LEDGER, [_ledger_row(entry) for entry in ledger])
            connection.execute(
                "DELETE FROM dirty WHERE host_id = ? AND grain = ? AND start = ? AND NOT EXISTS (SELECT 1 FROM records"
                " WHERE records.host_id = dirty.host_id AND records.grain = dirty.grain"
                " AND records.bucket = dirty.start AND records.record_id > ?)",
                (
                    period.host_id,
                    period.grain,
                    period.start,
                    max((r.record_id for r in records), default=_BEFORE_ALL),
                ),
            )

    def put_aside(self, period: DirtyPeriod) -> None:
        """Clear the mark of a period that cannot be derived; earlier results stay."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM dirty WHERE host_id = ? AND grain = ? AND start = ?",
                (period.host_id, period.grain, period.start),
            )

    def mark_all_dirty(self) -> int:
        """Mark every period that still has records; returns their number."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO dirty SELECT DISTINCT host_id, grain, bucket, (SELECT coalesce(max(turn), 0) + 1 FROM dirty)"
                " FROM records WHERE grain > 0 ON CONFLICT DO NOTHING"
            )
            return int(connection.execute("SELECT count(*) FROM dirty").fetchone()[0])

    def _replace(self, table: str, period: DirtyPeriod, new: dict[_Key, _Values]) -> None:
        connection = self._database.connection
        where = (period.host_id, int(period.grain), period.start)
        rows = connection.execute(
            "SELECT band, state, supply, method, milliseconds, energy_millijoules, uncertainty_millijoules"
            f" FROM {table} WHERE host_id = ? AND grain = ? AND start = ?",
            where,
        ).fetchall()
        old: dict[_Key, _Values] = {row[:4]: row[4:] for row in rows}
        if not old and not new:
            return
        connection.execute(f"DELETE FROM {table} WHERE host_id = ? AND grain = ? AND start = ?", where)
        connection.executemany(
            _CELL.format(table=table), [(*where, *key, *values) for key, values in new.items()]
        )
        if old == new:
            return
        if period.grain is Grain.HOUR:
            self._carry(table, period, old, new)
        else:
            self._stale.mark({(period.host_id, where[1:])})

    def _carry(
        self, table: str, period: DirtyPeriod, old: dict[_Key, _Values], new: dict[_Key, _Values]
    ) -> None:
        """Add new − old of an hour to its day."""
        connection = self._database.connection
        (zone,) = connection.execute(
            "SELECT time_zone FROM hosts JOIN sites USING (site) WHERE host_id = ?", (period.host_id,)
        ).fetchone()
        day = (period.host_id, int(Grain.DAY), civil_day(ZoneInfo(zone), period.start))
        self._stale.mark({(period.host_id, day[1:])})
        nothing = (0, 0, 0)
        differences = [
            (*day, *key, *(n - o for n, o in zip(new.get(key, nothing), old.get(key, nothing), strict=True)))
            for key in old.keys() | new.keys()
        ]
        connection.executemany(_CELL.format(table=table), [row for row in differences if any(row[-3:])])
        connection.execute(
            f"DELETE FROM {table} WHERE host_id = ? AND grain = ? AND start = ? AND milliseconds = 0"
            " AND energy_millijoules = 0",
            day,
        )


def _summed(cells: Sequence[DerivedCell]) -> dict[_Key, _Values]:
    sums: dict[_Key, _Values] = defaultdict(lambda: (0, 0, 0))
    for cell in cells:
        key = (number(cell.band), number(cell.state), number(cell.supply), cell.method.value)
        milliseconds, energy, uncertainty = sums[key]
        sums[key] = (
            milliseconds + cell.milliseconds,
            energy + cell.energy_millijoules,
            uncertainty + cell.uncertainty_millijoules,
        )
    return sums


def _ledger_row(entry: LedgerEntry) -> tuple[int | str, ...]:
    if entry.energy_millijoules < 0:
        raise ValueError("the ledger only goes up")
    return (
        entry.org_entity,
        entry.site,
        number(entry.population),
        entry.device_class.value,
        entry.method.value,
        number(entry.state),
        entry.factor_id,
        entry.factor_kgco2e_per_kwh,
        entry.energy_millijoules,
    )
