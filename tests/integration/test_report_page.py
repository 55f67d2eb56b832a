# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Check the HTML report in a real browser with axe-core, wide and narrow, in both languages, and print it."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pypdf
import pytest

from tests.integration.test_accessibility import SCREENS, axe_says
from tests.support.peers import peer
from tests.support.report_files import bare
from tests.support.reported import attribution, everything
from tests.support.summarised import emissions
from veilleuse.collector.documents.document import Document, renderer
from veilleuse.collector.reports.summaries.emissions import add_summary

ENTITIES = tuple(f"Métropole > Collèges > Collège {number:03}" for number in range(25))


def summarised(language: str = "fr") -> Document:
    """Return a report of 25 entities, with its summary."""
    return add_summary(emissions(ENTITIES, ("laptop", "monitor"), language=language), {})


DOCUMENTS: dict[str, Callable[[], Document]] = {
    "yearly": everything,
    "summarised": summarised,
    "attribution": lambda: attribution("nginx.service", "backup.service"),
}


def opened(document: Document) -> str:
    """Return the page without its content security policy, which would block axe-core, and with everything
    unfolded: what is folded is not read."""
    content = renderer("html")(document).decode()
    unfolded = content.replace("<details>", "<details open>")
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", unfolded)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_no_violation(kind: str, screen: str, tmp_path: Path):
    """The page violates no rule of WCAG 2.1 AA and axe's good practice, and never scrolls sideways."""
    told = axe_says(opened(DOCUMENTS[kind]()), "", tmp_path, SCREENS[screen])
    assert told["violations"] == []
    assert told["passes"] > 15
    assert told["overflow"] <= 0
    assert told["dark"] == ("dark" in screen)


def test_no_violation_in_english(tmp_path: Path):
    """The English page violates no rule either."""
    for document in (everything(language="en"), summarised("en")):
        told = axe_says(opened(document), "", tmp_path, SCREENS["wide"])
        assert told["violations"] == []


def test_the_page_is_printed_across(tmp_path: Path):
    """The browser prints A4 landscape, with the figures of the total."""
    pages = printed(everything(), tmp_path)
    text = bare("".join(page.extract_text() for page in pages))
    assert pages[0].mediabox.width > pages[0].mediabox.height
    assert bare("3 635 kWh (3 272 à 3 999)") in text


def test_what_folds_is_printed_but_the_whole_tables(tmp_path: Path):
    """The summary and its parts are on paper; thousands of cells of the whole tables are not."""
    pages = printed(summarised(), tmp_path)
    text = bare("".join(page.extract_text() for page in pages))
    assert len(pages) <= 12
    for said in ("Ce qui émet le plus", "Par entité", "et 5 autres", "Hypothèses et limites"):
        assert bare(said) in text, said
    assert bare("Dictionnaire des colonnes") not in text


def printed(document: Document, tmp_path: Path) -> Sequence[pypdf.PageObject]:
    """Return the pages that Chromium prints."""
    (tmp_path / "page.html").write_bytes(renderer("html")(document))
    subprocess.run(
        [
            peer("chromium"),
            "--headless",
            "--no-sandbox",  # it opens only this file, and root has no sandbox
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={tmp_path / 'page.pdf'}",
            (tmp_path / "page.html").as_uri(),
        ],
        capture_output=True,
        check=True,
        timeout=120,
    )
    return pypdf.PdfReader(io.BytesIO((tmp_path / "page.pdf").read_bytes())).pages
