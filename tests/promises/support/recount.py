# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts a collector's sums again from its stored records. Part of the history checker: no product code."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from tests.promises.support.contract import Record

HOUR: Final = 3_600_000
BY_HOUR, BY_DAY, BY_WEEK = 1, 2, 3
"""Values of sums.grain."""
MOST_UNITS: Final = 1_024
"""Names that a host may have; further names count as OTHER_UNITS."""
OTHER_UNITS: Final = "unit:other"
BUCKETS: Final = {
    "cpu_bucket_milliseconds": [f"cpu_bucket_{n:02}_milliseconds" for n in range(13)],
    "memory_bucket_milliseconds": [f"memory_bucket_{n}_milliseconds" for n in range(5)],
    "network_rate_milliseconds": [f"network_rate_{n}_milliseconds" for n in range(4)],
}
KEY: Final = ("host_id", "grain", "start", "band", "state", "supply")

Difference: TypeAlias = tuple[str, Any, Any, Any]
"""(table, key, value in the table, value counted)."""
_Table: TypeAlias = dict[Any, Any]


def recount(database: sqlite3.Connection) -> Iterator[Difference]:
    """Yield every row of a table of sums that differs from the sum of the records."""
    counted = _Counted(database)
    for host_id, wire in database.execute("SELECT host_id, wire FROM records ORDER BY record_id"):
        counted.add(host_id, Record.FromString(wire))
    for name, table in counted.tables.items():
        yield from _differences(name, _stored(database, name), table)


class _Counted:
    """The tables as the records give them."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.tables: dict[str, _Table] = {
            "sums": defaultdict(Counter),
            "point_sums": defaultdict(Counter),
            "state_totals": defaultdict(Counter),
            "gap_sums": defaultdict(Counter),
            "gap_periods": defaultdict(Counter),
            "unit_sums": defaultdict(Counter),
            "totals": {"records": Counter(value=0)},
        }
        self._units: defaultdict[int, set[str]] = defaultdict(set)
        """Known names of each host."""
        self._zones = {
            host: ZoneInfo(zone)
            for host, zone in database.execute("SELECT host_id, time_zone FROM hosts JOIN sites USING (site)")
        }

    def add(self, host_id: int, record: Any) -> None:
        """Add one stored record."""
        self.tables["totals"]["records"]["value"] += 1
        if record.WhichOneof("body") == "gap":
            row = self.tables["gap_sums"][host_id, record.gap.reason]
            row["records"] += record.gap.records
            row["milliseconds"] += sum(span.milliseconds for span in record.gap.spans)
            for span in record.gap.spans:
                self._dated(host_id, record.gap.reason, span)
            return
        measurement = record.measurement
        for gap in measurement.gaps:
            row = self.tables["gap_sums"][host_id, gap.reason]
            row["records"] += 0
            row["milliseconds"] += gap.milliseconds
        for cell in measurement.cells:
            self.tables["state_totals"][host_id, cell.state]["milliseconds"] += cell.milliseconds
            units = [(self._unit(host_id, unit.name), unit.cpu_milliseconds) for unit in cell.units]
            for period in self._periods(host_id, measurement.period):
                for name, spent in units:
                    self.tables["unit_sums"][host_id, *period, name]["cpu_milliseconds"] += spent
                self._cell((host_id, *period, cell.band, cell.state, cell.supply), cell, measurement.points)

    def _unit(self, host_id: int, name: str) -> str:
        known = self._units[host_id]
        if name not in known and name != OTHER_UNITS and len(known) < MOST_UNITS:
            known.add(name)
        return name if name in known else OTHER_UNITS

    def _dated(self, host_id: int, reason: int, span: Any) -> None:
        """Add a dated gap to its civil day. Clock spans are of one hour at most: none is split here."""
        if not span.HasField("period"):
            return
        period = self._periods(host_id, span.period)[-1]
        if span.period.WhichOneof("kind") == "clock":
            assert span.period.clock.duration_milliseconds <= HOUR, (
                "how a longer span is shared out is not known here"
            )
        self.tables["gap_periods"][host_id, *period, reason]["milliseconds"] += span.milliseconds

    def _periods(self, host_id: int, period: Any) -> tuple[tuple[int, int], ...]:
        kind = period.WhichOneof("kind")
        if kind == "date":
            return ((BY_DAY, date(period.date.year, period.date.month, period.date.day).toordinal()),)
        if kind == "week":
            return ((BY_WEEK, date.fromisocalendar(period.week.year, period.week.week, 1).toordinal()),)
        start = period.clock.start_unix_milliseconds
        hour = start - start % HOUR
        civil = datetime.fromtimestamp(hour / 1000, self._zones[host_id]).date().toordinal()
        return ((BY_HOUR, hour), (BY_DAY, civil))

    def _cell(self, key: tuple[int, ...], cell: Any, points: Any) -> None:
        row = self.tables["sums"][key]
        for field, value in cell.ListFields():
            if field.name in BUCKETS:
                for column, milliseconds in zip(BUCKETS[field.name], value, strict=True):
                    row[column] += milliseconds
            elif field.name.endswith(("_milliseconds", "_bytes")) or field.name == "milliseconds":
                row[field.name] += value
        if cell.displays:
            on = {one.size: one.milliseconds for one in cell.displays}
            for size in range(1, 5):
                row[f"display_{size - 1}_milliseconds"] += on.get(size, 0)
        for energy in cell.energies:
            into = self._point(key, points[energy.point_index])
            into["energy_millijoules"] += energy.energy_millijoules
            into["covered_milliseconds"] += energy.covered_milliseconds
        for energy in cell.update_window_energies:
            into = self._point(key, points[energy.point_index])
            into["update_window_energy_millijoules"] += energy.energy_millijoules

    def _point(self, key: tuple[int, ...], point: Any) -> Any:
        name = (point.kind, point.domain, point.boundary, point.subject)
        return self.tables["point_sums"][(*key, name)]


def _stored(database: sqlite3.Connection, name: str) -> _Table:
    """Return key → {column: value}. NULL is left out: it was never measured."""
    named = {
        "point_id": {row[0]: row[1:] for row in database.execute("SELECT * FROM points")},
        "unit_id": dict(database.execute("SELECT unit_id, name FROM units")),
    }
    keys = {
        "sums": KEY,
        "point_sums": (*KEY, "point_id"),
        "state_totals": ("host_id", "state"),
        "gap_sums": ("host_id", "reason"),
        "gap_periods": ("host_id", "grain", "start", "reason"),
        "unit_sums": ("host_id", "grain", "start", "unit_id"),
        "totals": ("name",),
    }[name]
    cursor = database.execute(f"SELECT * FROM {name}")
    columns = [description[0] for description in cursor.description]
    table: _Table = {}
    for values in cursor:
        row = dict(zip(columns, values, strict=True))
        key = tuple(named[k][row.pop(k)] if k in named else row.pop(k) for k in keys)
        table[key if len(key) > 1 else key[0]] = {c: value for c, value in row.items() if value is not None}
    return table


def _differences(name: str, stored: _Table, counted: _Table) -> Iterator[Difference]:
    for key in stored.keys() | counted.keys():
        expected = dict(counted.get(key, {}))
        if stored.get(key, {}) != expected:
            yield name, key, stored.get(key), expected
