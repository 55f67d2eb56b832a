# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""CSV after RFC 4180: UTF-8, comma, CRLF, numbers unrounded with a decimal point; no cell is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Final

from veilleuse.collector.report import Document, Value

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


def render(document: Document) -> str:
    """All tabular tables in one, with the columns any row has; a value that does not exist is an empty cell."""
    rows = [row for name in document.tabular for row in document.tables[name]]
    columns = [column for column in document.columns if any(column in row for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns or document.columns)
    writer.writerows([cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def cell(value: Value | None) -> str:
    """One value as text. A text that a spreadsheet would take for a formula gets a leading apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return ";".join(f"{name}={share!r}" for name, share in value.items())
    return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
