# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums the load of servers over their last days in the database; read-only.

Implements ports.sobriety.LoadReader.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.civil_days import days_milliseconds
from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.indicators import Load
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.store.sqlite.batch import bucket_columns
from veilleuse.collector.store.sqlite.calibration import SqliteCalibrations
from veilleuse.collector.store.sqlite.read_connection import BesideReader
from veilleuse.collector.wire_codec import STATES, number
from veilleuse.wire.limits import CELL_BUCKETS
from veilleuse.wire.vocabulary import Population, State

_ON: Final = (State.ON_ACTIVE, State.ON_IDLE)
_SINGLE: Final = (
    "milliseconds",
    "cpu_covered_milliseconds",
    "cpu_busy_milliseconds",
    "any_core_busy_milliseconds",
)
_LISTS: Final = tuple(CELL_BUCKETS)
_SUMS: Final = ", ".join(
    f"sum({column})" for column in (*_SINGLE, *(name for one in _LISTS for name in bucket_columns(one)))
)
_OF_SERVERS: Final = (
    f"SELECT s.host_id, s.state, {_SUMS} FROM hosts h CROSS JOIN sums s INDEXED BY sums_by_host ON s.host_id = h.host_id"
    f" WHERE h.population = {number(Population.SERVER)} AND s.grain = {Grain.DAY:d} AND s.start >= ? AND s.start < ?"
    " GROUP BY s.host_id, s.state"
)
"""Reads by server, so that a report over few servers does not read the days of thousands of PCs.

500 servers and 180 days take 1.8 s. Without the named index SQLite scans all time once for each server: 50 s.
"""

_ZONES: Final = f"SELECT host_id, time_zone FROM hosts JOIN sites USING (site) WHERE population = {number(Population.SERVER)}"


class SqliteLoadReader(BesideReader):
    """Reads loads on a connection of its own; for one thread."""

    def book(self) -> CalibrationBook:
        """Return the calibrations in force."""
        return SqliteCalibrations(self._data).book()

    def server_loads(self, end: date, days: Sequence[int]) -> Mapping[HostId, Mapping[int, Load]]:
        """Return server → days → load over that number of civil days before `end`. Each day is read once."""
        last, zones = end.toordinal(), self._zones()
        standing: dict[HostId, dict[tuple[State, int], int]] = {}
        found: defaultdict[HostId, dict[int, Load]] = defaultdict(dict)
        for shorter, longer in pairwise((0, *sorted(days))):
            for host_id, state, *values in self._rows(last - longer, last - shorter):
                sums = standing.setdefault(HostId(host_id), {})
                for place, value in enumerate(values):
                    if value is not None:
                        key = (STATES[state], place)
                        sums[key] = sums.get(key, 0) + value
            for host_id, sums in standing.items():
                found[host_id][longer] = _load(sums, days_milliseconds(zones[host_id], last - longer, last))
        return found

    def _zones(self) -> dict[HostId, ZoneInfo]:
        """Return the time zone of each server's site: its days have 23 to 25 hours."""
        with self._data.translated():
            rows = self._data.connection.execute(_ZONES).fetchall()
        return {HostId(host_id): ZoneInfo(zone) for host_id, zone in rows}

    def _rows(self, first: int, end: int) -> list[Any]:
        with self._data.translated():
            return self._data.connection.execute(_OF_SERVERS, (first, end)).fetchall()


def _load(sums: Mapping[tuple[State, int], int], days_length_milliseconds: int) -> Load:
    """Return the load.

    Its window is at least as long as the reported time: a clock that goes back repeats a time.
    """

    def on(place: int) -> int:
        return sum(sums.get((state, place), 0) for state in _ON)

    told = {state: value for (state, place), value in sums.items() if place == 0}
    buckets: dict[str, tuple[int, ...]] = {}
    place = len(_SINGLE)
    for name in _LISTS:
        size = CELL_BUCKETS[name]
        buckets[name] = tuple(on(at) for at in range(place, place + size))
        place += size
    any_core = on(3) if any((state, 3) in sums for state in _ON) else None
    return Load(
        max(days_length_milliseconds, sum(told.values())),
        sum(value for state, value in told.items() if state is not State.UNKNOWN),
        on(0),
        on(1),
        on(2),
        buckets["cpu_bucket_milliseconds"],
        buckets["memory_bucket_milliseconds"],
        buckets["network_rate_milliseconds"],
        any_core,
    )
