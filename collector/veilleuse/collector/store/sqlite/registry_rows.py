# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Converts rows to the model, for the registry and the reader."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from typing import Any, Final

from veilleuse.collector.model.clones import SHARED_PSEUDONYMS
from veilleuse.collector.model.hosts import (
    AppliedConfiguration,
    AppliedState,
    Host,
    HostStatus,
    MachineFacts,
    Site,
)
from veilleuse.collector.model.records import AgentId, DataKind, HostId
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.batch import TURN
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.wire_codec import POPULATIONS, facts_from_wire, health_from_wire, number
from veilleuse.wire.vocabulary import DeviceClass, Population

HOST_COLUMNS: Final = (
    "host_id, agent_id, org_entity, site, population, status, enrolled_day, last_contact_unix_milliseconds, facts, health,"
    " configuration_sha256, configuration_state, copy_of, conflicts, used_generation"
)
CONTACT_COLUMNS: Final = HOST_COLUMNS.replace("facts, health", "NULL, NULL")
"""HOST_COLUMNS without the documents, which take most of the time to read a row."""
SITE_COLUMNS: Final = "site, zone, time_zone, calendar_json"


def host_from_row(row: Any) -> Host:
    """Build a Host from HOST_COLUMNS."""
    host_id, agent_id, org_entity, site, population, status, enrolled_day, last_contact, *more = row
    facts, health, configuration_sha256, configuration_state, copy_of, conflicts, used_generation = more
    return Host(
        host_id=HostId(host_id),
        agent_id=AgentId(agent_id),
        org_entity=org_entity,
        site=site,
        population=POPULATIONS[population],
        status=HostStatus(status),
        facts=facts_from_wire(facts or b""),
        enrolled_on=date.fromordinal(enrolled_day),
        last_contact_unix_milliseconds=last_contact,
        health=None if health is None else health_from_wire(health),
        configuration=None
        if configuration_sha256 is None
        else AppliedConfiguration(configuration_sha256, AppliedState(configuration_state)),
        copy_of=None if copy_of is None else HostId(copy_of),
        conflicts=conflicts,
        used_generation=used_generation,
    )


def site_from_row(row: Any) -> Site:
    """Build a Site from SITE_COLUMNS."""
    return Site(*row)


def read_data_kind(connection: sqlite3.Connection) -> DataKind:
    """Read the meta table: `simulated` (0 or 1), `created_unix_milliseconds` and other keys."""
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    return DataKind(
        simulated=meta.pop("simulated", "0") == "1",
        created_unix_milliseconds=int(meta.pop("created_unix_milliseconds", "0")),
        schema_version=version,
        extra=meta,
    )


def mark_shared(data: Database, identity: Database) -> None:
    """Store in data.db which hosts share a pseudonym, by their ids; no pseudonym leaves identity.db."""
    hosts = dict(data.rows("SELECT agent_id, host_id FROM hosts"))
    groups: set[tuple[int, ...]] = set()
    for name in ("chassis_pseudonym", "smbios_pseudonym"):
        of_mark: defaultdict[bytes, list[int]] = defaultdict(list)
        for mark, agent_id in identity.rows(f"SELECT {name}, agent_id FROM pseudonyms WHERE {name} <> x''"):
            if agent_id in hosts:
                of_mark[mark].append(hosts[agent_id])
        groups.update(tuple(sorted(group)) for group in of_mark.values() if len(group) > 1)
    data.write("DELETE FROM meta WHERE key = ?", SHARED_PSEUDONYMS)
    if groups:
        data.write("INSERT INTO meta VALUES (?, ?)", SHARED_PSEUDONYMS, json.dumps(sorted(groups)))


MARK_HOST: Final = (
    f"INSERT INTO dirty SELECT DISTINCT host_id, grain, bucket, {TURN.format(grain='grain')} FROM records"
    " WHERE host_id = ? AND grain > 0 ON CONFLICT DO NOTHING"
)
"""Marks every period of a machine that still has records."""
_WHAT_DERIVE_ASKS: Final = (
    "vendor",
    "model",
    "cpu_model",
    "cpu_count",
    "memory_modules",
    "hard_disks",
    "solid_state_disks",
)


_GROUP: Final = (
    "INSERT INTO server_groups (org_entity, site, device_class) SELECT org_entity, site, ? FROM hosts"
    " WHERE host_id = ? AND population = ? ON CONFLICT DO NOTHING"
)
_PLACE: Final = (
    "UPDATE servers SET group_id = (SELECT group_id FROM server_groups JOIN hosts USING (org_entity, site)"
    " WHERE hosts.host_id = servers.host_id AND device_class = ?) WHERE host_id = ?"
)


def place_server(connection: sqlite3.Connection, host_id: HostId, device_class: DeviceClass) -> None:
    """Move a server's sums to the group of its class (data_0026), in the open transaction; a PC has none."""
    connection.execute(_GROUP, (device_class.value, host_id, number(Population.SERVER)))
    connection.execute(_PLACE, (device_class.value, host_id))


def tells_more(before: MachineFacts, now: MachineFacts) -> bool:
    """Tell whether facts that derive lacked are known now.

    Changed facts do not count: the past had the former parts.
    """
    if before.device_class is DeviceClass.UNKNOWN is not now.device_class:
        return True
    return any(getattr(before, name) is None is not getattr(now, name) for name in _WHAT_DERIVE_ASKS)


class FactsUpdate:
    """Marks a host's periods dirty when new facts (class, CPU, memory) would change their derived energy.

    Places a server whose class changed.

    At most once a day for each machine: alternating facts would keep derive busy.
    """

    def __init__(self, data: Database) -> None:
        self._connection = data.connection
        self._marked: dict[HostId, int] = {}
        """Host → day of its last mark."""
        data.on_forget(self._marked.clear)

    def note(self, before: Host | None, facts_wire: bytes, day: int) -> None:
        """Compare the facts of a Hello before they are written; in the open transaction.

        `day`: changes once a day.
        """
        if before is None:
            return
        now = facts_from_wire(facts_wire)
        if now.device_class is not before.facts.device_class:
            place_server(self._connection, before.host_id, now.device_class)
        if self._marked.get(before.host_id) != day and tells_more(before.facts, now):
            self._connection.execute(MARK_HOST, (before.host_id,))
            self._marked[before.host_id] = day


_COLUMNS: Final = ("unix_milliseconds", "who", "what", "why")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM journal"


def of_machine(identity: Database, agent_id: AgentId) -> list[dict[str, str | int]]:
    """Return the journal lines that name a machine, oldest first."""
    return _lines(identity, f"{_SELECT} WHERE instr(what, ?) ORDER BY journal_id", agent_id.hex())


def between(
    identity: Database, since: int, until: int, *, who: str | None, limit: int
) -> list[dict[str, str | int]]:
    """Return at most `limit` lines of [since, until), Unix milliseconds, newest first; of one operator if
    asked.
    """
    return _lines(
        identity,
        f"{_SELECT} WHERE unix_milliseconds >= ? AND unix_milliseconds < ? AND who = coalesce(?, who)"
        " ORDER BY unix_milliseconds DESC, journal_id DESC LIMIT ?",
        since,
        until,
        who,
        limit,
    )


def write(identity: Database, *line: str | int) -> None:
    """Write one line: Unix milliseconds, who, what, why."""
    identity.write(f"INSERT INTO journal ({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?)", *line)


def _lines(identity: Database, sql: str, *values: Any) -> list[dict[str, str | int]]:
    return [dict(zip(_COLUMNS, row, strict=True)) for row in identity.rows(sql, *values)]
