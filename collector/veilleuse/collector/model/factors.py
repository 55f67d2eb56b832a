# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Emission factors, their versions, contracts and what a figure is for the bilan carbone: data, no I/O. docs/methodology.md §8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from veilleuse.collector.model.inventory import PowerContext
from veilleuse.wire.vocabulary import Word

INHERITED_UNCERTAINTY_PERCENT: Final = Decimal(10)
"""Where the source gives none: docs/methodology.md §8. Flagged `uncertainty_inherited`."""
PROVISIONAL_U: Final = 0.108
"""Log-scale uncertainty of standing in for a year not published yet: rms of the last yearly log steps, docs/methodology.md §8."""
COMPONENTS: Final = ("combustion", "upstream", "losses")


class FactorBasis(Word):
    """What a factor stands for. GHG Protocol, Scope 2 Guidance (2015)."""

    LOCATION = "location"
    """The grid's average mix."""
    MARKET = "market"
    """One supplier's contract."""


class FactorStatus(Word):
    """How its source sees it."""

    VALID = "valid"
    ARCHIVED = "archived"
    """The source has put it aside: it still serves its own year here, and says so."""
    WITHDRAWN = "withdrawn"
    """Taken out of force by an administrator: it serves nothing."""


@dataclass(frozen=True, slots=True)
class Factor:
    """Grams of CO2e per kWh of one zone over one validity. Source, licence and method are part of it."""

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
    """(combustion | upstream | losses, share of the total), where the source's other years tell; used without components."""
    basis: FactorBasis = FactorBasis.LOCATION
    status: FactorStatus = FactorStatus.VALID
    version: int = 0
    """Number of the imported version; 0: of a table that the product ships."""
    element_id: str = ""
    """Its name at the source: of an ADEME factor the number of the Base Carbone element; blank where there is none."""
    accessed: str = ""
    """ISO date on which a shipped value was read at its source; blank: not known, or imported."""

    @property
    def sourced(self) -> bool:
        """Whether it can be looked up: its name at the source is known, and the day it was read or the file it came in."""
        return bool(self.element_id and (self.accessed or self.version))

    @property
    def u(self) -> float:
        """Standard uncertainty on the log scale, k = 1, as published: ln(1 + p)/2. docs/methodology.md §8."""
        return math.log(1 + float(self.uncertainty_percent) / 100) / 2

    @property
    def split_residual_kgco2e_per_kwh(self) -> Decimal | None:
        """Total less components as published: the total rules. None without components."""
        if not self.components:
            return None
        return self.total_kgco2e_per_kwh - sum((value for _, value in self.components), Decimal(0))


@dataclass(frozen=True, slots=True)
class ChosenFactor:
    """A factor as applied to a year."""

    factor: Factor
    year: int
    provisional: bool
    """True when the year's own value is not published yet: the last published one stands in."""

    @property
    def u(self) -> float:
        """Standard uncertainty on the log scale, k = 1: the factor's, and 0.108 in quadrature while provisional."""
        return math.hypot(self.factor.u, PROVISIONAL_U) if self.provisional else self.factor.u


@dataclass(frozen=True, slots=True)
class FactorImport:
    """Where versions come from: one file, one person, one reason."""

    file_name: str
    """Blank of a withdrawal."""
    file_sha256: str
    """Hexadecimal, of the file's bytes; blank of a withdrawal."""
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class FactorVersion:
    """A factor as it was imported once. Never changed: the next version of the same name takes its place."""

    version: int
    factor: Factor
    imported_unix_milliseconds: int
    imported: FactorImport
    supersedes: int | None
    """Version of the same factor_id that was the newest before; None: the first."""
    restores: int | None = None
    """Version that it puts back into force after a withdrawal; None: it came from a file, or nothing came back."""


@dataclass(frozen=True, slots=True)
class Contract:
    """Electricity bought under a contract: its market-based factor for so many kWh. Entered by the user."""

    contract_id: int
    label: str
    supplier: str
    valid_from: date
    valid_to: date
    """Exclusive: the day after the last."""
    kwh: Decimal
    """Covered over the whole period, taken as even over its days."""
    factor_kgco2e_per_kwh: Decimal
    """Of the supplier, ≥ 0: a contract backed by renewable guarantees of origin may state 0."""
    uncertainty_percent: Decimal
    uncertainty_inherited: bool
    guarantees_of_origin: str
    """Certificates that back it, as the user names them; blank: none."""
    source: str
    """The document that says so."""
    entity: str = ""
    """It and all below it; blank: any."""
    site: str = ""
    """Blank: any."""


@dataclass(frozen=True, slots=True)
class KeptContract:
    """A contract with who entered it, and who withdrew it."""

    contract: Contract
    entered_unix_milliseconds: int
    who: str
    why: str
    withdrawn_unix_milliseconds: int | None = None
    withdrawn_by: str = ""
    withdrawn_why: str = ""


@dataclass(frozen=True, slots=True)
class BilanItem:
    """Where energy goes in the two standards."""

    beges_item: str
    """Of the BEGES (décret 2022-982), e.g. 2.1; blank: to be entered by the user."""
    ghg_category: str
    """Scope, or category of scope 3, of the GHG Protocol, e.g. 2 or 3.3; blank likewise."""


@dataclass(frozen=True, slots=True)
class ContextMapping:
    """What the use phase under one power context is for the bilan carbone."""

    context: PowerContext
    combustion: BilanItem
    """Of all of it, where it is not split."""
    rest: BilanItem | None
    """Of upstream and losses; None: the whole goes where combustion does."""
    in_beges_energie: bool
    in_bilan_numerique: bool
    origin: str
    """How the default is known: read, remembered or entered. docs/methodology.md §8."""


@dataclass(frozen=True, slots=True)
class BilanMapping:
    """The mapping of all contexts, and whether a user ever confirmed it."""

    lines: tuple[ContextMapping, ...]
    """One per power context, in its order."""
    confirmed_unix_milliseconds: int | None = None
    """None: the default, which nobody confirmed yet."""
    confirmed_by: str = ""
    why: str = ""

    @property
    def confirmed(self) -> bool:
        """Whether a user has said that it is so."""
        return self.confirmed_unix_milliseconds is not None

    def of(self, context: PowerContext) -> ContextMapping:
        """The line of a context. Raises KeyError."""
        return {line.context: line for line in self.lines}[context]
