# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A report with a summary: few pages for any fleet, a page that folds, a workbook in the reader's words."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pypdf
import pytest
from openpyxl.workbook import Workbook

from tests.support.report_files import Page, bare, pdf_text, sheet_rows, structure, workbook
from tests.support.summarised import CLASSES, RELEASED, emissions
from tests.unit.collector.reports.test_summaries import indicators_report, reen_report
from veilleuse.collector.documents.document import (
    LANGUAGES,
    LONGEST,
    MOST_SHORT_COLUMNS,
    Document,
    renderer,
)
from veilleuse.collector.documents.formats.html import ON_PAPER_TOO, page
from veilleuse.collector.documents.text import words
from veilleuse.collector.reports.summaries import indicators as indicators_summary
from veilleuse.collector.reports.summaries import reen as reen_summary
from veilleuse.collector.reports.summaries.emissions import add_summary

MOST_PAGES = 12
LONG = [f"Métropole > {'Collège interminable ' * 50}{number}"[:LONGEST] for number in range(110)]
UNBROKEN = [f"{'x' * 600}{number}" for number in range(110)]


def report(entities: int, language: str = "fr", classes: tuple[str, ...] = CLASSES) -> Document:
    """Return a report with its summary."""
    names = [f"Métropole > Collèges > Collège {number:03}" for number in range(entities)]
    return add_summary(emissions(names, classes, language=language), {})


def pages_of(document: Document) -> int:
    """Return the number of pages of the PDF."""
    return pages_in(renderer("pdf")(document))


def pages_in(content: bytes) -> int:
    """Return the number of pages of a PDF."""
    return len(pypdf.PdfReader(io.BytesIO(content)).pages)


@pytest.mark.parametrize("entities", [0, 1, 3, 30, 110, 2_000])
def test_a_pdf_has_at_most_twelve_pages(entities: int):
    """Whatever the fleet; the first page has total and sentences, the second the entities."""
    document = report(entities)
    content = renderer("pdf")(document)
    pages = pypdf.PdfReader(io.BytesIO(content)).pages
    assert len(pages) <= MOST_PAGES
    if entities:
        (total,) = document.tables["totals"]
        first, second = (bare(one.extract_text()) for one in pages[:2])
        w = words("fr")
        assert bare(w.kilograms(float(str(total["kgco2e_total"])))) in first
        assert "Cequiémetleplus" in first
        assert "Parentité" in second
        assert entities <= 20 or bare(f"et {w.number(entities - 20)} autres") in second
        assert bare("veilleuse report emissions --from 2025-01-01 --to 2026-01-01") in pdf_text(content)


def test_nor_do_long_names_and_notes_make_it_longer():
    """Names of 1,024 characters with and without a space, 300 long notes, 200 lines of exclusions."""
    names = [LONG[place] if place % 2 else UNBROKEN[place] for place in range(len(LONG))]
    notes = [f"{number} {'Une note très longue. ' * 90}" for number in range(300)]
    document = emissions(names, notes=notes)
    signed: list[Any] = [
        {"declaration": "exclusion", "declared": names[number % 110], "declared_detail": names[0]}
        for number in range(200)
    ]
    head = {**RELEASED, "servers_in_no_room": [f"server {number}" for number in range(2_000)]}
    tables = {**document.tables, "sign_off": signed, "exclusions": signed}
    full = add_summary(replace(document, head=head, tables=tables), {})
    content = renderer("pdf")(full)
    assert pages_in(content) <= MOST_PAGES
    assert bare("autres notes sont dans le classeur.") in pdf_text(content)


def test_the_other_reports_have_few_pages_too():
    """A sheet of 300 objectives, 500 measures and 100 lines of a bilan; indicators of 500 groups."""
    sheet, indicators = reen_report(), indicators_report()
    (moved, _) = sheet.tables["rows"]
    rows: list[Any] = [{**moved, "objective": str(1 + number // 50)} for number in range(300)]
    measures: list[Any] = [
        {"what": LONG[0], "objective": "2", "saving_kwh": 1.5 * number} for number in range(500)
    ]
    bilan: list[Any] = [{**sheet.tables["bilan"][0], "item": LONG[0]} for _ in range(100)]
    tables = {**sheet.tables, "rows": rows, "measures": measures, "bilan": bilan}
    assert pages_of(reen_summary.add_summary(replace(sheet, tables=tables))) <= MOST_PAGES
    many = [
        {**row, "entity": f"{LONG[0][:500]}{number}"}
        for number in range(250)
        for row in indicators.tables["rows"][:2]
    ]
    full = replace(indicators, tables={**indicators.tables, "rows": many})
    answers = {"population": full, "entity": full}
    assert pages_of(indicators_summary.add_summary(full, answers)) <= MOST_PAGES


def test_bars_and_tables_of_a_pdf_are_tagged():
    """The chart is the only figure, with an alternative; bars in tables are none; cells name their heads."""
    content = renderer("pdf")(report(30))
    elements = list(structure(content))
    figures = [element for element in elements if element.get("/S") == "/Figure"]
    assert ["/Alt" in element for element in figures] == [True]
    cells = [element for element in elements if element.get("/S") == "/TD" and "/A" in element]
    assert len(cells) > 100
    assert all("/Headers" in element["/A"] for element in cells)


@pytest.mark.parametrize("paper", [False, True])
def test_headings_leave_no_level_out(paper: bool):
    """One h1, and no level is skipped; numbers stand right."""
    content = page(report(3), ON_PAPER_TOO, paper=paper)
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", content)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(levels) <= 3
    assert not re.findall(r"<td>[^<]*\d[\d,\u202f]*\u00a0(?:[kt]?gCO₂e|[kM]?Wh)", content)


def test_the_page_is_one_screen_and_its_details_fold():
    """All tables are inside closed details; the whole tables too, with every row."""
    document = report(30)
    content = renderer("html")(document).decode()
    read = Page(content.encode())
    assert "details" in {tag for tag, _ in read.elements}
    assert not [attributes for tag, attributes in read.elements if tag == "details" and "open" in attributes]
    unfolded = re.sub(
        r"<details>.*?</details>",
        "",
        re.sub(r"<details>(?:(?!<details>).)*?</details>", "", content, flags=re.S),
        flags=re.S,
    )
    assert "<table" not in unfolded
    assert '<p class="value">' in unfolded
    assert len(read.by_row("table-1", 30 * len(CLASSES))[0]) > 20
    assert not {"script", "link", "form"} & {tag for tag, _ in read.elements}
    assert not {name for _, attributes in read.elements for name in attributes} & {"style", "onclick"}


# --- the workbook


def cells_of(book: Workbook, title: str) -> list[Any]:
    """Return the values of the cells of a sheet."""
    return [cell for line in book[title].iter_rows(values_only=True) for cell in line if cell is not None]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_workbook_begins_with_the_summary(language: str):
    """First the summary with charts, on twelve columns; then all entities; the whole table last."""
    w = words(language)
    document = report(110, language)
    book = workbook(renderer("xlsx")(document))
    first, last = book.sheetnames[0], book.sheetnames[-1]
    assert (first, last) == (w("page.summary"), w("tables.rows"))
    sheet: Any = book[first]
    assert sheet.max_column <= MOST_SHORT_COLUMNS
    assert len(sheet._charts) == 2
    values = cells_of(book, first)
    assert w.count("summary.others", 90) in values
    (total,) = document.tables["totals"]
    assert total["kgco2e_total"] in values
    entities = list(book[w("summary.by_entity")].iter_rows(values_only=True))
    assert len(entities) == 1 + 110
    assert sum(float(str(line[1])) for line in entities[1:]) == pytest.approx(total["kgco2e_total"])
    assert not [cell for one in book for row in one.iter_rows() for cell in row if cell.data_type == "f"]


def test_the_french_workbook_speaks_french():
    """Cells are words, not codes; names of columns stand in the second line as in the CSV."""
    book = workbook(renderer("xlsx")(report(3)))
    codes = {
        "row",
        "own_site",
        "workstation",
        "laptop",
        "sff",
        "demonstrated",
        "smoothed-4y",
        "entity",
    }
    for title in book.sheetnames:
        if title not in ("Dictionnaire des colonnes",):
            names = {cell.value for cell in book[title][2]}
            assert not codes & (set(cells_of(book, title)) - names), title
    row = sheet_rows(book["Lignes"])[0]
    assert (row["device_class"], row["level"], row["power_context"]) == (
        "portables",
        "ligne",
        "site de la collectivité",
    )
    (item,) = sheet_rows(book["Postes du bilan carbone"])
    assert item["beges_item"] == "2.1 Émissions indirectes liées à la consommation d’électricité"
    assert item["ghg_category"] == "Scope 2\u00a0: énergie achetée"


def test_charts_are_not_drawn_over_rows():
    """Each chart begins below the last row of its table, and above the next heading."""
    sheet: Any = workbook(renderer("xlsx")(report(30)))["Synthèse"]
    filled = {cell.row for row in sheet.iter_rows() for cell in row if cell.value is not None}
    for chart in sheet._charts:
        anchor = chart.anchor
        assert not filled & set(range(anchor._from.row + 1, anchor.to.row + 2))
