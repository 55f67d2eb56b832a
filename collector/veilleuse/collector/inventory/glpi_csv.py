# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A list exported from GLPI as CSV: French or English headings, `;` or `,`, UTF-8 or Latin-1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory import glpi_files
from veilleuse.collector.inventory.assets import Found, add_asset
from veilleuse.collector.inventory.csv_table import Row, Table, table_of
from veilleuse.collector.inventory.mapping import Words
from veilleuse.collector.inventory.rows import Reading, Refusal

MARKS: Final = frozenset({"serial", "inventory_number", "id", "entity", "model", "vendor"})
"""At least three of these make a list of GLPI."""


def read(reading: Reading, words: Words, data: bytes, name: str, item: str) -> None:
    """All rows of a list of such items. Raises UsageError when it is none."""
    table = table_of(data, name)
    fields = fields_of(table, words.columns)
    if not {"key", "id", "serial", "inventory_number"} & set(fields.values()):
        raise UsageError(
            f"{name} has none of the columns ID, Inventory number, Serial number (ID, Numéro d'inventaire, Numéro de série): "
            "add one to the list in GLPI before exporting it, or name yours in a mapping"
        )
    for place, heading in enumerate(table.columns):
        if place not in fields:
            reading.not_known("column", heading)
    reading.complete.add(item)
    for row in table.rows:
        if refusal := wrong_width(table, row):
            reading.more(table.where(row))
            reading.refuse(refusal)
            continue
        cells = {field: row.cells[place] for place, field in fields.items() if place < len(row.cells)}
        headings = {field: table.columns[place] for place, field in fields.items()}
        add_asset(reading, words, Found(table.where(row), item, keyed(item, cells), headings | {"key": "ID"}))


def keyed(item: str, cells: dict[str, str]) -> dict[str, str]:
    """The cells with GLPI's number as our key."""
    number = cells.pop("id", "")
    if number and "key" not in cells:
        cells["key"] = glpi_files.key_of(item, number)
    return cells


def fields_of(table: Table, more: Mapping[str, str]) -> dict[int, str]:
    """Column → field; the first column that is a field counts."""
    found: dict[int, str] = {}
    for place, heading in enumerate(table.columns):
        field = glpi_files.field_of(heading, more)
        if field is not None and field not in found.values():
            found[place] = field
    return found


def fits(table: Table, more: Mapping[str, str]) -> bool:
    """Whether the heading is one of GLPI's lists."""
    return len(MARKS & set(fields_of(table, more).values())) >= 3


def wrong_width(table: Table, row: Row) -> Refusal | None:
    """A row that was cut, or has a separator too many; empty cells at its end are nothing."""
    cells = list(row.cells)
    while len(cells) > len(table.columns) and not cells[-1].strip():
        cells.pop()
    if len(cells) == len(table.columns):
        return None
    return Refusal(
        table.where(row),
        "",
        f"{len(cells)} cells, and the heading has {len(table.columns)}",
        "a separator or a quote is missing, or one too many: export it again",
    )
