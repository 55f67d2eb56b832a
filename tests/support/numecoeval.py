# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Check a file of physical equipment by the rules of G4IT, row by row, and read it as its engine does.

The rules are restated from G4IT at 57b9a16 (2026-08-14): its template inv_physicalEquipment.csv, its data
model 3.1.0 (sheets physicalEquipment, refEquipmentType, Country), and what its loader refuses. The loader is
in Java and was not run.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

HEADER: Final = (
    "nomEquipementPhysique;modele;quantite;nomCourtDatacenter;dateAchat;dateRetrait;type;statut;paysDUtilisation;"
    "consoElecAnnuelle;utilisateur;nomSourceDonnee;nomEntite"
)
MANDATORY: Final = ("nomEquipementPhysique", "modele", "quantite", "type", "paysDUtilisation")
PATTERNS: Final = {
    "nomEquipementPhysique": "[A-Za-z0-9_-]+",  # of imports to digital services, the strictest
    "quantite": r"(?=.*[1-9])\d+(\.\d+)?",  # a Double above 0
    "consoElecAnnuelle": r"\d+(\.\d+)?",  # a comma is refused
    "dateAchat": r"\d{4}-\d\d-\d\d",
    "dateRetrait": r"\d{4}-\d\d-\d\d",
    "paysDUtilisation": "[A-Za-zÀ-ÖØ-öø-ÿ' ,-]{1,50}",
    "nomSourceDonnee": "[A-Za-z0-9_-]+",
}
LONGEST: Final = 255
_TYPES: Final = (
    "Bay;Building;Camera;Casing;Compute Server;Datacenter;Desktop;Docking station;Feature phone;Firewall;Fix phone;Laptop;"
    "Mobile phone;Monitor;Printer;Speaker;Storage Server;Switch;Tablet;TV;Wifi;Communication Device;Cable;Smartphone;Server;"
    "Paper;Toner;Technical room"
)
TYPES: Final = frozenset(_TYPES.split(";"))
_COUNTRIES: Final = (
    "United Arab Emirates;Albania;Armenia;Netherlands Antilles;Angola;Argentina;Austria;Australia;Azerbaijan;Bosnia and "
    "Herzegovina;Bangladesh;Belgium;Bulgaria;Bahrain;Benin;Brunei Darussalam;Bolivia;Brazil;Botswana;Belarus;Canada;Congo, "
    "The Democratic Republic Of The;Congo;Switzerland;Cote D'ivoire;Chile;Cameroon;China;Colombia;Costa Rica;Cuba;Cyprus;"
    "Czech Republic;Germany;Denmark;Dominican Republic;Algeria;Ecuador;Estonia;Egypt;Eritrea;Spain;Ethiopia;Finland;France;"
    "Gabon;United Kingdom;Georgia;Ghana;Gibraltar;Greece;Guatemala;Hong Kong;Honduras;Croatia;Haiti;Hungary;Indonesia;"
    "Ireland;Israel;India;Iraq;Iran, Islamic Republic Of;Iceland;Italy;Jamaica;Jordan;Japan;Kenya;Kyrgyzstan;Cambodia;"
    "Korea, Democratic People's Republic Of;Korea, Republic Of;Kuwait;Kazakhstan;Lebanon;Sri Lanka;Lithuania;Luxembourg;"
    "Latvia;Libyan Arab Jamahiriya;Morocco;Moldova, Republic Of;Macedonia, The Former Yugoslav Republic Of;Myanmar;Mongolia;"
    "Malta;Mexico;Malaysia;Mozambique;Namibia;Nigeria;Nicaragua;Netherlands;Norway;Nepal;New Zealand;Oman;Panama;Peru;"
    "Philippines;Pakistan;Poland;Portugal;Paraguay;Qatar;Europe;Romania;Serbie;Russian Federation;Saudi Arabia;Sudan;"
    "Sweden;Singapore;Slovenia;Slovakia;Senegal;El Salvador;Syrian Arab Republic;Togo;Thailand;Tajikistan;Turkmenistan;"
    "Tunisia;Turkey;Trinidad and Tobago;Taiwan, Province Of China;Tanzania, United Republic Of;Ukraine;United States;"
    "Uruguay;Uzbekistan;Venezuela;Vietnam;Yemen;South Africa;Zambia;Zimbabwe;unspecified"
)
COUNTRIES: Final = frozenset(_COUNTRIES.split(";"))
MILLIJOULES_PER_KWH: Final = 3_600_000_000


def equipment(content: bytes) -> list[dict[str, str]]:
    """Return the rows of a file."""
    return list(csv.DictReader(io.StringIO(content.decode()), delimiter=";", strict=True))


def faults(content: bytes) -> list[str]:
    """Return what G4IT would refuse: `line 2, type: 'x' is unknown`."""
    first = content.decode().partition("\n")[0]
    found = [] if first == HEADER else [f"line 1: {first}"]
    names: set[str] = set()
    for number, row in enumerate(equipment(content), 2):
        found += [f"line {number}, {fault}" for fault in _faults_of(row)]
        name = row["nomEquipementPhysique"]
        found += [f"line {number}: '{name}' is there twice"] if name in names else []
        names.add(name)
    return found


def _faults_of(row: Mapping[str, Any]) -> Iterator[str]:
    if None in row or None in row.values():
        yield f"{len(row)} cells"
        return
    for column, value in row.items():
        if not value and column in MANDATORY:
            yield f"{column}: missing"
        if value and not re.fullmatch(PATTERNS.get(column, "(?s:.*)"), value):
            yield f"{column}: '{value}' is not as prescribed"
        if len(value) > LONGEST:
            yield f"{column}: {len(value)} characters"
    for column, known in (("type", TYPES), ("paysDUtilisation", COUNTRIES)):
        if row[column] not in known:
            yield f"{column}: '{row[column]}' is unknown"


def millijoules(row: Mapping[str, str]) -> int:
    """Return the energy of a row as the engine reads it: quantity × annual kWh of each.

    Without a data centre there is no PUE.
    """
    kwh = Decimal(row["consoElecAnnuelle"] or 0) * Decimal(row["quantite"])
    return round(kwh * MILLIJOULES_PER_KWH)


def total_millijoules(rows: Iterable[Mapping[str, str]]) -> int:
    """Return the energy of a file."""
    return sum(map(millijoules, rows))
