# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads and writes the files of `veilleuse calendar import`:
TOML for a site's whole calendar, CSV for closures alone.

An error names the file, the table, the key and what to write instead; for an unknown key, the nearest known
one.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any, Final

from veilleuse.collector.calendars.compose import MAXIMUM_CLOSURE_DAYS
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.calendars import Closure, Declaration, SchoolZone
from veilleuse.wire.bands import MINIMUM_OPEN_SPAN_MINUTES, Calendar, CalendarError, OpenSpan
from veilleuse.wire.settings_file import parse_toml
from veilleuse.wire.values import parse_day as parse_written_day

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "open": WEEKDAYS,
    "updates": WEEKDAYS,
    "public_holidays": ("country", "alsace_moselle"),
    "school_holidays": ("zone",),
    "closure": ("first", "last", "name"),
}
"""Table → its keys."""
COUNTRIES: Final = ("FR",)
MAXIMUM_NAME: Final = 64
_DAY_MINUTES: Final = 24 * 60
_SPAN: Final = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
_CSV_COLUMNS: Final = ("first", "last", "name")


def read_calendar(text: str, name: str, former: Declaration) -> Declaration:
    """Read a declaration; a CSV replaces the closures of `former`, TOML is complete. Raises UsageError."""
    try:
        if name.lower().endswith(".toml"):
            found = _toml(text)
        elif name.lower().endswith(".csv"):
            found = replace(former, closures=_sort_closures(_csv(text)))
        else:
            raise UsageError("it is neither .toml (a whole calendar) nor .csv (closures)")
        if sum((one.last - one.first).days + 1 for one in found.closures) > MAXIMUM_CLOSURE_DAYS:
            raise UsageError(
                f"it closes more than {MAXIMUM_CLOSURE_DAYS} days: leave out those that are past"
            )
        Calendar("UTC", found.open_spans, (), found.update_windows)
    except (UsageError, CalendarError, csv.Error) as error:
        raise UsageError(f"{name}: {error}") from error
    return found


def _toml(text: str) -> Declaration:
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"no TOML: {error}") from error
    require_known(document, tuple(TABLES), "")
    if "open" not in document:
        raise UsageError("no table [open]: write it, empty when the site never opens")
    public, school = _table(document, "public_holidays"), _table(document, "school_holidays")
    country = _choice(public, "public_holidays", "country", COUNTRIES)
    alsace_moselle = public.get("alsace_moselle", False)
    if not isinstance(alsace_moselle, bool):
        raise UsageError(f"[public_holidays] alsace_moselle = {alsace_moselle!r}: write true or false")
    if alsace_moselle and country is None:
        raise UsageError('[public_holidays] alsace_moselle without a country: add country = "FR"')
    zone = _choice(school, "school_holidays", "zone", tuple(SchoolZone))
    closures = document.get("closure", [])
    if not isinstance(closures, list) or not all(isinstance(one, dict) for one in closures):
        raise UsageError("'closure' must be tables: write [[closure]]")
    return Declaration(
        _spans(document, "open"),
        _spans(document, "updates"),
        _sort_closures(
            _closure(one, f"[[closure]] number {number}") for number, one in enumerate(closures, 1)
        ),
        country is not None,
        alsace_moselle,
        None if zone is None else SchoolZone(zone),
    )


def _csv(text: str) -> Iterator[Closure]:
    text = text.removeprefix("\ufeff")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=";" if ";" in text.partition("\n")[0] else ","
    )
    columns = [
        "first" if column.strip().lower() == "date" else column.strip().lower() for column in next(reader, [])
    ]
    require_known(columns, _CSV_COLUMNS, "line 1", word="column")
    if "first" not in columns:
        raise UsageError("line 1: no column 'first': write first,last,name")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns):
            raise UsageError(f"line {reader.line_num} has more cells than columns")
        values = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if cell.strip()}
        yield _closure(values, f"line {reader.line_num}")


def _closure(values: Mapping[str, Any], where: str) -> Closure:
    require_known(values, TABLES["closure"], where)
    if "first" not in values:
        raise UsageError(f"{where}: no key 'first': write first = 2026-12-24")
    first = parse_day(values["first"], f"{where}, first")
    last = parse_day(values.get("last", first), f"{where}, last")
    if last < first:
        raise UsageError(f"{where}, last: {last} is before {first}: exchange them")
    name = values.get("name", "")
    if not isinstance(name, str) or not name.isprintable() or len(name) > MAXIMUM_NAME:
        raise UsageError(f"{where}, name: write a printable text of at most {MAXIMUM_NAME} characters")
    return Closure(first, last, name.strip())


def parse_day(value: object, where: str) -> date:
    """Return a TOML date, or a text like 2026-12-24. Raises UsageError, which says `where`."""
    is_day = isinstance(value, date) and not isinstance(value, datetime)
    try:
        if is_day or isinstance(value, str):
            return parse_written_day(str(value))
    except ValueError:
        pass
    raise UsageError(f"{where}: {str(value)!r} is no date: write YYYY-MM-DD")


def _spans(document: Mapping[str, Any], table: str) -> tuple[OpenSpan, ...]:
    found: list[OpenSpan] = []
    for key, texts in _table(document, table).items():
        where = f"[{table}] {key}"
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f'{where} = {texts!r}: write a list such as ["08:00-12:00", "13:00-18:00"]')
        for text in texts:
            found += _weekly(WEEKDAYS.index(key) + 1, text, where)
    spans = tuple(sorted(found))
    _check(spans, table)
    try:
        Calendar("UTC", spans if table == "open" else (), (), spans if table == "updates" else ())
    except CalendarError as error:
        raise UsageError(f"[{table}]: {error}") from error
    return spans


def _check(spans: tuple[OpenSpan, ...], table: str) -> None:
    """Check what Calendar would refuse too, in the terms of the file."""
    for span in spans:
        minutes = span.end_minute - span.start_minute
        if table == "open" and minutes < MINIMUM_OPEN_SPAN_MINUTES:
            raise UsageError(
                f"[open] {_words(span)} is open for {minutes} minutes only, and would tell them "
                "apart: join it to a neighbour, "
                f"or make it {MINIMUM_OPEN_SPAN_MINUTES // 60} h"
            )
    for one, two in itertools.pairwise(spans):
        if one.iso_weekday == two.iso_weekday and two.start_minute < one.end_minute:
            raise UsageError(f"[{table}] {_words(one)} and {_words(two)} overlap: write them as one")


def _words(span: OpenSpan) -> str:
    return f"{WEEKDAYS[span.iso_weekday - 1]} {span_text(span)}"


def _weekly(weekday: int, text: str, where: str) -> tuple[OpenSpan, ...]:
    """Parse one span; two when it passes midnight."""
    match = _SPAN.fullmatch(text.strip())
    start, end = (-1, -1) if match is None else _minutes(*map(int, match.groups()))
    if not (0 <= start < _DAY_MINUTES and 0 <= end <= _DAY_MINUTES and start != end):
        raise UsageError(
            f"{where}: {text!r} is no span: write HH:MM-HH:MM, such as 08:00-18:00 or 22:00-06:00"
        )
    if start < end:
        return (OpenSpan(weekday, start, end),)
    evening = OpenSpan(weekday, start, _DAY_MINUTES)
    return (evening, OpenSpan(weekday % 7 + 1, 0, end)) if end else (evening,)


def _minutes(start_hour: int, start_minute: int, end_hour: int, end_minute: int) -> tuple[int, int]:
    if start_minute > 59 or end_minute > 59:
        return -1, -1
    return start_hour * 60 + start_minute, end_hour * 60 + end_minute


def clock(minute: int) -> str:
    """Format minutes after midnight, 0 to 1,440, as HH:MM."""
    return f"{minute // 60:02}:{minute % 60:02}"


def span_text(span: OpenSpan) -> str:
    """Format the hours of a span, as in the file."""
    return f"{clock(span.start_minute)}-{clock(span.end_minute)}"


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise UsageError(f"'{name}' must be a table: write [{name}]")
    require_known(found, TABLES[name], f"[{name}]")
    return found


def _choice(table: Mapping[str, Any], name: str, key: str, known: Sequence[str]) -> str | None:
    value = table.get(key)
    if value is not None and value not in known:
        raise UsageError(
            f"[{name}] {key} = {value!r}: write one of {', '.join(map(str, known))}, or leave it out"
        )
    return value


def require_known(given: Iterable[str], known: Sequence[str], where: str, word: str = "key") -> None:
    """Check the keys of a table; blank `where`: the tables of a file. Raises UsageError with the nearest."""
    for key in given:
        if key not in known:
            near = get_close_matches(key.lower(), known, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else f"use {', '.join(known)}"
            raise UsageError(
                f"{where}: unknown {word} '{key}': {remedy}" if where else f"unknown table '{key}': {remedy}"
            )


def _sort_closures(closures: Iterable[Closure]) -> tuple[Closure, ...]:
    return tuple(sorted(closures, key=lambda one: (one.first, one.last, one.name)))


def write_calendar(declaration: Declaration, site: str) -> str:
    """Write a declaration as TOML. `site` goes into a comment."""
    lines = [
        f"# Calendar of {site}: veilleuse calendar import FILE --site {json.dumps(site, ensure_ascii=False)}",
        "",
    ]
    lines += ["[open]", *_weekly_text(declaration.open_spans), ""]
    if declaration.public_holidays:
        lines += ["[public_holidays]", f'country = "{COUNTRIES[0]}"']
        lines += [f"alsace_moselle = {str(declaration.alsace_moselle).lower()}", ""]
    if declaration.school_zone is not None:
        lines += ["[school_holidays]", f'zone = "{declaration.school_zone}"', ""]
    if declaration.update_windows:
        lines += ["[updates]", *_weekly_text(declaration.update_windows), ""]
    for closure in declaration.closures:
        lines += [*_closure_text(closure), ""]
    return "\n".join(lines[:-1]) + "\n"


def _weekly_text(spans: tuple[OpenSpan, ...]) -> list[str]:
    return [
        f"{name} = {json.dumps(texts)}"
        for number, name in enumerate(WEEKDAYS, 1)
        if (texts := [span_text(span) for span in spans if span.iso_weekday == number])
    ]


def _closure_text(closure: Closure) -> list[str]:
    lines = ["[[closure]]", f"first = {closure.first}"]
    if closure.last != closure.first:
        lines.append(f"last = {closure.last}")
    if closure.name:
        lines.append(f"name = {json.dumps(closure.name, ensure_ascii=False)}")
    return lines
