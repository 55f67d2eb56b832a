# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores the inventory in both files.

Implements ports.InventoryReader and ports.InventoryStore; docs/inventory.md.

An import has two commits. The first writes to identity.db the names *and* the rows for data.db; the second
writes those rows to data.db. The first commit decides: after a crash between both, the next start ends the
import; after a crash before the first, nothing of the import is stored.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.errors import OvertakenImport, StoreFailing, StoreFull
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.inventory import (
    Asset,
    AssetMatches,
    AssetRecord,
    Candidate,
    Decision,
    DeviceGroup,
    Doubt,
    DoubtKind,
    Entity,
    Headcount,
    InventoryChange,
    InventorySnapshot,
    MatchVerdict,
    PowerContext,
    Purchase,
    Retirement,
)
from veilleuse.collector.model.records import HostId
from veilleuse.collector.store.directory import DATA_FILE
from veilleuse.collector.store.sqlite import inventory_rows as rows
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.migrations import open_current
from veilleuse.collector.wire_codec import facts_from_wire
from veilleuse.wire.vocabulary import DeviceClass, Population

log = logging.getLogger(__name__)

_MATCHED: Final = tuple(one.value for one in HostStatus if one is not HostStatus.FORGOTTEN)
_AGENTS: Final = frozenset(one.value for one in DeviceClass)


class SqliteInventory:
    """Writes both files on their writing connections, in the writer's thread, outside any transaction
    (`alone`).
    """

    def __init__(self, data: Database, identity: Database) -> None:
        """Ends an interrupted import."""
        self._data, self._identity = data, identity
        self._end()

    def snapshot(self) -> InventorySnapshot:
        """Return the whole stored inventory."""
        self._end()
        with self._data.translated(), self._identity.translated():
            connection = self._data.connection
            names = {
                row[0]: row[1:]
                for row in self._identity.connection.execute(
                    f"SELECT {rows.NAME_COLUMNS} FROM inventory_names"
                )
            }
            assets = tuple(
                _named(one, names[one.asset_id])
                for one in rows.read_assets(connection)
                if one.asset_id in names
            )
            highest = connection.execute(
                "SELECT coalesce(max(asset_id), 0) FROM inventory_assets"
            ).fetchone()[0]
            return InventorySnapshot(
                rows.generation(connection),
                assets,
                rows.read_entities(connection),
                rows.read_purchases(connection),
                rows.read_retirements(connection),
                rows.read_headcounts(connection),
                max(highest, *names, 0) + 1,
            )

    def apply(self, change: InventoryChange) -> None:
        """Write a whole import. Raises OvertakenImport; StoreFull or StoreFailing."""
        # of an earlier import whose rows data.db could not take: this import would overwrite them
        self._end()
        document = rows.document_of(change)
        with self._identity.transaction() as connection:
            if rows.generation(self._data.connection) != change.generation - 1:
                raise OvertakenImport("another import came first: nothing was imported; try again")
            rows.upsert_names(connection, change.assets)
            connection.execute("DELETE FROM inventory_pending")
            connection.execute("INSERT INTO inventory_pending VALUES (?, ?)", (change.generation, document))
        try:
            with self._data.transaction() as connection:
                rows.write(connection, document)
        except (StoreFull, StoreFailing) as error:
            raise type(error)(
                f"{error}; the import is written down, and ended by the next command or start once that is mended"
            ) from error

    def _end(self) -> None:
        """Write to data.db the rows that identity.db holds for it."""
        with self._identity.translated():
            waiting = self._identity.connection.execute(
                "SELECT generation, document FROM inventory_pending"
            ).fetchone()
        if waiting is None:
            return
        generation, document = waiting
        with self._data.translated():
            reached = rows.generation(self._data.connection)
        if reached == generation - 1:
            with self._data.transaction() as connection:
                rows.write(connection, document)
            log.info("import of the inventory ended", extra={"generation": generation})
        elif reached < generation:
            with self._data.translated():
                (last,) = self._data.connection.execute(
                    "SELECT max(asset_id) FROM inventory_assets"
                ).fetchone()
            with self._identity.transaction() as connection:
                connection.execute("DELETE FROM inventory_names WHERE asset_id > ?", (last or 0,))
                connection.execute("DELETE FROM inventory_pending")
            log.warning(
                "inventory of an older backup: import it again",
                extra={"generation": reached, "newest_generation": generation},
            )

    def candidates(self) -> tuple[Candidate, ...]:
        """Return the machines that enrolled, also revoked ones, with their keys for matching."""
        with self._identity.translated():
            marks = {
                row[0]: row[1:]
                for row in self._identity.connection.execute(
                    "SELECT agent_id, chassis_pseudonym, smbios_pseudonym FROM pseudonyms"
                )
            }
        with self._data.translated():
            found = self._data.connection.execute(
                f"SELECT host_id, agent_id, facts, status FROM hosts WHERE status IN ({', '.join('?' * len(_MATCHED))})"
                " ORDER BY host_id",
                _MATCHED,
            ).fetchall()
        candidates = []
        for host_id, agent_id, wire, status in found:
            facts = facts_from_wire(wire or b"")
            chassis, smbios = marks.get(agent_id, (b"", b""))
            candidates.append(
                Candidate(
                    HostId(host_id),
                    chassis,
                    smbios,
                    facts.device_class.value,
                    facts.model or "",
                    has_left=status == HostStatus.REVOKED.value,
                )
            )
        return tuple(candidates)

    def decisions(self) -> tuple[Decision, ...]:
        """Return all decisions in force."""
        with self._data.translated():
            found = self._data.connection.execute(
                "SELECT asset_id, host_id, verdict FROM inventory_decisions ORDER BY asset_id, host_id"
            ).fetchall()
        return tuple(
            Decision(asset, HostId(host) if host else None, MatchVerdict(word)) for asset, host, word in found
        )

    def decide(self, decisions: Iterable[Decision]) -> None:
        """Store decisions.

        A match replaces those of its asset and of its machine; links of revoked machines stay.
        """
        with self._data.transaction() as connection:
            for one in decisions:
                host = one.host_id or 0
                if one.verdict is MatchVerdict.MATCHED:
                    connection.execute(
                        "DELETE FROM inventory_decisions WHERE host_id = ? AND verdict = ? OR asset_id = ?"
                        " AND host_id NOT IN (SELECT host_id FROM hosts WHERE status = ?)",
                        (host, MatchVerdict.MATCHED.value, one.asset_id, HostStatus.REVOKED.value),
                    )
                connection.execute(
                    "INSERT INTO inventory_decisions VALUES (?, ?, ?)"
                    " ON CONFLICT (asset_id, host_id) DO UPDATE SET verdict = excluded.verdict",
                    (one.asset_id, host, one.verdict.value),
                )

    def put_matching(self, matching: AssetMatches) -> int:
        """Replace all links; returns the number of links that changed."""
        with self._data.transaction() as connection:
            before = dict(
                connection.execute("SELECT asset_id, host_id FROM inventory_assets WHERE host_id IS NOT NULL")
            )
            links = dict(matching.links)
            changed = [
                (links.get(asset_id), asset_id)
                for asset_id in before.keys() | links.keys()
                if before.get(asset_id) != links.get(asset_id)
            ]
            connection.executemany("UPDATE inventory_assets SET host_id = ? WHERE asset_id = ?", changed)
            was = rows.read_earlier(connection)
            if was != matching.earlier:
                connection.execute("DELETE FROM inventory_earlier_hosts")
                connection.executemany(
                    "INSERT INTO inventory_earlier_hosts VALUES (?, ?)", list(matching.earlier.items())
                )
            if _doubts(self._data) != matching.doubts:
                connection.execute("DELETE FROM inventory_doubts")
                connection.executemany(
                    "INSERT INTO inventory_doubts (kind, asset_id, host_id, other_asset_id) VALUES (?, ?, ?, ?)",
                    [
                        (one.kind.value, one.asset_id, one.host_id, one.other_asset_id)
                        for one in matching.doubts
                    ],
                )
        return len(changed) + len(was.items() ^ matching.earlier.items())


class SqliteInventoryReader:
    """Reads the inventory, in any process."""

    def __init__(self, directory: Path) -> None:
        """Raises DataDirectoryError, StoreDamaged."""
        self._data = open_current(directory / DATA_FILE, "data")

    def close(self) -> None:
        """Close the connection."""
        self._data.close()

    def assets(self) -> tuple[Asset, ...]:
        """Return all assets but duplicates, in the order of import.

        Absent facts come from the entity, then the class.
        """
        with self._data.translated(), self._data.connection as connection:  # one snapshot
            connection.execute("BEGIN")
            records = list(rows.read_assets(connection))
            tree = _Tree(rows.read_entities(connection))
        return tuple(tree.asset(one) for one in records if not one.is_duplicate)

    def devices(self, first: date, last: date) -> tuple[DeviceGroup, ...]:
        """Return the devices in service on a day of [first, last], at their place of the last one."""
        with self._data.translated(), self._data.connection as connection:  # one snapshot
            connection.execute("BEGIN")
            tree = _Tree(rows.read_entities(connection))
            groups: defaultdict[Sequence[str], list[Any]] = defaultdict(list)
            for row in rows.count_devices(connection, first, last):
                groups[row[:7]].append(row[7:])
        return tuple(tree.group(facts, counts) for facts, counts in sorted(groups.items()))

    def reinstalled(self) -> dict[HostId, HostId]:
        """Return machine of a reinstalled asset → the asset's last machine, which maps to itself."""
        with self._data.translated():
            found = self._data.connection.execute(
                "SELECT earlier.host_id, coalesce(asset.host_id, max(earlier.host_id) OVER (PARTITION BY asset_id))"
                " FROM inventory_earlier_hosts AS earlier JOIN inventory_assets AS asset USING (asset_id)"
                " WHERE NOT is_duplicate"
            )
            last = {HostId(host_id): HostId(last) for host_id, last in found if host_id != last}
        return last | {one: one for one in last.values()}

    def entities(self) -> tuple[Entity, ...]:
        """Return all entities, parents first."""
        with self._data.translated():
            return rows.read_entities(self._data.connection)

    def purchases(self, year: int) -> tuple[Purchase, ...]:
        """Return the purchases of a year, of all inventories."""
        with self._data.translated():
            found = rows.read_purchases(self._data.connection, "WHERE year = ?", year)
        return tuple(one.purchase for one in found)

    def retirements(self, first: date, end: date) -> tuple[Retirement, ...]:
        """Return retirements on days of [first, end)."""
        days = first.toordinal(), end.toordinal()
        with self._data.translated():
            found = rows.read_retirements(
                self._data.connection, "WHERE day >= ? AND day < ?", *days, columns=rows.AGED_RETIREMENT
            )
        return tuple(one.retirement for one in found)

    def headcounts(self) -> tuple[Headcount, ...]:
        """Return headcounts by entity and day."""
        with self._data.translated():
            return rows.read_headcounts(self._data.connection)

    def inventory_imported_on(self) -> date | None:
        """Return the UTC date of the last import that changed anything."""
        with self._data.translated():
            return rows.imported_on(self._data.connection)

    def doubts(self) -> tuple[Doubt, ...]:
        """Return the doubts that wait for an operator."""
        return _doubts(self._data)

    def duplicates(self) -> tuple[int, ...]:
        """Return the assets that are duplicates and do not count."""
        with self._data.translated():
            found = self._data.connection.execute("SELECT asset_id FROM inventory_assets WHERE is_duplicate")
            return tuple(row[0] for row in found)


class _Tree:
    """Finds facts of assets in their entities: the nearest entity with the fact counts."""

    def __init__(self, entities: Sequence[Entity]) -> None:
        self._said: dict[str, tuple[str, PowerContext | None, Population | None]] = {}
        for one in entities:  # parents first
            above = self._said.get(one.parent or "", ("", None, None))
            self._said[one.name] = (
                one.site or above[0],
                one.power_context or above[1],
                one.population or above[2],
            )

    def asset(self, one: AssetRecord) -> Asset:
        """Return the asset as ports.InventoryReader does.

        Power context and population are those of its last place.
        """
        placements = tuple(
            place if place.site else replace(place, site=self._of(place.entity)[0])
            for place in one.placements
        )
        _, context, population = self._of(placements[-1].entity)
        return Asset(
            asset_id=one.asset_id,
            device_class=one.device_class,
            placements=placements,
            population=_population(one.device_class, one.population, population),
            power_context=one.power_context or context or PowerContext.OWN_SITE,
            vendor=one.vendor,
            model=one.model,
            host_id=one.host_id,
            earlier_host_ids=one.earlier_host_ids,
            in_service_on=one.in_service_on,
            out_of_service_on=one.out_of_service_on,
            refurbished=one.refurbished,
            displays=one.displays,
            server_role=one.server_role,
            absent_since=one.absent_since,
        )

    def group(self, facts: Sequence[str], counts: Sequence[Any]) -> DeviceGroup:
        """Return the devices with the same facts; `counts`: (age, devices, displays), as `count_devices`."""
        entity, site, machine_site, last_entity, device_class, own, own_context = facts
        _, context, population = self._of(last_entity)
        displays = [shown for _, _, shown in counts if shown is not None]
        return DeviceGroup(
            entity,
            site or self._of(entity)[0],
            machine_site,
            _population(device_class, Population(own) if own else None, population),
            device_class,
            PowerContext(own_context) if own_context else context or PowerContext.OWN_SITE,
            {age_years: number for age_years, number, _ in counts},
            sum(displays) if displays else None,
        )

    def _of(self, entity: str) -> tuple[str, PowerContext | None, Population | None]:
        return self._said.get(entity, ("", None, None))


def _population(device_class: str, own: Population | None, of_entity: Population | None) -> Population | None:
    """Return the population: a server is one anywhere; a PC of unknown population counts where privacy is
    strictest.
    """
    if device_class not in _AGENTS:
        return None
    if own is not None:
        return own
    if device_class in (DeviceClass.SERVER.value, DeviceClass.VIRTUAL_MACHINE.value):
        return Population.SERVER
    return of_entity or Population.WORKSTATION


def _doubts(database: Database) -> tuple[Doubt, ...]:
    with database.translated():
        found = database.connection.execute(
            "SELECT kind, asset_id, host_id, other_asset_id FROM inventory_doubts ORDER BY doubt_id"
        ).fetchall()
    return tuple(
        Doubt(DoubtKind(kind), asset, None if host is None else HostId(host), other)
        for kind, asset, host, other in found
    )


def _named(one: AssetRecord, names: tuple[str, str, str, str, str, bytes, bytes, str]) -> AssetRecord:
    source, item, key, name, number, chassis, smbios, raw = names
    return replace(
        one,
        source=source,
        item=item,
        key=key,
        name=name,
        inventory_number=number,
        chassis_pseudonym=chassis,
        smbios_pseudonym=smbios,
        raw=raw,
    )
