# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read inventory files in tests as the command reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from tests.support.filled import Filled
from veilleuse.collector.inventory import read_files
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading, from_document, to_document
from veilleuse.collector.model.inventory import AssetMatches, AssetRecord, InventoryChange, Placement
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import Population

WORDS = InventoryMapping(sites=frozenset({"Lyon", "Bron"}))


def read(
    data: bytes | str, name: str = "parc", words: InventoryMapping = WORDS, **more: str
) -> InventoryReading:
    """Read one file; its reading is converted to JSON and back, as on its way to the collector."""
    raw = data.encode() if isinstance(data, str) else data
    return from_document(json.loads(json.dumps(to_document(read_files([(name, raw)], words, **more)))))


class Listed(NamedTuple):
    """A device of an inventory."""

    hosts: tuple[HostId, ...]
    """Its machines, the current one last."""
    entity: str
    device_class: str = "laptop"
    population: Population | None = None
    moved: tuple[tuple[date, str], ...] = ()
    """Days on which it came to other entities."""


def put_inventory(filled: Filled, listed: Sequence[Listed], day: date) -> None:
    """Import these devices on a day, and match their machines; the nth is always asset n."""
    inventory = filled.store.inventory
    assets = tuple(
        AssetRecord(
            number,
            "glpi",
            "computer",
            str(number),
            device_class=one.device_class,
            population=one.population,
            placements=tuple(
                Placement(since, entity, "lyon")
                for since, entity in ((date(2020, 1, 1), one.entity), *one.moved)
            ),
        )
        for number, one in enumerate(listed, start=1)
    )
    inventory.apply(InventoryChange(inventory.snapshot().generation + 1, day, assets))
    links = {number: one.hosts[-1] for number, one in enumerate(listed, start=1) if one.hosts}
    earlier = {host: number for number, one in enumerate(listed, start=1) for host in one.hosts[:-1]}
    inventory.put_matching(AssetMatches(links, (), earlier))
