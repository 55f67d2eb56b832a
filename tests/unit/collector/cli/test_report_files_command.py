# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse report … --format F --language L -o FILE` on a real data directory."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.machines import make
from tests.support.report_files import Page, workbook
from veilleuse.collector import clock
from veilleuse.collector.cli.main import run
from veilleuse.collector.documents.document import FORMATS
from veilleuse.collector.settings import read_settings

PERIOD = ("--from", "2026-01-01", "--to", "2027-01-01")
BEGINNINGS = {"xlsx": b"PK", "json": b"{", "html": b"<!doctype html>", "pdf": b"%PDF-1.7"}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a data directory without machines that commands find."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("VEILLEUSE__STORE__FREE_BYTES_MINIMUM", "0")
    make(read_settings(None), "hq")
    return tmp_path


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_each_format_is_written_to_a_file(form: str, directory: Path):
    """Even an empty report is a file of its format."""
    file = directory / f"report.{form}"
    assert run(["report", "emissions", *PERIOD, "--format", form, "-o", str(file)]) == 0
    assert file.read_bytes().startswith(BEGINNINGS.get(form, b""))


def test_the_language_is_asked_for(directory: Path):
    """--language chooses the language of HTML and XLSX."""
    for language, sheet in (("fr", "Synthèse"), ("en", "Summary")):
        for form in ("html", "xlsx"):
            file = directory / f"{language}.{form}"
            arguments = ["report", "emissions", *PERIOD, "--format", form, "--language", language]
            assert run([*arguments, "-o", str(file)]) == 0
        assert Page((directory / f"{language}.html").read_bytes()).elements[0][1] == {"lang": language}
        assert workbook((directory / f"{language}.xlsx").read_bytes()).sheetnames[0] == sheet


@pytest.mark.parametrize(
    ("report", "days_ago"), [("emissions", 1), ("reen", 1), ("indicators", 0), ("indicative", 0)]
)
def test_a_year_under_way_says_until_when_its_figures_go(report: str, days_ago: int, directory: Path):
    """On 28 November the title promised figures until 1 January.
    Fleet figures go until yesterday, sums of machines until now."""
    now = clock.today()
    until, first = now - timedelta(days=days_ago), now.replace(month=1, day=1) - timedelta(days=1)
    period = ["--from", first.replace(day=1).isoformat(), "--to", f"{now.year + 1}-01-01"]
    for form in ("json", "html"):
        file = directory / f"report.{form}"
        assert run(["report", report, *period, "--format", form, "--language", "en", "-o", str(file)]) == 0
    head = json.loads((directory / "report.json").read_text())["report"]
    assert (head["to"], head["under_way_until"]) == (f"{now.year + 1}-01-01", until.isoformat())
    page = (directory / "report.html").read_text()
    (title,) = re.findall("<title>(.*)</title>", page)
    said = f"from 1 December {first.year} until {until.day} {until:%B %Y}, under way"
    assert said in title
    assert said[1:] in re.findall('<p class="when">(.*)</p>', page)[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--language", "de"], "unknown language 'de': use fr, en"),
        (["--format", "ods"], "unknown format 'ods'"),
        (["--format", "html", "-o", "/tmp"], "is a directory"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]):
    """Exit code 2, and nothing on standard output."""
    assert run(["report", "emissions", *PERIOD, *arguments]) == 2
    said = capsys.readouterr()
    assert line in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize("report", ["emissions", "indicators", "reen", "indicative"])
def test_a_period_to_come_is_refused(report: str, capsys: pytest.CaptureFixture[str]):
    """Only the emissions report refused it; the others wrote rows of nothing."""
    year = clock.today().year + 1
    assert run(["report", report, "--from", f"{year}-01-01", "--to", f"{year}-02-01"]) == 2
    assert f"--from {year}-01-01 is in the future" in capsys.readouterr().err


def test_a_pdf_without_weasyprint_is_one_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The error says what to install, with exit code 2 and no file."""
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    file = directory / "report.pdf"
    assert run(["report", "emissions", *PERIOD, "--format", "pdf", "-o", str(file)]) == 2
    assert "install veilleuse[pdf]" in capsys.readouterr().err
    assert not file.exists()
