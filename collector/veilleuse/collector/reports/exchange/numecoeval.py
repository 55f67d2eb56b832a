# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes released months of a year as physical equipment for NumEcoEval and G4IT. docs/reports.md.

A row is a group of machines of the emissions report, never a machine. It does no arithmetic on the figures
but two divisions: a group's machine-days by the days, and its energy by the machines.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

from veilleuse.collector.account.server_rooms import OTHER_ROOM
from veilleuse.collector.documents.document import RELEASED_FROM, Document, Row, clean, last_released_day
from veilleuse.collector.documents.formats.csv import cell
from veilleuse.collector.errors import UsageError
from veilleuse.collector.factors.static import APART, country_of, fold
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR, InventoryClass, PowerContext
from veilleuse.collector.model.query import Basis
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.summaries.rows import number
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import DeviceClass

EQUIPMENT: Final = "numecoeval"
DIMENSIONS: Final = ("entity", "device_class")
"""Groups of the file."""
HEADER: Final = (
    "nomEquipementPhysique",
    "modele",
    "quantite",
    "nomCourtDatacenter",
    "dateAchat",
    "dateRetrait",
    "type",
    "statut",
    "paysDUtilisation",
    "consoElecAnnuelle",
    "utilisateur",
    "nomSourceDonnee",
    "nomEntite",
)
"""Columns of G4IT's template of physical equipment."""
TYPES: Final[Mapping[str, str]] = {
    DeviceClass.LAPTOP: "Laptop",
    DeviceClass.MINI_PC: "Desktop",
    DeviceClass.SFF: "Desktop",
    DeviceClass.TOWER: "Desktop",
    DeviceClass.ALL_IN_ONE: "Desktop",
    DeviceClass.THIN_CLIENT: "Desktop",
    DeviceClass.UNKNOWN: "Desktop",
    EnergyClass.AUTRES: "Desktop",
    DeviceClass.SERVER: "Server",
    EnergyClass.MONITOR: "Monitor",
    InventoryClass.SWITCH: "Switch",
    InventoryClass.WIFI_ACCESS_POINT: "Wifi",
    InventoryClass.STORAGE: "Storage Server",
    InventoryClass.PRINTER: "Printer",
    InventoryClass.IP_PHONE: "Fix phone",
    InventoryClass.PROJECTOR: "TV",
    InventoryClass.TABLET: "Tablet",
    InventoryClass.SMARTPHONE: "Smartphone",
    InventoryClass.OTHER: "Firewall",
    OTHER_ROOM: "Bay",
}
"""Device class → type of G4IT's reference data, the nearest one."""
COUNTRIES: Final[Mapping[str, str]] = {
    "BN": "Brunei Darussalam",
    "CD": "Congo, The Democratic Republic Of The",
    "CI": "Cote D'ivoire",
    "CZ": "Czech Republic",
    "IR": "Iran, Islamic Republic Of",
    "KP": "Korea, Democratic People's Republic Of",
    "KR": "Korea, Republic Of",
    "LY": "Libyan Arab Jamahiriya",
    "MD": "Moldova, Republic Of",
    "MK": "Macedonia, The Former Yugoslav Republic Of",
    "RS": "Serbie",
    "RU": "Russian Federation",
    "SY": "Syrian Arab Republic",
    "TW": "Taiwan, Province Of China",
    "TZ": "Tanzania, United Republic Of",
}
"""Zone → name in G4IT's list of countries, where it is not that of the shipped factors."""
LONGEST: Final = 255
"""Characters of a value that G4IT stores."""
LEAST: Final = Decimal("0.0001")
"""Step of a quantity, and the least: G4IT refuses zero."""
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class EquipmentFile:
    """A file, and what its user has to know of it."""

    content: bytes
    rows: int
    first: date
    """First day of the first month with figures."""
    last: date
    """Last day in the figures."""
    is_whole_year: bool
    machines_without_energy: int
    """Machines of rows whose energy the report does not know."""


def equipment_file(document: Document) -> EquipmentFile:
    """Return the file of an emissions report by DIMENSIONS.

    Raises UsageError when its rows are not of released months of one civil year, and for a zone whose country
    is unknown.
    """
    document = clean(document)
    first, last = _period(document)
    groups = _groups(document.tables["rows"])
    source = _source(document, first, last)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\n")
    writer.writerow(HEADER)
    lacking = Decimal(0)
    for key, rows in sorted(groups.items()):
        row = _equipment(key, rows, source, (last - first).days + 1)
        lacking += Decimal(row["quantite"]) if row["consoElecAnnuelle"] == "" else 0
        writer.writerow(row.get(name, "") for name in HEADER)
    is_whole = (first.month, first.day) == (1, 1) and (last.month, last.day) == (12, 31)
    return EquipmentFile(text.getvalue().encode(), len(groups), first, last, is_whole, math.ceil(lacking))


_Key = tuple[str, str, str, str]
"""Entity, population, device class, zone; empty where the report does not say."""


def _groups(rows: Iterable[Row]) -> dict[_Key, list[Row]]:
    """Return the rows of each group: at home and on site are the same machines, so they are one."""
    found: dict[_Key, list[Row]] = {}
    for row in rows:
        entity, population, device_class, zone = (
            str(row.get(name) or "") for name in ("entity", "population", "device_class", "zone")
        )
        found.setdefault((entity, population, device_class, zone), []).append(row)
    return found


def _equipment(key: _Key, rows: list[Row], source: str, days: int) -> dict[str, Any]:
    entity, _, device_class, zone = key
    quantity = mean_number(rows, days)
    known = [energy for row in rows if isinstance(energy := row.get("energy_millijoules"), int)]
    basis = sorted({str(row["basis"]) for row in rows if "basis" in row})
    return {
        "nomEquipementPhysique": _name(key),
        "modele": device_class,
        "quantite": _plain(quantity),
        "type": TYPES[device_class],
        "paysDUtilisation": _country(zone),
        "consoElecAnnuelle": kwh_each(sum(known), quantity) if known else "",
        "nomSourceDonnee": "_".join((source, *basis)),
        "nomEntite": cell(_shortened(entity)),
    }


def mean_number(rows: Iterable[Row], days: int) -> Decimal:
    """Return how many machines of a group were in service on a mean day of the period.

    So machines that moved to another group count once in the sum. Screens have their PCs' time: of them it is
    the most in a month, or the measured ones where no inventory lists them. The rest of a room is one item.
    """
    rows = list(rows)
    machines = _most(rows, "n_fleet") or _most(rows, "n") or 1
    time = math.fsum(number(row, "machine_days_fleet") or 0 for row in rows)
    mean = Decimal(repr(time)) / days
    if not mean or abs(mean - machines) * days * 12 <= machines:  # in service all the time; clocks changed
        return Decimal(machines)
    return max(mean.quantize(LEAST), LEAST)


def _most(rows: Iterable[Row], column: str) -> int:
    """Return the machines of a group; on site and at home they are the same."""
    machines = Counter[bool]()
    for row in rows:
        machines[row.get("power_context") == PowerContext.HOME] += round(number(row, column) or 0)
    return max(machines.values(), default=0)


def kwh_each(millijoules: int, quantity: Decimal) -> str:
    """Return the kWh of each item as the text from which the group's millijoules can be had again.

    So many decimals that the rounded value, times `quantity`, is less than 0.2 mJ from the group's energy.
    """
    decimals = 10 + len(str(int(quantity)))
    each = _EXACT.divide(Decimal(millijoules), MILLIJOULES_PER_KWH * quantity)
    return _plain(each.quantize(Decimal(1).scaleb(-decimals), context=_EXACT))


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _name(key: _Key) -> str:
    """Return a name that is unique, and the same every year: words to read, and a hash of the group."""
    entity, population, device_class, zone = key
    last = entity.rsplit(ENTITY_SEPARATOR, maxsplit=1)[-1]
    words = "-".join(filter(None, re.split("[^a-z0-9]+", fold(last))))[:80]
    digest = hashlib.sha256("\x1f".join(key).encode()).hexdigest()[:8]
    return "-".join(filter(None, (device_class, population, zone, words, digest)))


def _country(zone: str) -> str:
    country = COUNTRIES.get(zone) or country_of(zone)
    if zone in APART or country is None:
        raise UsageError(
            f"zone {zone} is no country of NumEcoEval's reference data, so its electricity would be counted at another "
            "country's mix: report the entities of that zone by 'veilleuse report emissions'"
        )
    return country


def _shortened(entity: str) -> str:
    return entity if len(entity) <= LONGEST - 1 else f"…{entity[-(LONGEST - 2) :]}"


def _source(document: Document, first: date, last: date) -> str:
    revision = document.head.get("report_id")
    return "_".join(filter(None, ("Veilleuse", first.isoformat(), last.isoformat(), str(revision or ""))))


def _period(document: Document) -> tuple[date, date]:
    """Return the first and the last day of the figures. Raises UsageError as equipment_file does."""
    head = document.head
    first, end = (date.fromisoformat(str(head[name])) for name in ("from", "to"))
    if end != date(first.year + 1, 1, 1):
        raise UsageError(
            f"NumEcoEval reads the energy of a year, and {first} to {end} is not the rest of one: ask for one that ends on "
            f"{date(first.year + 1, 1, 1)}, from January or from the first released month on"
        )
    last = last_released_day(head)
    if head.get(BASIS) != Basis.RELEASED or last is None or not document.tables["rows"]:
        raise UsageError(
            f"only released months are written for NumEcoEval, and {first.isoformat()[:7]} is not released: begin with the first "
            "released month of the year"
        )
    return max(first, date.fromisoformat(str(head.get(RELEASED_FROM, first)))), last
