# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""GLPI's words: headings of its lists in French and English, and fields of its REST API. Source: GLPI 9.5 to 11 (search options
of Computer, Infocom; apirest.md); the French ones are those of its own translation.

Columns that name people (user, group, technician, contact) are not read at all, nor is any column that is not listed here.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Final

from veilleuse.collector.inventory.cells import folded

SOURCE: Final = "glpi"
"""One inventory, whatever way it comes: a list with IDs and the REST API know an asset by the same key."""
ITEM_TYPES: Final[Mapping[str, str]] = {
    "computer": "Computer",
    "monitor": "Monitor",
    "network_equipment": "NetworkEquipment",
    "printer": "Printer",
    "phone": "Phone",
    "peripheral": "Peripheral",
}
"""Ours → GLPI's."""

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
"""Financial columns stand alone or behind their group's name, with a dash."""
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
"""Of an item, dropdowns expanded."""
INFOCOM_FIELDS: Final[Mapping[str, str]] = {
    "use_date": "in_service_on",
    "decommission_date": "out_of_service_on",
}


def field_of(heading: str, more: Mapping[str, str]) -> str | None:
    """The field of a list's heading; `more`: of the user's mapping. None: not read."""
    word = folded(heading)
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return more.get(folded(heading)) or HEADINGS.get(word)


def plain(text: str) -> str:
    """A text of GLPI's database, which keeps < > & as entities up to version 10."""
    return html.unescape(text) if "&" in text else text


def key_of(item: str, number: str) -> str:
    """How an item is known here; blank without its number."""
    number = number.replace(" ", "").replace("\u202f", "").replace("\u00a0", "")
    return f"{ITEM_TYPES.get(item, item)}:{number}" if number.isascii() and number.isdigit() else ""
