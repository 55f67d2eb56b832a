# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One document in each format has every figure, equal to the last digit, in a valid file."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import pkgutil
import re
import sys
import zipfile
from dataclasses import replace
from datetime import date, datetime
from importlib.resources import files
from typing import Any

import pypdf
import pytest
from openpyxl.utils import get_column_letter

from tests.architecture.tree import ROOT
from tests.support.report_files import Page, bare, pdf_text, sheet_rows, structure, workbook
from tests.support.reported import attribution, everything
from tests.unit.collector.cli.test_report import documents, servers
from veilleuse.collector.documents import formats
from veilleuse.collector.documents.cells import sheet_name
from veilleuse.collector.documents.charts import COLOURS
from veilleuse.collector.documents.document import (
    BINARY,
    FORMATS,
    LANGUAGES,
    MACHINE,
    MEDIA_TYPES,
    SHOWN,
    Document,
    Row,
    ValueKind,
    add_under_way,
    column,
    renderer,
)
from veilleuse.collector.documents.formats.html import ON_PAPER_TOO, page
from veilleuse.collector.documents.formats.xlsx import HEAD_ROWS
from veilleuse.collector.documents.layout import sections, title_of
from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import UsageError


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    """Return the document in all formats."""
    return {name: renderer(name)(everything()) for name in FORMATS}


def plain_row(row: Row) -> dict[str, Any]:
    """Return a row's values without its texts for people; a mix gives one key per name."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and name != SHOWN:
            found.update({f"{name}.{part}": share for part, share in value.items()})
        elif name != SHOWN:
            found[name] = value
    return found


def test_every_format_has_a_media_type_and_gives_bytes(written):
    """Each module of formats/ is in the tables of formats and in docs/reports.md; BINARY lists the formats
    that are not text."""
    modules = {module.name for module in pkgutil.iter_modules(formats.__path__, f"{formats.__name__}.")}
    page_of_docs = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
    document = "documents/document.py"
    texts = {
        name for name in written if "\N{REPLACEMENT CHARACTER}" not in written[name].decode(errors="replace")
    }
    for place, found, wanted in (
        (f"FORMATS of {document}", {one.partition(":")[0] for one in FORMATS.values()}, modules),
        (f"MEDIA_TYPES of {document}", MEDIA_TYPES.keys(), FORMATS.keys()),
        (f"BINARY of {document}", BINARY, FORMATS.keys() - texts),
        (
            "the table of docs/reports.md",
            set(re.findall(r"^\| `(\w+)` \|", page_of_docs.partition("\n## Perimeters")[0], re.M)),
            FORMATS.keys(),
        ),
    ):
        assert not found ^ wanted, f"add to {place}, or remove from it: {sorted(found ^ wanted)}"
    assert all(isinstance(content, bytes) and content for content in written.values())


def test_a_unit_is_in_the_figure_or_above_it():
    """A rounded figure without a unit has it in its column's label."""
    for shown, label in (("1 240", "Énergie (kWh)"), ("1 240 kWh (1 200 à 1 300)", "Énergie")):
        row: Row = {"entity": "DSI", "kwh_total": 1_240.4, SHOWN: {"kwh_total": {"fr": shown}}}
        other: Row = {**row, "entity": "Eau", "kwh_total": 1_250.0}
        two = replace(everything(), tables={"rows": [row, other]})
        (section,) = sections(two, words("fr"))
        assert [cell.text for cell in section.grids[0].heads] == ["Entité", label]


def test_what_rows_are_of_does_not_push_the_figures_away():
    """Up to six columns begin a row; the least informative of more come after the figures; none is lost."""
    columns = (
        "indicator", "name", "period_from", "period_to", "entity", "site", "zone", "population", "device_class", "level",
    )  # fmt: skip
    for number, behind in ((6, 0), (10, 4)):
        rows: list[Row] = [
            {**{name: f"{name}{line}" for name in columns[:number]}, "value": 0.1 + line} for line in range(2)
        ]
        table = replace(everything(), tables={"rows": rows}, tabular=("rows",), charts=())
        (section,) = sections(table, words("en"))
        (grid,) = section.grids
        marks = [head.mark for head in grid.heads]
        assert grid.keys == 6
        assert marks[6] == "value"
        assert marks[7:] == list(("period_to", "site", "zone", "level")[:behind])
        assert sorted(filter(None, marks)) == sorted([*columns[:number], "value"])


def test_every_format_says_until_when_a_period_under_way_goes():
    """Title, first lines and a column show it. A period that is over, or marked already, is unchanged."""
    whole = everything()
    document = add_under_way(whole, date(2025, 11, 28))
    assert add_under_way(whole, date(2026, 1, 1)) == whole
    assert add_under_way(document, date(2025, 11, 29), date(2025, 11, 1)) == document
    made = {name: renderer(name)(document) for name in FORMATS}
    said = "Du 1er janvier 2025 inclus au 28 novembre 2025, période en cours (demandée jusqu’au 1er janvier 2026 exclu)"
    assert said in Page(made["html"]).text
    assert bare(said) in pdf_text(made["pdf"])
    book = workbook(made["xlsx"])
    assert said in [line[0] for line in book.worksheets[0].iter_rows(values_only=True)]
    months = sheet_rows(book[sheet_name(title_of(document, "rows", words("fr")), set())])
    assert {row["under_way_until"] for row in months} == {datetime(2025, 11, 28)}  # noqa: DTZ001
    read = list(csv.DictReader(io.StringIO(made["csv"].decode(), newline="")))
    assert {(row["period_to"], row["under_way_until"]) for row in read} == {("2026-01-01", "2025-11-28")}
    told = json.loads(made["json"])
    assert told["report"]["under_way_until"] == told["rows"][0]["under_way_until"] == "2025-11-28"
    ahead = renderer("html")(replace(add_under_way(whole, date(2024, 12, 1)), language="en")).decode()
    assert "From 1 January 2025, until and without 1 January 2026: none of its days is over yet." in ahead


def check_json(content: bytes) -> None:
    """Check that the object's tables equal the document's without `shown`."""
    found = json.loads(content)
    for table, rows in everything().tables.items():
        expected = [{name: value for name, value in row.items() if name != SHOWN} for row in rows]
        assert found[table] == expected


def check_csv(content: bytes) -> None:
    """Check that every value is equal, parsed with the standard library and typed as in the document."""
    document = everything()
    found = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    expected = [row for table in document.tabular for row in document.tables[table]]
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        for name, value in wanted.items():
            if name == SHOWN:
                continue
            if isinstance(value, dict):
                parts = dict(re.findall("([^=;]+)=([^;]+)", row[name]))
                assert {part: float(share) for part, share in parts.items()} == value
            elif isinstance(value, bool):
                assert row[name] == str(value).lower()
            elif isinstance(value, (int, float, str)):
                assert type(value)(row[name]) == value, name
        assert not any(value for name, value in row.items() if name not in wanted)


def check_xlsx(content: bytes) -> None:
    """Check that openpyxl reads exact integers and numbers, dates, booleans and words of the language, and no
    cell where the row has no value."""
    document, book, w = everything(), workbook(content), words("fr")
    for table in ("rows", "totals", "memo", "factors", "months", "by_class"):
        found = sheet_rows(book[sheet_name(title_of(document, table, w), set())])
        expected = [plain_row(row) for row in document.tables[table]]
        assert len(found) == len(expected)
        for row, wanted in zip(found, expected, strict=True):
            assert row.keys() == wanted.keys()
            for name, value in wanted.items():
                one = column(document, table, name)
                if one.kind is ValueKind.DATE:
                    assert isinstance(row[name], datetime)
                    assert row[name].date() == date.fromisoformat(value)
                elif one.kind is ValueKind.WORD:
                    assert row[name] == w.word(one.words, value)
                else:
                    assert type(row[name]) is type(value), name
                    assert row[name] == value, name


def check_html(content: bytes) -> None:
    """Check that the page has each figure unrounded in `<data>` or `<time>`, and as the account shows it."""
    document, read, w = everything(), Page(content), words("fr")
    for number, section in enumerate(sections(document, w), 1):
        rows = document.tables[section.name]
        for row, wanted in zip(read.by_row(f"table-{number}", len(rows)), rows, strict=True):
            for name, value in wanted.items():
                one = column(document, section.name, name)
                if name == SHOWN or one.group == MACHINE:
                    continue
                if isinstance(value, bool):
                    assert row[name].raw == str(value).lower()
                elif isinstance(value, (int, float)):
                    assert type(value)(str(row[name].raw)) == value, name
                elif one.kind is ValueKind.DATE:
                    assert row[name].raw == value
                assert row[name].text == w.value(one, value, wanted)
            shown: Any = wanted.get(SHOWN, {})
            assert all(row[name].text == texts["fr"] for name, texts in shown.items())


def check_pdf(content: bytes) -> None:
    """Check that the PDF's text contains each row of each table of its page, cell after cell."""
    text = pdf_text(content)
    read = Page(page(everything(), ON_PAPER_TOO, paper=True).encode())
    told = [row for tables in read.sections.values() for table in tables for row in table.texts]
    assert len(told) > 60
    missing = [row for row in told if bare("".join(row)) not in text]
    assert missing == []
    assert bare("3 635 kWh (3 272 à 3 999)") in text


CHECKS = {"csv": check_csv, "xlsx": check_xlsx, "json": check_json, "html": check_html, "pdf": check_pdf}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_every_figure(name, written):
    """A reader that is not ours finds each figure of the document again, equal to the last digit."""
    assert name in CHECKS, f"add to CHECKS a function that reads {name} and compares it with everything()"
    CHECKS[name](written[name])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("kind", ["emissions", "indicators", "attribution"])
def test_every_report_is_written_in_every_format(kind, name, language):
    """No format fails on the documents that the account makes, in either language."""
    emissions, indicators = documents(servers())
    known = {
        "emissions": emissions,
        "indicators": indicators,
        "attribution": attribution("nginx.service", "backup.service"),
    }
    assert renderer(name)(replace(known[kind], language=language))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_report_of_nothing_is_a_file(name):
    """Each format writes a document without rows and totals."""
    empty = Document(
        head={"kind": "indicators"}, columns=("n", "kwh"), tables={"rows": []}, tabular=("rows",)
    )
    assert renderer(name)(empty)


# --- XLSX


def test_equal_documents_make_equal_files(written):
    """Files are equal byte for byte and hold no time of writing."""
    again = {name: renderer(name)(everything()) for name in FORMATS}
    assert [name for name in FORMATS if again[name] != written[name]] == []
    with zipfile.ZipFile(io.BytesIO(written["xlsx"])) as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_the_workbook_is_made_for_work(written):
    """The workbook has French sheets, labels and names, frozen and filtered heads, formats, charts and
    properties, and no formula or link."""
    book = workbook(written["xlsx"])
    assert book.sheetnames[0] == "Synthèse"
    assert book.sheetnames[-3:] == ["Totaux", "Mémo, hors total", "Lignes"]
    assert {"Graphiques", "Méthode et hypothèses", "Dictionnaire des colonnes"} <= set(book.sheetnames)
    sheet = book["Lignes"]
    assert sheet.freeze_panes == "B3"
    assert sheet.auto_filter.ref.startswith("A2:")
    places = {cell.value: get_column_letter(cell.column) for cell in sheet[2] if cell.column}
    assert sheet[f"{places['kwh_total']}1"].value == "Énergie (kWh)"
    assert sheet[f"{places['kwh_total']}3"].number_format == "#,##0.000"
    assert sheet[f"{places['coverage_states']}3"].number_format == "0.0%"
    assert sheet[f"{places['period_from']}3"].is_date
    assert sheet.column_dimensions[places["entity"]].width > 20
    charts: Any = book["Graphiques"]
    assert len(charts._charts) == 3
    assert book.properties.title == "Énergie et émissions de la phase d’usage"
    assert book.properties.created == datetime(2026, 3, 2, 8, 30)  # noqa: DTZ001 # as a workbook has it
    assert not [cell for one in book for row in one.iter_rows() for cell in row if cell.data_type == "f"]
    assert not [cell for one in book for row in one.iter_rows() for cell in row if cell.hyperlink]


def test_a_large_workbook_is_written_row_by_row(monkeypatch, written):
    """A large workbook is written in constant memory with the same cells."""
    monkeypatch.setattr("veilleuse.collector.documents.formats.xlsx.LARGE", 10)
    large = workbook(renderer("xlsx")(everything()))
    for sheet in workbook(written["xlsx"]):
        assert list(sheet.values) == list(large[sheet.title].values)


def test_all_digits_of_a_number_are_in_the_workbook():
    """17 significant digits, and integers beyond 2⁵³: XlsxWriter alone would write 16."""
    number, integer = 0.1 + 0.2, 9_007_199_254_740_993
    document = Document({}, ("a", "b"), {"rows": [{"a": number, "b": integer}]}, ("rows",))
    assert sheet_rows(workbook(renderer("xlsx")(document))["Lignes"]) == [{"a": number, "b": integer}]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("a[b]:c*d?e/f\\g", "a b  c d e f g"),
        ("'quoted'", "quoted"),
        ("History", "History -"),
        ("", "-"),
        ("///", "-"),
        ("x" * 50, "x" * 31),
        ("\N{GRINNING FACE}" * 40, "\N{GRINNING FACE}" * 15),
    ],
    ids=range(7),
)
def test_a_sheet_has_a_name_that_spreadsheets_take(title, name):
    """The name has no forbidden character, at most 31 UTF-16 units, and is unique whatever the case."""
    taken: set[str] = set()
    assert sheet_name(title, taken) == name
    second = sheet_name(title.upper(), taken)
    assert second.casefold() != name.casefold()
    assert len(second.encode("utf-16-le")) <= 62


# --- HTML


def test_the_page_is_one_file_without_script(written):
    """The page loads nothing and has no script, handler or inline style; its policy forbids them."""
    read = Page(written["html"])
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in read.elements}
    names = {name for _, attributes in read.elements for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "style")}
    policy = next(str(a["content"]) for tag, a in read.elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert all(str(a["href"]).startswith("#") for tag, a in read.elements if tag == "a")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_in_its_language(language):
    """The page declares its language, and no part of it declares another."""
    content = renderer("html")(everything(language=language))
    read = Page(content)
    assert read.elements[0] == ("html", {"lang": language})
    assert "lang" not in {name for _, attributes in read.elements[1:] for name in attributes}


def test_a_note_that_was_not_translated_says_its_language():
    """An English note on a French page is marked, not hidden (WCAG 3.1.2)."""
    document = replace(everything(), assumptions=("Nobody has translated this.",))
    assert '<li lang="en">Nobody has translated this.</li>' in renderer("html")(document).decode()


@pytest.mark.parametrize("paper", [False, True])
def test_headings_leave_no_level_out(paper):
    """One h1, and below each heading at most the next level (WCAG 1.3.1), also on the page that becomes the
    PDF."""
    read = Page(page(everything(), ON_PAPER_TOO, paper=paper).encode())
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))


def test_tables_have_captions_and_headers(written):
    """Each table has a caption and one column header per column."""
    text = written["html"].decode()
    tables = re.findall(r"<table.*?</table>", text, re.S)
    assert len(tables) > 15
    for table in tables:
        assert re.search(r"<caption>[^<]+</caption>", table)
        assert table.count('scope="col"') == len(
            re.findall(r"<t[hd]\b", table.split("<tbody>")[1].split("</tr>")[0])
        )


def test_drawings_have_their_alternative(written):
    """Each of three charts is a named image and has its values in a table; swatches are hidden."""
    read = Page(written["html"])
    drawn = [a for tag, a in read.elements if tag == "svg" and a.get("role") == "img"]
    assert [a["aria-labelledby"] for a in drawn] == ["chart-1", "chart-2", "chart-3"]
    captions = [table.caption for table in read.sections["charts"]]
    assert captions[2] == "Valeurs du graphique\u00a0: Énergie par mois"
    assert all(a.get("aria-hidden") == "true" for tag, a in read.elements if tag == "svg" and a not in drawn)


# --- PDF


def test_the_pdf_is_tagged(written):
    """PDF/UA-1 requires a mark, a tree of tags, language, title, bookmarks, headers of cells and alternatives
    of drawings."""
    reader = pypdf.PdfReader(io.BytesIO(written["pdf"]))
    root: Any = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] == True  # noqa: E712 # a PDF boolean
    assert root["/Lang"] == "fr"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"] == True  # noqa: E712
    assert b"<pdfuaid:part>1</pdfuaid:part>" in bytes(root["/Metadata"].get_data()) or b'part="1"' in bytes(
        root["/Metadata"].get_data()
    )
    assert reader.metadata is not None
    assert str(reader.metadata.title).startswith("Énergie et émissions de la phase d’usage")
    headings = [entry["/Title"] for entry in flat(reader.outline)]
    assert headings[:3] == ["Énergie et émissions de la phase d’usage", "L’essentiel", "Graphiques"]
    elements = list(structure(written["pdf"]))
    kinds = [str(element.get("/S")) for element in elements]
    read = Page(page(everything(), ON_PAPER_TOO, paper=True).encode())
    assert kinds.count("/Table") >= sum(tag == "table" for tag, _ in read.elements)
    assert kinds.count("/H2") == sum(tag == "h2" for tag, _ in read.elements)
    figures = [element for element in elements if element.get("/S") == "/Figure"]
    assert ["/Alt" in element for element in figures] == [True] * 3
    assert all("/Headers" in element["/A"] for element in elements if is_cell(element))
    heads = {element["/ID"] for element in elements if element.get("/S") == "/TH"}
    assert {head for element in elements if is_cell(element) for head in element["/A"]["/Headers"]} <= heads
    assert "Page1sur" in pdf_text(written["pdf"])


def test_squares_of_a_legend_have_the_colours_of_its_drawing():
    """On paper the squares are not drawings, so the style sheet repeats the colours."""
    sheet = files("veilleuse.collector.documents").joinpath("templates", "paper.css").read_text("utf-8")
    assert re.findall(r"\.s\d { background: (#\w+); }", sheet) == list(COLOURS)


def is_cell(element: Any) -> bool:
    """Return True for a data cell with attributes."""
    return element.get("/S") == "/TD" and "/A" in element


def flat(outline: list[Any]) -> list[Any]:
    """Return the bookmarks, each before its inner ones."""
    return [one for entry in outline for one in (flat(entry) if isinstance(entry, list) else [entry])]


def test_weasyprint_has_nothing_to_complain_about(caplog):
    """WeasyPrint reports no unknown property, missing alternative or failed load."""
    with caplog.at_level(logging.WARNING):
        renderer("pdf")(everything(language="en"))
    assert [record.getMessage() for record in caplog.records if record.name == "weasyprint"] == []


def test_a_missing_extra_is_one_clear_line(monkeypatch):
    """Without WeasyPrint the error says what to install; its exit code is 2."""
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(UsageError, match=r"install veilleuse\[pdf\]"):
        renderer("pdf")(everything())
    assert UsageError.exit_code == 2


def test_a_missing_library_is_one_clear_line(monkeypatch, tmp_path, capsys):
    """Without Pango the import of WeasyPrint raises OSError."""
    (tmp_path / "weasyprint.py").write_text(
        "print('banner'); raise OSError('cannot load library libpango-1.0-0')"
    )
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"libpango-1\.0-0"):
        renderer("pdf")(everything())
    assert capsys.readouterr().out == ""


def test_a_pdf_of_many_rows_has_few_pages():
    """A thousand rows were 149 pages; paper has the first of each table, and says where the others are."""
    many = everything(entities=[f"Collège {number}" for number in range(334)])
    content = renderer("pdf")(many)
    assert len(pypdf.PdfReader(io.BytesIO(content)).pages) <= 12
    assert "Collège13" in pdf_text(content)
    assert "Collège99" not in pdf_text(content)
    assert bare("962 autres lignes sont dans le classeur.") in pdf_text(content)


def test_rows_of_a_table_begin_below_its_two_lines():
    """Charts refer to these rows."""
    assert HEAD_ROWS == 2
