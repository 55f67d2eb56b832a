# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Check the HTML report in a real browser with axe-core, wide and narrow, in both languages, and print it."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import pypdf
import pytest

from tests.integration.test_accessibility import SCREENS, axe_says
from tests.support.peers import peer
from tests.support.report_files import bare
from tests.support.reported import attribution, everything
from veilleuse.collector.documents.document import Document, renderer

DOCUMENTS = {"yearly": everything, "attribution": lambda: attribution("nginx.service", "backup.service")}


def opened(document: Document) -> str:
    """Return the page without its content security policy, which would block axe-core."""
    content = renderer("html")(document).decode()
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", content)


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
    told = axe_says(opened(everything(language="en")), "", tmp_path, SCREENS["wide"])
    assert told["violations"] == []


def test_the_page_is_printed_across(tmp_path: Path):
    """The browser prints A4 landscape, without the menu, with the figures of the total."""
    (tmp_path / "page.html").write_bytes(renderer("html")(everything()))
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
    pages = pypdf.PdfReader(io.BytesIO((tmp_path / "page.pdf").read_bytes())).pages
    text = bare("".join(page.extract_text() for page in pages))
    assert pages[0].mediabox.width > pages[0].mediabox.height
    assert bare("3 635 kWh (3 272 à 3 999)") in text
    assert "Sommaire" not in text
