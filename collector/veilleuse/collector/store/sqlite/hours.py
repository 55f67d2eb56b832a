# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads many hours or days for reports: energy by label, hours of one machine, load of servers.

A label is given by the caller for each hour: a year of hours has some hundred labels. The tables lie in the
order of time, so each hour of one machine is one key lookup.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import days_milliseconds
from veilleuse.collector.model.attribution import HostHour
from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.indicators import Load
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import EnergySums
from veilleuse.collector.store.sqlite.batch import bucket_columns
from veilleuse.collector.store.sqlite.calibration import SqliteCalibrations
from veilleuse.collector.store.sqlite.migrations import BesideReader
from veilleuse.collector.wire_codec import STATES, number
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import CELL_BUCKETS, HOUR_MILLISECONDS
from veilleuse.wire.vocabulary import Population, State

Ask: TypeAlias = Callable[..., list[Any]]
"""Runs (sql, *values) and returns the rows."""

PAGE_HOURS: Final = 31 * 24
"""Hours in one statement, which is one snapshot: at most a month of a fleet's rows."""
_LABELLED_SUMS: Final = (
    "WITH labels(hour, label) AS MATERIALIZED"
    " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
    " SELECT t.host_id, l.label, sum(t.milliseconds), sum(t.energy_millijoules), sum(t.uncertainty_millijoules)"
)
_LABELLED_HOUR: Final = f"derived t ON t.grain = {Grain.HOUR:d} AND t.start = l.hour"
_FLEET_SUMS: Final = f"{_LABELLED_SUMS} FROM labels l CROSS JOIN {_LABELLED_HOUR} GROUP BY t.host_id, l.label"
# For some of many machines: one key lookup for each of their hours, not a scan of all machines' hours.
_POPULATION_SUMS: Final = (
    f"{_LABELLED_SUMS} FROM hosts h CROSS JOIN labels l CROSS JOIN {_LABELLED_HOUR} AND t.host_id = h.host_id"
    " WHERE h.population = ? GROUP BY t.host_id, l.label"
)
_OLDEST: Final = (
    f"SELECT host_id, (SELECT min(start) FROM derived d WHERE d.host_id = h.host_id AND d.grain = {Grain.HOUR:d})"
    " FROM hosts h WHERE population = ifnull(?, population)"
)


def hour_sums(
    ask: Ask, labels: Mapping[int, int], population: Population | None = None
) -> Iterator[tuple[HostId, int, EnergySums]]:
    """Yield (host, label, energy) of one population or all; a pair comes once for each page of hours that has
    it.
    """
    hours = sorted(labels)
    for first in range(0, len(hours), PAGE_HOURS):
        page = json.dumps([[hour, labels[hour]] for hour in hours[first : first + PAGE_HOURS]])
        rows = (
            ask(_FLEET_SUMS, page) if population is None else ask(_POPULATION_SUMS, page, number(population))
        )
        for host_id, label, *sums in rows:
            yield HostId(host_id), label, EnergySums(*sums)


def oldest_hours(ask: Ask, population: Population | None = None) -> dict[HostId, int]:
    """Return host → its oldest hour with energy, where there is one; one index lookup a host."""
    rows = ask(_OLDEST, None if population is None else number(population))
    return {HostId(host_id): start for host_id, start in rows if start is not None}


_HOURS: Final = (
    "WITH RECURSIVE hours(hour) AS (SELECT ? UNION ALL"
    f" SELECT hour + {HOUR_MILLISECONDS} FROM hours WHERE hour + {HOUR_MILLISECONDS} < ?)"
)
_OF_HOST: Final = f"t.grain = {Grain.HOUR:d} AND t.start = hours.hour AND t.host_id = ?"
_IS_ON: Final = f"t.state IN ({number(State.ON_ACTIVE)}, {number(State.ON_IDLE)})"
_HOST_LOADS: Final = (
    f"{_HOURS} SELECT hour, sum(t.milliseconds), sum(t.cpu_covered_milliseconds), sum(t.cpu_busy_milliseconds)"
    f" FROM hours CROSS JOIN sums t ON {_OF_HOST} AND {_IS_ON} GROUP BY hour"
)
_HOST_ENERGIES: Final = (
    f"{_HOURS} SELECT hour, t.state, t.method, sum(t.milliseconds), sum(t.energy_millijoules), sum(t.uncertainty_millijoules)"
    f" FROM hours CROSS JOIN derived t ON {_OF_HOST} GROUP BY hour, t.state, t.method"
)
_HOST_UNITS: Final = (
    f"{_HOURS} SELECT hour, n.name, t.cpu_milliseconds FROM hours CROSS JOIN unit_sums t ON {_OF_HOST}"
    " JOIN units n ON n.unit_id = t.unit_id"
)


def host_hours(ask: Ask, host_id: HostId, start: int, end: int) -> Iterator[HostHour]:
    """Yield the hours with any stored value that begin in [start, end), Unix milliseconds, in the order of
    time.
    """
    first = -(-start // HOUR_MILLISECONDS) * HOUR_MILLISECONDS
    step = PAGE_HOURS * HOUR_MILLISECONDS
    for page in range(first, end, step):
        yield from _host_page(ask, host_id, page, min(end, page + step))


def _host_page(ask: Ask, host_id: HostId, start: int, end: int) -> Iterator[HostHour]:
    loads = {hour: values for hour, *values in ask(_HOST_LOADS, start, end, host_id)}
    energies: defaultdict[int, dict[tuple[State, Method], EnergySums]] = defaultdict(dict)
    for hour, state, method, *sums in ask(_HOST_ENERGIES, start, end, host_id):
        energies[hour][STATES[state], Method(method)] = EnergySums(*sums)
    units: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for hour, name, spent in ask(_HOST_UNITS, start, end, host_id):
        units[hour][name] = spent
    for hour in sorted({*loads, *energies, *units}):
        on, covered, busy = loads.get(hour, (0, None, None))
        yield HostHour(hour, energies.get(hour, {}), on, covered or 0, busy or 0, units.get(hour, {}))


_ON: Final = (State.ON_ACTIVE, State.ON_IDLE)
_SINGLE: Final = (
    "milliseconds",
    "cpu_covered_milliseconds",
    "cpu_busy_milliseconds",
    "any_core_busy_milliseconds",
)
_LISTS: Final = tuple(CELL_BUCKETS)
_LOAD_SUMS: Final = ", ".join(
    f"sum({column})" for column in (*_SINGLE, *(name for one in _LISTS for name in bucket_columns(one)))
)
_OF_SERVERS: Final = (
    f"SELECT s.host_id, s.state, {_LOAD_SUMS} FROM hosts h CROSS JOIN sums s INDEXED BY sums_by_host ON s.host_id = h.host_id"
    f" WHERE h.population = {number(Population.SERVER)} AND s.grain = {Grain.DAY:d} AND s.start >= ? AND s.start < ?"
    " GROUP BY s.host_id, s.state"
)
"""Reads by server, so that a report over few servers does not read the days of thousands of PCs.

500 servers and 180 days take 1.8 s. Without the named index SQLite scans all time once for each server: 50 s.
"""

_ZONES: Final = f"SELECT host_id, time_zone FROM hosts JOIN sites USING (site) WHERE population = {number(Population.SERVER)}"


class SqliteLoadReader(BesideReader):
    """Reads the load of servers on a connection of its own; for one thread. Implements ports.LoadReader."""

    def book(self) -> CalibrationBook:
        """Return the calibrations in force."""
        return SqliteCalibrations(self._data).book()

    def server_loads(self, end: date, days: Sequence[int]) -> Mapping[HostId, Mapping[int, Load]]:
        """Return server → days → load over that number of civil days before `end`. Each day is read once."""
        last, zones = end.toordinal(), self._zones()
        standing: dict[HostId, dict[tuple[State, int], int]] = {}
        found: defaultdict[HostId, dict[int, Load]] = defaultdict(dict)
        for shorter, longer in pairwise((0, *sorted(days))):
            for host_id, state, *values in self._data.rows(_OF_SERVERS, last - longer, last - shorter):
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
        return {HostId(host_id): ZoneInfo(zone) for host_id, zone in self._data.rows(_ZONES)}


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
