# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes HTML: one accessible file without external resources. Its policy forbids scripts and every fetch.

Figures are rounded for people; `<data value>` and `<time datetime>` hold the unrounded values.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from veilleuse.collector.documents.charts import draw, legend, swatch
from veilleuse.collector.documents.document import Document, Text, column
from veilleuse.collector.documents.layout import (
    TableCell,
    TableLayout,
    chart_grid,
    charts_with_values,
    document_title,
    facts,
    key_figures,
    notices,
    period,
    sections,
)
from veilleuse.collector.documents.text import Words, instant, words

_FORMULA: Final = re.compile(r"\s*[=+\-@＝＋－＠]")
_WORD_JOINER: Final = "\N{WORD JOINER}"
"""Put before a text that a spreadsheet would take for a formula after opening or copying the page.

The character is invisible, and screen readers skip it.
"""
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


def render(document: Document) -> bytes:
    """Return the file, UTF-8."""
    return page(document, (*ON_PAPER_TOO, *ONLY_ON_SCREEN)).encode()


def page(document: Document, styles: tuple[str, ...], *, paper: bool = False) -> str:
    """Return the page with these style sheets inline; `paper`: without the parts for screens."""
    w = words(document.language)
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
            facts=list(facts(document, w)),
            keys=key_figures(document, w),
            pictures=[
                Picture(
                    w.text(chart.title)[0],
                    draw(document, number, chart, w),
                    tuple((swatch(colour, paper=paper), name) for colour, name in legend(document, chart, w)),
                    chart_grid(document, chart, w),
                )
                for number, chart in enumerate(charts_with_values(document), 1)
            ],
            sections=sections(document, w),
            method=[_note(document, text, w) for text in document.method],
            assumptions=[_note(document, text, w) for text in document.assumptions],
            dictionary=dictionary(document, w),
        )
    )


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
    environment.filters["exact"] = escape  # of numbers and dates
    return environment
