# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes XLSX: a workbook with typed, unrounded cells and native charts. No cell is a formula or a link.

Equal documents make equal bytes: the only time in the file is the document's own. The first sheet is the
summary; the whole tables come last, with the column names of the other formats.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from xlsxwriter import Workbook

from veilleuse.collector.documents.cells import (
    CellWriter,
    mix_of,
    no_markup,
    no_reference,
    sheet_name,
    value_of,
    width_of,
)
from veilleuse.collector.documents.charts import COLOURS
from veilleuse.collector.documents.document import (
    KEY,
    MOST_SHORT_COLUMNS,
    Chart,
    Column,
    Document,
    Row,
    ShortTable,
    SummaryPart,
    ValueKind,
    column,
    read_columns,
)
from veilleuse.collector.documents.formats.html import dictionary
from veilleuse.collector.documents.layout import (
    charts_with_values,
    document_title,
    fact_cells,
    facts,
    key_figures,
    notices,
    period,
    title_of,
)
from veilleuse.collector.documents.text import Words, instant, words

if TYPE_CHECKING:
    from xlsxwriter.chart import Chart as XlsxChart
    from xlsxwriter.worksheet import Worksheet

LARGE: Final = 200_000
"""Cells from which rows are written to temporary files, not kept in memory (about 250 bytes a cell)."""
PRINTED: Final = 14
"""Maximum columns that fit side by side on A4 landscape."""
HEAD_ROWS: Final = 2
"""Header rows: labels for people, then the column names of the other formats."""
EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001 # a spreadsheet knows no zone; for documents without a moment
CHART_ROWS: Final = 22
"""Rows of a sheet that one chart covers."""
HEADING_HEIGHT: Final = 42
"""Height of a heading of three lines, in points."""
LINE: Final = 130
"""Characters of a line of text, which runs over the empty cells beside it."""
SHAPES: Final[Mapping[str, dict[str, str]]] = {
    "bar": {"type": "bar"},
    "stacked": {"type": "bar", "subtype": "stacked"},
    "line": {"type": "line"},
    "column": {"type": "column"},
}
_SAFE: Final = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}


def render(document: Document) -> bytes:
    """Return the file."""
    file = io.BytesIO()
    large = sum(len(rows) * len(document.columns) for rows in document.tables.values()) > LARGE
    book = _Book(document, Workbook(file, {**_SAFE, "in_memory": not large, "constant_memory": large}))
    book.write()
    return file.getvalue()


class _Book:
    """Holds one workbook while it is written."""

    def __init__(self, document: Document, workbook: Workbook) -> None:
        self._document = document
        self._w = words(document.language)
        self._workbook = workbook
        self._cells = CellWriter(workbook, self._w)
        self._columns: dict[str, dict[str, int]] = {}
        """Table → key of a sheet's column → column index."""
        self._names: set[str] = set()
        w = self._w
        self._first = sheet_name(w("page.summary"), self._names)
        last = [one for one in document.tabular if one != "rows"] + ["rows"]
        shown = [name for name, rows in document.tables.items() if rows or name in document.tabular]
        ordered = sorted(shown, key=lambda name: last.index(name) if name in document.tabular else -1)
        self._titles = {name: sheet_name(title_of(document, name, w), self._names) for name in ordered}
        """Table → name of its sheet, the whole tables last."""

    def write(self) -> None:
        document, w = self._document, self._w
        self._properties()
        self._summary()
        whole = {title_of(document, name, w) for name in self._titles}  # these have sheets of all rows
        for part in () if document.summary is None else document.summary.parts:
            for table in part.tables:
                if len(table.rows) > table.most and w.text(table.title)[0] not in whole:
                    self._all_rows(table)
        if document.summary is None and (charts := charts_with_values(document)):
            self._charts(charts)
        self._method()
        grid = dictionary(document, w)
        lines = [[cell.text for cell in row] for row in (grid.heads, *grid.rows)]
        self._texts(w("page.columns"), lines, heads=True)
        for name in self._titles:
            self._table(name, document.tables[name])
        self._workbook.close()

    # --- the summary

    def _summary(self) -> None:
        document, w = self._document, self._w
        sheet = self._sheet(self._first)
        sheet.set_column(0, 0, 42)
        sheet.set_column(1, MOST_SHORT_COLUMNS - 1, 15)
        sheet.hide_gridlines(2)
        self._cells.text(sheet, 0, 0, document_title(document, w), "title")
        line = self._lines(sheet, 1, [w("page.product"), *self._warnings()], bold=True)
        summary = document.summary
        if summary is None:
            line = self._keys(sheet, line)
        else:
            line = self._lines(sheet, line, [w.text(summary.status)[0]], bold=True) + 1
            for one in summary.figures:
                for place, (text, look) in enumerate(
                    ((one.label, "strong"), (one.value, "value"), (one.note, "plain"))
                ):
                    self._cells.text(sheet, line, 2 * place - (place > 0), w.text(text)[0], look)
                line += 1
            line = self._lines(sheet, line + 1, [w.text(one)[0] for one in summary.sentences]) + 1
            for part in summary.parts:
                line = self._part(sheet, line, part)
        self._about(sheet, line)

    def _warnings(self) -> list[str]:
        document, w = self._document, self._w
        return [
            period(document, w) or "",
            *([w("page.simulated")] if document.head.get("data") == "simulated" else []),
            *notices(document, w),
        ]

    def _keys(self, sheet: Worksheet, line: int) -> int:
        keys = key_figures(self._document, self._w)
        if keys is None:
            return line
        self._cells.text(sheet, line + 1, 0, keys.caption, "heading")
        line += 2
        for i, head in enumerate(keys.heads):
            self._cells.text(sheet, line, 0, head.text, "strong")
            for j, row in enumerate(keys.rows, 1):
                self._cells.text(sheet, line, j, row[i].text, "plain")
            line += 1
        return line

    def _part(self, sheet: Worksheet, line: int, part: SummaryPart) -> int:
        w = self._w
        self._cells.text(sheet, line, 0, w.text(part.title)[0], "title")
        line += 1
        for table in part.tables:
            if table.rows:
                line = self._short(sheet, line, table)
        line = self._facts(sheet, line, [(label, cell.text) for label, cell in fact_cells(part.facts, w)])
        return self._lines(sheet, line, [w.text(one)[0] for one in part.notes]) + 1

    def _short(self, sheet: Worksheet, line: int, table: ShortTable) -> int:
        """Write the first rows of a short table, its sums and its chart; return the next line."""
        w = self._w
        self._cells.text(sheet, line, 0, w.text(table.title)[0], "heading")
        columns = self._heads(sheet, line + 1, table)
        first = line + 2
        sums = [row for row in (table.rest, table.total) if row is not None]
        shown = table.rows[: table.most]
        self._short_rows(sheet, first, columns, (*shown, *sums))
        line = first + len(shown) + len(sums)
        left = len(table.rows) - table.most
        more = [w.count("page.more_rows", left)] if left > 0 and table.rest is None else []
        line = self._lines(sheet, line, [*more, w.text(table.note)[0]])
        if table.bar is not None and len(shown) > 1:
            summary = self._document.summary
            kind = summary.chart_kind if summary is not None and summary.chart == table else "bar"
            made = self._workbook.add_chart(SHAPES[kind])
            self._series(
                made,
                sheet.name,
                (first - 1, first, first + len(shown) - 1),
                0,
                table.columns.index(table.bar),
            )
            self._insert(sheet, line + 1, made, w.text(table.title)[0], kind)
            line += CHART_ROWS
        return line + 1

    def _heads(self, sheet: Worksheet, line: int, table: ShortTable) -> list[Column]:
        columns = [read_columns()[name] for name in table.columns]
        sheet.set_row(line, HEADING_HEIGHT)
        for place, one in enumerate(columns):
            self._cells.heading(sheet, line, place, one, one.label(self._w.language))
        return columns

    def _short_rows(
        self, sheet: Worksheet, first: int, columns: Sequence[Column], rows: Sequence[Row]
    ) -> None:
        largest = [
            max((abs(value) for row in rows if isinstance(value := row.get(one.name), float)), default=0.0)
            for one in columns
        ]
        for line, row in enumerate(rows, first):
            for place, one in enumerate(columns):
                self._cells.short(sheet, line, place, one, row, largest[place])

    def _all_rows(self, table: ShortTable) -> None:
        """Write all rows of a short table that the summary cuts, to a sheet of their own."""
        sheet = self._sheet(sheet_name(self._w.text(table.title)[0], self._names))
        columns = self._heads(sheet, 0, table)
        sheet.set_column(0, 0, 42)
        sheet.set_column(1, len(columns), 15)
        self._short_rows(sheet, 1, columns, table.rows)
        sheet.freeze_panes(1, 1)
        sheet.autofilter(0, 0, len(table.rows), len(columns) - 1)
        sheet.repeat_rows(0)

    def _about(self, sheet: Worksheet, line: int) -> None:
        w = self._w
        self._cells.text(sheet, line + 1, 0, w("page.about"), "heading")
        line = self._lines(sheet, line + 2, [w("page.unrounded"), w("page.absent")])
        line = self._facts(sheet, line, facts(self._document, w))
        sheet.print_area(0, 0, line, MOST_SHORT_COLUMNS - 1)

    def _facts(self, sheet: Worksheet, line: int, lines: Iterable[tuple[str, str]]) -> int:
        """Write labels with their texts beside them; return the next line."""
        for label, text in lines:
            self._cells.text(sheet, line, 0, label, "strong")
            line = max(line + 1, self._lines(sheet, line, [text], place=1))
        return line

    def _lines(
        self, sheet: Worksheet, line: int, texts: Sequence[str], *, place: int = 0, bold: bool = False
    ) -> int:
        """Write texts one below the other, cut into lines; return the next line."""
        for text in texts:
            for part in textwrap.wrap(text, LINE, break_on_hyphens=False):
                self._cells.text(sheet, line, place, part, "line" if bold else "plain")
                line += 1
        return line

    # --- whole tables

    def _table(self, table: str, rows: Sequence[Row]) -> None:
        sheet = self._sheet(self._titles[table])
        columns = self._spread_of(table)
        for place, (one, key, label) in enumerate(columns):
            sheet.set_column(place, place, width_of(one, key, label, rows))
            self._cells.heading(sheet, 0, place, one, label)
        for place, (_, key, _) in enumerate(columns):
            self._cells.text(sheet, 1, place, key, "name")
        for line, row in enumerate(rows, HEAD_ROWS):
            for place, (one, key, _) in enumerate(columns):
                self._cells.value(sheet, line, place, one, value_of(row, one, key), row)
        sheet.freeze_panes(HEAD_ROWS, min(1, len(columns)))
        if columns and rows:
            sheet.autofilter(HEAD_ROWS - 1, 0, HEAD_ROWS - 1 + len(rows), len(columns) - 1)
        sheet.repeat_rows(0, HEAD_ROWS - 1)
        if len(columns) > PRINTED:
            sheet.fit_to_pages(0, 0)  # too long to be readable on one page

    def _spread_of(self, table: str) -> list[tuple[Column, str, str]]:
        found = list(self._spread(table, self._document.tables[table]))
        self._columns[table] = {key: place for place, (_, key, _) in enumerate(found)}
        return found

    def _spread(self, table: str, rows: Sequence[Row]) -> Iterator[tuple[Column, str, str]]:
        """Yield (column, key, label) of each column of the sheet: a mix has one column per name."""
        w = self._w
        columns = [column(self._document, table, name) for name in self._document.columns_of(table)]
        for one in sorted(columns, key=lambda each: each.group != KEY):  # key columns first
            name = one.name
            if one.kind is not ValueKind.MIX:
                yield one, name, one.label(w.language)
                continue
            parts = dict.fromkeys(part for row in rows for part in mix_of(row, name))
            for part in parts:
                yield one, f"{name}.{part}", f"{one.labels[w.language]} : {w.word(one.words, part)}"

    # --- charts of a document without a summary

    def _charts(self, charts: Sequence[Chart]) -> None:
        sheet = self._sheet(sheet_name(self._w("page.charts"), self._names))
        for number, chart in enumerate(charts):
            made = self._chart(chart)
            if made is not None:
                self._insert(sheet, number * CHART_ROWS, made, self._w.text(chart.title)[0], chart.kind)

    def _chart(self, chart: Chart) -> XlsxChart | None:
        rows = len(self._document.tables[chart.table])
        self._spread_of(chart.table)
        places, name = self._columns[chart.table], self._titles[chart.table]
        made = self._workbook.add_chart(SHAPES[chart.kind])
        for number, value in enumerate(chart.values):
            if value in places and chart.category in places:
                lines = (0, HEAD_ROWS, HEAD_ROWS + rows - 1)
                self._series(
                    made,
                    name,
                    lines,
                    places[chart.category],
                    places[value],
                    number,
                    line=chart.kind == "line",
                )
        return made if made.series else None

    @staticmethod
    def _series(
        made: XlsxChart,
        name: str,
        lines: tuple[int, int, int],
        category: int,
        place: int,
        number: int = 0,
        *,
        line: bool = False,
    ) -> None:
        """Add the values of a column; `lines`: of the heading, of the first row and of the last."""
        head, first, last = lines
        made.add_series(
            {
                "name": [name, head, place],
                "categories": [name, first, category, last, category],
                "values": [name, first, place, last, place],
                ("line" if line else "fill"): {"color": COLOURS[number % len(COLOURS)]},
            }
        )

    def _insert(self, sheet: Worksheet, line: int, made: XlsxChart, title: str, kind: str) -> None:
        made.set_title({"name": no_markup(no_reference(title)), "name_font": {"size": 12}})
        made.set_legend({"position": "bottom"})
        if kind in ("bar", "stacked"):
            # Draw the first row on top, as in the table, with names left of negative bars.
            made.set_y_axis({"reverse": True, "label_position": "low"})
        values = {"major_gridlines": {"visible": True, "line": {"color": "#C3CAD4"}}}
        (made.set_x_axis if kind in ("bar", "stacked") else made.set_y_axis)(values)
        made.set_size({"width": 900, "height": 420})
        alternative = self._w("page.chart_alternative", title=title)
        sheet.insert_chart(line, 0, made, {"description": alternative})

    # --- texts

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
        sheet = self._sheet(sheet_name(title, self._names))
        sheet.set_column(0, 3, width)
        sheet.set_column(4, 4, 100)
        for line, texts in enumerate(lines):
            for place, text in enumerate(texts):
                self._cells.text(sheet, line, place, text, "head" if heads and not line else "wrap")
        if heads:
            sheet.freeze_panes(1, 0)
            sheet.autofilter(0, 0, len(lines) - 1, len(lines[0]) - 1)

    def _sheet(self, name: str) -> Worksheet:
        sheet = self._workbook.add_worksheet(name)
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


def _comment(document: Document, w: Words) -> str:
    return "; ".join(f"{label}: {text}" for label, text in facts(document, w))[:500]
