# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds one factor from one element of the Base Carbone and its components (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from veilleuse.collector.factors.static import MAINLAND, SHARES_2022, fold, zones_named
from veilleuse.collector.model.factors import COMPONENTS, INHERITED_UNCERTAINTY_PERCENT, Factor, FactorStatus

_NUMBER: Final = re.compile(r"[+-]?(\d+|\d{1,3}( \d{3})+)([.,]\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_SPACES: Final = str.maketrans({"\u00a0": " ", "\u202f": " "})
_MAGNITUDE: Final = 12
"""Largest number of digits before or after the decimal point."""


def french_decimal(text: str) -> Decimal:
    """Parse a number exactly; a point counts as a comma, as in re-exports.

    Raises ValueError that names the fault.
    """
    plain = text.strip().translate(_SPACES)
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"'{text[:40]}' is not a number: expected one like 0,052 or 4,74E-3")
    value = Decimal(plain.replace(" ", "").replace(",", "."))
    if value and not -_MAGNITUDE <= value.adjusted() <= _MAGNITUDE:
        raise ValueError(f"'{text[:40]}' is out of range")
    return value


COLUMNS: Final[Mapping[str, str]] = {
    "kind": "Type Ligne",
    "id": "Identifiant de l'élément",
    "status": "Statut de l'élément",
    "base": "Nom base français",
    "attribute": "Nom attribut français",
    "boundary": "Nom frontière français",
    "unit": "Unité français",
    "place": "Localisation géographique",
    "validity": "Période de validité",
    "uncertainty": "Incertitude",
    "part": "Type poste",
    "total": "Total poste non décomposé",
}
"""Our name → required column of the file."""
OPTIONAL: Final[Mapping[str, str]] = {
    "what": "Type de l'élément",
    "category": "Code de la catégorie",
    "subplace": "Sous-localisation géographique français",
    "modified": "Date de modification",
    "created": "Date de création",
    "part_name": "Nom poste français",
}

_PARTS: Final[Mapping[str, str]] = {
    "combustion a la centrale": "combustion",
    "combustion": "combustion",
    "amont": "upstream",
    "transport et distribution": "losses",
    "pertes": "losses",
}
_FRENCH: Final = ("france", "outre", "dom", "drom", "metropole", "collectivite")
"""Folded beginnings of the place of a French element."""
_ADDS_UP: Final = Decimal("0.02")
"""Tolerated share between total and components, each rounded to three digits. ADEME's of 2022: 0.08 % [P]."""
_CEILING_KGCO2E_PER_KWH: Final = 3
"""Above any grid: an old lignite plant emits some 1.2 [P]."""
_FIRST_SMOOTHED: Final = 2024
"""First year of the mainland whose ADEME value is a mean of four years. docs/methodology.md §8."""
_YEAR: Final = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_DATES: Final = ("%d/%m/%Y", "%Y-%m-%d")


class RowError(ValueError):
    """An element that cannot be taken; the message is for the user."""


@dataclass(frozen=True, slots=True)
class ElementRow:
    """One row, unchanged."""

    line: int
    cells: list[str]
    places: Mapping[str, int]
    width: int

    def __getitem__(self, key: str) -> str:
        """Return the text of one of our columns; blank when the file lacks the column."""
        place = self.places.get(key)
        return "" if place is None else self.cells[place].strip()

    @property
    def where(self) -> str:
        number = self.cells[self.places["id"]].strip() if len(self.cells) > self.places["id"] else ""
        return f"line {self.line}" + (f", element {number[:20]}" if number else "")

    @property
    def is_mojibake(self) -> bool:
        """Tell whether the text was once decoded with a wrong encoding."""
        whole = "".join(self.cells)
        return any(mark in whole for mark in ("\ufffd", "Ã©", "Ã¨"))

    @property
    def is_foreign(self) -> bool:
        """Tell whether the place is outside France; an unclear place is not."""
        place = fold(self["place"])
        return not (not place or place.startswith(_FRENCH) or zones_named(self.naming))

    @property
    def naming(self) -> str:
        """Return all text that may name a place."""
        return " ; ".join(self[key] for key in ("place", "subplace", "base", "attribute", "category"))


@dataclass(frozen=True, slots=True)
class ElementPart:
    """One component of an element, unchanged."""

    where: str
    kind: str
    name: str
    total: str

    @classmethod
    def of(cls, row: ElementRow) -> ElementPart:
        """Build a component from its row."""
        return cls(row.where, row["part"], row["part_name"], row["total"])


@dataclass(frozen=True, slots=True)
class Element:
    """An element of electricity."""

    row: ElementRow

    @property
    def element_id(self) -> str:
        return self.row["id"]

    @property
    def where(self) -> str:
        return self.row.where


def factor_of(element: Element, parts: Sequence[ElementPart], licence: str, notes: list[str]) -> Factor:
    """Return the factor of an element. Raises RowRefused."""
    row = element.row
    if not re.fullmatch(r"\d{1,9}", element.element_id):
        raise RowError(f"'{element.element_id[:20]}' is no number of an element")
    zone, (year, smoothed) = _zone(row), _year(row)
    total = _amount(row["total"], "the total")
    if not 0 < total <= _CEILING_KGCO2E_PER_KWH:
        raise RowError(
            f"{total} kgCO2e/kWh is no factor of a grid: above 0 and at most {_CEILING_KGCO2E_PER_KWH}"
        )
    components = _components(parts, total)
    percent = _percent(row["uncertainty"], element, notes)
    mainland = zone == MAINLAND
    return Factor(
        factor_id=f"ADEME-{zone}-{year}-MOY",
        zone=zone,
        valid_from=date(year, 1, 1),
        valid_to=date(year, 12, 31),
        series="smoothed-4y" if smoothed or (mainland and year >= _FIRST_SMOOTHED) else "annual",
        total_kgco2e_per_kwh=total,
        components=components,
        uncertainty_percent=INHERITED_UNCERTAINTY_PERCENT if percent is None else percent,
        uncertainty_inherited=percent is None,
        source=f"ADEME, Base Carbone, element {element.element_id}",
        published=_day(row["modified"]) or _day(row["created"]),
        licence=licence,
        # The shares are the mainland's: an island has another mix.
        estimated_shares=() if components or not mainland else SHARES_2022,
        status=_status(row["status"]),
        element_id=element.element_id,
    )


def _zone(row: ElementRow) -> str:
    """Return the grid zone. Refuses no zone and two zones: Corsica and overseas are never the mainland."""
    named = zones_named(row.naming)
    if fold(row["place"]) == "france continentale":
        named |= {MAINLAND}
    if len(named) > 1:
        raise RowError(f"its place is told in several ways: {', '.join(sorted(named))}")
    for zone in named:
        return zone
    raise RowError(
        f"the place '{row['place'][:40]}' '{row['subplace'][:40]}' is no grid zone known here; the mainland is "
        "'France continentale'"
    )


def _year(row: ElementRow) -> tuple[int, bool]:
    """Return (year of the factor, whether it is a mean of several years)."""
    years = [int(year) for year in _YEAR.findall(row["attribute"])]
    validity = fold(row["validity"])
    stated = int(validity[6:]) if re.fullmatch(r"annee (19|20)\d\d", validity) else None
    if not years and stated is None:
        raise RowError(f"no year in '{row['attribute'][:40]}' or '{row['validity'][:40]}'")
    year = max(years) if years else stated
    if year is None or (stated is not None and stated != year):
        raise RowError(f"it is of {year} by its name, of {stated} by its validity")
    return year, len(set(years)) > 1


def _status(text: str) -> FactorStatus:
    word = fold(text)
    if word.startswith("valide"):
        return FactorStatus.VALID
    if word.startswith("archiv"):
        return FactorStatus.ARCHIVED
    raise RowError(f"the status '{text[:40]}' is neither valid nor archived")


def _components(parts: Sequence[ElementPart], total: Decimal) -> tuple[tuple[str, Decimal], ...]:
    """Return combustion, upstream and losses as published; empty without components."""
    if not parts:
        return ()
    if len(set(parts)) < len(parts) or len({(one.kind, one.name, one.total) for one in parts}) < len(parts):
        raise RowError("a component is given twice")
    sums: dict[str, Decimal] = {}
    for part in parts:
        name = _PARTS.get(fold(part.kind))
        if name is None:
            raise RowError(f"component '{part.kind[:40]}' ({part.where}) is not known")
        value = _amount(part.total, f"component '{part.kind[:40]}'")
        if value < 0:
            raise RowError(f"component '{part.kind[:40]}' is below 0")
        sums[name] = sums.get(name, Decimal(0)) + value
    missing = [name for name in COMPONENTS if name not in sums]
    if missing:
        raise RowError(f"components are incomplete: no {', '.join(missing)}; is the file cut?")
    residual = total - sum(sums.values())
    if abs(residual) > total * _ADDS_UP:
        raise RowError(f"components add up to {total - residual}, the total is {total}")
    return tuple((name, sums[name]) for name in COMPONENTS)


def _amount(text: str, what: str) -> Decimal:
    if not text:
        raise RowError(f"{what} is blank")
    try:
        return french_decimal(text)
    except ValueError as error:
        raise RowError(f"{what}: {error}") from error


def _percent(text: str, element: Element, notes: list[str]) -> Decimal | None:
    """Return the half-width of the 95 % interval in per cent; None: not published."""
    if not text:
        return None
    value = _amount(text, "the uncertainty")
    if not 0 <= value <= 200:
        raise RowError(f"an uncertainty of {value} %")
    if not value:
        notes.append(f"{element.where}: an uncertainty of 0 % says nothing; 10 % is inherited, flagged")
        return None
    return value


def _day(text: str) -> str:
    """Return an ISO date, without its time; blank when it is none, in ASCII digits."""
    for form in _DATES if text.isascii() else ():
        try:
            return datetime.strptime(text[:10], form).date().isoformat()  # noqa: DTZ007 - a civil date
        except ValueError:
            continue
    return ""
