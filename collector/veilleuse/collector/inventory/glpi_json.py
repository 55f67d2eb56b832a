# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads GLPI's items as JSON: the API's answer with expanded dropdowns, or an exported list with headings as
keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory import glpi_files
from veilleuse.collector.inventory.assets import AssetFields, add_asset
from veilleuse.collector.inventory.csv_table import text_of
from veilleuse.collector.inventory.glpi_files import keyed
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading, Refusal


def read(reading: InventoryReading, words: InventoryMapping, data: bytes, name: str, item: str) -> None:
    """Read an array of items, `{"data": [...]}`, or one array for each item type: `{"Computer": [...]}`.

    Raises UsageError for anything else.
    """
    try:
        document = json.loads(text_of(data, name))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is no JSON: {str(error)[:120]}") from error
    for kind, things in _lists(document, name, item):
        reading.complete.add(kind)
        for number, thing in enumerate(things, 1):
            add_item(reading, words, thing, f"{name}, {glpi_files.ITEM_TYPES.get(kind, kind)} {number}", kind)


def _lists(document: Any, name: str, item: str) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        document = document["data"]
    if isinstance(document, list):
        yield item, document
        return
    ours = {theirs: kind for kind, theirs in glpi_files.ITEM_TYPES.items()}
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
        field = (
            glpi_files.REST_FIELDS.get(key)
            or glpi_files.INFOCOM_FIELDS.get(key)
            or glpi_files.field_of(key, words.columns)
        )
        if field is None or field in cells or isinstance(value, (dict, list)):
            continue
        if key.endswith("_id") and isinstance(value, int) and value:
            reading.more(where)
            what = f"a number ({value}) where a name is needed"
            reading.refuse(
                Refusal(where, key, what, "export with expand_dropdowns=true", (_key(item, thing),))
            )
            return
        cells[field], headings[field] = _text(key, value), key
    cells.update(more or {})
    add_asset(reading, words, AssetFields(where, item, keyed(item, cells), headings))


def _key(item: str, thing: Mapping[str, Any]) -> str:
    return glpi_files.key_of(item, str(thing.get("id", "")))


def _text(key: str, value: Any) -> str:
    if value is None or (key.endswith("_id") and value == 0):  # an empty dropdown
        return ""
    return glpi_files.plain(str(value))


def _is_set(value: Any) -> bool:
    return value in (1, True, "1")
