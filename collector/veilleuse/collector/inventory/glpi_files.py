# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads GLPI's lists as CSV, and its items as JSON, by the headings and field names that it uses.

JSON is the REST API's answer with expanded dropdowns, or an exported list with headings as keys. Headings are
in French or English.

Source: GLPI 9.5 to 11 (search options of Computer and Infocom; apirest.md); the French words are GLPI's own
translation. Columns that name people (user, group, technician, contact) are not read, nor is any column that
is not listed here.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.assets import AssetFields, add_asset
from veilleuse.collector.inventory.cells import folded
from veilleuse.collector.inventory.csv_table import CsvRow, CsvTable, table_of, text_of
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading, Refusal
from veilleuse.wire.values import explain_json

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


def read_csv(reading: InventoryReading, words: InventoryMapping, data: bytes, name: str, item: str) -> None:
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


def read_json(reading: InventoryReading, words: InventoryMapping, data: bytes, name: str, item: str) -> None:
    """Read an array of items, `{"data": [...]}`, or one array for each item type: `{"Computer": [...]}`.

    Raises UsageError for anything else.
    """
    try:
        document = json.loads(text_of(data, name))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is no JSON: {explain_json(error)}") from error
    for kind, things in _lists(document, name, item):
        reading.complete.add(kind)
        for number, thing in enumerate(things, 1):
            add_item(reading, words, thing, f"{name}, {ITEM_TYPES.get(kind, kind)} {number}", kind)


def _lists(document: Any, name: str, item: str) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        document = document["data"]
    if isinstance(document, list):
        yield item, document
        return
    ours = {theirs: kind for kind, theirs in ITEM_TYPES.items()}
    if not isinstance(document, dict) or not any(key in ours for key in document):
        raise UsageError(f'{name} holds no list of items: [...], {{"data": [...]}} or {{"Computer": [...]}}')
    for key, things in document.items():
        if key in ours:
            if not isinstance(things, list):
                raise UsageError(f"{name}: '{key}' must be an array of items")
            yield ours[key], things


def add_item(
    reading: InventoryReading,
    words: InventoryMapping,
    thing: Any,
    where: str,
    item: str,
    more: Mapping[str, str] | None = None,
) -> None:
    """Add one item to `reading`.

    Deleted items and templates are left out. `more`: fields known from elsewhere.
    """
    if not isinstance(thing, dict):
        reading.more(where)
        reading.refuse(Refusal(where, "", "this is no item", "an object with its fields is needed"))
        return
    if _is_set(thing.get("is_deleted")) or _is_set(thing.get("is_template")):
        return
    cells: dict[str, str] = {}
    headings: dict[str, str] = {"key": "id"}
    for key, value in thing.items():
        field = REST_FIELDS.get(key) or INFOCOM_FIELDS.get(key) or field_of(key, words.columns)
        if field is None or field in cells or isinstance(value, (dict, list)):
            continue
        if key.endswith("_id") and isinstance(value, int) and value:
            reading.more(where)
            what = f"a number ({value}) where a name is needed"
            reading.refuse(
                Refusal(where, key, what, "export with expand_dropdowns=true", (_json_key(item, thing),))
            )
            return
        cells[field], headings[field] = _json_text(key, value), key
    cells.update(more or {})
    add_asset(reading, words, AssetFields(where, item, keyed(item, cells), headings))


def _json_key(item: str, thing: Mapping[str, Any]) -> str:
    return key_of(item, str(thing.get("id", "")))


def _json_text(key: str, value: Any) -> str:
    if value is None or (key.endswith("_id") and value == 0):  # an empty dropdown
        return ""
    return plain(str(value))


def _is_set(value: Any) -> bool:
    return value in (1, True, "1")
