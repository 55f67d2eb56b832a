# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Neutral rows that every inventory format is turned into, and the refusals.

Rows travel from the command to the collector as JSON: foreign files are parsed in the command's own process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.cells import shown
from veilleuse.collector.model.inventory import Headcount, PowerContext, Purchase, Retirement
from veilleuse.wire.vocabulary import Population

Value: TypeAlias = str | int | bool | date | None

TEXTS: Final = frozenset(
    {
        "name", "inventory_number", "serial", "uuid", "device_class", "entity", "site", "population", "power_context",
        "vendor", "model", "server_role",
    }
)  # fmt: skip
"""Text fields of an asset; a blank one erases the stored text. `serial` and `uuid` are normalised."""
DATES: Final = frozenset({"in_service_on", "out_of_service_on"})
OTHERS: Final = frozenset({"is_out", "refurbished", "displays"})
"""`is_out`: the status says that the asset is not in service, no longer or not yet."""
FIELDS: Final = TEXTS | DATES | OTHERS

MAXIMUM_ROWS: Final = 200_000
MAXIMUM_REFUSALS: Final = 1_000
"""Number of refusals that are listed; further ones are counted."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that is not imported, and why."""

    where: str
    """Place of the row, for people: `parc.csv, line 12`."""
    column: str
    """Column as the file names it; blank: the whole row."""
    what: str
    remedy: str
    keys: tuple[str, ...] = ()
    """Keys by which the asset may be known: it does not count as absent."""


@dataclass(frozen=True, slots=True)
class AssetRow:
    """One asset.

    A field without a column is missing in `values` and keeps its stored value; a blank cell is present.
    """

    where: str
    item: str
    key: str
    """Blank: the file has no lasting number for the asset."""
    values: Mapping[str, Value]
    raw: Mapping[str, str] = field(default_factory=dict)
    by_hardware: bool = False
    """Match by serial number or UUID only, never by inventory number: firmware may repeat an asset tag."""


@dataclass(frozen=True, slots=True)
class EntityRow:
    """A node of the tree of entities; None: the file does not say."""

    where: str
    name: str
    site: str | None = None
    power_context: PowerContext | None = None
    population: Population | None = None


@dataclass(frozen=True, slots=True)
class RetirementRow:
    """A retirement, with the asset that it names, if any."""

    where: str
    retirement: Retirement
    asset: str = ""
    """Key, inventory number or serial number (normalised)."""


@dataclass
class InventoryReading:
    """All that the files of one format say."""

    source: str
    rows: int = 0
    assets: list[AssetRow] = field(default_factory=list)
    entities: list[EntityRow] = field(default_factory=list)
    purchases: list[Purchase] = field(default_factory=list)
    retirements: list[RetirementRow] = field(default_factory=list)
    headcounts: list[Headcount] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    refused_count: int = 0
    unknown: dict[str, Counter[str]] = field(default_factory=dict)
    """Kind (device class, status, site, column …) → unknown word → count. Listed, never guessed."""
    users_told: set[tuple[str, date]] = field(default_factory=set)
    """(entity, day) pairs of `headcounts`: a second row of one pair would be lost."""
    complete: set[str] = field(default_factory=set)
    """Items of which the files are the whole list: an asset that they do not name is absent."""

    def refuse(self, refusal: Refusal) -> None:
        """Count a refusal, and keep it while there is room."""
        self.refused_count += 1
        if len(self.refused) < MAXIMUM_REFUSALS:
            self.refused.append(replace(refusal, column=shown(refusal.column), what=shown(refusal.what, 512)))

    def not_known(self, kind: str, text: str) -> None:
        """Note an unknown word."""
        self.unknown.setdefault(kind, Counter())[shown(text)] += 1

    def more(self, where: str) -> None:
        """Count a row. Raises UsageError above the limit."""
        self.rows += 1
        if self.rows > MAXIMUM_ROWS:
            raise UsageError(f"{where}: more than {MAXIMUM_ROWS} rows: import it in parts")


def to_document(reading: InventoryReading) -> dict[str, Any]:
    """Convert a reading to JSON types."""
    return {
        "source": reading.source,
        "rows": reading.rows,
        "assets": [
            [row.where, row.item, row.key, {name: _plain(value) for name, value in row.values.items()}, dict(row.raw),
             row.by_hardware]
            for row in reading.assets
        ],
        "entities": [
            [row.where, row.name, row.site, row.power_context and row.power_context.value,
             row.population and row.population.value]
            for row in reading.entities
        ],
        "purchases": [
            [one.year, one.category, str(one.amount_excluding_vat_eur), one.reused, one.units, one.entity]
            for one in reading.purchases
        ],
        "retirements": [[row.where, _retirement(row.retirement), row.asset] for row in reading.retirements],
        "headcounts": [
            [one.entity, one.from_day.isoformat(), one.users,
             None if one.telework_days_per_week is None else str(one.telework_days_per_week)]
            for one in reading.headcounts
        ],
        "refused": [[one.where, one.column, one.what, one.remedy, list(one.keys)] for one in reading.refused],
        "refused_count": reading.refused_count,
        "unknown": {kind: dict(found.most_common(200)) for kind, found in reading.unknown.items()},
        "complete": sorted(reading.complete),
    }  # fmt: skip


def from_document(document: Any) -> InventoryReading:
    """Build a reading from JSON types. Raises UsageError: the document comes over a socket."""
    try:
        return _reading(document)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise UsageError(f"this is no reading of an inventory: {error}") from error


def _reading(document: Any) -> InventoryReading:
    reading = InventoryReading(
        source=str(document["source"]),
        rows=int(document["rows"]),
        assets=[
            AssetRow(
                str(where), str(item), str(key), _values(values), {str(k): str(v) for k, v in raw.items()},
                bool(by_hardware),
            )
            for where, item, key, values, raw, by_hardware in document["assets"]
        ],
        entities=[
            EntityRow(
                str(where), str(name), site, context and PowerContext(context), population and Population(population)
            )
            for where, name, site, context, population in document["entities"]
        ],
        purchases=[
            Purchase(int(year), str(category), Decimal(amount), bool(reused), units, str(entity))
            for year, category, amount, reused, units, entity in document["purchases"]
        ],
        retirements=[
            RetirementRow(str(where), _retired(values), str(asset))
            for where, values, asset in document["retirements"]
        ],
        headcounts=[
            Headcount(str(entity), date.fromisoformat(day), int(users), None if days is None else Decimal(days))
            for entity, day, users, days in document["headcounts"]
        ],
        refused=[
            Refusal(str(where), str(column), str(what), str(remedy), tuple(map(str, keys)))
            for where, column, what, remedy, keys in document["refused"]
        ],
        refused_count=int(document["refused_count"]),
        unknown={
            str(kind): Counter({str(text): int(number) for text, number in found.items()})
            for kind, found in document["unknown"].items()
        },
        complete=set(map(str, document["complete"])),
    )  # fmt: skip
    if len(reading.assets) > MAXIMUM_ROWS:
        raise ValueError("too many rows")
    return reading


def _plain(value: Value) -> str | int | bool | None:
    return value.isoformat() if isinstance(value, date) else value


def _values(values: Mapping[str, Any]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in values.items():
        if name not in FIELDS:
            raise ValueError(f"an unknown field {name}")
        if name in TEXTS:
            found[name] = str(value)
        elif name in DATES:
            found[name] = None if value is None else date.fromisoformat(value)
        elif name == "displays":
            found[name] = None if value is None else int(value)
        else:
            found[name] = None if value is None else bool(value)
    return found


def _retirement(one: Retirement) -> dict[str, Any]:
    return {
        "day": one.day.isoformat(),
        "device_class": one.device_class,
        "units": one.units,
        "destination": one.destination,
        "reuse_committed": one.reuse_committed,
        "proof": one.proof,
        "entity": one.entity,
        "age_years": one.age_years,
        "security_restricted": one.security_restricted,
    }


def _retired(values: Mapping[str, Any]) -> Retirement:
    return Retirement(**{**values, "day": date.fromisoformat(values["day"])})
