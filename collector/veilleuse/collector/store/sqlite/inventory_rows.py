# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Converts the inventory between rows of data.db and values, and to the document of an unfinished import."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

from veilleuse.collector.model.inventory import (
    DAYS_PER_YEAR,
    AssetRecord,
    Entity,
    Headcount,
    InventoryChange,
    Placement,
    PowerContext,
    Purchase,
    Retirement,
    ServerRole,
    StoredPurchase,
    StoredRetirement,
)
from veilleuse.collector.model.records import HostId
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.wire.vocabulary import DeviceClass, Population

GENERATION: Final = "inventory_generation"
IMPORTED_DAY: Final = "inventory_imported_day"
"""Key in the table meta."""

ASSET_COLUMNS: Final = (
    "asset_id, device_class, population, power_context, vendor, model, in_service_on, out_of_service_on, refurbished,"
    " displays, server_role, absent_since, is_duplicate"
)
"""All columns but host_id, which an import does not change."""
NAME_COLUMNS: Final = (
    "asset_id, source, item, key, name, inventory_number, chassis_pseudonym, smbios_pseudonym, raw"
)
_ENTITY: Final = "entity, parent, site, power_context, population"
_PURCHASE: Final = "source, year, category, amount_excluding_vat_eur, reused, units, entity"
_RETIREMENT: Final = "source, day, device_class, units, destination, reuse_committed, proof, entity, asset_id, age_years, security_restricted"
AGED_RETIREMENT: Final = _RETIREMENT.replace(
    "age_years",
    "ifnull(age_years, max(0, day - (SELECT in_service_on FROM inventory_assets AS asset WHERE NOT is_duplicate"
    f" AND asset.asset_id = inventory_retirements.asset_id)) / {DAYS_PER_YEAR})",
)
"""Columns of a retirement; a missing age is computed from the asset's day of service."""
_HEADCOUNT: Final = "entity, from_day, users, telework_days_per_week"


def document_of(change: InventoryChange) -> bytes:
    """Return the rows of a change for data.db, as compressed JSON.

    Nothing in it names a device or a person.
    """
    document = {
        "generation": change.generation,
        "day": change.day.toordinal(),
        "assets": [_asset_row(one) for one in change.assets],
        "placements": [
            [one.asset_id, place.from_day.toordinal(), place.entity, place.site]
            for one in change.assets
            for place in one.placements
        ],
        "entities": [
            [one.name, one.parent, one.site, _word(one.power_context), _word(one.population)]
            for one in change.entities
        ],
        "purchases": None if change.purchases is None else [_purchase_row(one) for one in change.purchases],
        "retirements": None
        if change.retirements is None
        else [_retirement_row(one) for one in change.retirements],
        "headcounts": [
            [one.entity, one.from_day.toordinal(), one.users, _decimal(one.telework_days_per_week)]
            for one in change.headcounts
        ],
    }
    return zlib.compress(json.dumps(document, ensure_ascii=False).encode(), 1)


def write(connection: sqlite3.Connection, document: bytes) -> None:
    """Write a change's rows and its generation to data.db.

    Part of a transaction; a second call changes nothing.
    """
    rows = json.loads(zlib.decompress(document))
    _upsert(connection, "inventory_assets", ASSET_COLUMNS, "asset_id", rows["assets"])
    connection.executemany(
        "DELETE FROM inventory_placements WHERE asset_id = ?", [row[:1] for row in rows["assets"]]
    )
    connection.executemany("INSERT INTO inventory_placements VALUES (?, ?, ?, ?)", rows["placements"])
    _upsert(connection, "inventory_entities", _ENTITY, "entity", rows["entities"])
    _upsert(connection, "inventory_headcounts", _HEADCOUNT, "entity, from_day", rows["headcounts"])
    for name, columns in (("purchases", _PURCHASE), ("retirements", _RETIREMENT)):
        if rows[name] is not None:
            connection.execute(f"DELETE FROM inventory_{name}")
            _insert(connection, f"inventory_{name}", columns, rows[name])
    _upsert(
        connection,
        "meta",
        "key, value",
        "key",
        [[GENERATION, str(rows["generation"])], [IMPORTED_DAY, str(rows["day"])]],
    )


def generation(connection: sqlite3.Connection) -> int:
    """Return the generation of data.db; 0 before the first import."""
    return _meta(connection, GENERATION) or 0


def imported_on(connection: sqlite3.Connection) -> date | None:
    """Return the UTC date of the last import that changed anything."""
    day = _meta(connection, IMPORTED_DAY)
    return None if day is None else date.fromordinal(day)


def read_assets(connection: sqlite3.Connection) -> Iterator[AssetRecord]:
    """Yield all assets, oldest first, without names: source, item and key are blank."""
    placements: defaultdict[int, list[Placement]] = defaultdict(list)
    for asset_id, from_day, entity, site in connection.execute(
        "SELECT asset_id, from_day, entity, site FROM inventory_placements ORDER BY asset_id, from_day"
    ):
        placements[asset_id].append(Placement(date.fromordinal(from_day), entity, site))
    earlier: defaultdict[int, list[HostId]] = defaultdict(list)
    for host_id, asset_id in read_earlier(connection).items():
        earlier[asset_id].append(host_id)
    for row in connection.execute(f"SELECT {ASSET_COLUMNS}, host_id FROM inventory_assets ORDER BY asset_id"):
        yield _asset(row, tuple(placements[row[0]]), tuple(earlier[row[0]]))


def count_devices(connection: sqlite3.Connection, first: date, last: date) -> Iterator[Any]:
    """Yield the devices of ports.InventoryReader, without the facts that come from entities.

    A row is (entity, site, site of the machine, last entity, class, population, power context, age, devices,
    displays).
    """
    # Columns beside max() are from the row of the maximum: the last placement until the day, else the first.
    # Of the groups' columns, the one that differs most is compared first.
    return connection.execute(
        "SELECT p.entity, p.site, CASE p.site WHEN '' THEN coalesce((SELECT nullif(site, '') FROM hosts"
        " WHERE hosts.host_id = a.host_id), before.site, '') ELSE '' END, coalesce(later.entity, p.entity),"
        " device_class, population, power_context, (:last - in_service_on) / :year, count(*), sum(displays) FROM"
        " (SELECT asset_id, entity, site, max(CASE WHEN from_day <= :last THEN from_day ELSE -from_day END)"
        " FROM inventory_placements GROUP BY asset_id) AS p CROSS JOIN inventory_assets AS a USING (asset_id)"
        " LEFT JOIN (SELECT asset_id, entity, max(from_day) FROM inventory_placements WHERE from_day > :last"
        " GROUP BY asset_id) AS later USING (asset_id)"
        " LEFT JOIN (SELECT asset_id, site, max(host_id) FROM inventory_earlier_hosts CROSS JOIN hosts USING (host_id)"
        " WHERE site <> '' GROUP BY asset_id) AS before USING (asset_id)"
        " WHERE NOT is_duplicate AND device_class <> :virtual AND ifnull(in_service_on <= :last, 1)"
        " AND ifnull(out_of_service_on > :first, 1) GROUP BY in_service_on, 1, 2, 3, 4, 5, 6, 7",
        {
            "first": first.toordinal(),
            "last": last.toordinal(),
            "year": DAYS_PER_YEAR,
            "virtual": DeviceClass.VIRTUAL_MACHINE.value,
        },
    )


def read_earlier(connection: sqlite3.Connection) -> dict[HostId, int]:
    """Return revoked machine → its asset, oldest first."""
    rows = connection.execute("SELECT host_id, asset_id FROM inventory_earlier_hosts ORDER BY host_id")
    return {HostId(host_id): asset_id for host_id, asset_id in rows}


def read_entities(connection: sqlite3.Connection) -> tuple[Entity, ...]:
    """Return all entities, parents first."""
    rows = connection.execute(f"SELECT {_ENTITY} FROM inventory_entities").fetchall()
    found = [
        Entity(
            name, parent, site, PowerContext(context) if context else None, Population(kind) if kind else None
        )
        for name, parent, site, context, kind in rows
    ]
    return tuple(sorted(found, key=lambda one: (one.name.count(" > "), one.name)))


def read_purchases(
    connection: sqlite3.Connection, where: str = "", *values: Any
) -> tuple[StoredPurchase, ...]:
    """Return purchases in the order of their file."""
    rows = connection.execute(
        f"SELECT {_PURCHASE} FROM inventory_purchases {where} ORDER BY purchase_id", values
    )
    return tuple(
        StoredPurchase(source, Purchase(year, category, Decimal(amount), bool(reused), units, entity))
        for source, year, category, amount, reused, units, entity in rows
    )


def read_retirements(
    connection: sqlite3.Connection, where: str = "", *values: Any, columns: str = _RETIREMENT
) -> tuple[StoredRetirement, ...]:
    """Return retirements in the order of their file."""
    rows = connection.execute(
        f"SELECT {columns} FROM inventory_retirements {where} ORDER BY retirement_id", values
    )
    return tuple(_kept_retirement(row) for row in rows)


def read_headcounts(connection: sqlite3.Connection) -> tuple[Headcount, ...]:
    """Return headcounts by entity and day."""
    rows = connection.execute(f"SELECT {_HEADCOUNT} FROM inventory_headcounts ORDER BY entity, from_day")
    return tuple(
        Headcount(entity, date.fromordinal(day), users, None if telework is None else Decimal(telework))
        for entity, day, users, telework in rows
    )


def upsert_names(connection: sqlite3.Connection, assets: Iterable[AssetRecord]) -> None:
    """Write the names of assets into identity.db. Part of a transaction."""
    rows = [
        (
            one.asset_id,
            one.source,
            one.item,
            one.key,
            one.name,
            one.inventory_number,
            one.chassis_pseudonym,
            one.smbios_pseudonym,
            one.raw,
        )
        for one in assets
    ]
    _upsert(connection, "inventory_names", NAME_COLUMNS, "asset_id", rows)


def _upsert(
    connection: sqlite3.Connection, table: str, columns: str, key: str, rows: Sequence[Sequence[Any]]
) -> None:
    others = [column for column in columns.split(", ") if column not in key.split(", ")]
    taken = ", ".join(f"{column} = excluded.{column}" for column in others)
    marks = ", ".join("?" * len(columns.split(", ")))
    connection.executemany(
        f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {taken}", rows
    )


def _insert(connection: sqlite3.Connection, table: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
    marks = ", ".join("?" * len(columns.split(", ")))
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def _asset_row(one: AssetRecord) -> list[Any]:
    return [
        one.asset_id,
        one.device_class,
        _word(one.population),
        _word(one.power_context),
        one.vendor,
        one.model,
        _day(one.in_service_on),
        _day(one.out_of_service_on),
        None if one.refurbished is None else int(one.refurbished),
        one.displays,
        _word(one.server_role),
        _day(one.absent_since),
        int(one.is_duplicate),
    ]


def _asset(row: Any, placements: tuple[Placement, ...], earlier: tuple[HostId, ...]) -> AssetRecord:
    asset_id, device_class, population, context, vendor, model, into, out, *more = row
    refurbished, displays, role, absent, is_duplicate, host_id = more
    return AssetRecord(
        asset_id=asset_id,
        source="",
        item="",
        key="",
        device_class=device_class,
        population=Population(population) if population else None,
        power_context=PowerContext(context) if context else None,
        vendor=vendor,
        model=model,
        in_service_on=None if into is None else date.fromordinal(into),
        out_of_service_on=None if out is None else date.fromordinal(out),
        refurbished=None if refurbished is None else bool(refurbished),
        displays=displays,
        server_role=ServerRole(role) if role else None,
        absent_since=None if absent is None else date.fromordinal(absent),
        is_duplicate=bool(is_duplicate),
        placements=placements,
        host_id=None if host_id is None else HostId(host_id),
        earlier_host_ids=earlier,
    )


def _purchase_row(kept: StoredPurchase) -> list[Any]:
    one = kept.purchase
    amount = str(one.amount_excluding_vat_eur)
    return [kept.source, one.year, one.category, amount, int(one.reused), one.units, one.entity]


def _retirement_row(kept: StoredRetirement) -> list[Any]:
    one = kept.retirement
    return [
        kept.source,
        one.day.toordinal(),
        one.device_class,
        one.units,
        one.destination,
        int(one.reuse_committed),
        one.proof,
        one.entity,
        one.asset_id,
        one.age_years,
        int(one.security_restricted),
    ]


def _kept_retirement(row: Any) -> StoredRetirement:
    source, day, device_class, units, destination, committed, proof, entity, asset_id, age, restricted = row
    return StoredRetirement(
        source,
        Retirement(
            date.fromordinal(day),
            device_class,
            units,
            destination,
            bool(committed),
            proof,
            entity,
            asset_id,
            age,
            bool(restricted),
        ),
    )


def _meta(connection: sqlite3.Connection, key: str) -> int | None:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else int(row[0])


def _day(day: date | None) -> int | None:
    return None if day is None else day.toordinal()


def _decimal(number: Decimal | None) -> str | None:
    return None if number is None else str(number)


def _word(word: object) -> str:
    return "" if word is None else str(word)
