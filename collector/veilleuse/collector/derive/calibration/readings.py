# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parses a CSV of meter readings by unit, completely or not at all (pure).
docs/calibration.md describes the columns.

Every refusal is a UsageError with row and column: a file comes from a meter's export, a spreadsheet or a
person.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from veilleuse.collector.derive.calibration.samples import (
    COVERED,
    ON,
    Samples,
    StoredRecord,
    at_the_wall,
    measure_cells,
    standing_by,
    state_of,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.calibration import Hardware
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.query import DATED_YEARS
from veilleuse.collector.model.records import Cell
from veilleuse.collector.validate.cells import SERVER_CEILING_WATTS
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_HOUR,
    MILLISECONDS_PER_SECOND,
    MILLIWATTS_PER_WATT,
)

MAX_BYTES: Final = 64 * 2**20
MAX_ROWS: Final = 1_000_000
"""Eleven days of ten units at one reading in ten seconds."""
COLUMNS: Final = ("unit", "time", "start", "end", "watts", "watt_hours", "counter_kwh", "state")
STATES: Final = ("", "on", "off", "asleep")
MAX_UNITS: Final = 1_000
_MAX_NAME: Final = 128
_PER_WATT_HOUR: Final = {"watts": 1, "watt_hours": 1, "counter_kwh": 1_000}
"""Column of values → watts or watt-hours in one of its units."""
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Reading(NamedTuple):
    """A meter's reading of one unit: of a moment (start = end), or of a stretch of time."""

    start: int
    """Unix milliseconds."""
    end: int
    milliwatts: int
    """Mean power of the stretch, or power at the moment; of a counter until it is subtracted, mWh."""
    state: str
    """on, off, asleep; empty = not given."""
    row: int
    """Row number in the file; the header is row 1."""


@dataclass(frozen=True, slots=True)
class _Form:
    """Format from the header."""

    place: dict[str, int]
    width: int
    decimal_comma: bool
    zone: tzinfo | None
    latest: int
    """Unix milliseconds after which no reading can be."""

    @property
    def counter(self) -> bool:
        """True when the values are those of counters, to be subtracted."""
        return "counter_kwh" in self.place


def parse_readings(
    content: bytes, *, zone: tzinfo | None, now_unix_milliseconds: int
) -> dict[str, list[Reading]]:
    """Parse the readings of each unit, in order of time.

    `zone`: time zone of times without an offset; None = such times are refused. Raises UsageError with row
    and column.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(f"it is larger than {MAX_BYTES // 2**20} MiB: cut it by unit or by day")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"byte {error.start} is not UTF-8: export it as UTF-8") from error
    if "\0" in text:
        raise UsageError("it holds a null character: it is no text")
    header = text.splitlines()[0] if text.strip() else ""
    delimiter = max(";\t,", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: dict[str, list[Reading]] = {}
    number = 0
    try:
        form = _form(next(rows, []), delimiter, zone, now_unix_milliseconds + MILLISECONDS_PER_DAY)
        number = 1
        for number, cells in enumerate(rows, 2):
            if number - 1 > MAX_ROWS:
                raise UsageError(f"it has more than {MAX_ROWS:,} rows: cut it by unit or by day")
            if any(cell.strip() for cell in cells):
                _take(found, form, number, cells)
    except csv.Error as error:
        raise UsageError(f"row {number + 1}: {error}") from error
    for name, readings in found.items():
        readings.sort()
        _apart(name, readings)
    if form.counter:
        found = {name: made for name, readings in found.items() if (made := _subtract(name, readings))}
    if not found:
        raise UsageError("it has no readings" + ": a counter gives one from its second row on" * form.counter)
    return found


def _form(header: Sequence[str], delimiter: str, zone: tzinfo | None, latest: int) -> _Form:
    names = [name.strip().lower() for name in header]
    for column, name in enumerate(names, 1):
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"row 1, column {column}: '{_short(name)}' is no column: use {', '.join(COLUMNS)}{hint}"
            )
        if names.index(name) != column - 1:
            raise UsageError(f"row 1, column {column}: '{name}' stands there twice")
    there = set(names)
    when = there & {"time", "start", "end"}
    if "unit" not in there or when not in ({"time"}, {"start", "end"}):
        raise UsageError("row 1: it needs the column unit, and either time, or start and end")
    if len(there & set(_PER_WATT_HOUR)) != 1:
        raise UsageError(f"row 1: it needs one of the columns {', '.join(_PER_WATT_HOUR)}")
    if "watt_hours" in there and "time" in there:
        raise UsageError("row 1: watt_hours are of a stretch of time: give start and end instead of time")
    if "counter_kwh" in there and ("start" in there or "state" in there):
        raise UsageError("row 1: counter_kwh goes with the columns unit and time only")
    place = {name: at for at, name in enumerate(names)}
    return _Form(place, len(names), delimiter != ",", zone, latest)


def _take(found: dict[str, list[Reading]], form: _Form, row: int, cells: Sequence[str]) -> None:
    if len(cells) != form.width:
        raise UsageError(f"row {row}: {len(cells)} columns instead of {form.width}")
    said = {name: cells[at].strip() for name, at in form.place.items()}
    name, state = said["unit"], said.get("state", "").lower()
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise UsageError(f"row {row}, column unit: use 1 to {_MAX_NAME} printable characters")
    if state not in STATES:
        raise UsageError(
            f"row {row}, column state: '{_short(state)}' is not on, off or asleep; leave it empty "
            "where you do not know"
        )
    if "time" in said:
        start = end = _moment(form, row, "time", said["time"])
    else:
        start, end = (_moment(form, row, column, said[column]) for column in ("start", "end"))
        if not start < end <= start + MILLISECONDS_PER_DAY:
            raise UsageError(f"row {row}, column end: it is not within the day after the start")
    reading = Reading(start, end, _milliwatts(form, row, said, end - start), state, row)
    if name not in found and len(found) >= MAX_UNITS:
        raise UsageError(f"row {row}, column unit: more than {MAX_UNITS:,} units")
    found.setdefault(name, []).append(reading)


def _milliwatts(form: _Form, row: int, said: dict[str, str], milliseconds: int) -> int:
    (column,) = set(_PER_WATT_HOUR) & set(said)
    text = said[column].replace(",", ".") if form.decimal_comma else said[column]
    if not _NUMBER.fullmatch(text):
        why = "negative" if text.startswith("-") else "no plain number such as 42.5"
        raise UsageError(f"row {row}, column {column}: '{_short(said[column])}' is {why}")
    value = Decimal(text) * _PER_WATT_HOUR[column] * MILLIWATTS_PER_WATT
    if column == "watt_hours":
        value = value * MILLISECONDS_PER_HOUR / milliseconds
    if not form.counter:
        _check_power(value, f"row {row}, column {column}: '{_short(said[column])}'")
    return round(value)


def _check_power(milliwatts: Decimal | float, where: str) -> None:
    """Raise UsageError when one machine cannot draw that power."""
    if milliwatts > SERVER_CEILING_WATTS * MILLIWATTS_PER_WATT:
        raise UsageError(
            f"{where} makes {milliwatts / MILLIWATTS_PER_WATT:,.0f} W, more than one machine draws "
            f"({SERVER_CEILING_WATTS:,} W): look at the unit of measurement"
        )


def _subtract(name: str, counters: Sequence[Reading]) -> list[Reading]:
    """Return the readings between the rows of a counter. Raises UsageError where it falls."""
    made = []
    for one, other in pairwise(counters):
        where = f"row {other.row}, column counter_kwh: the counter of unit '{_short(name)}'"
        risen = other.milliwatts - one.milliwatts
        if risen < 0:
            raise UsageError(
                f"{where} is lower than in row {one.row}: it was set back, or it is another plug; give one of "
                "the two parts only"
            )
        milliwatts = risen * MILLISECONDS_PER_HOUR / (other.start - one.start)
        _check_power(milliwatts, where)
        made.append(Reading(one.start, other.start, round(milliwatts), "", other.row))
    return made


def _moment(form: _Form, row: int, column: str, text: str) -> int:
    """Parse a time into Unix milliseconds."""
    where = f"row {row}, column {column}: '{_short(text)}'"
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{where} is no time such as 2026-03-02T14:30:00+01:00") from error
    if time.tzinfo is None:
        if form.zone is None:
            raise UsageError(f"{where} has no offset: write +01:00 or Z behind it, or give --time-zone")
        time = time.replace(tzinfo=form.zone)
        if time.utcoffset() != time.replace(fold=1).utcoffset():
            raise UsageError(
                f"{where} is within the hour that the clocks were changed: write its offset, as in +01:00"
            )
    known = DATED_YEARS.holds(time.year)
    at = round(time.timestamp() * MILLISECONDS_PER_SECOND) if known else form.latest + 1
    if at > form.latest:
        raise UsageError(f"{where} is not between the year {DATED_YEARS.first} and now")
    return at


def _apart(name: str, readings: Sequence[Reading]) -> None:
    """Check the order of readings. Raises UsageError for a repeated moment or overlapping stretches."""
    for one, other in pairwise(readings):
        if other.start < one.end or other.start == one.start:
            low, high = sorted((one.row, other.row))
            raise UsageError(f"row {high}: unit '{_short(name)}' has this time already in row {low}")


def _short(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= 40 else shown[:39] + "…"


FILE: Final = "file"
"""Key used as the kind of meter of a file."""
MAX_CONTRADICTIONS: Final = 0.05
"""Greatest share of a unit's readings with a state that the records contradict:
the seconds around a change; our choice.
"""


@dataclass(frozen=True, slots=True)
class ReadingPairs:
    """Readings paired with their records."""

    cells: tuple[Cell, ...]
    start: int
    state: str
    readings: tuple[Reading, ...]

    @property
    def watts(self) -> float:
        """Mean of the readings, weighted by their length; moments have equal weights."""
        lengths = [one.end - one.start or 1 for one in self.readings]
        whole = sum(one.milliwatts * length for one, length in zip(self.readings, lengths, strict=True))
        return whole / sum(lengths) / MILLIWATTS_PER_WATT


def file_samples(
    samples: Samples,
    hardware: Hardware,
    unit: str,
    machine: MachineFacts,
    readings: Sequence[Reading],
    records: Sequence[StoredRecord],
) -> int:
    """Add a unit's samples and return the number of readings used. Readings and records are in order of time.

    Raises UsageError when clocks do not overlap, or the file contradicts the records.
    """
    long = _typical_length(readings) > _typical_record(records)
    pairings = _records_in_readings(readings, records) if long else _readings_in_records(readings, records)
    _agree(unit, readings, pairings)
    used: set[int] = set()
    for pairing in pairings:
        if any(one.state not in ("", pairing.state) for one in pairing.readings):
            continue
        seen = measure_cells(machine, pairing.cells) if at_the_wall(pairing.cells) else None
        if seen is not None:
            samples.add(hardware, unit, FILE, pairing.start, seen, pairing.watts)
            used.update(one.row for one in pairing.readings)
    beside = {one.row for pairing in pairings for one in pairing.readings}
    for one in readings:
        if one.state in ("", ON) or one.row in beside or _touches(one, records):
            continue
        seen = standing_by(machine, one.state, one.end - one.start or _interval(readings))
        if seen is not None:
            samples.add(hardware, unit, FILE, one.start, seen, one.milliwatts / MILLIWATTS_PER_WATT)
            used.add(one.row)
    if not used:
        raise UsageError(_no_overlap(unit, readings, records))
    return len(used)


def _typical_length(readings: Sequence[Reading]) -> float:
    return median(one.end - one.start for one in readings)


def _typical_record(records: Sequence[StoredRecord]) -> float:
    return median(one.milliseconds for one in records) if records else float("inf")


def _interval(readings: Sequence[Reading]) -> int:
    """Return the time that one reading of a moment represents, ms."""
    if len(readings) < 2:
        return 1000
    whole = (readings[-1].start - readings[0].start) // (len(readings) - 1)
    return max(1000, min(whole, MILLISECONDS_PER_HOUR))


def _readings_in_records(readings: Sequence[Reading], records: Sequence[StoredRecord]) -> list[ReadingPairs]:
    """Pair each record of a single state with the readings inside it;
    stretches must cover most of the record.
    """
    found, at = [], 0
    for record in records:
        start, end = record.start_unix_milliseconds, record.start_unix_milliseconds + record.milliseconds
        while at < len(readings) and readings[at].start < start:
            at += 1
        inside = []
        while at < len(readings) and readings[at].start < end:
            if readings[at].end <= end:
                inside.append(readings[at])
            at += 1
        state = state_of(record)
        lengths = sum(one.end - one.start for one in inside)
        of_moments = all(one.end == one.start for one in inside)
        if inside and state is not None and (of_moments or lengths >= COVERED * record.milliseconds):
            found.append(ReadingPairs(record.cells, start, state, tuple(inside)))
    return found


def _records_in_readings(readings: Sequence[Reading], records: Sequence[StoredRecord]) -> list[ReadingPairs]:
    """Pair each reading with the records inside it, of one state, that cover most of the reading."""
    found, at = [], 0
    for reading in readings:
        while at < len(records) and records[at].start_unix_milliseconds < reading.start:
            at += 1
        inside = []
        while at < len(records) and records[at].start_unix_milliseconds < reading.end:
            if records[at].start_unix_milliseconds + records[at].milliseconds <= reading.end:
                inside.append(records[at])
            at += 1
        time = sum(one.milliseconds for one in inside)
        states = {state_of(one) for one in inside}
        state = states.pop() if len(states) == 1 else None
        if state is not None and time >= COVERED * (reading.end - reading.start):
            cells = tuple(cell for one in inside for cell in one.cells)
            found.append(ReadingPairs(cells, reading.start, state, (reading,)))
    return found


def _touches(reading: Reading, records: Sequence[StoredRecord]) -> bool:
    """Return whether any record overlaps that time."""
    low, high = 0, len(records)
    while low < high:
        middle = (low + high) // 2
        one = records[middle]
        if one.start_unix_milliseconds + one.milliseconds <= reading.start:
            low = middle + 1
        else:
            high = middle
    return low < len(records) and records[low].start_unix_milliseconds < max(reading.end, reading.start + 1)


def _agree(unit: str, readings: Sequence[Reading], pairings: Sequence[ReadingPairs]) -> None:
    """Check the file's states against the records. Raises UsageError when too many differ."""
    denied = [
        (one, pairing.state)
        for pairing in pairings
        for one in pairing.readings
        if one.state not in ("", pairing.state)
    ]
    if len(denied) > MAX_CONTRADICTIONS * len(readings):
        (first, state), many = denied[0], len(denied)
        raise UsageError(
            f"row {first.row}, column state: it says {first.state}, the records of '{unit}' say "
            f"{state} ({many:,} such rows): "
            "wrong machine, or wrong clock"
        )


def _no_overlap(unit: str, readings: Sequence[Reading], records: Sequence[StoredRecord]) -> str:
    span = f"{_when(readings[0].start)} to {_when(readings[-1].end)}"
    if not records:
        return (
            f"unit '{unit}': no stored record of it in the time of its readings, {span}: wrong "
            "machine, or wrong clock"
        )
    last = records[-1]
    stored = (
        f"{_when(records[0].start_unix_milliseconds)} to "
        f"{_when(last.start_unix_milliseconds + last.milliseconds)}"
    )
    return (
        f"unit '{unit}': none of its readings ({span}) lies in a record with counters (records: "
        f"{stored}): look at the clock, "
        "and whether its records are short enough"
    )


def _when(unix_milliseconds: int) -> str:
    return datetime.fromtimestamp(unix_milliseconds / MILLISECONDS_PER_SECOND, UTC).strftime(
        "%Y-%m-%d %H:%M UTC"
    )
