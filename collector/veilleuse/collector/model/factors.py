# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines emission factors, their versions, contracts and items of the bilan carbone:
data, no I/O. docs/methodology.md §8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from veilleuse.collector.model.inventory import PowerContext
from veilleuse.wire.vocabulary import Word

INHERITED_UNCERTAINTY_PERCENT: Final = Decimal(10)
"""Uncertainty where the source gives none: docs/methodology.md §8. Flagged `uncertainty_inherited`."""
PROVISIONAL_U: Final = 0.108
"""Log-scale uncertainty of using another year's factor:
rms of the last yearly log steps, docs/methodology.md §8.
"""
COMPONENTS: Final = ("combustion", "upstream", "losses")


class FactorBasis(Word):
    """Basis of a factor. GHG Protocol, Scope 2 Guidance (2015)."""

    LOCATION = "location"
    """The grid's average mix."""
    MARKET = "market"
    """One supplier's contract."""


class FactorStatus(Word):
    """Status of a factor at its source."""

    VALID = "valid"
    ARCHIVED = "archived"
    """Archived by the source: it still applies to its own year here, and says so."""
    WITHDRAWN = "withdrawn"
    """Taken out of force by an administrator: it no longer applies."""


@dataclass(frozen=True, slots=True)
class Factor:
    """Kilograms of CO2e per kWh of one zone over one validity, with source, licence and method."""

    factor_id: str
    zone: str
    valid_from: date
    valid_to: date
    """Inclusive."""
    series: str
    """annual, smoothed-4y, …"""
    total_kgco2e_per_kwh: Decimal
    components: tuple[tuple[str, Decimal], ...]
    """(combustion | upstream | losses, kgCO2e/kWh), as published; empty when only the total is."""
    uncertainty_percent: Decimal
    """95 % half-width; inherited 10 when the source gives none (then `uncertainty_inherited`)."""
    uncertainty_inherited: bool
    source: str
    published: str
    """ISO date; a year where the day is not known; blank: not known."""
    licence: str
    estimated_shares: tuple[tuple[str, Decimal], ...] = ()
    """(combustion | upstream | losses, share of the total), from the source's other years;
    used without components.
    """
    basis: FactorBasis = FactorBasis.LOCATION
    status: FactorStatus = FactorStatus.VALID
    version: int = 0
    """Number of the imported version; 0: a table shipped with the product."""
    element_id: str = ""
    """Its name at the source: for an ADEME factor the number of the Base Carbone element;
    blank where there is none.
    """
    accessed: str = ""
    """ISO date on which a shipped value was read at its source; blank: not known, or imported."""

    @property
    def sourced(self) -> bool:
        """True when it can be looked up: its name at the source is known, and its reading day or its file."""
        return bool(self.element_id and (self.accessed or self.version))

    @property
    def u(self) -> float:
        """Standard uncertainty on the log scale, k = 1, as published: ln(1 + p)/2. docs/methodology.md §8."""
        return math.log(1 + float(self.uncertainty_percent) / 100) / 2

    @property
    def split_residual_kgco2e_per_kwh(self) -> Decimal | None:
        """Total less components as published: the total takes precedence. None without components."""
        if not self.components:
            return None
        return self.total_kgco2e_per_kwh - sum((value for _, value in self.components), Decimal(0))


@dataclass(frozen=True, slots=True)
class ChosenFactor:
    """A factor applied to a year."""

    factor: Factor
    year: int
    provisional: bool
    """True when the year's own value is not published yet: the last published one is used."""

    @property
    def u(self) -> float:
        """Standard uncertainty on the log scale, k = 1: the factor's, and 0.108 in quadrature while
        provisional.
        """
        return math.hypot(self.factor.u, PROVISIONAL_U) if self.provisional else self.factor.u


@dataclass(frozen=True, slots=True)
class FactorImport:
    """Origin of versions: one file, one person, one reason."""

    file_name: str
    """Blank for a withdrawal."""
    file_sha256: str
    """SHA-256 of the file's bytes, hexadecimal; blank for a withdrawal."""
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class FactorVersion:
    """A factor of one import. Never changed: the next version of the same name replaces it."""

    version: int
    factor: Factor
    imported_unix_milliseconds: int
    imported: FactorImport
    supersedes: int | None
    """Previous newest version of the same factor_id; None: the first."""
    restores: int | None = None
    """Version that it restores after a withdrawal; None: it came from a file, or nothing was restored."""


@dataclass(frozen=True, slots=True)
class Contract:
    """Electricity bought under a contract: its market-based factor for a number of kWh.
    Entered by the user.
    """

    contract_id: int
    label: str
    supplier: str
    valid_from: date
    valid_to: date
    """Exclusive: the day after the last."""
    kwh: Decimal
    """Covered over the whole period, taken as even over its days."""
    factor_kgco2e_per_kwh: Decimal
    """Factor of the supplier, ≥ 0: a contract with renewable guarantees of origin may state 0."""
    uncertainty_percent: Decimal
    uncertainty_inherited: bool
    guarantees_of_origin: str
    """Certificates behind it, as the user names them; blank: none."""
    source: str
    """Document of the contract."""
    entity: str = ""
    """The entity and all below it; blank: any."""
    site: str = ""
    """Blank: any."""


@dataclass(frozen=True, slots=True)
class StoredContract:
    """A contract, with its author and its withdrawal."""

    contract: Contract
    entered_unix_milliseconds: int
    who: str
    why: str
    withdrawn_unix_milliseconds: int | None = None
    withdrawn_by: str = ""
    withdrawn_why: str = ""


@dataclass(frozen=True, slots=True)
class BilanItem:
    """Item of energy in the two standards."""

    beges_item: str
    """Item of the BEGES (décret 2022-982), e.g. 2.1; blank: to be entered by the user."""
    ghg_category: str
    """Scope, or category of scope 3, of the GHG Protocol, e.g. 2 or 3.3; blank likewise."""


@dataclass(frozen=True, slots=True)
class ContextMapping:
    """Items of the use phase under one power context."""

    context: PowerContext
    combustion: BilanItem
    """Item of the whole, where it is not split."""
    rest: BilanItem | None
    """Item of upstream and losses; None: the whole goes to the item of combustion."""
    in_beges_energie: bool
    in_bilan_numerique: bool
    origin: str
    """Origin of the default: read, remembered or entered. docs/methodology.md §8."""


@dataclass(frozen=True, slots=True)
class BilanMapping:
    """Mapping of all contexts, with its confirmation."""

    lines: tuple[ContextMapping, ...]
    """One per power context, in its order."""
    confirmed_unix_milliseconds: int | None = None
    """None: the default, not confirmed yet."""
    confirmed_by: str = ""
    why: str = ""

    @property
    def confirmed(self) -> bool:
        """True when a user has confirmed it."""
        return self.confirmed_unix_milliseconds is not None

    def of(self, context: PowerContext) -> ContextMapping:
        """Return the line of a context. Raises KeyError."""
        return {line.context: line for line in self.lines}[context]
