# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups the inventory's devices, purchases, retirements and users for the indicators I9 to I12."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial

from veilleuse.collector.model.actions import ActionTable
from veilleuse.collector.model.indicators import Disposal, IndicatorGroup, IndicatorMachine
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR, DeviceGroup, Headcount, Retirement
from veilleuse.collector.model.query import Query, cut_entity
from veilleuse.collector.ports.imports import ActionReader, InventoryReader
from veilleuse.wire.vocabulary import Population


def fleet_groups(inventory: InventoryReader, follows: ActionReader, query: Query) -> Iterator[IndicatorGroup]:
    """Yield purchases and retirements of the query's civil year; nothing when its period is no civil year.

    A retirement below an entity with a declared retired stock leaves this entity's stock.
    """
    year = query.civil_year
    if year is None:
        return
    purchases = inventory.purchases(year)
    retirements = inventory.retirements(query.first, query.end)
    stocks = _stocks(follows, year)
    at = {one.entity: _nearest_declaring(stocks, one.entity) or one.entity for one in retirements}
    cut = partial(cut_entity, level=query.level)
    entities = {one.entity for one in purchases} | set(at.values()) | stocks.keys()
    for entity in sorted(set(map(cut, entities))) if "entity" in query.dimensions else (None,):
        bought = tuple(one for one in purchases if entity in (None, cut(one.entity)))
        left = tuple(one for one in retirements if entity in (None, cut(at[one.entity])))
        mine = {name: units for name, units in stocks.items() if entity in (None, cut(name))}
        stock = None if entity == "" else _total_stock(mine, left)
        yield IndicatorGroup(
            query.key._replace(entity=entity or None),
            purchases=bought,
            year=year,
            disposal=Disposal(year, stock, left),
        )


def _stocks(follows: ActionReader, year: int) -> Mapping[str, int]:
    """Return entity → retired stock on 1 January; the blank entity is the whole fleet."""
    return {
        line.cells.get("entity", ""): int(line.cells["units"])
        for line in follows.lines(ActionTable.RETIRED_STOCK)
        if int(line.cells["year"]) == year
    }


def _total_stock(stocks: Mapping[str, int], left: Iterable[Retirement]) -> int | None:
    """Return the whole fleet's stock: its own line, else the sum of the entities' lines.

    None when some retirement left an entity without a line.
    """
    if "" in stocks:
        return stocks[""]
    is_complete = bool(stocks) and all(_nearest_declaring(stocks, one.entity) for one in left)
    return sum(stocks.values()) if is_complete else None


def user_groups(
    inventory: InventoryReader,
    devices: Sequence[DeviceGroup],
    machines: Sequence[IndicatorMachine],
    query: Query,
    last_day: date,
) -> Iterator[IndicatorGroup]:
    """Yield one group per entity with a headcount, or one for all of them together.

    Devices and machines outside these entities are in no group.
    """
    users = _users(inventory.headcounts(), last_day)
    if not users:
        return
    at: defaultdict[str, tuple[list[DeviceGroup], list[IndicatorMachine]]] = defaultdict(lambda: ([], []))
    for device in devices:
        if device.population in (None, Population.WORKSTATION):
            at[_nearest_declaring(users, device.entity)][0].append(device)
    for machine in machines:
        if machine.population is Population.WORKSTATION and not machine.is_virtual:
            at[_nearest_declaring(users, machine.entity)][1].append(machine)
    by_row: defaultdict[str | None, list[str]] = defaultdict(list)
    for entity in sorted(users):
        by_row[cut_entity(entity, query.level) if "entity" in query.dimensions else None].append(entity)
    for row, entities in by_row.items():
        yield IndicatorGroup(
            query.key._replace(entity=row),
            tuple(one for entity in entities for one in at[entity][1]),
            tuple(one for entity in entities for one in at[entity][0]),
            sum(users[entity] for entity in entities),
        )


def _users(headcounts: Iterable[Headcount], day: date) -> dict[str, int]:
    """Return entity → its users on a day, without those of entities below with a headcount of their own."""
    newest: dict[str, Headcount] = {}
    for one in headcounts:
        if one.from_day <= day and (one.entity not in newest or newest[one.entity].from_day <= one.from_day):
            newest[one.entity] = one
    return {entity: one.users for entity, one in newest.items()}


def _nearest_declaring(declared: Mapping[str, int], entity: str) -> str:
    """Return the entity itself, or the nearest one above it, with a declared number; blank if none."""
    parts = entity.split(ENTITY_SEPARATOR)
    for depth in range(len(parts), 0, -1):
        path = ENTITY_SEPARATOR.join(parts[:depth])
        if path in declared:
            return path
    return ""
