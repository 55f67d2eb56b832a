# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns the named cells of one device into an asset row, or into a refusal: which cell, why, what to do.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from veilleuse.collector.inventory.cells import (
    CellError,
    boolean_of,
    date_of,
    entity_of,
    folded,
    integer_of,
    is_blank,
    name_of,
    parent_of,
    shown,
)
from veilleuse.collector.inventory.mapping import DEVICE_CLASSES, InventoryMapping
from veilleuse.collector.inventory.rows import AssetRow, EntityRow, InventoryReading, Refusal, Value
from veilleuse.collector.model.inventory import PowerContext, ServerRole
from veilleuse.wire.pseudonym import normalise_serial, normalise_uuid
from veilleuse.wire.vocabulary import Population

MAXIMUM_DISPLAYS: Final = 32
MAXIMUM_RAW_CHARACTERS: Final = 256
"""Longest cell in the raw row that is kept, in characters."""
_SECRET: Final = frozenset({"serial", "uuid"})
"""Fields that are stored as pseudonyms only."""
_TEXT_FIELDS: Final = ("name", "inventory_number", "vendor", "model")
_CHOICES: Final[Mapping[str, frozenset[str]]] = {
    "population": frozenset(one.value for one in Population),
    "power_context": frozenset(one.value for one in PowerContext),
    "server_role": frozenset(one.value for one in ServerRole),
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AssetFields:
    """One device as a file describes it: text by field."""

    where: str
    item: str
    cells: Mapping[str, str]
    headings: Mapping[str, str]
    """Field → heading of its column in the file."""
    by_hardware: bool = False
    """Same as AssetRow.by_hardware."""


class _Refused(Exception):
    def __init__(self, field: str, error: CellError) -> None:
        super().__init__(field)
        self.field = field
        self.error = error


def add_asset(reading: InventoryReading, words: InventoryMapping, found: AssetFields) -> None:
    """Add the device to `reading`, as an asset or as a refusal.

    Raises UsageError when there are too many rows.
    """
    reading.more(found.where)
    try:
        values = _values(reading, words, found)
        key = _cell(found, "key", lambda cell: _said(cell, lambda said: name_of(said, 200)))
    except _Refused as refused:
        column = found.headings.get(refused.field, refused.field)
        what, remedy = refused.error.what, refused.error.remedy
        reading.refuse(Refusal(found.where, column, what, remedy, _keys(found)))
        return
    if not (key or values.get("inventory_number") or values.get("serial") or values.get("uuid")):
        reading.refuse(
            Refusal(
                found.where,
                found.headings.get("key", "key"),
                "nothing to recognise it by next time",
                "export its ID, inventory number or serial number too",
            )
        )
        return
    raw = {
        shown(found.headings.get(name, name)): cell[:MAXIMUM_RAW_CHARACTERS]
        for name, cell in found.cells.items()
        if name not in _SECRET and cell
    }
    reading.assets.append(AssetRow(found.where, found.item, key, values, raw, found.by_hardware))


def _keys(found: AssetFields) -> tuple[str, ...]:
    """Return the keys by which a refused row may be known: such an asset is not absent from the file."""
    told = [found.cells.get(name, "").strip()[:200] for name in ("key", "inventory_number")]
    serial = normalise_serial(found.cells.get("serial", "")[:200])
    return tuple(one for one in (*told, serial) if one)


def _values(reading: InventoryReading, words: InventoryMapping, found: AssetFields) -> dict[str, Value]:
    values: dict[str, Value] = {}
    cells = found.cells
    for name in _TEXT_FIELDS:
        if name in cells:
            values[name] = _cell(found, name, lambda cell: _said(cell, name_of))
    for name, normalised in (("serial", normalise_serial), ("uuid", normalise_uuid)):
        if name in cells:
            values[name] = normalised(_cell(found, name, name_of)) or ""
    for name in ("in_service_on", "out_of_service_on"):
        if name in cells:
            values[name] = _cell(found, name, lambda cell: date_of(cell, day_first=words.day_first))
    if "refurbished" in cells:
        values["refurbished"] = _cell(
            found, "refurbished", lambda cell: None if is_blank(cell) else boolean_of(cell)
        )
    if "displays" in cells:
        values["displays"] = _cell(
            found, "displays", lambda cell: None if is_blank(cell) else integer_of(cell, MAXIMUM_DISPLAYS)
        )
    for name, allowed in _CHOICES.items():
        if name in cells:
            values[name] = _cell(found, name, lambda cell, of=allowed: _choice(cell, of))  # type: ignore[misc]
    _place(reading, words, found, values)
    _status(reading, words, found, values)
    _class(reading, words, found, values)
    _require_order(values)
    return values


def _place(
    reading: InventoryReading, words: InventoryMapping, found: AssetFields, values: dict[str, Value]
) -> None:
    entity = _cell(found, "entity", lambda cell: _said(cell, entity_of))
    if entity or words.default_entity:
        values["entity"] = entity or words.default_entity
    elif "entity" in found.cells:
        values["entity"] = ""
    if "site" in found.cells:
        site = _cell(found, "site", name_of)
        known = not site or site in words.sites
        values["site"] = site if known else ""
        if not known:
            reading.not_known("site", site)
    elif "location" in found.cells:
        location = _cell(found, "location", lambda cell: name_of(cell, 512))
        site_of_place = words.site(location) if location and not is_blank(location) else ""
        values["site"] = site_of_place or ""
        if site_of_place is None:
            reading.not_known("location", location)
        elif site_of_place and site_of_place not in words.sites:  # of a rule
            values["site"] = ""
            reading.not_known("site", site_of_place)


def _status(
    reading: InventoryReading, words: InventoryMapping, found: AssetFields, values: dict[str, Value]
) -> None:
    if "status" not in found.cells:
        return
    status = _cell(found, "status", name_of)
    is_out = words.is_out("" if is_blank(status) else status)
    values["is_out"] = bool(is_out)
    if is_out is None:
        reading.not_known("status", status)


def _class(
    reading: InventoryReading, words: InventoryMapping, found: AssetFields, values: dict[str, Value]
) -> None:
    """Return the device class from its own column, else from type and model."""
    if "device_class" in found.cells:
        values["device_class"] = (
            _cell(found, "device_class", lambda cell: _choice(cell, DEVICE_CLASSES)) or "unknown"
        )
        return
    kind = _cell(found, "type", name_of)
    kind = "" if is_blank(kind) else kind
    device_class, is_known = words.device_class(found.item, kind, str(values.get("model") or ""))
    machine = _cell(found, "vm", name_of)
    if folded(machine) not in ("", "physical"):
        device_class, is_known = "virtual_machine", True
    if is_known or "type" in found.cells:
        values["device_class"] = device_class
    if not is_known:
        model = str(values.get("model") or "")
        reading.not_known("type", f"{found.item}: type '{kind}', model '{model}'")


def _require_order(values: Mapping[str, Value]) -> None:
    into, out = values.get("in_service_on"), values.get("out_of_service_on")
    if into and out and str(out) < str(into):
        what = f"out of service on {out}, before it came into service on {into}"
        raise _Refused("out_of_service_on", CellError(what, "correct one of the two days"))


def _choice(cell: str, allowed: frozenset[str]) -> str:
    if is_blank(cell):
        return ""
    word = name_of(cell).lower().replace(" ", "_").replace("-", "_")
    if word not in allowed:
        raise CellError(f"'{name_of(cell)}' is none of the words for it", f"use {', '.join(sorted(allowed))}")
    return word


def _said(cell: str, parse: Callable[[str], str]) -> str:
    """Return the text of a cell; blank for `-` and the other words that lists write for nothing."""
    return "" if is_blank(cell) else parse(cell)


def _cell(found: AssetFields, name: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(found.cells.get(name, ""))
    except CellError as error:
        raise _Refused(name, error) from error


def add_entities(reading: InventoryReading, words: InventoryMapping) -> None:
    """Add what the mapping's rules say of every named entity and of its parents."""
    told = {row.name for row in reading.entities}
    named = dict.fromkeys(str(row.values["entity"]) for row in reading.assets if row.values.get("entity"))
    every: dict[str, None] = {}
    for name in (*named, *told):
        path: str | None = name
        while path is not None and path not in every:
            every[path] = None
            path = parent_of(path)
    for name in every:
        rules = [rule for rule in words.entities if rule.pattern.match(folded(name))]
        site = next((rule.site for rule in reversed(rules) if rule.site is not None), None)
        context = next((rule.power_context for rule in reversed(rules) if rule.power_context), None)
        population = next((rule.population for rule in reversed(rules) if rule.population), None)
        if site and site not in words.sites:
            reading.not_known("site", site)
            site = None
        if site is not None or context or population or name not in told:
            reading.entities.append(EntityRow("mapping", name, site, context, population))
