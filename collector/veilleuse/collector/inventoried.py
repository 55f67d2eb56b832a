# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the inventory says of the fleet: assets, where they stood and when, what was bought and retired. Below the store.

Names and serial numbers are not here: they stay in identity.db.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from veilleuse.collector.model import HostId
from veilleuse.wire.vocabulary import Population, Word


class PowerContext(Word):
    """Whose meter an asset hangs on: what it is for the bilan carbone. METHOD.md §1 and §2."""

    OWN_SITE = "own_site"
    EPLE = "eple"
    """A college's own contract."""
    LEASED_SITE = "leased_site"
    HOSTED = "hosted"
    HOME = "home"


class InventoryClass(Word):
    """Device classes that only an inventory knows: no agent runs on them. METHOD.md §3."""

    SWITCH = "switch"
    WIFI_ACCESS_POINT = "wifi_access_point"
    STORAGE = "storage"
    PRINTER = "printer"
    IP_PHONE = "ip_phone"
    PROJECTOR = "projector"
    TABLET = "tablet"
    SMARTPHONE = "smartphone"
    OTHER = "other"


class ServerRole(Word):
    """Roles that exclude a server from I6. METHOD.md §6."""

    STANDBY = "standby"
    BATCH = "batch"
    LICENCE = "licence"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class Entity:
    """A node of the tree of organisational units."""

    name: str
    """Its own path from the root, parts joined by ' > ', as GLPI writes it: unique."""
    parent: str | None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an asset stands from a day on."""

    from_day: date
    """The 1st of a month, but for the first: an entity's move takes effect on the next 1st. METHOD.md §7."""
    entity: str
    site: str
    """Blank: not said, nor told by the entity."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One device of the inventory."""

    asset_id: int
    device_class: str
    """A DeviceClass, EnergyClass or InventoryClass value."""
    placements: tuple[Placement, ...]
    """At least one, oldest first."""
    population: Population | None = None
    """None of what only an inventory knows."""
    power_context: PowerContext = PowerContext.OWN_SITE
    vendor: str = ""
    model: str = ""
    host_id: HostId | None = None
    """The agent's machine that it is, once matched."""
    in_service_on: date | None = None
    out_of_service_on: date | None = None
    """Exclusive: the first day it was no longer in service."""
    refurbished: bool | None = None
    displays: int | None = None
    """External screens that hang on it; None = not said."""
    server_role: ServerRole | None = None

    def placed(self, day: date) -> Placement:
        """Where it stands on a day; before the first, where it first stood."""
        older = [placement for placement in self.placements if placement.from_day <= day]
        return older[-1] if older else self.placements[0]


@dataclass(frozen=True, slots=True)
class Purchase:
    """A line of what was bought in a year. I10."""

    year: int
    category: str
    """Legal category of AGEC art. 58, as the user's table names it."""
    amount_excluding_vat_eur: Decimal
    reused: bool
    units: int | None = None
    entity: str = ""


@dataclass(frozen=True, slots=True)
class Retirement:
    """What left the fleet on a day. I11."""

    day: date
    device_class: str
    units: int
    destination: str
    """reuse, recycling, destruction, return, other."""
    reuse_committed: bool
    """The taker's commitment is there."""
    proof: str = ""
    entity: str = ""
    asset_id: int | None = None
    age_years: float | None = None
    security_restricted: bool = False


@dataclass(frozen=True, slots=True)
class Headcount:
    """Users of an entity from a day on; I12."""

    entity: str
    from_day: date
    users: int
    telework_days_per_week: Decimal | None = None
    """Declared, for the home share: never told by a machine. METHOD.md §2."""


RETIREMENT_DESTINATIONS: Final = ("reuse", "recycling", "destruction", "return", "other")
