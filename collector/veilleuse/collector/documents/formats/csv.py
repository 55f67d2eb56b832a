# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""CSV after RFC 4180: UTF-8, comma, CRLF, numbers unrounded with a decimal point; no cell is a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Final

from veilleuse.collector.documents.document import Document, Value

_FORMULA: Final = re.compile(r"(^|[;,|\t\r\n])(\s*[=+\-@＝＋－＠])|^(?=[\t\r])")
"""Where a spreadsheet may begin a formula: a cell's start, or after what another country's spreadsheet takes for a border
of cells (a French one cuts at `;`, and knows no quotes within a cell). The wide forms are signs to East Asian ones."""


def render(document: Document) -> bytes:
    """All tabular tables in one, with the columns any row has; a value that does not exist is an empty cell."""
    rows = [row for name in document.tabular for row in document.tables[name]]
    columns = [column for column in document.columns if any(column in row for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns or document.columns)
    writer.writerows([cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue().encode()


def cell(value: Value | None) -> str:
    """One value as text. Where a spreadsheet would take a part of it for a formula, an apostrophe comes before."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        value = ";".join(f"{name}={share!r}" for name, share in value.items())
    return _FORMULA.sub(r"\1'\2", value)
