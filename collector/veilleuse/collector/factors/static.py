# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Provides the factors of the tables that we ship, and the names of their zones.

Official: ADEME's average consumption mix for mainland France; elsewhere Our World in Data / Ember.
Configuration: `reporting.zone`, and the zone of each site. French zones are the mainland, and islands and
territories with their own grids: docs/methodology.md §8.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Final

from veilleuse.collector.model.factors import INHERITED_UNCERTAINTY_PERCENT, Factor
from veilleuse.collector.shipped_tables import load_table
from veilleuse.wire.units import GRAMS_PER_KILOGRAM

MAINLAND: Final = "FR"

APART: Final[Mapping[str, tuple[str, ...]]] = {
    "FR-20R": ("corse", "corsica", "fr-cor", "fr-h"),
    "GP": ("guadeloupe",),
    "MQ": ("martinique",),
    "GF": ("guyane", "guyane francaise", "french guiana"),
    "RE": ("la reunion", "reunion", "ile de la reunion"),
    "YT": ("mayotte",),
    "PM": ("saint-pierre-et-miquelon", "saint pierre et miquelon"),
    "BL": ("saint-barthelemy", "saint barthelemy"),
    "MF": ("saint-martin", "saint martin"),
    "WF": ("wallis-et-futuna", "wallis et futuna"),
    "PF": ("polynesie francaise", "french polynesia"),
    "NC": ("nouvelle-caledonie", "nouvelle caledonie", "new caledonia"),
}
"""Code → folded names.

Codes are ISO 3166-1 alpha-2. Corsica has none and uses ISO 3166-2:FR (FR-20R since 2020; FR-COR and FR-H
before).
"""

CODES: Final[Mapping[str, str]] = {name: code for code, names in APART.items() for name in names} | {
    "france continentale": MAINLAND
}
"""Folded name → code."""


def fold(text: str) -> str:
    """Fold a name for comparison: lower case, no accents, single spaces, plain apostrophes."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'"))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(letters.lower().split())


def zones_named(text: str) -> frozenset[str]:
    """Return the codes of separate zones that a text (such as a category path) names as whole words."""
    words = f" {re.sub('[^a-z]+', ' ', fold(text))} "
    return frozenset(
        code
        for code, names in APART.items()
        if any(f" {re.sub('[^a-z]+', ' ', name)} " in words for name in names if not name.startswith("fr-"))
    )


SHARES_2022: Final = (
    ("combustion", Decimal("0.650")),
    ("upstream", Decimal("0.259")),
    ("losses", Decimal("0.091")),
)
"""Components of ADEME's factor of 2022, for years of which ADEME publishes the total only.
docs/methodology.md §8.
"""


OWID_CHART: Final = "carbon-intensity-electricity"
"""Name of the chart of Our World in Data whose values we ship."""


class AdemeFactors:
    """ADEME's factors of mainland France, one a year since 2021, for the official ledger."""

    name = "ademe"

    def factors(self) -> Iterator[Factor]:
        """Yield factors, oldest first.

        Raises ConfigurationError for an unreadable table or one without origin.
        """
        rows = [row for row in load_table("electricity_factors_fr").rows if row["ledger"] == "official"]
        for row in rows:
            if row["component"] != "total":
                continue
            parts = tuple(
                (other["component"], Decimal(other["value_kgco2e_per_kwh"]))
                for other in rows
                if other["factor_id"] == row["factor_id"] and other["component"] != "total"
            )
            yield Factor(
                factor_id=row["factor_id"],
                zone=row["zone"],
                valid_from=date.fromisoformat(row["valid_from"]),
                valid_to=date.fromisoformat(row["valid_to"]),
                series=row["series"],
                total_kgco2e_per_kwh=Decimal(row["value_kgco2e_per_kwh"]),
                components=parts,
                uncertainty_percent=_percent(row["uncertainty_pct"]),
                uncertainty_inherited=not row["uncertainty_pct"],
                source=f"ADEME, Base Carbone ({row['source']}{_read_on(row['accessed'])})",
                published=row["published"],
                licence=row["licence"],
                estimated_shares=() if parts else SHARES_2022,
                element_id=row["element_id"],
                accessed=row["accessed"],
            )


class OwidFactors:
    """Factors of Our World in Data / Ember by country, 2018 to 2024: at generation, without grid losses."""

    name = "owid"

    def factors(self) -> Iterator[Factor]:
        """Yield factors by country, oldest first. Raises ConfigurationError as above."""
        table = load_table("electricity_factors_owid_ember")
        origin = f"{OWID_CHART}, edition of {table.edition}{_read_on(table.accessed)}"
        for row in table.rows:
            year = int(row["year"])
            yield Factor(
                factor_id=f"OWID-{row['iso3']}-{year}",
                zone=row["iso2"],
                valid_from=date(year, 1, 1),
                valid_to=date(year, 12, 31),
                series="annual",
                total_kgco2e_per_kwh=Decimal(row["gco2e_per_kwh"]) / GRAMS_PER_KILOGRAM,
                components=(),
                uncertainty_percent=INHERITED_UNCERTAINTY_PERCENT,
                uncertainty_inherited=True,
                source=f"{table.attribution} ({origin})",
                published=table.edition,
                licence=table.licence,
                element_id=OWID_CHART,
                accessed=table.accessed,
            )


@cache
def zone_names() -> dict[str, str]:
    """Return folded ISO 3166-1 alpha-3 code or English name → alpha-2 code."""
    names: dict[str, str] = {}
    for row in load_table("electricity_factors_owid_ember").rows:
        names[row["iso3"].lower()] = row["iso2"]
        names[fold(row["entity"])] = row["iso2"]
    return names


def country_of(zone: str) -> str | None:
    """Return the English name of a country's zone; None for a zone without factors by country."""
    rows = load_table("electricity_factors_owid_ember").rows
    return next((row["entity"] for row in rows if row["iso2"] == zone), None)


def _read_on(day: str) -> str:
    """Name the day on which the source was read, where known."""
    return f", read on {day}" if day else ""


def _percent(text: str) -> Decimal:
    return Decimal(text) if text else INHERITED_UNCERTAINTY_PERCENT
