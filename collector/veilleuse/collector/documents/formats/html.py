# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes HTML: one accessible file without external resources. Its policy forbids scripts and every fetch.

Figures are rounded for people; `<data value>` and `<time datetime>` hold the unrounded values.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from veilleuse.collector.documents.charts import draw, legend, swatch
from veilleuse.collector.documents.document import Chart, Document, Head, Text, column
from veilleuse.collector.documents.formats.csv import SIGNS
from veilleuse.collector.documents.layout import (
    Section,
    TableCell,
    TableLayout,
    chart_grid,
    charts_with_values,
    document_title,
    fact_cells,
    facts,
    key_figures,
    notices,
    paper_sections,
    period,
    sections,
    short_grid,
)
from veilleuse.collector.documents.text import Words, instant, words

_FORMULA: Final = re.compile(rf"\s*[{re.escape(SIGNS)}]")
_WORD_JOINER: Final = "\N{WORD JOINER}"
"""Put before a text that a spreadsheet would take for a formula after opening or copying the page.

The character is invisible, and screen readers skip it.
"""
PAPER_CHARACTERS: Final = 20_000
"""Maximum characters of the notes on paper: four pages."""
PAPER_NOTE: Final = 2_000
SHORT_WORD, SHORT_NAME = 24, 17
"""Maximum characters of one word, and of several words, that stay on one line."""
ONLY_ON_SCREEN: Final = ("screen.css",)
ON_PAPER_TOO: Final = ("report.css",)


@dataclass(frozen=True, slots=True)
class Picture:
    """A Picture is one chart of the page."""

    title: str
    drawing: Markup
    legend: tuple[tuple[Markup, str], ...]
    grid: TableLayout


@dataclass(frozen=True, slots=True)
class Note:
    """A Note is a paragraph, with its language where it differs from the page's."""

    text: str
    language: str | None


@dataclass(frozen=True, slots=True)
class PagePart:
    """A PagePart is one part of the summary: tables and paragraphs."""

    title: str
    grids: tuple[TableLayout, ...]
    facts: tuple[tuple[str, TableCell], ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class PageSummary:
    """A PageSummary is what a reader sees first."""

    status: str
    figures: tuple[tuple[str, str, str], ...]
    """(label, value, note)."""
    sentences: tuple[str, ...]
    picture: Picture | None
    parts: tuple[PagePart, ...]
    workbook: str
    """How to get all rows."""


def render(document: Document) -> bytes:
    """Return the file, UTF-8."""
    return page(document, (*ON_PAPER_TOO, *ONLY_ON_SCREEN)).encode()


def page(document: Document, styles: tuple[str, ...], *, paper: bool = False) -> str:
    """Return the page with these style sheets inline; `paper`: without the parts for screens."""
    w = words(document.language)
    summary = _summary(document, w, paper=paper)
    style = "".join(_style(name) for name in styles)
    made = document.head.get("generated_unix_milliseconds")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment(paper)
        .get_template("report.html")
        .render(
            w=w,
            paper=paper,
            style=Markup(style),  # safe: a packaged style sheet, without any value of the document
            style_hash=digest,
            title=document_title(document, w),
            period=period(document, w),
            made=w.time(made) if isinstance(made, int) else None,
            stamp=f"{instant(made):%Y-%m-%dT%H:%M:%SZ}" if isinstance(made, int) else None,
            simulated=document.head.get("data") == "simulated",
            notices=list(notices(document, w)),
            facts=[(label, TableCell(_cut(text, paper=paper))) for label, text in facts(document, w)],
            keys=None if summary else key_figures(document, w),
            summary=summary,
            pictures=[]
            if summary
            else [
                _picture(document, number, chart, w, paper=paper)
                for number, chart in enumerate(charts_with_values(document), 1)
            ],
            sections=_sections(document, w, paper=paper),
            method=_notes(document, document.method, w, paper=paper),
            assumptions=_notes(document, document.assumptions, w, paper=paper),
            dictionary=dictionary(document, w),
        )
    )


def _sections(document: Document, w: Words, *, paper: bool) -> list[Section]:
    if not paper:
        return sections(document, w)
    return [] if document.summary else paper_sections(document, w)


def _picture(document: Document, number: int, chart: Chart, w: Words, *, paper: bool) -> Picture:
    return Picture(
        w.text(chart.title)[0],
        draw(document, number, chart, w),
        tuple((swatch(colour, paper=paper), name) for colour, name in legend(document, chart, w)),
        chart_grid(document, chart, w),
    )


def _summary(document: Document, w: Words, *, paper: bool) -> PageSummary | None:
    found = document.summary
    if found is None:
        return None
    picture = None
    if found.chart is not None and found.chart.bar is not None:
        table = found.chart
        drawn = replace(document, tables={"chart": table.rows[: table.most]})
        chart = Chart(found.chart_kind, "chart", table.columns[0], (found.chart.bar,), table.title)
        picture = _picture(drawn, 0, chart, w, paper=paper)
    return PageSummary(
        w.text(found.status)[0],
        tuple((w.text(one.label)[0], w.text(one.value)[0], w.text(one.note)[0]) for one in found.figures),
        tuple(w.text(one)[0] for one in found.sentences),
        picture,
        tuple(
            PagePart(
                w.text(part.title)[0],
                tuple(short_grid(table, w) for table in part.tables if table.rows),
                fact_cells(part.facts, w),
                tuple(_note(document, text, w) for text in part.notes),
            )
            for part in found.parts
        ),
        workbook(document.head, w),
    )


def workbook(head: Head, w: Words) -> str:
    """Say how to get the same report as a workbook."""
    asked = kind = str(head.get("kind"))
    if kind == "actions":
        asked = "indicators --actions"
    groups = head.get("group_by")
    options = {
        "--from": head.get("from"),
        "--to": head.get("to"),
        "--group-by": ",".join(map(str, groups)) if isinstance(groups, Sequence) else None,
        "--level": head.get("level"),
        "--basis": head.get("basis") if head.get("basis") != "released" else None,
    }
    said = " ".join(f"{option} {value}" for option, value in options.items() if value)
    command = f"veilleuse report {asked} {said} --format xlsx -o {kind}.xlsx"
    return w("page.workbook" if kind == "emissions" else "page.workbook_command", command=command)


def dictionary(document: Document, w: Words) -> TableLayout:
    """Describe every column of every table, once."""
    found = {
        name: column(document, table, name)
        for table in document.tables
        for name in document.columns_of(table)
    }
    rows = tuple(
        (
            TableCell(name),
            TableCell(one.labels[w.language]),
            TableCell(one.unit or ""),
            TableCell(w(f"kinds.{one.kind.value}")),
            TableCell(one.sentences[w.language]),
        )
        for name, one in found.items()
    )
    heads = tuple(
        TableCell(w(f"page.column_{name}")) for name in ("name", "label", "unit", "kind", "sentence")
    )
    return TableLayout(w("page.columns_caption"), heads, 1, rows)


def _notes(document: Document, texts: Sequence[Text], w: Words, *, paper: bool) -> list[Note]:
    """Return the notes; on paper as many as fit."""
    found = [_note(document, text, w) for text in texts]
    if not paper:
        return found
    short = [replace(note, text=_cut(note.text, paper=True)) for note in found]
    ends = itertools.accumulate(len(note.text) for note in short)
    fit = sum(end <= PAPER_CHARACTERS for end in ends)
    more = [Note(w.count("page.more_notes", len(short) - fit), None)] if fit < len(short) else []
    return [*short[:fit], *more]


def _cut(text: str, *, paper: bool) -> str:
    """Cut a text that fills a page."""
    return text if not paper or len(text) <= PAPER_NOTE else text[: PAPER_NOTE - 1] + "…"


def _note(document: Document, text: Text, w: Words) -> Note:
    shown, language = w.text(text)
    return Note(shown, None if language == document.language else language)


@cache
def _style(name: str) -> str:
    return files("veilleuse.collector.documents").joinpath("templates", name).read_text("utf-8")


def _guard(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, Markup) and _FORMULA.match(value):
        return _WORD_JOINER + value
    return value


@cache
def _environment(paper: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("veilleuse.collector.documents", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=None if paper else _guard,
    )
    environment.filters["longest_word"] = lambda text: max(map(len, text.split()), default=0)
    environment.filters["is_short_word"] = lambda text: (
        len(text) <= (SHORT_NAME if " " in text else SHORT_WORD)
    )
    environment.filters["exact"] = escape  # of numbers and dates
    return environment
