# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lays out a Document for people: its summary, and wide tables cut into tables that fit a page.

No arithmetic, no markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from veilleuse.collector.documents.document import (
    GROUPS,
    KEY,
    MACHINE,
    NUMERIC,
    SHOWN,
    UNDER_WAY_UNTIL,
    UNITS,
    Chart,
    Column,
    Document,
    Row,
    ShortTable,
    Value,
    ValueKind,
    column,
    read_columns,
)
from veilleuse.collector.documents.text import DASH, Words

WIDEST: Final = 8
"""Maximum columns of figures side by side: more do not fit on A4 landscape."""
MOST_KEYS: Final = 6
"""Maximum key columns: more push the figures out of a window of 1,300 px."""
KEY_FIGURES: Final = "main"
PAPER_ROWS: Final = 40
"""Maximum rows of a table on paper, of a document without a summary."""
PAPER_GRIDS: Final = 2
LONGEST_NAME: Final = 110
SENTENCE: Final = "sentence"
"""Column that is never cut: its end says what to do."""
"""Maximum characters of a cell of a short table: three lines."""


@dataclass(frozen=True, slots=True)
class TableCell:
    """A TableCell is one figure, or a name."""

    text: str
    """Text for people."""
    raw: str | None = None
    """Unrounded value of a number, a date or a boolean, for programs; None for text and for an absent value.
    """
    kind: str = "text"
    """number, date or text."""
    mark: str | None = None
    """Column name of a figure: links a page to the files."""
    share: float | None = None
    """Length of a bar before the text, 0 to 1."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """A TableLayout is one table of a page."""

    caption: str
    heads: tuple[TableCell, ...]
    keys: int
    """Number of leading cells that are row headers."""
    rows: tuple[tuple[TableCell, ...], ...]
    foot: tuple[tuple[TableCell, ...], ...] = ()
    """Sums."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A Section shows one of the document's tables."""

    name: str
    title: str
    common_caption: str
    common: tuple[tuple[str, TableCell], ...]
    """Label and value of columns that are equal in all rows, shown once; a single row has all of them here.
    """
    grids: tuple[TableLayout, ...]
    empty: bool


def sections(document: Document, w: Words) -> list[Section]:
    """Return sections of all tables, except those that a chart shows completely. Empty only if tabular."""
    charted = {
        (chart.table, name)
        for chart in charts_with_values(document)
        for name in (chart.category, *chart.values)
    }
    return [
        _section(document, table, w)
        for table, rows in document.tables.items()
        if table in document.tabular
        or (rows and not charted.issuperset((table, name) for name in document.columns_of(table)))
    ]


def paper_sections(document: Document, w: Words) -> list[Section]:
    """Return the sections with the first rows and columns: a workbook has all, and paper has few pages."""

    def cut(grid: TableLayout) -> TableLayout:
        left = len(grid.rows) - PAPER_ROWS
        note = w.count("page.more_rows", left) if left > 0 else ""
        rows = tuple(tuple(map(_short_cell, row)) for row in grid.rows[:PAPER_ROWS])
        return replace(grid, rows=rows, note=note)

    return [
        replace(
            one,
            common=tuple((label, _short_cell(cell)) for label, cell in one.common),
            grids=tuple(map(cut, one.grids[:PAPER_GRIDS])),
        )
        for one in sections(document, w)
    ]


def short_grid(table: ShortTable, w: Words) -> TableLayout:
    """Return the rows of a short table that fit a page, the sum of the others, and the total."""
    columns = [read_columns()[name] for name in table.columns]
    shown = table.rows[: table.most]
    longest = max((abs(_number(row, table.bar) or 0.0) for row in shown), default=0.0)

    def cells(row: Row, bar: str | None = None) -> tuple[TableCell, ...]:
        return tuple(_short(one, row, w, bar, longest) for one in columns)

    heads = tuple(
        TableCell(
            one.labels[w.language] if _is_fitting(one) else one.label(w.language),
            kind="number" if one.kind in NUMERIC and place else "text",
        )
        for place, one in enumerate(columns)
    )
    left = len(table.rows) - table.most
    more = w.count("page.more_rows", left) if left > 0 and table.rest is None else ""
    note = " ".join(filter(None, (w.text(table.note)[0], more)))
    rows = [cells(row, table.bar) for row in shown]
    rest = [] if table.rest is None else [cells(table.rest)]
    foot = () if table.total is None else (cells(table.total),)
    return TableLayout(w.text(table.title)[0], heads, 1, (*rows, *rest), foot, note)


def fact_cells(facts: Row, w: Words) -> tuple[tuple[str, TableCell], ...]:
    """Return label and value of each column of a row."""
    columns = [read_columns()[name] for name in facts if name != SHOWN]
    return tuple(
        (
            one.labels[w.language] if _is_fitting(one) else one.label(w.language),
            _short(one, facts, w),
        )
        for one in columns
    )


def _is_fitting(one: Column) -> bool:
    """Tell if each cell has the unit that fits its value."""
    return one.unit in (UNITS["kgco2e"], UNITS["kwh"])


def _short(one: Column, row: Row, w: Words, bar: str | None = None, longest: float = 0.0) -> TableCell:
    cell, value = _cell(one, row, w), _number(row, one.name)
    if one.name != SENTENCE:
        cell = _short_cell(cell)
    if value is not None and (_is_fitting(one) or one.unit_from):
        cell = replace(cell, text=w.amount(one, value, row))
    if value is not None and one.name == bar and longest:
        return replace(cell, share=abs(value) / longest)
    return cell


def _short_cell(cell: TableCell) -> TableCell:
    """Cut a long text."""
    if len(cell.text) <= LONGEST_NAME:
        return cell
    return replace(cell, text=cell.text[: LONGEST_NAME - 1] + "…")


def _number(row: Row, name: str | None) -> float | None:
    value = row.get(name or "")
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def key_figures(document: Document, w: Words) -> TableLayout | None:
    """Return the key figures of each total; None without totals."""
    rows = document.tables.get("totals", ())
    names = [one.name for one in _columns(document, "totals") if one.group == KEY_FIGURES] if rows else []
    if not names:
        return None
    keys = [one for one in _columns(document, "totals") if one.group == KEY and one.name != "level"]
    keys = [one for one in keys if len({str(row.get(one.name)) for row in rows}) > 1]
    columns = [column(document, "totals", name) for name in names]
    return _grid(w("page.keys_caption"), keys, columns, rows, w)


def chart_grid(document: Document, chart: Chart, w: Words) -> TableLayout:
    """Return the values of a chart as a table: the text alternative."""
    title, _ = w.text(chart.title)
    head, *columns = (column(document, chart.table, name) for name in (chart.category, *chart.values))
    rows = document.tables[chart.table]
    return _grid(w("page.chart_table", title=title), [head], columns, rows, w)


def title_of(document: Document, table: str, w: Words) -> str:
    """Return the title of a table."""
    if table in document.titles:
        return w.text(document.titles[table])[0]
    return w.get("tables", table)


def document_title(document: Document, w: Words) -> str:
    """Return the title of the report."""
    if document.title is not None:
        return w.text(document.title)[0]
    kind = str(document.head.get("kind", "report"))
    titles: Mapping[str, str] = w.texts["titles"]
    return titles.get(kind, titles["report"])


def period(document: Document, w: Words) -> str | None:
    """Return the days of the figures as text; None if the head names none."""
    first, end, until = (document.head.get(name) for name in ("from", "to", UNDER_WAY_UNTIL))
    if not isinstance(first, str) or not isinstance(end, str):
        return None
    if not isinstance(until, str):
        return w("page.period", first=w.day(first), end=w.day(end))
    key = "page.under_way" if first <= until else "page.ahead"
    return w(key, first=w.day(first), end=w.day(end), until=w.day(until))


def facts(document: Document, w: Words) -> Iterator[tuple[str, str]]:
    """Yield label and text of each entry of the head."""
    for name, value in document.head.items():
        if value is not None:
            yield w.get("head", name), w.head(name, value)


def notices(document: Document, w: Words) -> Iterator[str]:
    """Yield warnings for the reader: a factor is provisional, a total is incomplete."""
    for name in ("provisional", "incomplete"):
        if any(row.get(name) is True for rows in document.tables.values() for row in rows):
            yield w(f"page.{name}")


def charts_with_values(document: Document) -> list[Chart]:
    """Return the charts that have a value to draw."""
    return [
        chart
        for chart in document.charts
        if any(name in row for row in document.tables.get(chart.table, ()) for name in chart.values)
    ]


def _columns(document: Document, table: str) -> list[Column]:
    found = (column(document, table, name) for name in document.columns_of(table))
    return [one for one in found if one.group != MACHINE]


def _section(document: Document, table: str, w: Words) -> Section:
    rows = document.tables[table]
    columns = _columns(document, table)
    common = [one for one in columns if _same(rows, one.name)]
    apart = [one for one in columns if one not in common]
    every = [one for one in apart if one.group == KEY] or apart[:1]
    keys = every if len(every) <= MOST_KEYS else [one for one in every if not one.behind][:MOST_KEYS]
    behind = [one for one in every if one not in keys]
    title = title_of(document, table, w)
    grids = [
        _grid(
            w("page.table_of_group", title=title, group=w(f"groups.{group}")), keys, [*part, *behind], rows, w
        )
        for group in GROUPS
        for part in _parts([one for one in apart if one.group == group and one not in every])
    ]
    if not grids and keys and rows:
        grids = [_grid(title, keys, behind, rows, w)]
    told = tuple((_label(one, rows, w), _cell(one, rows[0], w)) for one in common)
    caption = w("page.common") if len(rows) > 1 else title
    return Section(table, title, caption, told, tuple(grids), empty=not rows)


def _parts(columns: Sequence[Column]) -> Iterator[Sequence[Column]]:
    for start in range(0, len(columns), WIDEST):
        yield columns[start : start + WIDEST]


def _same(rows: Sequence[Row], name: str) -> bool:
    first = _identity(rows[0], name)
    return all(_identity(row, name) == first for row in rows)


def _identity(row: Row, name: str) -> tuple[Value | None, object]:
    shown = row.get(SHOWN)
    return row.get(name), shown.get(name) if isinstance(shown, Mapping) else None


def _grid(
    caption: str, keys: Sequence[Column], columns: Sequence[Column], rows: Sequence[Row], w: Words
) -> TableLayout:
    every = (*keys, *columns)
    heads = tuple(
        TableCell(
            _label(one, rows, w),
            kind="number" if one.kind in NUMERIC and one not in keys else "text",
            mark=one.name,
        )
        for one in every
    )
    return TableLayout(
        caption, heads, len(keys), tuple(tuple(_cell(one, row, w) for one in every) for row in rows)
    )


def _label(one: Column, rows: Sequence[Row], w: Words) -> str:
    """Return the label with the unit, or without it where the shown figure includes the unit."""
    shown = (_cell(one, row, w).text for row in rows if _identity(row, one.name)[1] is not None)
    said = one.unit is not None and any(one.unit in text for text in shown)
    return one.labels[w.language] if said else one.label(w.language)


def _cell(one: Column, row: Row, w: Words) -> TableCell:
    value = row.get(one.name)
    if value is None:
        return TableCell(DASH, kind="number" if one.kind in NUMERIC else "text")
    text = w.value(one, value, row)
    if isinstance(value, bool):
        return TableCell(text, "true" if value else "false", mark=one.name)
    if isinstance(value, (int, float)):
        return TableCell(text, repr(value), "number", one.name)
    if isinstance(value, str) and one.kind is ValueKind.DATE and text != value:
        return TableCell(text, value, "date", one.name)
    return TableCell(text, None, "text", one.name)
