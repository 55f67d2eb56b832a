# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes assets as the plain CSV that an import reads. No cell can be a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Final

from veilleuse.collector.model.inventory import Asset

_NAMES: Final = ("source", "key", "name", "inventory_number")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")
"""Characters that may begin a formula in a spreadsheet.

The import removes the apostrophe that guards them.
"""
COLUMNS: Final = (
    "asset", "device_class", "entity", "site", "population", "power_context", "vendor", "model", "in_service_on",
    "out_of_service_on", "refurbished", "displays", "server_role", "absent_since", "matched",
)  # fmt: skip


def csv_of(assets: Iterable[Asset], names: Mapping[str, Sequence[str]]) -> str:
    """Write one line for each asset.

    `names`: asset number → source, key, name and inventory number. When it is empty, these columns are left
    out.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*(_NAMES if names else ()), *COLUMNS])
    for one in assets:
        called = names.get(str(one.asset_id), ("",) * len(_NAMES)) if names else ()
        writer.writerow([guarded(cell) for cell in (*called, *_cells(one))])
    return text.getvalue()


def guarded(cell: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet might execute."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _cells(one: Asset) -> tuple[str, ...]:
    place = one.placements[-1]
    return (
        str(one.asset_id),
        one.device_class,
        place.entity,
        place.site,
        one.population.value if one.population else "",
        one.power_context.value,
        one.vendor,
        one.model,
        _day(one.in_service_on),
        _day(one.out_of_service_on),
        "" if one.refurbished is None else "yes" if one.refurbished else "no",
        "" if one.displays is None else str(one.displays),
        one.server_role.value if one.server_role else "",
        _day(one.absent_since),
        "yes" if one.host_id is not None else "no",
    )


def _day(day: date | None) -> str:
    return "" if day is None else day.isoformat()
