# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Balances time for each machine and whole period: passed = stored + declared gaps + unexplained.

R18. For SqliteReader.

Servers and classroom PCs are balanced by civil day, hour by hour: an hour stored twice does not hide a
missing one. Workstations are balanced by ISO week: their closed bands arrive by day, the open one by week.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import civil_day, day_bounds, days_milliseconds
from veilleuse.collector.model.hosts import HostStatus, LatestCertificate
from veilleuse.collector.model.months import OWN_CPU, OWN_KEPT_DAYS, OWN_WAIT_DAYS
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.records import DaySize, Grain, HostId
from veilleuse.collector.model.sums import BalanceRow
from veilleuse.collector.store.directory import database_bytes
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.wire_codec import POPULATIONS, gap_spans, number
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

Ask: TypeAlias = Callable[..., list[Any]]
"""Runs (sql, *values) and returns the rows."""

_LONGEST_RECORD_MILLISECONDS: Final = {
    Grain.DAY: MILLISECONDS_PER_HOUR,  # a clock record lies in one hour
    Grain.WEEK: (7 * 24 + 1) * MILLISECONDS_PER_HOUR,
}
"""Longest possible record that was lost without its length, by the grain of the balance."""

_BOUNDS: Final = (
    "SELECT host_id, population, time_zone,"
    " (SELECT min(start) FROM sums s WHERE s.host_id = h.host_id AND s.grain = ?1),"
    " (SELECT max(start) FROM sums s WHERE s.host_id = h.host_id AND s.grain = ?1)"
    " FROM hosts h JOIN sites USING (site) WHERE population = ifnull(?2, population)"
)
_WITHIN: Final = (
    "SELECT host_id, sum(length), sum(min(length, ?)) FROM (SELECT host_id, sum(milliseconds) AS length FROM sums"
    " WHERE grain = ? AND start >= ? AND start < ? GROUP BY start, host_id) GROUP BY host_id"
)
_WEEK: Final = (
    "SELECT host_id, sum(milliseconds) FROM sums"
    " WHERE grain = ? AND start >= ? AND start < ? GROUP BY host_id"
)
_COARSE: Final = (
    "SELECT start, sum(milliseconds) FROM sums WHERE host_id = ? AND grain = ? AND start = ? GROUP BY start"
)
_GAPS: Final = (
    "SELECT host_id, sum(milliseconds) FROM gap_periods"
    " WHERE grain = ? AND start >= ? AND start < ? GROUP BY host_id"
)
_GAP_RECORDS: Final = "SELECT record_id, wire FROM records WHERE host_id = ? AND grain = 0 ORDER BY record_id"
_BEFORE: Final = (
    "SELECT grain, bucket FROM records WHERE host_id = ? AND record_id < ? AND grain > 0"
    " ORDER BY record_id DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A machine, and the days of its first and last record."""

    host_id: HostId
    zone: ZoneInfo
    first: int
    last: int


def balance(
    ask: Ask, first_day: date, last_day: date, *, by_hour: bool, population: Population | None
) -> Iterator[BalanceRow]:
    """See ports.Reader.balance. Rows written meanwhile only explain more: no snapshot is needed."""
    first, end = first_day.toordinal(), last_day.toordinal() + 1
    only = None if population is None else number(population)
    rows = [*_days(ask, first, end, only, by_hour=by_hour), *_weeks(ask, first, end, only)]
    open_hosts: defaultdict[HostId, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row.unexplained_milliseconds:
            open_hosts[row.host_id].append(place)
    for host_id, places in open_hosts.items():
        _add_coarse(ask, host_id, rows, places)
        _explain_undated(ask, host_id, rows, places)
    yield from sorted(rows, key=lambda row: (row.start, row.host_id))


def _days(ask: Ask, first: int, end: int, only: int | None, *, by_hour: bool) -> Iterator[BalanceRow]:
    zones: defaultdict[ZoneInfo, list[_Seen]] = defaultdict(list)
    for host_id, population, name, oldest, newest in ask(_BOUNDS, Grain.HOUR, only):
        if POPULATIONS[population] is not Population.WORKSTATION and oldest is not None:
            zone = ZoneInfo(name)
            zones[zone].append(_Seen(HostId(host_id), zone, civil_day(zone, oldest), civil_day(zone, newest)))
    for zone, machines in zones.items():
        start, stop = max(first, min(m.first for m in machines) + 1), min(end, max(m.last for m in machines))
        for day in range(start, stop):
            inside = [one for one in machines if one.first < day < one.last]
            yield from _day(ask, day, zone, inside, by_hour=by_hour)


def _day(ask: Ask, day: int, zone: ZoneInfo, machines: list[_Seen], *, by_hour: bool) -> Iterator[BalanceRow]:
    start, stop = day_bounds(zone, day)
    longest, keys = (
        (MILLISECONDS_PER_HOUR, (Grain.HOUR, start, stop))
        if by_hour
        else (stop - start, (Grain.DAY, day, day + 1))
    )
    sums = {row[0]: row[1:] for row in ask(_WITHIN, longest, *keys)}
    gaps = dict(ask(_GAPS, Grain.DAY, day, day + 1))
    for one in machines:
        stored, within = sums.get(one.host_id, (0, 0))
        yield _row(one.host_id, Grain.DAY, day, stop - start, stored, within, gaps.get(one.host_id, 0))


def _weeks(ask: Ask, first: int, end: int, only: int | None) -> Iterator[BalanceRow]:
    machines = [
        _Seen(HostId(host_id), ZoneInfo(name), oldest, newest)
        for host_id, population, name, oldest, newest in ask(_BOUNDS, Grain.DAY, only)
        if POPULATIONS[population] is Population.WORKSTATION and oldest is not None
    ]
    if not machines:
        return
    first = max(first, min(one.first for one in machines) + 1)
    end = min(end, max(one.last for one in machines))
    for monday in range(first + (1 - first) % 7, end - 6, 7):
        stored, gaps = defaultdict[HostId, int](int), defaultdict[HostId, int](int)
        for grain, stop in ((Grain.DAY, monday + 7), (Grain.WEEK, monday + 1)):
            for sql, into in ((_WEEK, stored), (_GAPS, gaps)):
                for host_id, milliseconds in ask(sql, grain, monday, stop):
                    into[host_id] += milliseconds
        for one in machines:
            if one.first < monday and monday + 6 < one.last:
                length = days_milliseconds(one.zone, monday, monday + 7)
                held = stored[one.host_id]
                yield _row(
                    one.host_id, Grain.WEEK, monday, length, held, min(held, length), gaps[one.host_id]
                )


def _row(
    host_id: HostId, grain: Grain, start: int, expected: int, stored: int, within: int, gap: int
) -> BalanceRow:
    """`within`: the part of `stored` that lies in the period, each hour counted once."""
    missing = expected - within
    return BalanceRow(
        host_id,
        grain,
        start,
        expected_milliseconds=expected,
        stored_milliseconds=stored,
        gap_milliseconds=gap,
        undated_milliseconds=0,
        unexplained_milliseconds=max(0, missing - gap),
        excess_milliseconds=stored - within + max(0, gap - missing),
    )


def _add_coarse(ask: Ask, host_id: HostId, rows: list[BalanceRow], places: list[int]) -> None:
    """Add to civil days what days and weeks brought: records of a machine that did not know its population.

    A week's time explains the days of its week, in order.
    """
    weeks: dict[int, int] = {}
    for place in places:
        row = rows[place]
        if row.grain is not Grain.DAY:
            return
        monday = row.start - (row.start - 1) % 7
        if monday not in weeks:
            weeks[monday] = sum(found for _, found in ask(_COARSE, host_id, Grain.WEEK, monday))
        of_day = sum(found for _, found in ask(_COARSE, host_id, Grain.DAY, row.start))
        found = max(0, of_day - row.stored_milliseconds)
        spent = min(weeks[monday], max(0, row.unexplained_milliseconds - found))
        weeks[monday] -= spent
        explained = min(found, row.unexplained_milliseconds) + spent
        rows[place] = replace(
            row,
            stored_milliseconds=row.stored_milliseconds + found + spent,
            unexplained_milliseconds=row.unexplained_milliseconds - explained,
            excess_milliseconds=row.excess_milliseconds + found + spent - explained,
        )


def _explain_undated(ask: Ask, host_id: HostId, rows: list[BalanceRow], places: list[int]) -> None:
    """Assign undated gaps to the time missing since the record before each: records come in order."""
    grain = rows[places[0]].grain
    for record_id, wire in ask(_GAP_RECORDS, host_id):
        left = _undated_milliseconds(pb.Record.FromString(wire).gap, grain)
        since = _day_before(ask, host_id, record_id) if left else 0
        for place in places:
            row = rows[place]
            span = 7 if grain is Grain.WEEK else 1
            if left and row.start + span > since:
                spent = min(left, row.unexplained_milliseconds)
                left -= spent
                rows[place] = replace(
                    row,
                    undated_milliseconds=row.undated_milliseconds + spent,
                    unexplained_milliseconds=row.unexplained_milliseconds - spent,
                )


def _undated_milliseconds(gap: Any, grain: Grain) -> int:
    """Return the undated time of a gap; without any length, the longest that so many records can last."""
    if not gap.spans:
        return int(gap.records) * _LONGEST_RECORD_MILLISECONDS[grain]
    dated = sum(lost for _, lost in gap_spans(gap))
    return int(sum(span.milliseconds for span in gap.spans)) - dated


def _day_before(ask: Ask, host_id: HostId, record_id: int) -> int:
    """Return the UTC day number of the host's last measurement before that record, a day early for zones; 0:
    none.
    """
    for grain, bucket in ask(_BEFORE, host_id, record_id):
        return (civil_day(_UTC, bucket) if grain == Grain.HOUR else int(bucket)) - 1
    return 0


_UTC: Final = ZoneInfo("UTC")


SIZES_KEPT_DAYS: Final = 400


def note_size(database: Database, today: date) -> None:
    """Store the sizes of both databases and the number of records for this day. A job of the writer."""
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO sizes SELECT ?, ?, value FROM totals WHERE name = 'records'"
            " ON CONFLICT (day) DO UPDATE SET data_bytes = excluded.data_bytes, records = excluded.records",
            (today.toordinal(), database_bytes(database.path.parent)),
        )
        connection.execute("DELETE FROM sizes WHERE day < ?", (today.toordinal() - SIZES_KEPT_DAYS,))


def sizes(ask: Ask) -> tuple[DaySize, ...]:
    """Return the sizes of all days, oldest first."""
    rows = ask("SELECT day, data_bytes, records FROM sizes ORDER BY day")
    return tuple(DaySize(date.fromordinal(day), *rest) for day, *rest in rows)


def ran_since(ask: Ask, today: date) -> date:
    """Return the first of the consecutive days up to `today` on which `serve` ran and noted a size."""
    noted, first = {size.day for size in sizes(ask)}, today
    while (before := first - timedelta(days=1)) in noted:
        first = before
    return first


_OLD_OWN_DAYS: Final = (
    "DELETE FROM own_days WHERE day < ? OR day < ? AND EXISTS (SELECT 1 FROM published_periods"
    f" WHERE kind = '{PublicationKind.OWN_USE}' AND first_day <= day AND day < end_day)"
)
"""Days of a published month, and those that waited for theirs long enough."""


def note_own_use(database: Database, day: date, used: Mapping[str, int]) -> None:
    """Add what the collector used to this day, and mark the day. A job of the writer."""
    with database.transaction() as connection:
        connection.executemany(
            "INSERT INTO own_days VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            [(day.toordinal(), name, value) for name, value in {OWN_CPU: 0, **used}.items()],
        )
        kept = day.toordinal() - OWN_KEPT_DAYS
        connection.execute(_OLD_OWN_DAYS, (kept - OWN_WAIT_DAYS, kept))


def own_use(ask: Ask, first: date, end: date) -> dict[str, int] | None:
    """Return what the collector used on the days [first, end), by name; None where it did not count from the
    first day on.
    """
    ((since,),) = ask("SELECT min(day) FROM own_days")
    if since is None or since > first.toordinal():
        return None
    rows = ask(
        "SELECT name, sum(value) FROM own_days WHERE day >= ? AND day < ? GROUP BY name",
        first.toordinal(),
        end.toordinal(),
    )
    return dict(rows)


def latest_certificates(ask: Ask) -> tuple[LatestCertificate, ...]:
    """Return the newest certificate of each active machine that has one."""
    rows = ask(
        "SELECT population, issued_unix_milliseconds, max(not_after_unix_milliseconds)"
        " FROM hosts JOIN certificates USING (host_id) WHERE status = ? GROUP BY host_id",
        HostStatus.ACTIVE.value,
    )
    return tuple(LatestCertificate(POPULATIONS[population], *rest) for population, *rest in rows)
