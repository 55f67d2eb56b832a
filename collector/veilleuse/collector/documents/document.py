# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One file per report and one per format; no arithmetic here.

A report is a Document: tables of plain values, None left out. A format turns a Document into bytes. What columns are called,
in which unit and what they say is in columns.toml, for all formats; docs/reports.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from importlib import import_module
from typing import Final, Literal, TypeAlias, TypeVar, cast

LONGEST: Final = 1_024
"""Characters of one value: an entity's path has 512 at most; a spreadsheet's cell holds 32,767 UTF-16 units."""
LONGEST_TEXT: Final = 16_000
"""Of a note: at most 32,000 UTF-16 units."""
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
"""Seen, so that nobody takes the name for another one."""

_BREAKS: Final = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_REFUSED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls: no XML holds them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi: they make a text read as another (Unicode TR 36)
    "\ud800-\udfff"  # lone surrogates: no encoding holds them
    "\ufdd0-\ufdef\ufff9-\uffff"  # noncharacters, interlinear annotation and what XML excludes; U+FFFD itself stays one
    "\U000e0000-\U000e007f]"  # tags: invisible letters
)


def plain(text: str, *, whole: bool = False) -> str:
    """On one line, encodable, without control and bidi characters, LONGEST characters at most (`whole`: LONGEST_TEXT)."""
    longest = LONGEST_TEXT if whole else LONGEST
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return _REFUSED.sub(REPLACEMENT, _BREAKS.sub(" ", text))


Text: TypeAlias = "str | Mapping[str, str]"
"""For people: one text, or language → text. A plain English one is put into French by locale/fr.toml, if it is there."""
Value: TypeAlias = "str | int | float | bool | Mapping[str, float | str | Mapping[str, str]]"
Row: TypeAlias = Mapping[str, Value]
Head: TypeAlias = Mapping[str, "Value | Sequence[str] | None"]

V = TypeVar("V")

SHOWN: Final = "shown"
"""Key of a row that is no column: column → Text, the figure as people read it, rounded once by the account.

HTML and PDF show it in place of the number; CSV, JSON and XLSX hold the number unrounded and leave this out."""
LANGUAGES: Final = ("fr", "en")
PUBLIC: Final = "public"
"""Key of the head of a report that is rounded so that it may be published beside the months of the API."""
UNDER_WAY_UNTIL: Final = "under_way_until"
"""Column and key of the head: the last day, begun or whole, that figures of a period go to which is not over."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of one table, as it is: one row a category. Nothing is summed for it."""

    kind: Literal["bar", "stacked", "line"]
    """Bars side by side, bars on top of each other, or a line over periods."""
    table: str
    """One of the document's tables; short: 40 rows can still be read."""
    category: str
    """Its column of names or periods."""
    values: tuple[str, ...]
    """Its columns of numbers, all of one unit; at most 8."""
    title: Text


@dataclass(frozen=True, slots=True)
class Document:
    """A report, ready to be written."""

    head: Head
    """What was asked, of what, when; `kind` names the report."""
    columns: tuple[str, ...]
    """Order of the columns of the tabular formats."""
    tables: Mapping[str, Sequence[Row]]
    """rows, totals, memo …; a row lacks what does not exist, and may have SHOWN."""
    tabular: tuple[str, ...]
    """The tables a tabular format writes, one after the other."""
    assumptions: tuple[Text, ...] = ()
    method: tuple[Text, ...] = ()
    """How the figures were made: paragraphs."""
    charts: tuple[Chart, ...] = ()
    title: Text | None = None
    """By default what the locale calls a report of this kind."""
    titles: Mapping[str, Text] = field(default_factory=dict)
    """Table → its title; by default the locale's."""
    language: str = LANGUAGES[0]
    """Of what is written for people: one of LANGUAGES."""

    def columns_of(self, table: str) -> tuple[str, ...]:
        """The columns that any row of a table has: in the document's order, then in that of their appearance."""
        rows = self.tables[table]
        present = dict.fromkeys(name for row in rows for name in row if name != SHOWN)
        known = [name for name in self.columns if name in present]
        return (*known, *(name for name in present if name not in set(known)))


def under_way(document: Document, today: date, until: date | None = None) -> Document:
    """Say in the head, and in each row, of a period that is not over until which day the figures go; else unchanged.

    `until`: None: today, of which what is known by now counts. Said once, it stays.
    """
    last, now = (until or today).isoformat(), today.isoformat()
    if UNDER_WAY_UNTIL in document.head or not _is_ahead(document.head.get("to"), now):
        return document

    def told(entries: Mapping[str, V], end: str) -> dict[str, V | str]:
        found: dict[str, V | str] = {}
        for name, value in entries.items():
            found[name] = value
            if name == end and _is_ahead(value, now):
                found[UNDER_WAY_UNTIL] = last
        return found

    columns = list(document.columns)
    if "period_to" in columns:
        columns.insert(columns.index("period_to") + 1, UNDER_WAY_UNTIL)
    tables = {name: [told(row, "period_to") for row in rows] for name, rows in document.tables.items()}
    return replace(document, head=told(document.head, "to"), columns=tuple(columns), tables=tables)


def _is_ahead(end: object, today: str) -> bool:
    """Whether a period with this end, exclusive, is not over. ISO dates compare as texts."""
    return isinstance(end, str) and end > today


FORMATS: Final[Mapping[str, str]] = {
    "csv": "veilleuse.collector.documents.formats.csv:render",
    "xlsx": "veilleuse.collector.documents.formats.xlsx:render",
    "json": "veilleuse.collector.documents.formats.json:render",
    "html": "veilleuse.collector.documents.formats.html:render",
    "pdf": "veilleuse.collector.documents.formats.pdf:render",
}
"""Format → function (Document → bytes); nothing is imported until chosen."""
MEDIA_TYPES: Final[Mapping[str, str]] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
}
BINARY: Final = frozenset({"xlsx", "pdf"})
"""Formats that a terminal cannot show."""


def renderer(name: str) -> Callable[[Document], bytes]:
    """The function of a format: the same clean texts for all (docs/guarantees.md S14 to S16). Raises KeyError.

    The function raises UsageError when a format cannot be had here, or cannot hold so much.
    """
    module, _, function = FORMATS[name].partition(":")
    found = cast(  # the table above is ours; tests hold it
        "Callable[[Document], bytes]", getattr(import_module(module), function)
    )
    return lambda document: found(cleaned(document))


def cleaned(document: Document) -> Document:
    """The same document with every text made plain: no control, bidi or unencodable character, none endless."""
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
