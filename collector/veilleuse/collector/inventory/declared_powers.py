# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads powers that GLPI's plugin Carbon and OCS Inventory's plugin GreenIT hold, as class defaults (pure).

The forms are those of docs/inventory.md, from the plugins' source: GLPI carbon at cdca124 (2026-05-13), OCS
GreenIT at 08d1b78 (2025-03-20) and its service at 2fcfd47 (2025-09-08).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.cells import CellError, decimal_of, folded, integer_of, is_blank, tidy
from veilleuse.collector.inventory.csv_table import CsvTable, table_of, text_of
from veilleuse.collector.inventory.glpi_files import ITEM_TYPES, fields_of, wrong_width
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading, Refusal
from veilleuse.collector.model.inventory import (
    MINUTES_PER_DAY,
    MOST_MILLIWATTS,
    DeclaredPower,
    InventoryClass,
)
from veilleuse.wire.units import MILLIWATTS_PER_WATT
from veilleuse.wire.values import explain_json
from veilleuse.wire.vocabulary import DeviceClass

CARBON: Final = "glpi-carbon"
GREENIT: Final = "ocs-greenit"
POWER_FORMATS: Final = (CARBON, GREENIT)
POWER_ITEMS: Final = ("computer", "monitor", "network_equipment")
"""Kinds of item that GLPI's plugin Carbon knows a power of."""
UNITS: Final[Mapping[str, int]] = {"J": 1, "Wh": 3_600}
"""Unit of GreenIT's consumption → joules."""
ALWAYS_ON: Final = frozenset(
    {
        DeviceClass.SERVER.value,
        InventoryClass.SWITCH.value,
        InventoryClass.WIFI_ACCESS_POINT.value,
        InventoryClass.STORAGE.value,
        InventoryClass.IP_PHONE.value,
        InventoryClass.OTHER.value,
    }
)
"""Classes that are on all year; of the others a declared power needs its time on."""
BAND: Final = 10
"""A power is refused below the usual one ÷ BAND, and above the usual one × BAND."""
_POWER: Final = ("power consumption", "puissance consommee")
_GREENIT: Final = ("type", "machines", "consumption", "uptime")


class _Declared(NamedTuple):
    milliwatts: int
    weight: int
    """Devices, or time."""
    items: int


@dataclass
class PowerReading:
    """What files declare."""

    source: str
    file: str
    usual: Mapping[str, int] = field(default_factory=dict)
    """Device class → usual power while on, milliwatts. Of other classes a power has one wide band."""
    counted: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Device or type → where its power was read."""
    declared: dict[str, list[_Declared]] = field(default_factory=dict)
    """Device class → its powers."""
    without: int = 0
    """Rows without a power, of virtual machines, or that GLPI ignores."""
    rows: InventoryReading = field(default_factory=lambda: InventoryReading("powers"))
    """Rows counted, refused and with unknown words."""


@dataclass(frozen=True, slots=True)
class PowerOutcome:
    """What becomes of the powers of one class."""

    device_class: str
    power: DeclaredPower | None
    """None: it is not taken."""
    milliwatts: int
    items: int
    why: str = ""
    """Why it is not taken, and what to do."""


def read_carbon(
    reading: PowerReading, words: InventoryMapping, data: bytes, name: str, item: str, heading: str | None
) -> None:
    """Read a list of GLPI with the column of its plugin Carbon, or types of the plugin as JSON.

    `heading`: name of the column, where it is another. Raises UsageError for another file.
    """
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        _read_types(reading, words, data, name)
        return
    table = table_of(data, name)
    power = _column(table, (folded(heading),) if heading else _POWER)
    fields = {field: place for place, field in fields_of(table, words.columns).items()}
    if power is None or "type" not in fields:
        lacking = "Type" if power is not None else heading or "Power consumption (Puissance consommée)"
        raise UsageError(
            f"{name} has no column {lacking}: add it to the list in GLPI before exporting it; --column names the power's"
        )
    for row in table.rows:
        reading.rows.more(where := table.where(row))
        if refusal := wrong_width(table, row):
            reading.rows.refuse(refusal)
            continue
        kind, model = (row.cells[fields[one]] if one in fields else "" for one in ("type", "model"))
        number = tidy(row.cells[fields["id"]]) if "id" in fields else ""
        key = ("device", item, number) if number else None
        place = where, table.columns[power]
        _add_watts(reading, words, place, (item, tidy(kind), tidy(model)), row.cells[power], key)


def read_greenit(
    reading: PowerReading, words: InventoryMapping, data: bytes, name: str, unit: str, k: int
) -> None:
    """Read sums of GreenIT by type. `k`: machines of a sum, at least. Raises UsageError for another file."""
    table = table_of(data, name)
    places = {one: _column(table, (one,)) for one in _GREENIT}
    if lacking := [one for one, place in places.items() if place is None]:
        raise UsageError(
            f"{name} has no column {', '.join(lacking)}: export it with the query of docs/inventory.md"
        )
    for row in table.rows:
        reading.rows.more(where := table.where(row))
        if refusal := wrong_width(table, row):
            reading.rows.refuse(refusal)
            continue
        cells = {one: row.cells[place] for one, place in places.items() if place is not None}
        column = "machines"
        try:
            machines = integer_of(cells[column], 10**7)
            if machines < k:
                raise CellError(f"{machines} machines, fewer than {k}", "sum more of them in one type")
            column = "uptime"
            if not (seconds := integer_of(cells[column], 10**11)):
                raise CellError("no time on", "leave out types that were never on")
            column = "consumption"
            joules = decimal_of(cells[column]) * UNITS[unit]
            declared = _Declared(
                _milliwatts(joules / seconds, " (is it in Wh? --unit says so)"), seconds, machines
            )
            kind = tidy(cells["type"])
            _add(reading, words, where, ("computer", kind, ""), declared, ("sum", folded(kind)))
        except CellError as error:
            reading.rows.refuse(Refusal(where, column, error.what, error.remedy))


def outcomes(
    reading: PowerReading,
    shipped: Collection[str],
    replaced: Collection[str],
    minutes_on: int | None,
    in_force: Collection[str] = (),
) -> Iterator[PowerOutcome]:
    """Yield what becomes of each class.

    `shipped`: classes with a default of ours. What holds of them stays unless the class is in `replaced`.
    `minutes_on`: time on in an open day of classes that are not always on. `in_force`: classes that have a
    declared power already.
    """
    for device_class, declared in sorted(reading.declared.items()):
        weight, items = sum(one.weight for one in declared), sum(one.items for one in declared)
        mean = round(sum(one.milliwatts * one.weight for one in declared) / weight)
        minutes = MINUTES_PER_DAY if device_class in ALWAYS_ON else minutes_on
        if device_class in shipped and device_class not in replaced:
            why = f"the shipped default stays: --replace {device_class} takes the declared one"
            if device_class in in_force:
                why = f"the power declared before stays: --replace {device_class} takes this one"
        elif minutes is None:
            why = "nobody says how long it is on: --hours-on gives the hours of an open day"
        else:
            lowest, highest = (choose(one.milliwatts for one in declared) for choose in (min, max))
            power = DeclaredPower(
                device_class, mean, minutes, items, lowest, highest, reading.source, reading.file
            )
            yield PowerOutcome(device_class, power, mean, items)
            continue
        yield PowerOutcome(device_class, None, mean, items, why)


def _read_types(reading: PowerReading, words: InventoryMapping, data: bytes, name: str) -> None:
    """Read the plugin's types as the REST API gives them with expanded dropdowns."""
    try:
        document = json.loads(text_of(data, name))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is no JSON: {explain_json(error)}") from error
    things = document.get("data") if isinstance(document, dict) else document
    if not isinstance(things, list):
        raise UsageError(f'{name} holds no list of types: [...] or {{"data": [...]}}')
    for number, thing in enumerate(things, 1):
        reading.rows.more(where := f"{name}, type {number}")
        kind = _kind(thing) if isinstance(thing, dict) else None
        if kind is None:
            what = "this is no type of the plugin Carbon"
            reading.rows.refuse(
                Refusal(where, "", what, "export ComputerType, MonitorType or NetworkEquipmentType")
            )
        elif not isinstance(thing[kind[1]], str):
            what = "a number where the name of a type is needed"
            reading.rows.refuse(Refusal(where, kind[1], what, "export with expand_dropdowns=true"))
        elif thing.get("is_ignore") in (1, True, "1"):
            reading.without += 1
        else:
            place = where, "power_consumption"
            power = thing["power_consumption"]
            text = "" if power is None else str(power)
            key = ("type", kind[0], str(thing["id"])) if "id" in thing else None
            _add_watts(reading, words, place, (kind[0], tidy(thing[kind[1]]), ""), text, key)


def _kind(thing: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (our item, key of the type's name) of a type; None for anything else."""
    keys = {item: f"{ITEM_TYPES[item].lower()}types_id" for item in POWER_ITEMS}
    known = ((item, key) for item, key in keys.items() if key in thing and "power_consumption" in thing)
    return next(known, None)


def _add_watts(
    reading: PowerReading,
    words: InventoryMapping,
    place: tuple[str, str],
    kind: tuple[str, str, str],
    cell: str,
    key: tuple[str, ...] | None,
) -> None:
    """Add the power in a cell, in watts. `place`: row and column. `kind`: item, type and model.

    `key`: the device or type, where it has a number.
    """
    try:
        text = tidy(cell).removesuffix("W").strip()
        watts = Decimal(0) if is_blank(text) else decimal_of(text)
        if not watts:
            reading.without += 1
            return
        _add(reading, words, place[0], kind, _Declared(_milliwatts(watts), 1, 1), key)
    except CellError as error:
        reading.rows.refuse(Refusal(*place, error.what, error.remedy))


def _milliwatts(watts: Decimal, hint: str = "") -> int:
    milliwatts = round(watts * MILLIWATTS_PER_WATT)
    if not MILLIWATTS_PER_WATT // 10 <= milliwatts <= MOST_MILLIWATTS:
        raise CellError(f"{watts:.3g} W", f"a device draws 0.1 to {MOST_MILLIWATTS // 1000} W{hint}")
    return milliwatts


def _add(
    reading: PowerReading,
    words: InventoryMapping,
    where: str,
    kind: tuple[str, str, str],
    declared: _Declared,
    key: tuple[str, ...] | None,
) -> None:
    """Add a power to its class. Raises CellError for one that is counted already, or far from the usual."""
    device_class, is_known = words.device_class(*kind)
    if not is_known:
        reading.rows.not_known("device class", f"{kind[1]} {kind[2]}".strip() or "(no type)")
    elif device_class == DeviceClass.VIRTUAL_MACHINE:
        reading.without += 1
    else:
        if usual := reading.usual.get(device_class):
            _check_band(device_class, declared.milliwatts, usual)
        if key is not None and key in reading.counted:
            raise CellError(
                f"{key[-1]} is counted already: {reading.counted[key]}",
                "leave out one, or sum both in one row",
            )
        if key is not None:
            reading.counted[key] = where
        reading.declared.setdefault(device_class, []).append(declared)


def _check_band(device_class: str, milliwatts: int, usual: int) -> None:
    if not usual <= milliwatts * BAND <= usual * BAND * BAND:
        low, high = (watts / MILLIWATTS_PER_WATT for watts in (usual / BAND, usual * BAND))
        raise CellError(
            f"{milliwatts / MILLIWATTS_PER_WATT:.4g} W for {device_class}",
            f"one draws {low:.3g} to {high:.4g} W while on: correct it, or give its type another class with --mapping",
        )


def _column(table: CsvTable, names: Sequence[str]) -> int | None:
    """Return the place of a column by its folded name; GLPI may write the plugin's name before it."""
    headings: Iterable[tuple[int, str]] = enumerate(map(folded, table.columns))
    return next(
        (at for at, one in headings if one in names or one.endswith(tuple(f" {n}" for n in names))), None
    )
