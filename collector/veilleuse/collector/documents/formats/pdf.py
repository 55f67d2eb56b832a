# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes PDF: the summary of a report on a few pages of A4, tagged for screen readers (PDF/UA-1), by
WeasyPrint. A workbook has every row.

WeasyPrint is the extra `pdf`, imported when a PDF is asked for. Nothing is fetched, from the network or from
a file: the page has no address, and the fetcher refuses all.
"""

from __future__ import annotations

import hashlib
from contextlib import redirect_stdout
from typing import Any, Final, NoReturn

from veilleuse.collector.documents.document import Document
from veilleuse.collector.documents.formats.html import ON_PAPER_TOO, page
from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import UsageError

INSTALL: Final = "a PDF needs WeasyPrint: install veilleuse[pdf]"
LIBRARY: Final = (
    "a PDF needs the library Pango, which is not here: install Debian's libpango-1.0-0, libpangoft2-1.0-0 and "
    "libharfbuzz-subset0"
)
_PAGE_NUMBERS: Final = (
    '@page {{ @bottom-right {{ content: "{0}" counter(page) "{1}" counter(pages) "{2}"; '
    'font: 8px "DejaVu Sans", sans-serif; color: #4a5666; }} }}'
)


def render(document: Document) -> bytes:
    """Return the file.

    Raises UsageError when WeasyPrint or its library is not installed.
    """
    weasyprint = _weasyprint()
    text = page(document, (*ON_PAPER_TOO, "paper.css"), paper=True)
    before, between, after = words(document.language)("page.page_of").split("%s")
    numbers = _PAGE_NUMBERS.format(before, between, after)
    found: bytes = weasyprint.HTML(string=text, url_fetcher=_refuse, base_url=None).write_pdf(
        stylesheets=[weasyprint.CSS(string=numbers, url_fetcher=_refuse)],
        pdf_variant="pdf/ua-1",
        pdf_identifier=hashlib.sha256(text.encode()).digest()[:16],
    )
    return found


def _refuse(url: str, *_: object, **__: object) -> NoReturn:
    """Refuse every fetch: a report contains no address of ours."""
    raise ValueError(f"a report fetches nothing, and not {url[:100]!r}")


def _weasyprint() -> Any:
    try:
        with redirect_stdout(None):  # its own advice, in English, about a library that is missing
            import weasyprint
    except ImportError as error:
        raise UsageError(INSTALL) from error
    except OSError as error:  # the import opens shared libraries
        raise UsageError(LIBRARY) from error
    return weasyprint
