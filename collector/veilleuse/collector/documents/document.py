# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines a report as a Document: tables of plain values, without None. It does no arithmetic.

A format turns a Document into bytes; each report and each format has one file. columns.toml gives labels,
units and sentences of the columns, for all formats and in both languages: docs/reports.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Final, Literal, TypeAlias, TypeVar, cast

LONGEST: Final = 1_024
"""Maximum characters of a value: the path of an entity has at most 512, a spreadsheet cell 32,767 UTF-16
units."""
LONGEST_TEXT: Final = 16_000
"""Maximum characters of a note: at most 32,000 UTF-16 units."""
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
"""Visible, so that nobody confuses the cleaned name with another one."""

_BREAKS: Final = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_REFUSED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls: XML cannot hold them
    # bidi: they change the order in which a text is read (Unicode TR 36)
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff"  # lone surrogates: no encoding holds them
    # noncharacters, interlinear annotation and characters that XML excludes; includes U+FFFD
    "\ufdd0-\ufdef\ufff9-\uffff"
    "\U000e0000-\U000e007f]"  # tags: invisible letters
)


def plain(text: str, *, whole: bool = False) -> str:
    """Return the text on one line, encodable, without control and bidi characters.

    At most LONGEST characters; `whole`: LONGEST_TEXT.
    """
    longest = LONGEST_TEXT if whole else LONGEST
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return _REFUSED.sub(REPLACEMENT, _BREAKS.sub(" ", text))


Text: TypeAlias = "str | Mapping[str, str]"
"""Text for people: one text, or language → text. locale/fr.toml translates a plain English text where it can.
"""
Value: TypeAlias = "str | int | float | bool | Mapping[str, float | str | Mapping[str, str]]"
Row: TypeAlias = Mapping[str, Value]
Head: TypeAlias = Mapping[str, "Value | Sequence[str] | None"]

V = TypeVar("V")

SHOWN: Final = "shown"
"""Key of a row that is no column: column → Text, the figure for people, rounded once by the account.

HTML and PDF show this text in place of the number. CSV, JSON and XLSX hold the unrounded number without this
text.
"""
LANGUAGES: Final = ("fr", "en")
PUBLIC: Final = "public"
"""Key of the head: the report is rounded, so that it may be published beside the months of the API."""
RELEASED_FROM: Final = "released_from"
"""First day of the first released month with a device, where the period begins before it."""
RELEASED_UNTIL: Final = "released_until"
"""Field of a released report's head: end of its last month, exclusive."""
UNDER_WAY_UNTIL: Final = "under_way_until"
"""Column and key of the head: for a period that is not over, the last day (complete or not) in the figures.
"""
_REASON_COLUMNS: Final = ("reason", "released_on", "indicators")
"""Columns of a CSV that only rows of level `withheld` have."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A Chart draws one table: one row a category, without summing."""

    kind: Literal["bar", "stacked", "line", "column"]
    """Bars side by side, bars on top of each other, a line over periods, or columns over them."""
    table: str
    """One of the document's tables; at most about 40 rows, to be readable."""
    category: str
    """Column of names or periods."""
    values: tuple[str, ...]
    """Columns of numbers, all of one unit; at most 8."""
    title: Text


MOST_SHORT_COLUMNS: Final = 12
SHORT_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A KeyFigure is one of the few figures that a reader sees first."""

    label: Text
    value: Text
    note: Text = ""
    """What belongs to it, such as its interval."""


@dataclass(frozen=True, slots=True)
class ShortTable:
    """A ShortTable has the rows that a person reads, the most important ones first."""

    title: Text
    columns: tuple[str, ...]
    """At most MOST_SHORT_COLUMNS; the first one names a row."""
    rows: Sequence[Row]
    rest: Row | None = None
    """Sum of the rows after the first `most`; None where they have none."""
    total: Row | None = None
    bar: str | None = None
    """Column whose values a bar shows in each row, and a chart in a workbook."""
    most: int = SHORT_ROWS
    """Rows on a page. A workbook has all of them."""
    note: Text = ""


@dataclass(frozen=True, slots=True)
class SummaryPart:
    """A SummaryPart is one page: short tables, values of one row, and paragraphs."""

    title: Text
    tables: tuple[ShortTable, ...] = ()
    facts: Row = field(default_factory=dict)
    """Column → value, written one below the other."""
    notes: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """A Summary is what a person reads of a report; formats for machines do not have it."""

    status: Text
    figures: tuple[KeyFigure, ...]
    sentences: tuple[Text, ...]
    """True of the figures, the most important one first."""
    parts: tuple[SummaryPart, ...]
    chart: ShortTable | None = None
    """Table with the values of the chart on the first page."""
    chart_kind: Literal["bar", "column"] = "column"


@dataclass(frozen=True, slots=True)
class Document:
    """A Document is a report, ready to be written."""

    head: Head
    """The question (scope, period, options) and the time of the answer; `kind` names the report."""
    columns: tuple[str, ...]
    """Order of the columns in tabular formats."""
    tables: Mapping[str, Sequence[Row]]
    """rows, totals, memo …; a row lacks the columns without a value, and may have SHOWN."""
    tabular: tuple[str, ...]
    """Tables that a tabular format writes, in this order."""
    assumptions: tuple[Text, ...] = ()
    method: tuple[Text, ...] = ()
    """Method of the figures: paragraphs."""
    charts: tuple[Chart, ...] = ()
    title: Text | None = None
    """Default: the locale's title of a report of this kind."""
    titles: Mapping[str, Text] = field(default_factory=dict)
    """Table → title; default: the locale's."""
    language: str = LANGUAGES[0]
    """Language of the text for people: one of LANGUAGES."""
    summary: Summary | None = None
    """None: a page shows the first rows of the tables."""

    def columns_of(self, table: str) -> tuple[str, ...]:
        """Return the columns that any row of a table has: in the document's order, then in order of
        appearance.
        """
        rows = self.tables[table]
        present = dict.fromkeys(name for row in rows for name in row if name != SHOWN)
        known = [name for name in self.columns if name in present]
        return (*known, *(name for name in present if name not in set(known)))


def with_withheld(document: Document) -> Document:
    """Add the withheld groups as rows of level `withheld`: a CSV has no other place for them."""
    lacks = [{**row, "level": "withheld"} for row in document.tables.get("withheld", ())]
    if not lacks or "withheld" in document.tabular:
        return document
    columns = [name for name in document.columns if name not in _REASON_COLUMNS]
    at = columns.index("level") + 1
    columns[at:at] = _REASON_COLUMNS
    tables = {**document.tables, "withheld": lacks}
    return replace(document, columns=tuple(columns), tables=tables, tabular=(*document.tabular, "withheld"))


def add_under_way(document: Document, today: date, until: date | None = None) -> Document:
    """Add the last day in the figures to the head and to each row of a period that is not over.

    Released figures go until the end of their last month. `until` is of others; None: today, whose figures so
    far count. A document that has UNDER_WAY_UNTIL, or whose period is over, is returned unchanged.
    """
    last, now = (last_released_day(document.head) or until or today).isoformat(), today.isoformat()
    if UNDER_WAY_UNTIL in document.head or not _is_ahead(document.head.get("to"), now):
        return document

    def add_last_day(entries: Mapping[str, V], end: str) -> dict[str, V | str]:
        found: dict[str, V | str] = {}
        for name, value in entries.items():
            found[name] = value
            if name == end and _is_ahead(value, now):
                found[UNDER_WAY_UNTIL] = last
        return found

    columns = list(document.columns)
    if "period_to" in columns:
        columns.insert(columns.index("period_to") + 1, UNDER_WAY_UNTIL)
    tables = {
        name: [*rows] if name == "withheld" else [add_last_day(row, "period_to") for row in rows]
        for name, rows in document.tables.items()
    }
    return replace(document, head=add_last_day(document.head, "to"), columns=tuple(columns), tables=tables)


def last_released_day(head: Head) -> date | None:
    """Return the last day of the released months of a report; None for figures that are not released."""
    end = head.get(RELEASED_UNTIL)
    return date.fromisoformat(end) - timedelta(days=1) if isinstance(end, str) else None


def _is_ahead(end: object, today: str) -> bool:
    """Tell if a period with this exclusive end is not over. ISO dates compare as texts."""
    return isinstance(end, str) and end > today


FORMATS: Final[Mapping[str, str]] = {
    "csv": "veilleuse.collector.documents.formats.csv:render",
    "xlsx": "veilleuse.collector.documents.formats.xlsx:render",
    "json": "veilleuse.collector.documents.formats.json:render",
    "html": "veilleuse.collector.documents.formats.html:render",
    "pdf": "veilleuse.collector.documents.formats.pdf:render",
}
"""Format → function (Document → bytes); imported only when used."""
MEDIA_TYPES: Final[Mapping[str, str]] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
}
BINARY: Final = frozenset({"xlsx", "pdf"})
"""Formats that a terminal cannot show."""
FOR_PEOPLE: Final = frozenset({"xlsx", "html", "pdf"})
"""Formats that show the summary of a document."""


def renderer(name: str) -> Callable[[Document], bytes]:
    """Return the function of a format, on cleaned texts (docs/guarantees.md S14 to S16). Raises KeyError.

    The function raises UsageError when the format is not available here, or cannot hold so many cells.
    """
    module, _, function = FORMATS[name].partition(":")
    found = cast(  # tests check the type of each function of FORMATS
        "Callable[[Document], bytes]", getattr(import_module(module), function)
    )
    return lambda document: found(clean(document))


def clean(document: Document) -> Document:
    """Return the document with every text made plain: no control, bidi or unencodable character, bounded
    length.
    """
    return Document(
        head={name: _clean(value) for name, value in document.head.items()},
        columns=document.columns,
        tables={plain(table): [_clean_row(row) for row in rows] for table, rows in document.tables.items()},
        tabular=tuple(map(plain, document.tabular)),
        assumptions=tuple(map(_clean_text, document.assumptions)),
        method=tuple(map(_clean_text, document.method)),
        charts=document.charts,
        title=None if document.title is None else _clean_text(document.title),
        titles={plain(table): _clean_text(text) for table, text in document.titles.items()},
        language=document.language,
        summary=None if document.summary is None else _clean_summary(document.summary),
    )


def _clean_summary(summary: Summary) -> Summary:
    figures = (KeyFigure(*map(_clean_text, (one.label, one.value, one.note))) for one in summary.figures)
    return Summary(
        _clean_text(summary.status),
        tuple(figures),
        tuple(map(_clean_text, summary.sentences)),
        tuple(
            SummaryPart(
                _clean_text(part.title),
                tuple(map(_clean_short, part.tables)),
                _clean_row(part.facts),
                tuple(map(_clean_text, part.notes)),
            )
            for part in summary.parts
        ),
        None if summary.chart is None else _clean_short(summary.chart),
        summary.chart_kind,
    )


def _clean_short(table: ShortTable) -> ShortTable:
    return replace(
        table,
        title=_clean_text(table.title),
        rows=list(map(_clean_row, table.rows)),
        rest=None if table.rest is None else _clean_row(table.rest),
        total=None if table.total is None else _clean_row(table.total),
        note=_clean_text(table.note),
    )


def _clean_row(row: Row) -> Row:
    return {name: _clean_value(value) for name, value in row.items()}


def _clean(value: Value | Sequence[str] | None) -> Value | Sequence[str] | None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(one) for one in value]
    return None if value is None else _clean_value(value)


def _clean_value(value: Value) -> Value:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {plain(name): _clean_inner(one) for name, one in value.items()}
    return value


def _clean_inner(value: float | str | Mapping[str, str]) -> float | str | Mapping[str, str]:
    return value if isinstance(value, (int, float)) else _clean_text(value)


def _clean_text(text: Text) -> Text:
    if isinstance(text, str):
        return plain(text, whole=True)
    return {language: plain(one, whole=True) for language, one in text.items()}


class ValueKind(StrEnum):
    """A ValueKind says how a value is written and read."""

    TEXT = "text"
    WORD = "word"
    """One of a closed list, which the locale translates."""
    INTEGER = "integer"
    NUMBER = "number"
    RATIO = "ratio"
    """0 to 1; written as percent for people."""
    DATE = "date"
    """ISO 8601 text in the document."""
    TIME = "time"
    """Unix milliseconds in the document."""
    BOOLEAN = "boolean"
    MIX = "mix"
    """Name → share."""


NUMERIC: Final = frozenset({ValueKind.INTEGER, ValueKind.NUMBER, ValueKind.RATIO})
GROUPS: Final = (
    "main",
    "fleet",
    "energy",
    "room",
    "emissions",
    "interval",
    "emissions_interval",
    "factor",
    "uncertainty",
    "change",
    "detail",
    "status",
)
"""Groups of columns on pages, in this order; `key` columns come before each group, `machine` ones on no page.
"""
KEY: Final = "key"
MACHINE: Final = "machine"
UNITS: Final[Mapping[str, str]] = {
    "kwh": "kWh",
    "kgco2e": "kgCO₂e",
    "millijoules": "mJ",
    "milliseconds": "ms",
    "percent": "%",
}
"""Word of a column's name → unit, unless columns.toml says another."""


@dataclass(frozen=True, slots=True)
class Column:
    """A Column describes one column. `labels` and `sentences`: language → text."""

    name: str
    kind: ValueKind
    group: str
    labels: Mapping[str, str]
    sentences: Mapping[str, str]
    unit: str | None = None
    unit_from: str | None = None
    """Name of the column that holds the unit of each row."""
    words: str | None = None
    """Name of the locale's list for a WORD, or for the names of a MIX."""
    digits: int = 3
    """Decimal places in a spreadsheet."""
    grouped: bool = True
    """True = with a thousands separator."""
    behind: bool = False
    """For a key column: stands after the figures where a page has many key columns."""

    def label(self, language: str) -> str:
        """Return the label, with its unit in brackets."""
        return f"{self.labels[language]} ({self.unit})" if self.unit else self.labels[language]


@cache
def read_columns() -> Mapping[str, Column]:
    """Return name → column of columns.toml. Raises KeyError or ValueError for an incomplete column."""
    text = files("veilleuse.collector.documents").joinpath("columns.toml").read_text("utf-8")
    return {
        name: _column(name, group, entry)
        for group, entries in tomllib.loads(text).items()
        for name, entry in entries.items()
    }


def column(document: Document, table: str, name: str) -> Column:
    """Return the column of columns.toml, or one of the kind of the first value when the name is not there."""
    known = read_columns().get(name)
    if known is not None:
        return known
    return _unknown(name, next((row[name] for row in document.tables[table] if name in row), ""))


def _column(name: str, group: str, entry: Mapping[str, object]) -> Column:
    kind = ValueKind(str(entry.get("kind", ValueKind.NUMBER)))
    if group not in (*GROUPS, KEY, MACHINE):
        raise ValueError(f"columns.toml: {name} is of the unknown group {group!r}")
    texts = {language: [str(text) for text in _list(entry[language])] for language in ("fr", "en")}
    return Column(
        name,
        kind,
        group,
        {language: text[0] for language, text in texts.items()},
        {language: text[1] for language, text in texts.items()},
        unit=_optional(entry, "unit")
        or next((UNITS[word] for word in name.split("_") if word in UNITS), None),
        unit_from=_optional(entry, "unit_from"),
        words=_optional(entry, "words") or (name if kind is ValueKind.WORD else None),
        digits=int(str(entry.get("digits", 3))),
        grouped=bool(entry.get("grouped", True)),
        behind=bool(entry.get("behind", False)),
    )


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"columns.toml: {value!r} is no list of label and sentence")
    return value


def _optional(entry: Mapping[str, object], key: str) -> str | None:
    return str(entry[key]) if key in entry else None


def _unknown(name: str, value: Value) -> Column:
    kinds: tuple[tuple[type, ValueKind], ...] = (
        (bool, ValueKind.BOOLEAN),
        (int, ValueKind.INTEGER),
        (float, ValueKind.NUMBER),
        (Mapping, ValueKind.MIX),
    )
    kind = next((kind for type_, kind in kinds if isinstance(value, type_)), ValueKind.TEXT)
    label = name.replace("_", " ")
    group = MACHINE if name.endswith(("_millijoules", "_milliseconds")) else "detail"
    return Column(name, kind, group, {"fr": label, "en": label}, {"fr": "", "en": ""})
