# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes the cells of a workbook: all digits of numbers, days, words; no formula, link or markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Final

from veilleuse.collector.documents.document import NUMERIC, Column, Row, Value, ValueKind
from veilleuse.collector.documents.text import Words, instant

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

SHEET_NAME: Final = 31
"""UTF-16 units, Excel's own limit."""
NO_SHEET_NAME: Final = re.compile(r"[\[\]:*?/\\]")
NARROW, WIDE = 10, 48
"""Smallest and largest width of a column, in characters."""
SAMPLED: Final = 200
"""Rows that determine the width of a column."""
MANY: Final = 100
"""Largest number of a column from which its decimals are not shown."""
_HEAD: Final = {"bold": True, "text_wrap": True, "valign": "top", "bottom": 1, "bg_color": "#E4E9F0"}
_FORMATS: Final[Mapping[str, dict[str, object]]] = {
    "title": {"bold": True, "font_size": 14},
    "heading": {"bold": True, "font_size": 12, "font_color": "#17324D"},
    "value": {"bold": True, "font_size": 12, "valign": "top"},
    "strong": {"bold": True, "text_wrap": True, "valign": "top"},
    "line": {"bold": True, "valign": "top"},
    "plain": {"valign": "top"},
    "wrap": {"text_wrap": True, "valign": "top", "align": "left"},
    "head": _HEAD,
    "head_right": {**_HEAD, "align": "right"},
    "name": {"font_color": "#4A5666", "italic": True, "font_size": 9},
    "date": {"num_format": "yyyy-mm-dd", "valign": "top"},
    "time": {"num_format": "yyyy-mm-dd hh:mm:ss"},
}


class ExactNumber(float):
    """An ExactNumber is written with all its digits: XlsxWriter writes 16, a binary64 needs 17."""

    def __format__(self, _spec: str) -> str:
        return float.__repr__(self)


class ExactInteger(int):
    """An ExactInteger is written with all its digits."""

    def __format__(self, _spec: str) -> str:
        return int.__repr__(self)


class CellWriter:
    """Writes values of columns into the sheets of one workbook."""

    def __init__(self, workbook: Workbook, w: Words) -> None:
        """Write texts for people in the language of `w`."""
        self._workbook = workbook
        self._w = w
        self._formats: dict[str, Format] = {}

    def value(
        self, sheet: Worksheet, line: int, place: int, one: Column, value: Value | None, row: Row
    ) -> None:
        """Write a value by its kind, words in the reader's language; nothing for an absent value."""
        if value is None:
            return
        if isinstance(value, bool):
            sheet.write_boolean(line, place, value)
        elif isinstance(value, str):
            day = _day(value) if one.kind is ValueKind.DATE else None
            if day is not None:
                sheet.write_datetime(line, place, day, self.look("date"))
            else:
                text = value if one.kind is ValueKind.DATE else self._w.value(one, value, row)
                self.text(sheet, line, place, text)
        elif isinstance(value, Mapping):
            self.text(sheet, line, place, str(value))
        elif one.kind is ValueKind.TIME:
            sheet.write_datetime(line, place, instant(int(value)).replace(tzinfo=None), self.look("time"))
        else:
            exact = ExactInteger(value) if isinstance(value, int) else ExactNumber(value)
            sheet.write_number(line, place, exact, self.look(_number_format(one, row)))

    def short(self, sheet: Worksheet, line: int, place: int, one: Column, row: Row, largest: float) -> None:
        """Write a value of a short table: no more decimals than people read, yes and no in words.

        `largest`: of the column.
        """
        value = row.get(one.name)
        if isinstance(value, bool):
            self.text(sheet, line, place, self._w("yes" if value else "no"))
        elif isinstance(value, float) and one.kind is ValueKind.NUMBER and largest >= MANY:
            sheet.write_number(line, place, ExactNumber(value), self.look("#,##0"))
        elif isinstance(value, str) and one.kind is not ValueKind.DATE and place:
            self.text(sheet, line, place, self._w.value(one, value, row), "wrap")
        elif isinstance(value, str) and one.kind is not ValueKind.DATE:
            self.text(sheet, line, place, self._w.value(one, value, row), "plain")
        else:
            self.value(sheet, line, place, one, value, row)

    def heading(self, sheet: Worksheet, line: int, place: int, one: Column, text: str) -> None:
        """Write the heading of a column: of numbers it stands right, as they do."""
        self.text(sheet, line, place, text, "head_right" if one.kind in NUMERIC and place else "head")

    def text(self, sheet: Worksheet, line: int, place: int, text: str, look: str = "") -> None:
        """Write a text, as a string whatever it begins with."""
        sheet.write_string(line, place, no_markup(text), self.look(look) if look else None)

    def look(self, name: str) -> Format:
        """Return the format of that name, or the number format."""
        if name not in self._formats:
            self._formats[name] = self._workbook.add_format(
                _FORMATS.get(name) or {"num_format": name, "valign": "top"}
            )
        return self._formats[name]


def sheet_name(title: str, taken: set[str]) -> str:
    """Return a name that every spreadsheet accepts and that is not in `taken` (case-folded); add it to
    `taken`.
    """
    bare = _first_units(NO_SHEET_NAME.sub(" ", title).strip(" '"), SHEET_NAME) or "-"
    if bare.casefold() == "history":  # reserved by Excel
        bare = "History -"
    name, number = bare, 1
    while name.casefold() in taken:
        number += 1
        name = f"{_first_units(bare, SHEET_NAME - 4)} {number}"
    taken.add(name.casefold())
    return name


def no_markup(text: str) -> str:
    """Break a text that XlsxWriter would write as raw XML: a string from <r> to </r>."""
    return f"{text} " if text.startswith("<r>") and text.endswith("</r>") else text


def no_reference(title: str) -> str:
    """Break a chart title that begins with =: a spreadsheet would take it for a reference."""
    return f"'{title}" if title.startswith("=") else title


def value_of(row: Row, one: Column, key: str) -> Value | None:
    """Return the value of a sheet's column: of a mix, the share of one name."""
    if one.kind is not ValueKind.MIX:
        return row.get(one.name)
    return mix_of(row, one.name).get(key.removeprefix(f"{one.name}."))


def mix_of(row: Row, name: str) -> Mapping[str, float | str | Mapping[str, str]]:
    """Return the names and shares of a mix; empty without one."""
    value = row.get(name)
    return value if isinstance(value, Mapping) else {}


def width_of(one: Column, key: str, label: str, rows: Sequence[Row]) -> int:
    """Choose a width that fits the first values, within NARROW and WIDE; labels wrap."""
    values = (value_of(row, one, key) for row in rows[:SAMPLED])
    if one.kind in NUMERIC:
        longest = 14
    else:
        longest = max((len(value) for value in values if isinstance(value, str)), default=0)
    return min(WIDE, max(NARROW, longest + 2, len(label) // 2, len(key) * 9 // 10))


def _first_units(text: str, units: int) -> str:
    """Cut a text to so many UTF-16 units, without spaces or apostrophes at its ends."""
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", "ignore").strip(" '")


def _number_format(one: Column, row: Row) -> str:
    if one.kind is ValueKind.INTEGER:
        return "#,##0" if one.grouped else "0"
    if one.kind in (ValueKind.RATIO, ValueKind.MIX) or (one.unit_from and row.get(one.unit_from) == "ratio"):
        return "0.0%"
    return "#,##0." + "0" * one.digits if one.digits else "#,##0"


def _day(text: str) -> date | None:
    """Return the date, or None for text that is no day of a spreadsheet: they count from 1900."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year > 1900 else None
