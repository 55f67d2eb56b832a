# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Knows GLPI's words: headings of its lists in French and English, and fields of its REST API.

Source: GLPI 9.5 to 11 (search options of Computer and Infocom; apirest.md); the French words are GLPI's own
translation. Columns that name people (user, group, technician, contact) are not read, nor is any column that
is not listed here.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.assets import AssetFields, add_asset
from veilleuse.collector.inventory.cells import folded
from veilleuse.collector.inventory.csv_table import CsvRow, CsvTable, table_of
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading, Refusal

SOURCE: Final = "glpi"
"""Name of the inventory. A list with IDs and the REST API know an asset by the same key."""
ITEM_TYPES: Final[Mapping[str, str]] = {
    "computer": "Computer",
    "monitor": "Monitor",
    "network_equipment": "NetworkEquipment",
    "printer": "Printer",
    "phone": "Phone",
    "peripheral": "Peripheral",
}
"""Our item → GLPI's item type."""

_HEADINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("ID", "Identifiant"),
    "name": ("Name", "Nom"),
    "entity": ("Entity", "Entité", "Entities", "Entité - Nom complet"),
    "status": ("Status", "Statut"),
    "vendor": ("Manufacturer", "Fabricant"),
    "serial": ("Serial number", "Numéro de série"),
    "inventory_number": ("Inventory number", "Numéro d'inventaire"),
    "type": ("Type",),
    "model": ("Model", "Modèle"),
    "location": ("Location", "Lieu"),
    "uuid": ("UUID",),
    "in_service_on": ("Startup date", "Date de mise en service"),
    "out_of_service_on": ("Decommission date", "Date de réforme"),
    "displays": ("Number of monitors", "Nombre de moniteurs"),
}
"""Financial columns stand alone, or after their group's name and a dash."""
_GROUPS: Final = (
    "Financial and administrative information",
    "Informations financières et administratives",
    "Information financières et administratives",
)
HEADINGS: Final[Mapping[str, str]] = {
    folded(heading): field for field, headings in _HEADINGS.items() for heading in headings
}
"""Folded heading → field."""
_PREFIXES: Final = tuple(folded(group) + " " for group in _GROUPS)

REST_FIELDS: Final[Mapping[str, str]] = {
    "id": "id",
    "name": "name",
    "entities_id": "entity",
    "states_id": "status",
    "manufacturers_id": "vendor",
    "serial": "serial",
    "otherserial": "inventory_number",
    "locations_id": "location",
    "uuid": "uuid",
    **{f"{kind.lower()}types_id": "type" for kind in ITEM_TYPES.values()},
    **{f"{kind.lower()}models_id": "model" for kind in ITEM_TYPES.values()},
}
"""Fields of an item whose dropdowns are expanded."""
INFOCOM_FIELDS: Final[Mapping[str, str]] = {
    "use_date": "in_service_on",
    "decommission_date": "out_of_service_on",
}


def field_of(heading: str, more: Mapping[str, str]) -> str | None:
    """Return the field of a heading; None: not read. `more`: the columns of the user's mapping."""
    word = folded(heading)
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return more.get(folded(heading)) or HEADINGS.get(word)


def plain(text: str) -> str:
    """Decode a text of GLPI's database, which stores < > & as entities up to version 10."""
    return html.unescape(text) if "&" in text else text


def key_of(item: str, number: str) -> str:
    """Return our key of an item; blank without a number."""
    number = number.replace(" ", "").replace("\u202f", "").replace("\u00a0", "")
    return f"{ITEM_TYPES.get(item, item)}:{number}" if number.isascii() and number.isdigit() else ""


MARKS: Final = frozenset({"serial", "inventory_number", "id", "entity", "model", "vendor"})
"""A heading with at least three of these is a list of GLPI."""


def read(reading: InventoryReading, words: InventoryMapping, data: bytes, name: str, item: str) -> None:
    """Read all rows of a list of such items. Raises UsageError when the file is no such list."""
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
        add_asset(
            reading, words, AssetFields(table.where(row), item, keyed(item, cells), headings | {"key": "ID"})
        )


def keyed(item: str, cells: dict[str, str]) -> dict[str, str]:
    """Return the cells with our key instead of GLPI's number."""
    number = cells.pop("id", "")
    if number and "key" not in cells:
        cells["key"] = key_of(item, number)
    return cells


def fields_of(table: CsvTable, more: Mapping[str, str]) -> dict[int, str]:
    """Return column → field; the first column of a field counts."""
    found: dict[int, str] = {}
    for place, heading in enumerate(table.columns):
        field = field_of(heading, more)
        if field is not None and field not in found.values():
            found[place] = field
    return found


def fits(table: CsvTable, more: Mapping[str, str]) -> bool:
    """Tell whether the heading is one of GLPI's lists."""
    return len(MARKS & set(fields_of(table, more).values())) >= 3


def wrong_width(table: CsvTable, row: CsvRow) -> Refusal | None:
    """Refuse a row with too few or too many cells; empty cells at its end do not count."""
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
