# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The simulated fleet as its inventory lists it: the files that `veilleuse inventory import` takes (pure)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Final

from veilleuse.collector.model.figures import EnergyClass
from veilleuse.collector.model.inventory import InventoryClass
from veilleuse.collector.simulate.fleet import COLLEGES, DIRECTIONS, PLACES, Device, Order, Place
from veilleuse.collector.simulate.models import VENDOR

_ASSETS: Final = (
    "key", "item", "device_class", "entity", "site", "vendor", "model", "in_service_on", "out_of_service_on", "refurbished",
    "displays", "inventory_number", "name", "serial",
)  # fmt: skip
_HEADCOUNTS: Final = ("entity", "from_day", "users", "telework_days_per_week")
_PURCHASES: Final = ("year", "category", "amount_excluding_vat_eur", "reused", "units", "entity")
_RETIREMENTS: Final = ("day", "destination", "asset", "reuse_committed", "entity")
SOURCE: Final = "simulated"
"""Name of this inventory."""
BESIDE: Final = (
    (InventoryClass.SWITCH, 2),
    (InventoryClass.WIFI_ACCESS_POINT, 4),
    (InventoryClass.PRINTER, 1),
    (InventoryClass.PROJECTOR, 3),
)
"""Of each college: what no agent runs on, and how many."""
_TELEWORK_DAYS: Final = "1.2"
"""Declared, per user and week: 0.6 of those with a laptop on 2 days."""
_REUSED_SHARE: Final = 0.3


def imports(order: Order, fleet: Sequence[Device]) -> Iterator[list[tuple[str, bytes]]]:
    """Files, (name, content), of one import after the other: what is retired must be known."""
    yield [
        _file("simulated-entities.csv", ("entity", "site", "power_context", "population"), _entities()),
        _file("simulated-assets.csv", _ASSETS, _assets(order, fleet)),
        _file("simulated-headcounts.csv", _HEADCOUNTS, _headcounts(order, fleet)),
        _file("simulated-purchases.csv", _PURCHASES, _purchases(order, fleet)),
    ]
    retired = list(_retirements(fleet))
    if retired:
        yield [_file("simulated-retirements.csv", _RETIREMENTS, retired)]


def key_of(device: Device) -> str:
    """What the inventory calls it for life."""
    return f"SIM-{device.number:06}"


def _file(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> tuple[str, bytes]:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return name, text.getvalue().encode()


def _entities() -> Iterator[Sequence[object]]:
    for place in PLACES:
        yield place.entity, place.site, place.power_context.value, place.population.value


def _assets(order: Order, fleet: Sequence[Device]) -> Iterator[Sequence[object]]:
    for device in fleet:
        key, place = key_of(device), device.place
        yield (
            key, "computer", device.model.device_class.value, place.entity, place.site, VENDOR, device.model.name,
            device.in_service_on, device.out_of_service_on or "", "yes" if device.refurbished else "no", device.screens, key,
            f"sim-{device.number}", device.serial,
        )  # fmt: skip
        for screen in range(device.screens):
            name = f"{key}-E{screen + 1}"
            yield (
                name, "monitor", EnergyClass.MONITOR.value, place.entity, place.site, VENDOR, "Écran 24", device.in_service_on,
                device.out_of_service_on or "", "no", "", name, "", "",
            )  # fmt: skip
    for place in COLLEGES:
        yield from _beside(order, place)


def _beside(order: Order, place: Place) -> Iterator[Sequence[object]]:
    since = date(order.first.year - 4, 9, 1)  # before all the time that is simulated
    items = {InventoryClass.PRINTER: "printer", InventoryClass.PROJECTOR: "peripheral"}
    for kind, amount in BESIDE:
        for one in range(amount):
            name = f"SIM-{place.site}-{kind.value}-{one + 1}"
            yield (
                name, items.get(kind, "network_equipment"), kind.value, place.entity, place.site, VENDOR, kind.value, since, "",
                "no", "", name, "", "",
            )  # fmt: skip


def _headcounts(order: Order, fleet: Sequence[Device]) -> Iterator[Sequence[object]]:
    for place in DIRECTIONS:
        users = sum(one.place is place for one in fleet)
        yield place.entity, date(order.first.year, 1, 1), users, _TELEWORK_DAYS


def _purchases(order: Order, fleet: Sequence[Device]) -> Iterator[Sequence[object]]:
    for year in range(order.first.year, order.end.year + 1):
        units = max(1, len(fleet) // 8)
        reused = round(units * _REUSED_SHARE)
        yield year, "Ordinateurs", f"{(units - reused) * 700}.00", "no", units - reused, DIRECTIONS[0].entity
        if reused:
            yield year, "Ordinateurs", f"{reused * 320}.00", "yes", reused, DIRECTIONS[0].entity


def _retirements(fleet: Sequence[Device]) -> Iterator[Sequence[object]]:
    for device in fleet:
        if device.out_of_service_on is not None:
            where = "reuse" if device.number % 2 else "recycling"
            committed = "yes" if where == "reuse" else "no"
            yield device.out_of_service_on, where, key_of(device), committed, device.place.entity
