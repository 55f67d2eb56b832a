# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the inventory says of the fleet: assets, where they stood and when, what was bought and retired. Below the store.

Names and serial numbers are not here: they stay in identity.db.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final

from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import Population, Word


class PowerContext(Word):
    """Whose meter an asset hangs on: what it is for the bilan carbone. docs/methodology.md §8."""

    OWN_SITE = "own_site"
    EPLE = "eple"
    """A college's own contract."""
    LEASED_SITE = "leased_site"
    HOSTED = "hosted"
    HOME = "home"


class InventoryClass(Word):
    """Device classes that only an inventory knows: no agent runs on them. docs/methodology.md §7."""

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
    """Roles that exclude a server from I6. docs/methodology.md §12."""

    STANDBY = "standby"
    BATCH = "batch"
    LICENCE = "licence"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class Entity:
    """A node of the tree of organisational units. What it does not say itself, the nearest one above it says."""

    name: str
    """Its own path from the root, parts joined by ' > ', as GLPI writes it: unique."""
    parent: str | None
    site: str = ""
    """Of assets whose site is not told; blank: as above it."""
    power_context: PowerContext | None = None
    population: Population | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an asset stands from a day on."""

    from_day: date
    """The 1st of a month, but for the first: an entity's move takes effect on the next 1st. docs/methodology.md §5."""
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
    earlier_host_ids: tuple[HostId, ...] = ()
    """Those that it was before: revoked, most often installed anew since. What they measured is of this asset."""
    in_service_on: date | None = None
    out_of_service_on: date | None = None
    """Exclusive: the first day it was no longer in service."""
    refurbished: bool | None = None
    displays: int | None = None
    """External screens that hang on it; None = not said."""
    server_role: ServerRole | None = None
    absent_since: date | None = None
    """First import that no longer named it; it stays in service until a day says otherwise."""

    @property
    def host_ids(self) -> tuple[HostId, ...]:
        """All machines that it was, and the one that it is last."""
        return (*self.earlier_host_ids, *(() if self.host_id is None else (self.host_id,)))

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
    """Declared, for the home share: never told by a machine. docs/methodology.md §8."""


RETIREMENT_DESTINATIONS: Final = ("reuse", "recycling", "destruction", "return", "other")


# --- the writer's side: both halves of what is kept


@dataclass(frozen=True, slots=True)
class AssetRecord:
    """One asset as it is kept: what can name it (identity.db), and the rest (data.db). Blank or None: not said."""

    asset_id: int
    source: str
    """Which inventory it came from; keys are unique in it."""
    item: str
    """Kind of list it came from (computer, monitor, …): what is missing from a list of monitors is no computer."""
    key: str
    name: str = ""
    inventory_number: str = ""
    chassis_pseudonym: bytes = b""
    """Of the serial number: 32 bytes, or empty. docs/wire.md §6."""
    smbios_pseudonym: bytes = b""
    raw: str = ""
    """The row it came from, as JSON: its recognised cells but the serial number and the UUID."""
    device_class: str = "unknown"
    population: Population | None = None
    """As the row says; None: as its entity, else its class, says."""
    power_context: PowerContext | None = None
    vendor: str = ""
    model: str = ""
    in_service_on: date | None = None
    out_of_service_on: date | None = None
    refurbished: bool | None = None
    displays: int | None = None
    server_role: ServerRole | None = None
    absent_since: date | None = None
    is_duplicate: bool = False
    """An operator said that another row is the same thing: counted no more."""
    placements: tuple[Placement, ...] = ()
    host_id: HostId | None = None
    earlier_host_ids: tuple[HostId, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptPurchase:
    """With the inventory it came from."""

    source: str
    purchase: Purchase


@dataclass(frozen=True, slots=True)
class KeptRetirement:
    """Likewise."""

    source: str
    retirement: Retirement


@dataclass(frozen=True, slots=True)
class InventorySnapshot:
    """All that is kept, at one moment."""

    generation: int
    """Goes up with every import that changed something; 0: none ever did."""
    assets: tuple[AssetRecord, ...]
    entities: tuple[Entity, ...]
    purchases: tuple[KeptPurchase, ...]
    retirements: tuple[KeptRetirement, ...]
    headcounts: tuple[Headcount, ...]
    next_asset_id: int


@dataclass(frozen=True, slots=True)
class InventoryChange:
    """What one import writes: whole rows, so that to write it twice is to write it once."""

    generation: int
    """One more than the snapshot's it was made from."""
    day: date
    assets: tuple[AssetRecord, ...] = ()
    """Inserted or replaced; `host_id` is not theirs to change."""
    entities: tuple[Entity, ...] = ()
    purchases: tuple[KeptPurchase, ...] | None = None
    """All there are from now on; None: as before."""
    retirements: tuple[KeptRetirement, ...] | None = None
    headcounts: tuple[Headcount, ...] = ()
    """Inserted or replaced, by entity and day."""


class DoubtKind(Word):
    """Why an asset and a machine are not taken for one, or an asset is doubtful."""

    SEVERAL_HOSTS = "several_hosts"
    """Several machines have its pseudonym."""
    SEVERAL_ASSETS = "several_assets"
    """Several assets have one machine's pseudonym."""
    PSEUDONYM_TWICE = "pseudonym_twice"
    """Another asset has the same serial number or UUID: one thing listed twice, perhaps."""
    IDS_DISAGREE = "ids_disagree"
    """Its serial number is one machine's, its UUID another's."""
    MODEL_DISAGREES = "model_disagrees"
    CLASS_DISAGREES = "class_disagrees"
    OUT_OF_SERVICE = "out_of_service"
    """The inventory says it is out of service, and its machine is enrolled."""


class MatchVerdict(Word):
    """What an operator said of an asset and a machine."""

    MATCHED = "matched"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Doubt:
    """One thing for an operator to look at."""

    kind: DoubtKind
    asset_id: int
    host_id: HostId | None = None
    other_asset_id: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Stands until another one on the same asset and machine."""

    asset_id: int
    host_id: HostId | None
    """None: of whatever machine."""
    verdict: MatchVerdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """A machine, as far as an asset can be told to be it."""

    host_id: HostId
    chassis_pseudonym: bytes
    smbios_pseudonym: bytes
    device_class: str
    model: str
    """Blank when it did not tell."""
    has_left: bool = False
    """It was revoked."""


@dataclass(frozen=True, slots=True)
class AssetMatches:
    """Who is who."""

    links: Mapping[int, HostId]
    """Asset → machine."""
    doubts: tuple[Doubt, ...]
    earlier: Mapping[HostId, int] = field(default_factory=dict)
    """Machine that was revoked → the asset that it was."""
