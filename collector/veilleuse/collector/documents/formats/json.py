# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes JSON: one object, absent keys for absent values, unrounded numbers."""

from __future__ import annotations

import json
from typing import Any

from veilleuse.collector.documents.document import SHOWN, Document, Text


def render(document: Document) -> bytes:
    """Return `{"report": …, "rows": […], "totals": […], "memo": […], …, "assumptions": […]}`, UTF-8."""
    whole: dict[str, Any] = {
        "report": {name: value for name, value in document.head.items() if value is not None},
        **{
            name: [{column: value for column, value in row.items() if column != SHOWN} for row in rows]
            for name, rows in document.tables.items()
        },
        "assumptions": [_in_one(text, document.language) for text in document.assumptions],
    }
    if document.method:
        whole["method"] = [_in_one(text, document.language) for text in document.method]
    return (json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def _in_one(text: Text, language: str) -> str:
    return text if isinstance(text, str) else text.get(language, next(iter(text.values()), ""))
