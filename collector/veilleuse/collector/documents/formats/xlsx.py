# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes XLSX: a workbook with typed, unrounded cells and native charts. No cell is a formula or a link.

Equal documents make equal bytes: the only time in the file is the document's own. Sheets: read me, one per
table, charts, method, dictionary of columns.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from xlsxwriter import Workbook

from veilleuse.collector.documents.charts import COLOURS
from veilleuse.collector.documents.document import (
    KEY,
    NUMERIC,
    UNDER_WAY_UNTIL,
    Chart,
    Column,
    Document,
    Row,
    Value,
    ValueKind,
    column,
)
from veilleuse.collector.documents.formats.html import dictionary
from veilleuse.collector.documents.layout import (
    charts_with_values,
    document_title,
    facts,
    key_figures,
    notices,
    period,
    title_of,
)
from veilleuse.collector.documents.text import Words, instant, words

if TYPE_CHECKING:
    from xlsxwriter.chart import Chart as XlsxChart
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

LARGE: Final = 200_000
"""Cells from which rows are written to temporary files, not kept in memory (about 250 bytes a cell)."""
SHEET_NAME: Final = 31
"""UTF-16 units, Excel's own limit."""
NO_SHEET_NAME: Final = re.compile(r"[\[\]:*?/\\]")
NARROW, WIDE = 10, 48
"""Smallest and largest width of a column, in characters."""
SAMPLED: Final = 200
"""Rows that determine the width of a column."""
PRINTED: Final = 14
"""Maximum columns that fit side by side on A4 landscape."""
HEAD_ROWS: Final = 2
"""Header rows: labels for people, then the column names of the other formats."""
EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001 # a spreadsheet knows no zone; for documents without a moment
CHART_ROWS: Final = 22
"""Rows of a sheet that one chart covers."""


class ExactNumber(float):
    """An ExactNumber is written with all its digits: XlsxWriter writes 16, a binary64 needs 17."""

    def __format__(self, _spec: str) -> str:
        return float.__repr__(self)


class ExactInteger(int):
    """An ExactInteger is written with all its digits."""

    def __format__(self, _spec: str) -> str:
        return int.__repr__(self)


def render(document: Document) -> bytes:
    """Return the file."""
    file = io.BytesIO()
    large = sum(len(rows) * len(document.columns) for rows in document.tables.values()) > LARGE
    book = _Book(document, Workbook(file, {**_SAFE, "in_memory": not large, "constant_memory": large}))
    book.write()
    return file.getvalue()


_SAFE: Final = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}


class _Book:
    """Holds one workbook while it is written."""

    def __init__(self, document: Document, workbook: Workbook) -> None:
        self._document = document
        self._w = words(document.language)
        self._workbook = workbook
        self._formats: dict[str, Format] = {}
        self._sheets: dict[str, Worksheet] = {}
        self._columns: dict[str, dict[str, int]] = {}
        """Table → key of a sheet's column → column index."""
        self._names: set[str] = set()

    def write(self) -> None:
        document, w = self._document, self._w
        self._properties()
        self._read_me()
        for table, rows in document.tables.items():
            if rows or table in document.tabular:
                self._table(table, rows)
        if charts := charts_with_values(document):
            self._charts(charts)
        self._method()
        grid = dictionary(document, w)
        lines = [[cell.text for cell in row] for row in (grid.heads, *grid.rows)]
        self._texts(w("page.columns"), lines, heads=True)
        self._workbook.close()

    # --- sheets

    def _read_me(self) -> None:
        document, w = self._document, self._w
        sheet = self._sheet(w("page.readme"))
        sheet.set_column(0, 0, 42)
        sheet.set_column(1, 8, 32)
        self._string(sheet, 0, 0, document_title(document, w), self._format("title"))
        warnings = [
            *([period(document, w) or ""] if UNDER_WAY_UNTIL in document.head else []),
            *([w("page.simulated")] if document.head.get("data") == "simulated" else []),
            *notices(document, w),
        ]
        line = 1
        for text in (w("page.product"), *warnings, w("page.unrounded"), w("page.absent")):
            self._string(sheet, line, 0, text, self._format("strong" if text in warnings else "plain"))
            line += 1
        line += 1
        for label, text in facts(document, w):
            self._string(sheet, line, 0, label, self._format("strong"))
            self._string(sheet, line, 1, text, self._format("wrap"))
            line += 1
        keys = key_figures(document, w)
        if keys is not None:
            self._string(sheet, line + 1, 0, keys.caption, self._format("title"))
            line += 2
            for i, head in enumerate(keys.heads):
                self._string(sheet, line, 0, head.text, self._format("strong"))
                for j, row in enumerate(keys.rows, 1):
                    self._string(sheet, line, j, row[i].text, self._format("wrap"))
                line += 1

    def _table(self, table: str, rows: Sequence[Row]) -> None:
        document, w = self._document, self._w
        sheet = self._sheets[table] = self._sheet(title_of(document, table, w))
        columns = list(self._spread(table, rows))
        self._columns[table] = {key: place for place, (_, key, _) in enumerate(columns)}
        for place, (one, key, label) in enumerate(columns):
            sheet.set_column(place, place, _width(one, key, label, rows))
            self._string(sheet, 0, place, label, self._format("head"))
        for place, (_, key, _) in enumerate(columns):
            self._string(sheet, 1, place, key, self._format("name"))
        for line, row in enumerate(rows, HEAD_ROWS):
            for place, (one, key, _) in enumerate(columns):
                self._cell(sheet, line, place, one, _value(row, one, key))
        sheet.freeze_panes(HEAD_ROWS, min(1, len(columns)))
        if columns and rows:
            sheet.autofilter(HEAD_ROWS - 1, 0, HEAD_ROWS - 1 + len(rows), len(columns) - 1)
        sheet.repeat_rows(0, HEAD_ROWS - 1)
        if len(columns) > PRINTED:
            sheet.fit_to_pages(0, 0)  # too long to be readable on one page

    def _spread(self, table: str, rows: Sequence[Row]) -> Iterator[tuple[Column, str, str]]:
        """Yield (column, key, label) of each column of the sheet: a mix has one column per name."""
        w = self._w
        columns = [column(self._document, table, name) for name in self._document.columns_of(table)]
        for one in sorted(columns, key=lambda each: each.group != KEY):  # key columns first
            name = one.name
            if one.kind is not ValueKind.MIX:
                yield one, name, one.label(w.language)
                continue
            parts = dict.fromkeys(part for row in rows for part in _mix(row, name))
            for part in parts:
                yield one, f"{name}.{part}", f"{one.labels[w.language]} : {w.word(one.words, part)}"

    def _charts(self, charts: Sequence[Chart]) -> None:
        sheet = self._sheet(self._w("page.charts"))
        for number, chart in enumerate(charts):
            made = self._chart(chart)
            if made is not None:
                title, _ = self._w.text(chart.title)
                alternative = self._w("page.chart_alternative", title=title)
                sheet.insert_chart(number * CHART_ROWS, 0, made, {"description": alternative})

    def _chart(self, chart: Chart) -> XlsxChart | None:
        rows = len(self._document.tables[chart.table])
        places, sheet = self._columns[chart.table], self._sheets[chart.table]
        shape = {
            "bar": {"type": "bar"},
            "stacked": {"type": "bar", "subtype": "stacked"},
            "line": {"type": "line"},
        }
        made = self._workbook.add_chart(shape[chart.kind])
        first, last = HEAD_ROWS, HEAD_ROWS + rows - 1
        for number, name in enumerate(chart.values):
            if name in places and chart.category in places:
                place, category = places[name], places[chart.category]
                colour = {"color": COLOURS[number % len(COLOURS)]}
                made.add_series(
                    {
                        "name": [sheet.name, 0, place],
                        "categories": [sheet.name, first, category, last, category],
                        "values": [sheet.name, first, place, last, place],
                        ("line" if chart.kind == "line" else "fill"): colour,
                    }
                )
        if not made.series:
            return None
        title, _ = self._w.text(chart.title)
        made.set_title({"name": _no_markup(_no_reference(title)), "name_font": {"size": 12}})
        made.set_legend({"position": "bottom"})
        if chart.kind != "line":
            # Draw the first row on top, as in the table, with names left of negative bars.
            made.set_y_axis({"reverse": True, "label_position": "low"})
        made.set_size({"width": 900, "height": 420})
        return made

    def _method(self) -> None:
        document, w = self._document, self._w
        lines = [[w.text(text)[0]] for text in document.method]
        heading = [[w("page.assumptions")]]
        lines += heading + [[w.text(text)[0]] for text in document.assumptions]
        self._texts(
            w("page.method"), [[w("page.method_text")], *lines] if document.method else lines, width=120
        )

    def _texts(
        self, title: str, lines: Sequence[Sequence[str]], *, heads: bool = False, width: int = 30
    ) -> None:
        sheet = self._sheet(title)
        sheet.set_column(0, 3, width)
        sheet.set_column(4, 4, 100)
        for line, texts in enumerate(lines):
            for place, text in enumerate(texts):
                self._string(sheet, line, place, text, self._format("head" if heads and not line else "wrap"))
        if heads:
            sheet.freeze_panes(1, 0)
            sheet.autofilter(0, 0, len(lines) - 1, len(lines[0]) - 1)

    # --- cells

    def _cell(self, sheet: Worksheet, line: int, place: int, one: Column, value: Value | None) -> None:
        if value is None:
            return
        if isinstance(value, bool):
            sheet.write_boolean(line, place, value)
        elif isinstance(value, str):
            day = _day(value) if one.kind is ValueKind.DATE else None
            if day is not None:
                sheet.write_datetime(line, place, day, self._format("date"))
            else:
                self._string(sheet, line, place, value)
        elif isinstance(value, Mapping):
            self._string(sheet, line, place, str(value))
        elif one.kind is ValueKind.TIME:
            sheet.write_datetime(line, place, instant(int(value)).replace(tzinfo=None), self._format("time"))
        else:
            exact = ExactInteger(value) if isinstance(value, int) else ExactNumber(value)
            sheet.write_number(line, place, exact, self._format(_number_format(one)))

    def _string(self, sheet: Worksheet, line: int, place: int, text: str, look: Format | None = None) -> None:
        sheet.write_string(line, place, _no_markup(text), look)

    def _format(self, name: str) -> Format:
        if name not in self._formats:
            self._formats[name] = self._workbook.add_format(_FORMATS.get(name) or {"num_format": name})
        return self._formats[name]

    def _sheet(self, title: str) -> Worksheet:
        sheet = self._workbook.add_worksheet(sheet_name(title, self._names))
        sheet.set_landscape()
        sheet.set_paper(9)  # A4
        sheet.fit_to_pages(1, 0)
        return sheet

    def _properties(self) -> None:
        document, w = self._document, self._w
        made = document.head.get("generated_unix_milliseconds")
        self._workbook.set_properties(
            {
                "title": document_title(document, w),
                "subject": w("page.product"),
                "author": "Veilleuse",
                "company": "Veilleuse",
                "comments": _comment(document, w),
                "created": instant(made).replace(tzinfo=None) if isinstance(made, int) else EPOCH,
            }
        )


_FORMATS: Final[Mapping[str, dict[str, object]]] = {
    "title": {"bold": True, "font_size": 14},
    "strong": {"bold": True, "text_wrap": True, "valign": "top"},
    "plain": {"valign": "top"},
    "wrap": {"text_wrap": True, "valign": "top", "align": "left"},
    "head": {"bold": True, "text_wrap": True, "valign": "top", "bottom": 1, "bg_color": "#E4E9F0"},
    "name": {"font_color": "#4A5666", "italic": True, "font_size": 9},
    "date": {"num_format": "yyyy-mm-dd"},
    "time": {"num_format": "yyyy-mm-dd hh:mm:ss"},
}


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


def _first_units(text: str, units: int) -> str:
    """Cut a text to so many UTF-16 units, without spaces or apostrophes at its ends."""
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", "ignore").strip(" '")


def _comment(document: Document, w: Words) -> str:
    return "; ".join(f"{label}: {text}" for label, text in facts(document, w))[:500]


def _no_markup(text: str) -> str:
    """Break a text that XlsxWriter would write as raw XML: a string from <r> to </r>."""
    return f"{text} " if text.startswith("<r>") and text.endswith("</r>") else text


def _no_reference(title: str) -> str:
    """Break a chart title that begins with =: a spreadsheet would take it for a reference."""
    return f"'{title}" if title.startswith("=") else title


def _number_format(one: Column) -> str:
    if one.kind is ValueKind.INTEGER:
        return "#,##0" if one.grouped else "0"
    if one.kind is ValueKind.RATIO or one.kind is ValueKind.MIX:
        return "0.0%"
    return "#,##0." + "0" * one.digits if one.digits else "#,##0"


def _value(row: Row, one: Column, key: str) -> Value | None:
    if one.kind is not ValueKind.MIX:
        return row.get(one.name)
    return _mix(row, one.name).get(key.removeprefix(f"{one.name}."))


def _mix(row: Row, name: str) -> Mapping[str, float | str | Mapping[str, str]]:
    value = row.get(name)
    return value if isinstance(value, Mapping) else {}


def _day(text: str) -> date | None:
    """Return the date, or None for text that is no day of a spreadsheet: they count from 1900."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year > 1900 else None


def _width(one: Column, key: str, label: str, rows: Sequence[Row]) -> int:
    """Choose a width that fits the first values, within NARROW and WIDE; labels wrap."""
    values = (_value(row, one, key) for row in rows[:SAMPLED])
    if one.kind in NUMERIC:
        longest = 14
    else:
        longest = max((len(value) for value in values if isinstance(value, str)), default=0)
    return min(WIDE, max(NARROW, longest + 2, len(label) // 2, len(key) * 9 // 10))
