# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S14: no cell of an exported file is a formula or a link, whatever a name contains; numbers stay numbers."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.support.hostile import EVERYTHING, everywhere
from tests.support.peers import peer
from tests.support.processes import ran
from tests.support.report_files import sheet_rows, workbook
from tests.support.reported import attribution, small
from veilleuse.collector.documents.document import FORMATS, Document, Row, plain, renderer
from veilleuse.collector.reports.summaries.emissions import add_summary

OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
TYPE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}value-type"
NO_SPREADSHEET = ("json", "pdf")
"""Formats that LibreOffice Calc does not open as a table."""


def all_at_once() -> Document:
    """Return a table with one hostile name in each row, and numbers beside it."""
    rows: list[Row] = [
        {"entity": name, "site": name, "device_class": name, "kwh_total": number + 0.25, "n": number}
        for number, name in enumerate(EVERYTHING, 1)
    ]
    return Document(
        head={"kind": "emissions", "entity": EVERYTHING[0], "group_by": ["entity", "device_class"]},
        columns=("entity", "site", "device_class", "n", "kwh_total"),
        tables={"rows": rows, "totals": [{"kgco2e_total": 1.0, "kwh_total": 2.0}]},
        tabular=("rows",),
        assumptions=EVERYTHING,
        method=EVERYTHING,
        titles={"rows": "=1+1"},
        title="=1+1",
    )


@pytest.mark.promise("S14")
@pytest.mark.parametrize("large", [False, True])
def test_no_cell_of_a_workbook_is_a_formula(large, monkeypatch, figure):
    """openpyxl reads every hostile name as a string without invisible signs, and no link or title formula."""
    if large:
        monkeypatch.setattr("veilleuse.collector.documents.formats.xlsx.LARGE", 1)
    cells = 0
    documents = [
        all_at_once(),
        add_summary(all_at_once(), {}),
        attribution("=1+1", "@SUM(A1)"),
        *(small(everywhere(n)) for n in EVERYTHING[::3]),
    ]
    for document in documents:
        book = workbook(renderer("xlsx")(document))
        for sheet in book:
            for row in sheet.iter_rows():
                for cell in row:
                    cells += cell.value is not None
                    assert cell.data_type in ("n", "s", "b", "d", "inlineStr"), (sheet.title, cell.coordinate)
                    assert cell.hyperlink is None
        charts: Any = [chart for sheet in book for chart in getattr(sheet, "_charts", [])]
        assert all(chart.title.tx.strRef is None for chart in charts if chart.title and chart.title.tx)
    rows = sheet_rows(workbook(renderer("xlsx")(all_at_once()))["=1+1"])
    found = [
        row.get("entity", "").rstrip().replace("_x005F_", "_") for row in rows
    ]  # openpyxl keeps this escape in inline strings
    assert found == [plain(name).rstrip() for name in EVERYTHING]
    assert [(row["n"], row["kwh_total"]) for row in rows] == [
        (number, number + 0.25) for number in range(1, len(EVERYTHING) + 1)
    ]
    figure(
        f"0 formulas and links in {cells:,} cells of {len(documents)} workbooks{' (written row by row)' if large else ''}"
    )


@pytest.mark.promise("S14")
def test_no_cell_of_a_csv_begins_a_formula(figure):
    """No cell begins a formula, whether split at commas, semicolons, tabs or bars; numbers are numbers."""
    text = renderer("csv")(all_at_once()).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [float(row["kwh_total"]) for row in rows] == [n + 0.25 for n in range(1, len(EVERYTHING) + 1)]
    for separator in (",", ";", "\t", "|"):
        for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            for cell in line:
                number = re.fullmatch(r"[0-9]+(\.[0-9]+)?", cell)
                assert number or not re.match(r"\s*[=+\-@＝＋－＠]", cell), (separator, cell[:40])
    figure(f"0 formulas in CSV with {len(rows)} names, split in four ways")


@pytest.mark.promise("S14")
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in NO_SPREADSHEET])
def test_libreoffice_counts_no_formula(name, tmp_path, figure):
    """A real spreadsheet converts the file to 0 formula cells; the numbers are numbers."""
    office = str(peer("soffice"))
    (tmp_path / f"report.{name}").write_bytes(renderer(name)(add_summary(all_at_once(), {})))
    convert(office, tmp_path, f"report.{name}")
    root = ET.parse(tmp_path / "out" / "report.fods").getroot()
    cells = [cell for cell in root.iter(f"{OFFICE}table-cell") if cell.get(TYPE)]
    assert not [cell for cell in root.iter() if cell.get(f"{OFFICE}formula")]
    numbers = [cell for cell in cells if cell.get(TYPE) == "float"]
    assert name == "html" or len(numbers) >= 2 * len(EVERYTHING)  # the page has a decimal comma
    figure(f"0 formulas read by LibreOffice in {len(cells)} cells of {name.upper()}")


def convert(office: str, folder: Path, file: str) -> None:
    """Convert a file to OpenDocument, as XML, with a new profile."""
    done = ran(
        [
            office,
            f"-env:UserInstallation={(folder / 'profile').as_uri()}",
            "--headless",
            "--calc",
            "--convert-to",
            "fods",
            "--outdir",
            str(folder / "out"),
            str(folder / file),
        ],
        timeout=180,
    )
    assert (folder / "out" / "report.fods").exists(), done.stdout + done.stderr
