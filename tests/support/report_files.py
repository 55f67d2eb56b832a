# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read reports as other programs do: openpyxl a workbook, an HTML parser a page, pypdf a PDF."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pypdf
from openpyxl import load_workbook
from openpyxl.workbook import Workbook
from openpyxl.worksheet.worksheet import Worksheet

VOID = {"meta", "br", "link", "img"}


def workbook(content: bytes) -> Workbook:
    """Read a workbook; formulas are not evaluated."""
    return load_workbook(io.BytesIO(content), data_only=False)


def sheet_rows(sheet: Worksheet) -> list[dict[str, Any]]:
    """Return the rows of a table's sheet, keyed by the names in its second line; empty cells are left out."""
    lines = list(sheet.iter_rows(values_only=True))
    if len(lines) < 2:
        return []
    names = [str(name) for name in lines[1]]
    return [
        {name: value for name, value in zip(names, line, strict=True) if value is not None}
        for line in lines[2:]
    ]


@dataclass
class Shown:
    """A cell of a page: its text, and the value of its `data` or `time` element."""

    text: str = ""
    raw: str | None = None


@dataclass
class PageTable:
    """One table of a page: for each row its cells by column; each line of a table of facts is a row."""

    caption: str = ""
    rows: list[dict[str, Shown]] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)
    """The text of every cell in every row of the body."""
    columns: list[str | None] = field(default_factory=list)


class Page(HTMLParser):
    """Parse a page of documents/formats/html.py: its tables by section, and all elements with attributes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: defaultdict[str, list[PageTable]] = defaultdict(list)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self._section = ""
        self._cell: Shown | None = None
        self._fact: str | None = None
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = str(found["aria-labelledby"])
        elif tag == "table":
            self.sections[self._section].append(PageTable())
        elif tag == "tr" and "tbody" in self._open:
            self._table.rows.append({})
            self._table.texts.append([])
        elif tag == "th" and "thead" in self._open:
            self._table.columns.append(found.get("data-column"))
        elif tag in ("td", "th") and "tbody" in self._open:
            self._body_cell(tag, found.get("data-column"))
        elif self._cell is not None and tag in ("data", "time"):
            self._cell.raw = found.get("value") or found.get("datetime")

    def _body_cell(self, tag: str, marked: str | None) -> None:
        """Add a cell. Its column is marked in the table's head, or in the line's own head (facts)."""
        table = self._table
        self._cell = Shown()
        column = table.columns[len(table.texts[-1])]
        if tag == "td" and self._fact:
            column = self._fact
        self._fact = marked if tag == "th" else None
        if column and not marked:
            table.rows[-1][column] = self._cell
        table.texts[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data: str) -> None:
        data = data.replace("\N{WORD JOINER}", "")  # documents/formats/html.py adds it
        if not self._open or self._open[-1] not in ("style", "title"):
            self.text += data
        if self._cell is not None:
            self._cell.text += data
            self._table.texts[-1][-1] += data
        elif self._open and self._open[-1] == "caption":
            self._table.caption += data

    @property
    def _table(self) -> PageTable:
        return self.sections[self._section][-1]

    def by_row(self, section: str, count: int) -> list[dict[str, Shown]]:
        """Return `count` rows of a section, each with its cells by column, from all tables of the section;
        cells of a table of facts belong to every row."""
        found: list[dict[str, Shown]] = [{} for _ in range(count)]
        for table in self.sections[section]:
            facts = not any(table.columns)
            for i, row in enumerate(table.rows):
                for one in found if facts else [found[i]]:
                    one.update(row)
        return found


def bare(text: str) -> str:
    """Return the text without white space, because line breaks in a PDF carry no meaning."""
    return re.sub(r"\s+", "", text)


def pdf_text(content: bytes) -> str:
    """Return all text of a PDF, without white space."""
    return bare("".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages))


def structure(content: bytes) -> Iterable[Any]:
    """Yield every element of a PDF's structure tree, as pypdf reads it."""
    reader = pypdf.PdfReader(io.BytesIO(content))
    root: Any = reader.trailer["/Root"]
    waiting: list[Any] = [root["/StructTreeRoot"]]
    while waiting:
        element = waiting.pop().get_object()
        if not isinstance(element, dict):
            continue
        yield element
        kids = element.get("/K", [])
        kids = kids.get_object() if hasattr(kids, "get_object") else kids
        waiting += kids if isinstance(kids, list) else [kids]
