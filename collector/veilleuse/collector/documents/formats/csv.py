# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes CSV after RFC 4180: UTF-8, comma, CRLF, unrounded numbers with a decimal point; no cell is a
formula.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Final

from veilleuse.collector.documents.document import Document, Value, with_withheld

SIGNS: Final = "=+-@＝＋－＠"
"""Signs that begin a formula of a spreadsheet; those of East Asia take the full-width forms too."""
_FORMULA: Final = re.compile(rf"(^|[;,|\t\r\n])(\s*[{re.escape(SIGNS)}])|^(?=[\t\r])")
"""Places where a spreadsheet may start a formula: the start of a cell, or after a separator of another
locale.

A French spreadsheet cuts at `;`, and ignores quotes within a cell.
"""


def render(document: Document) -> bytes:
    """Write all tabular tables and `withheld` as one, with every column in use; absent values are empty."""
    document = with_withheld(document)
    rows = [row for name in document.tabular for row in document.tables[name]]
    used = dict.fromkeys(column for name in document.tabular for column in document.columns_of(name))
    declared = [column for column in document.columns if column in used]
    columns = [*declared, *(column for column in used if column not in declared)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns or document.columns)
    writer.writerows([cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue().encode()


def cell(value: Value | None) -> str:
    """Write one value. An apostrophe comes before a part that a spreadsheet would take for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        value = ";".join(f"{name}={share!r}" for name, share in value.items())
    return _FORMULA.sub(r"\1'\2", value)
