# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What strangers read in our reports: openpyxl in a workbook, an HTML parser in a page, pypdf in a PDF."""

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
    """The workbook, formulas as they stand."""
    return load_workbook(io.BytesIO(content), data_only=False)


def sheet_rows(sheet: Worksheet) -> list[dict[str, Any]]:
    """Rows of a table's sheet by the names of its second line; a cell that is empty is not there."""
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
    """A cell of a page."""

    text: str = ""
    raw: str | None = None


@dataclass
class PageTable:
    """One table: for each row its cells by column; for a table of facts one row."""

    caption: str = ""
    rows: list[dict[str, Shown]] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)
    """Every cell of every row of its body."""
    columns: list[str | None] = field(default_factory=list)


class Page(HTMLParser):
    """A page of documents/formats/html.py: its tables by section, and every element and attribute
    there is."""

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
        """A column is marked at its head; in a table of facts, each line at its own."""
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
        data = data.replace("\N{WORD JOINER}", "")  # documents/formats/html.py's guard
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
        """The cells of each of `count` rows of a section, by column: from all its tables, and from what rows
        have in common."""
        found: list[dict[str, Shown]] = [{} for _ in range(count)]
        for table in self.sections[section]:
            facts = not any(table.columns)
            for i, row in enumerate(table.rows):
                for one in found if facts else [found[i]]:
                    one.update(row)
        return found


def bare(text: str) -> str:
    """Without any space: how a PDF breaks lines says nothing."""
    return re.sub(r"\s+", "", text)


def pdf_text(content: bytes) -> str:
    """All text of a PDF, without spaces."""
    return bare("".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages))


def structure(content: bytes) -> Iterable[Any]:
    """Every element of the tree of tags of a PDF, as pypdf reads it."""
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
