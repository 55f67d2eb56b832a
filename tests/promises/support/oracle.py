# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A second validator of records, written from the comments of telemetry.proto and docs/wire.md alone.

It shares no code, no constant and no pattern with veilleuse.collector.validate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from google.protobuf.message import DecodeError

from veilleuse.wire.v1 import telemetry_pb2 as pb

SECOND: Final = 1000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR
FIRST_MOMENT: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * SECOND
TEN_YEARS: Final = 3660 * DAY
WATTS: Final = {"laptop": 300}
OTHER_WATTS: Final = 1_500
METER_WATTS: Final = 200_000
ALONE: Final = {3, 4, 6, 7, 8, 9}
"""Points that measure a machine even when it is not on: batteries, BMC, UPS, PDU, plugs."""
FAKE: Final = 12
LOAD: Final = (
    "cpu_covered_milliseconds",
    "cpu_busy_milliseconds",
    "any_core_busy_milliseconds",
    "idle_beyond_15_minutes_milliseconds",
    "idle_beyond_30_minutes_milliseconds",
    "idle_beyond_60_minutes_milliseconds",
    "update_window_milliseconds",
    "own_cpu_milliseconds",
)
LISTS: Final = (
    "cpu_bucket_milliseconds",
    "memory_bucket_milliseconds",
    "network_rate_milliseconds",
    "update_window_energies",
    "displays",
    "units",
)


@dataclass(frozen=True)
class Sender:
    """The machine that a record is from."""

    population: str
    device_class: str
    fake: bool = False

    @property
    def watts(self) -> int:
        """The machine's ceiling. Only a server's token gives a server's, whatever class a machine reports."""
        if self.population == "server":
            return 5_000
        return WATTS.get(self.device_class, OTHER_WATTS)


class Wrong(Exception):
    """A record is wrong."""


def complaint(wire: bytes, sender: Sender, now: int) -> str | None:
    """Return why the record must be refused; None when it must be accepted. `now`: Unix ms."""
    try:
        _record(wire, sender, now)
    except Wrong as wrong:
        return str(wrong)
    return None


def _need(condition: object, what: str) -> None:
    if not condition:
        raise Wrong(what)


def _record(wire: bytes, sender: Sender, now: int) -> None:
    _need(len(wire) <= 65_536, "too long")
    try:
        record = pb.Record.FromString(wire)
    except DecodeError as error:
        raise Wrong("no record") from error
    _need(record.HasField("measurement") or record.HasField("gap"), "no body")
    if record.HasField("gap"):
        _gap(record.gap, sender, now)
    else:
        _measurement(record.measurement, sender, now)


def _gap(gap: Any, sender: Sender, now: int) -> None:
    _need(1 <= gap.reason <= 7, "reason")
    _need(1 <= gap.records <= 2**32, "records")
    _need(len(gap.spans) <= 1024, "spans")
    _need(len(gap.gap_id) in (0, 8), "gap id")
    dated = 0
    for span in gap.spans:
        room = 400 * DAY
        if span.HasField("period"):
            room = _gap_period(span.period, sender, now)
            dated += room
        _need(span.milliseconds <= room, "span longer than itself")
    _need(sum(span.milliseconds for span in gap.spans) <= TEN_YEARS, "ten years lost")
    _need(dated <= TEN_YEARS, "ten years dated")


def _gap_period(period: Any, sender: Sender, now: int) -> int:
    if _kind(period, sender) != "clock":
        return _civil(period, now)
    _need(1 <= period.clock.duration_milliseconds <= 400 * DAY, "length")
    _clock(period.clock, now)
    return int(period.clock.duration_milliseconds)


def _measurement(measurement: Any, sender: Sender, now: int) -> None:
    _need(measurement.HasField("period"), "no period")
    room = _period(measurement.period, sender, now)
    _need(len(measurement.calendar_sha256) == 32, "calendar")
    _need(1 <= measurement.idle_rule_version <= 1000, "idle rule")
    _points(measurement.points, sender)
    _need(1 <= len(measurement.cells) <= 32, "number of cells")
    kind = measurement.period.WhichOneof("kind")
    for cell in measurement.cells:
        _cell(cell, measurement.points, sender)
        _need(kind != "date" or cell.band != 1, "open band in a day")
        _need(kind != "week" or cell.band == 1, "closed band in a week")
    _need(_distinct((cell.band, cell.state, cell.supply) for cell in measurement.cells), "cell twice")
    _need(sum(cell.milliseconds for cell in measurement.cells) <= room, "cells longer than the period")
    _sensor_gaps(measurement.gaps, room)


def _sensor_gaps(gaps: Any, room: int) -> None:
    _need(len(gaps) <= 64, "sensor gaps")
    _need(_distinct((one.reason, one.source) for one in gaps), "sensor gap twice")
    for one in gaps:
        _need(1 <= one.reason <= 7, "sensor gap's reason")
        _need(1 <= one.milliseconds <= room, "sensor gap's length")
        _need(len(one.source) <= 64 and _made_of(one.source, r"a-z0-9_"), "sensor gap's source")


# --------------------------------------------------------------------------------------- periods


def _kind(period: Any, sender: Sender) -> str:
    kind = period.WhichOneof("kind")
    _need(kind is not None, "no kind")
    _need(kind != "clock" or sender.population != "workstation", "kind of the population")
    return str(kind)


def _period(period: Any, sender: Sender, now: int) -> int:
    if _kind(period, sender) != "clock":
        return _civil(period, now)
    start, length = period.clock.start_unix_milliseconds, period.clock.duration_milliseconds
    _need(10 * SECOND <= length <= HOUR, "length")
    _clock(period.clock, now)
    _need(start % SECOND == 0 and length % SECOND == 0, "whole seconds")
    _need(start // HOUR == (start + length - 1) // HOUR, "one UTC hour")
    _need(sender.population != "classroom" or length == HOUR, "a classroom's hour")
    return int(length)


def _clock(clock: Any, now: int) -> None:
    _need(clock.start_unix_milliseconds >= FIRST_MOMENT, "too old")
    _need(clock.start_unix_milliseconds + clock.duration_milliseconds <= now + 48 * HOUR, "future")


def _civil(period: Any, now: int) -> int:
    """Return the longest possible time in a date or a week, ms."""
    first, length, days = _first_day(period)
    _need(first + timedelta(days=days - 1) >= date(2020, 1, 1), "too old")
    _need(
        first <= (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now)).date() + timedelta(days=2),
        "future",
    )
    return length


def _first_day(period: Any) -> tuple[date, int, int]:
    try:
        if period.HasField("date"):
            return date(period.date.year, period.date.month, period.date.day), 25 * HOUR, 1
        return date.fromisocalendar(period.week.year, period.week.week, 1), 7 * DAY + HOUR, 7
    except (ValueError, OverflowError) as error:
        raise Wrong("no such day") from error


# --------------------------------------------------------------------------------------- contents


def _points(points: Any, sender: Sender) -> None:
    _need(len(points) <= 64, "number of points")
    _need(_distinct((one.kind, one.domain, one.boundary, one.subject) for one in points), "point twice")
    for one in points:
        _need(1 <= one.kind <= 12 and 1 <= one.boundary <= 3, "point's kind")
        _need(_name(one.domain), "domain")
        prefix, _, meter = one.subject.partition(":")
        shared = prefix == "meter" and len(one.subject) <= 64 and _name(meter)
        _need(one.subject == "machine" or shared, "subject")
        _need(one.kind != FAKE or sender.fake, "fake")


def _cell(cell: Any, points: Any, sender: Sender) -> None:
    length = cell.milliseconds
    _need(length > 0, "empty cell")
    _need(1 <= cell.band <= 3 and 1 <= cell.state <= 5 and 1 <= cell.supply <= 3, "cell's key")
    said = {name for name in LOAD if cell.HasField(name)} | {
        name for name in LISTS if len(getattr(cell, name))
    }
    if sender.population == "workstation":
        _need("network_rate_milliseconds" not in said, "traffic of a workstation")
    _need(sender.population == "server" or "units" not in said, "units")
    on = cell.state in (1, 2)
    _need(on or not said, "load while not on")
    _energies(cell, points, sender, on=on)
    _load(cell, length)
    _rest(cell, length)


def _energies(cell: Any, points: Any, sender: Sender, *, on: bool) -> None:
    _need(_distinct(one.point_index for one in cell.energies), "energy twice")
    for one in cell.energies:
        _need(one.point_index < len(points), "no such point")
        point = points[one.point_index]
        own = point.subject == "machine"
        _need(one.covered_milliseconds <= cell.milliseconds, "energy longer than its cell")
        # 1 W is 1 mJ in 1 ms. A joule more is allowed for a counter's step at the edge.
        watts = sender.watts if own else METER_WATTS
        _need(one.energy_millijoules <= watts * one.covered_milliseconds + 1000, "ceiling")
        alone = point.kind in ALONE or not own or (point.kind == FAKE and point.boundary == 1)
        _need(on or alone, "energy while not on")


def _load(cell: Any, length: int) -> None:
    covered = cell.cpu_covered_milliseconds
    _need(covered <= length, "covered")
    _need(cell.own_cpu_milliseconds <= length, "own CPU time")
    _need(max(cell.cpu_busy_milliseconds, cell.any_core_busy_milliseconds) <= covered, "busy")
    for values, number in (
        (cell.cpu_bucket_milliseconds, 13),
        (cell.memory_bucket_milliseconds, 5),
        (cell.network_rate_milliseconds, 4),
    ):
        _need(len(values) in (0, number), "number of buckets")
        _need(sum(values) <= length, "buckets longer than the cell")
    _need(not cell.cpu_bucket_milliseconds or sum(cell.cpu_bucket_milliseconds) == covered, "CPU buckets")
    runs = (
        length,
        cell.idle_beyond_15_minutes_milliseconds,
        cell.idle_beyond_30_minutes_milliseconds,
        cell.idle_beyond_60_minutes_milliseconds,
    )
    _need(list(runs) == sorted(runs, reverse=True), "idle runs")


def _rest(cell: Any, length: int) -> None:
    _need(cell.update_window_milliseconds <= length, "update window")
    known = {one.point_index: one.energy_millijoules for one in cell.energies}
    _need(_distinct(one.point_index for one in cell.update_window_energies), "update energy twice")
    for one in cell.update_window_energies:
        _need(one.point_index in known, "update energy of no energy")
        _need(one.energy_millijoules <= known[one.point_index], "more than the cell's")
        _need(one.covered_milliseconds <= length, "longer than the cell")
    _need(_distinct(one.size for one in cell.displays), "size twice")
    for one in cell.displays:
        _need(1 <= one.size <= 4 and one.milliseconds <= 32 * length, "displays")
    _need(len(cell.units) <= 64 and _distinct(one.name for one in cell.units), "units")
    for one in cell.units:
        prefix, _, rest = one.name.partition(":")
        _need(prefix in ("unit", "guest") and _name(rest) and len(rest) <= 58, "unit's name")
        _need(one.cpu_milliseconds <= 4096 * length, "4,096 CPUs")


def _name(text: str) -> bool:
    return 1 <= len(text) <= 64 and _made_of(text, r"A-Za-z0-9 ._\-")


def _made_of(text: str, alphabet: str) -> bool:
    return re.sub(f"[{alphabet}]", "", text) == ""


def _distinct(values: Iterable[Any]) -> bool:
    all_of_them = list(values)
    return len(set(all_of_them)) == len(all_of_them)
