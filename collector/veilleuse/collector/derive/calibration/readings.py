# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A CSV of meter readings → readings per unit, all of it or nothing (pure). docs/calibration.md has the columns.

Every refusal is a UsageError that names row and column: a file comes from a meter's own export, a spreadsheet or a hand.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple

from veilleuse.collector.errors import UsageError
from veilleuse.collector.validate.cells import SERVER_CEILING_WATTS
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_HOUR

MAX_BYTES: Final = 64 * 2**20
MAX_ROWS: Final = 1_000_000
"""Eleven days of ten units at one reading in ten seconds."""
COLUMNS: Final = ("unit", "time", "start", "end", "watts", "watt_hours", "state")
STATES: Final = ("", "on", "off", "asleep")
MAX_UNITS: Final = 1_000
_YEARS: Final = (2000, 2999)
_MAX_NAME: Final = 128
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class Reading(NamedTuple):
    """What a meter said of one unit: of a moment (start = end), or of a stretch of time."""

    start: int
    """Unix milliseconds."""
    end: int
    milliwatts: int
    """Mean power of the stretch, or power at the moment."""
    state: str
    """on, off, asleep; empty = not told."""
    row: int
    """Number in the file; the header is row 1."""


@dataclass(frozen=True, slots=True)
class _Form:
    """What the header says."""

    place: dict[str, int]
    width: int
    decimal_comma: bool
    zone: tzinfo | None
    latest: int
    """Unix milliseconds after which no reading can be."""


def parse_readings(
    content: bytes, *, zone: tzinfo | None, now_unix_milliseconds: int
) -> dict[str, list[Reading]]:
    """Unit → its readings in the order of time. `zone`: of times without an offset; None = such times are refused.

    Raises UsageError, which names row and column.
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
    if not found:
        raise UsageError("it has no readings")
    for name, readings in found.items():
        readings.sort()
        _apart(name, readings)
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
    if len(there & {"watts", "watt_hours"}) != 1:
        raise UsageError("row 1: it needs one of the columns watts and watt_hours")
    if "watt_hours" in there and "time" in there:
        raise UsageError("row 1: watt_hours are of a stretch of time: give start and end instead of time")
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
            f"row {row}, column state: '{_short(state)}' is not on, off or asleep; leave it empty where you do not know"
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
    column = "watts" if "watts" in said else "watt_hours"
    text = said[column].replace(",", ".") if form.decimal_comma else said[column]
    if not _NUMBER.fullmatch(text):
        why = "negative" if text.startswith("-") else "no plain number such as 42.5"
        raise UsageError(f"row {row}, column {column}: '{_short(said[column])}' is {why}")
    value = Decimal(text) * 1000
    if column == "watt_hours":
        value = value * MILLISECONDS_PER_HOUR / milliseconds
    if value > SERVER_CEILING_WATTS * 1000:
        raise UsageError(
            f"row {row}, column {column}: '{_short(said[column])}' makes {value / 1000:,.0f} W, more than one machine draws "
            f"({SERVER_CEILING_WATTS:,} W): look at the unit of measurement"
        )
    return round(value)


def _moment(form: _Form, row: int, column: str, text: str) -> int:
    """Unix milliseconds."""
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
    known = _YEARS[0] <= time.year <= _YEARS[1]
    at = round(time.timestamp() * 1000) if known else form.latest + 1
    if at > form.latest:
        raise UsageError(f"{where} is not between the year {_YEARS[0]} and now")
    return at


def _apart(name: str, readings: Sequence[Reading]) -> None:
    """Raises UsageError for a moment told twice, or stretches that overlap."""
    for one, other in pairwise(readings):
        if other.start < one.end or other.start == one.start:
            low, high = sorted((one.row, other.row))
            raise UsageError(f"row {high}: unit '{_short(name)}' has this time already in row {low}")


def _short(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= 40 else shown[:39] + "…"
