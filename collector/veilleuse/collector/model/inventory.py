# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the inventory: assets with their placements, purchases, retirements, and the powers that it
declares. Below the store.

Names and serial numbers are not here: they stay in identity.db.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from veilleuse.collector.model.records import HostId
from veilleuse.wire.units import MICROWATTS_PER_MILLIWATT
from veilleuse.wire.vocabulary import Population, Word

ENTITY_SEPARATOR: Final = " > "
"""Separates an entity from its parent, as in GLPI."""
DAYS_PER_YEAR: Final = 365.25
MINUTES_PER_DAY: Final = 1_440
MOST_MILLIWATTS: Final = 10_000_000
"""Highest power that GLPI's plugin Carbon accepts: 10 kW."""


class PowerContext(Word):
    """Owner of an asset's electricity meter, which determines its item of the bilan carbone.
    docs/methodology.md §8.
    """

    OWN_SITE = "own_site"
    EPLE = "eple"
    """A college's own contract."""
    LEASED_SITE = "leased_site"
    HOSTED = "hosted"
    HOME = "home"


class InventoryClass(Word):
    """Device classes without an agent, known only by an inventory. docs/methodology.md §1."""

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
    """A node of the tree of organisational units. It inherits missing values from its nearest ancestor."""

    name: str
    """Path from the root, parts joined by ' > ', as GLPI writes it: unique."""
    parent: str | None
    site: str = ""
    """Site of assets without one; blank: inherited."""
    power_context: PowerContext | None = None
    population: Population | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Place of an asset from a day on."""

    from_day: date
    """The 1st of a month, except for the first: an entity's move takes effect on the next 1st.
    docs/methodology.md §5.
    """
    entity: str
    site: str
    """Blank: not given, nor known from the entity."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One device of the inventory."""

    asset_id: int
    device_class: str
    """A DeviceClass, EnergyClass or InventoryClass value."""
    placements: tuple[Placement, ...]
    """At least one, oldest first."""
    population: Population | None = None
    """None for devices known only by an inventory."""
    power_context: PowerContext = PowerContext.OWN_SITE
    vendor: str = ""
    model: str = ""
    host_id: HostId | None = None
    """Enrolled machine of the asset, once matched."""
    earlier_host_ids: tuple[HostId, ...] = ()
    """Earlier machines of the asset: revoked, mostly by a new installation.
    Their measurements belong to this asset.
    """
    in_service_on: date | None = None
    out_of_service_on: date | None = None
    """Exclusive: the first day out of service."""
    refurbished: bool | None = None
    displays: int | None = None
    """Its external screens; None = not given."""
    server_role: ServerRole | None = None
    absent_since: date | None = None
    """First import without it; it stays in service until a date says otherwise."""

    @property
    def host_ids(self) -> tuple[HostId, ...]:
        """All earlier machines, then the current one."""
        return (*self.earlier_host_ids, *(() if self.host_id is None else (self.host_id,)))

    def placement_on(self, day: date) -> Placement:
        """Return its placement on a day; before the first, its first one."""
        older = [placement for placement in self.placements if placement.from_day <= day]
        return older[-1] if older else self.placements[0]


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Devices in service that have the same place, class, population and power context."""

    entity: str
    site: str
    """Blank: not given, nor known from the entity."""
    machine_site: str
    """Site of their enrolled machines; read only where `site` is blank."""
    population: Population | None
    device_class: str
    power_context: PowerContext
    ages_years: Mapping[float | None, int]
    """Age on the last day → devices; None: the day of service is not known."""
    displays: int | None = None
    """Their external screens; None: not given for any."""

    @property
    def number(self) -> int:
        """Number of devices."""
        return sum(self.ages_years.values())


@dataclass(frozen=True, slots=True)
class Purchase:
    """One line of a year's purchases. I10."""

    year: int
    category: str
    """Legal category of AGEC art. 58, as the user's table names it."""
    amount_excluding_vat_eur: Decimal
    reused: bool
    units: int | None = None
    entity: str = ""


@dataclass(frozen=True, slots=True)
class Retirement:
    """Devices that left the fleet on a day. I11."""

    day: date
    device_class: str
    units: int
    destination: str
    """reuse, recycling, destruction, return, other."""
    reuse_committed: bool
    """True when the receiver's commitment exists."""
    proof: str = ""
    entity: str = ""
    asset_id: int | None = None
    age_years: float | None = None
    security_restricted: bool = False


LEAST_TELEWORK_USERS: Final = 10
"""Fewest people whose telework days may be declared together: a share of home energy is published."""


@dataclass(frozen=True, slots=True)
class Headcount:
    """Users of an entity from a day on; I12."""

    entity: str
    from_day: date
    users: int
    telework_days_per_week: Decimal | None = None
    """Declared, for the home share: never reported by a machine. docs/methodology.md §8."""


RETIREMENT_DESTINATIONS: Final = ("reuse", "recycling", "destruction", "return", "other")


# --- the writer's side: both halves of the stored data


@dataclass(frozen=True, slots=True)
class AssetRecord:
    """One asset as stored: its identifying data (identity.db), and the rest (data.db).
    Blank or None: not given.
    """

    asset_id: int
    source: str
    """Inventory that it came from; keys are unique in it."""
    item: str
    """Kind of list that it came from (computer, monitor, …):
    an absence from a list of monitors says nothing of computers.
    """
    key: str
    name: str = ""
    inventory_number: str = ""
    chassis_pseudonym: bytes = b""
    """Pseudonym of the serial number: 32 bytes, or empty. docs/wire.md §6."""
    smbios_pseudonym: bytes = b""
    raw: str = ""
    """Source row as JSON: its recognised cells, without the serial number and the UUID."""
    device_class: str = "unknown"
    population: Population | None = None
    """Population in the row; None: that of its entity, else of its class."""
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
    """True when an operator declared it a duplicate of another row: it no longer counts."""
    placements: tuple[Placement, ...] = ()
    host_id: HostId | None = None
    earlier_host_ids: tuple[HostId, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredPurchase:
    """A purchase with its inventory."""

    source: str
    purchase: Purchase


@dataclass(frozen=True, slots=True)
class StoredRetirement:
    """A retirement with its inventory."""

    source: str
    retirement: Retirement


@dataclass(frozen=True, slots=True)
class InventorySnapshot:
    """All stored inventory data at one moment."""

    generation: int
    """Rises with every import with a change; 0: none yet."""
    assets: tuple[AssetRecord, ...]
    entities: tuple[Entity, ...]
    purchases: tuple[StoredPurchase, ...]
    retirements: tuple[StoredRetirement, ...]
    headcounts: tuple[Headcount, ...]
    next_asset_id: int


@dataclass(frozen=True, slots=True)
class InventoryChange:
    """Rows that one import writes: whole rows, so that a repeated write has the same result."""

    generation: int
    """One more than that of its snapshot."""
    day: date
    assets: tuple[AssetRecord, ...] = ()
    """Inserted or replaced; `host_id` is not changed."""
    entities: tuple[Entity, ...] = ()
    purchases: tuple[StoredPurchase, ...] | None = None
    """All from now on; None: unchanged."""
    retirements: tuple[StoredRetirement, ...] | None = None
    headcounts: tuple[Headcount, ...] = ()
    """Inserted or replaced, by entity and day."""


class DoubtKind(Word):
    """Reason why an asset and a machine are not matched, or an asset is doubtful."""

    SEVERAL_HOSTS = "several_hosts"
    """Several machines have its pseudonym."""
    SEVERAL_ASSETS = "several_assets"
    """Several assets have one machine's pseudonym."""
    PSEUDONYM_TWICE = "pseudonym_twice"
    """Another asset has the same serial number or UUID: perhaps one device listed twice."""
    IDS_DISAGREE = "ids_disagree"
    """Its serial number is one machine's, its UUID another's."""
    MODEL_DISAGREES = "model_disagrees"
    CLASS_DISAGREES = "class_disagrees"
    OUT_OF_SERVICE = "out_of_service"
    """Out of service by the inventory, with an enrolled machine."""


class MatchVerdict(Word):
    """Operator's decision on an asset and a machine."""

    MATCHED = "matched"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Doubt:
    """One doubt for an operator to check."""

    kind: DoubtKind
    asset_id: int
    host_id: HostId | None = None
    other_asset_id: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Decision in force until another one on the same asset and machine."""

    asset_id: int
    host_id: HostId | None
    """None: for any machine."""
    verdict: MatchVerdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """A machine, with the data that an asset can be matched by."""

    host_id: HostId
    chassis_pseudonym: bytes
    smbios_pseudonym: bytes
    device_class: str
    model: str
    """Blank when it was not reported."""
    has_left: bool = False
    """True when it was revoked."""


@dataclass(frozen=True, slots=True)
class AssetMatches:
    """Matches of assets and machines."""

    links: Mapping[int, HostId]
    """Asset → machine."""
    doubts: tuple[Doubt, ...]
    earlier: Mapping[HostId, int] = field(default_factory=dict)
    """Revoked machine → its former asset."""


@dataclass(frozen=True, slots=True)
class DeclaredPower:
    """A DeclaredPower is the mean of the powers that somebody declared for devices of one class."""

    device_class: str
    milliwatts: int
    """Mean while on."""
    minutes_on: int
    """Time on in an open day; MINUTES_PER_DAY: always on, on closed days too."""
    items: int
    """Devices or types with a declared power."""
    lowest_milliwatts: int
    highest_milliwatts: int
    source: str
    """Program that it comes from."""
    file: str

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        if not 0 < self.lowest_milliwatts <= self.milliwatts <= self.highest_milliwatts <= MOST_MILLIWATTS:
            raise ValueError(f"power of {self.device_class}: {self.milliwatts} mW")
        if not 0 < self.minutes_on <= MINUTES_PER_DAY or self.items < 1:
            raise ValueError(f"{self.device_class}: {self.minutes_on} minutes, {self.items} items")

    @property
    def document(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)

    @property
    def microwatts(self) -> tuple[int, int, int]:
        """Mean power over an open day, an open day of the school holidays, and a closed day."""
        while_on = self.milliwatts * MICROWATTS_PER_MILLIWATT
        if self.minutes_on == MINUTES_PER_DAY:
            return while_on, while_on, while_on
        mean = while_on * self.minutes_on // MINUTES_PER_DAY
        return mean, mean, 0


@dataclass(frozen=True, slots=True)
class DeclaredPowers:
    """DeclaredPowers are those in force since a moment: of one class each."""

    powers: tuple[DeclaredPower, ...] = ()
    declared_unix_milliseconds: int = 0
    who: str = ""
    why: str = ""

    @property
    def by_class(self) -> dict[str, DeclaredPower]:
        """Device class → its power."""
        return {one.device_class: one for one in self.powers}

    def document(self) -> list[dict[str, Any]]:
        """Return the powers as JSON types."""
        return [one.document for one in self.powers]


def powers_of(document: Sequence[Mapping[str, Any]]) -> tuple[DeclaredPower, ...]:
    """Return powers from JSON types. Raises TypeError, ValueError."""
    return tuple(DeclaredPower(**one) for one in document)
