# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""JSON: one object, keys absent where nothing exists, numbers unrounded."""

from __future__ import annotations

import json

from veilleuse.collector.report import Document


def render(document: Document) -> str:
    """`{"report": …, "rows": […], "totals": […], "memo": […], …, "assumptions": […]}`."""
    whole = {
        "report": {name: value for name, value in document.head.items() if value is not None},
        **{name: list(rows) for name, rows in document.tables.items()},
        "assumptions": list(document.assumptions),
    }
    return json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
