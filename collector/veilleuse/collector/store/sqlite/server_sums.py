# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the sums of servers that triggers keep (data_0026), and moves the day from which they are kept.

Implements ports.ServerSumReader.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Any, Final, TypeAlias

from veilleuse.collector import clock
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.records import AgentId, Grain, HostId
from veilleuse.collector.model.sums import EnergySums, GroupPower, ServerGroup, ServerUse
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.registry_rows import HOST_COLUMNS, host_from_row, place_server
from veilleuse.collector.wire_codec import GAP_REASONS, POPULATIONS, STATES, facts_from_wire, number
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_MINUTE, UNIX_EPOCH_DAY
from veilleuse.wire.vocabulary import DeviceClass, Population, State

Ask: TypeAlias = Callable[..., list[Any]]
"""Runs (sql, *values) and returns the rows."""

KEPT_DAYS: Final = 2
"""Days before today, UTC, whose sums are kept: yesterday in any time zone."""
CALL_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""Time allowed to store and derive a server's record, 1 min.

A record's power counts as current for its length, one contact interval and this time.
"""
_NEVER: Final = 1 << 40
"""server_sums.first_day after the migration."""

_STATES: Final = (
    "SELECT s.start, group_id, state, sum(s.milliseconds), count(*)"
    " FROM sums s JOIN servers USING (host_id) WHERE grain = ?1 AND s.start >= ?2 AND s.start < ?3"
    " GROUP BY s.start, group_id, state"
)
_TIMES: Final = (
    f"SELECT s.start, host_id, sum(s.milliseconds), sum(state <> {number(State.UNKNOWN)})"
    " FROM sums s JOIN servers USING (host_id) WHERE grain = ?1 AND s.start >= ?2 AND s.start < ?3"
    " GROUP BY s.start, host_id"
)
_ENERGIES: Final = (
    "SELECT grain, d.start, group_id, state, method, sum(d.milliseconds), sum(d.energy_millijoules), count(*)"
    " FROM derived d JOIN servers USING (host_id) WHERE grain = ?1 AND d.start >= ?2 AND d.start < ?3"
    " GROUP BY grain, d.start, group_id, state, method"
)
_GAPS: Final = (
    "SELECT reason, sum(records), sum(g.milliseconds), count(*) FROM gap_sums g JOIN servers USING (host_id)"
    " GROUP BY reason"
)
_DIFFERS: Final = (
    "WITH kept AS MATERIALIZED ({}), made AS MATERIALIZED ({}) SELECT EXISTS"
    " (SELECT * FROM (SELECT * FROM kept EXCEPT SELECT * FROM made)"
    " UNION ALL SELECT * FROM (SELECT * FROM made EXCEPT SELECT * FROM kept))"
)
"""One statement, which is one snapshot."""
_IS_RECENT: Final = (
    "is_active AND energy_millijoules >= 0 AND milliseconds > 0"
    f" AND start + 2 * milliseconds + {CALL_MILLISECONDS} >= ?"
)
"""Takes the present time less one contact interval."""
_WATTS: Final = "energy_millijoules * 1.0 / milliseconds"
"""1 mJ per ms is 1 W."""
_PCS: Final = f"population IN ({number(Population.WORKSTATION)}, {number(Population.CLASSROOM)})"
_PLACES: Final = (
    "WITH RECURSIVE place(population, entity, site) AS ("
    " SELECT * FROM (SELECT population, org_entity, site FROM hosts ORDER BY 1, 2, 3 LIMIT 1)"
    " UNION ALL SELECT h.population, h.org_entity, h.site FROM place p JOIN hosts h ON h.host_id = coalesce("
    "(SELECT host_id FROM hosts WHERE population = p.population AND org_entity = p.entity AND site > p.site"
    " ORDER BY site LIMIT 1), (SELECT host_id FROM hosts WHERE population = p.population AND org_entity > p.entity"
    " ORDER BY org_entity, site LIMIT 1), (SELECT host_id FROM hosts WHERE population > p.population"
    " ORDER BY population, org_entity, site LIMIT 1))) SELECT entity, site, population FROM place"
)
"""Steps from place to place in the index hosts_by_place, past all machines of one place at once."""


def begin(database: Database) -> None:
    """Place the servers after the migration, and keep sums from now on; once. One transaction."""
    with database.transaction() as connection:
        if connection.execute("SELECT 1 FROM server_sums WHERE first_day <> ?", (_NEVER,)).fetchone():
            return
        rows = connection.execute("SELECT host_id, facts FROM servers JOIN hosts USING (host_id)").fetchall()
        for host_id, facts in rows:
            place_server(connection, host_id, facts_from_wire(facts or b"").device_class)
        keep_sums(database, clock.today())


def keep_sums(database: Database, today: date) -> None:
    """Keep the sums of today (UTC), yesterday and the day before: delete earlier ones.

    Days that were not kept so far are added from the tables `sums` and `derived`.
    """
    first_day = today.toordinal() - KEPT_DAYS
    with database.transaction() as connection:
        ((day, hour),) = connection.execute("SELECT first_day, first_hour FROM server_sums").fetchall()
        first_hour = (first_day - UNIX_EPOCH_DAY) * MILLISECONDS_PER_DAY
        connection.execute("UPDATE server_sums SET first_day = ?, first_hour = ?", (first_day, first_hour))
        connection.execute("DELETE FROM server_states WHERE day < ?", (first_day,))
        connection.execute("DELETE FROM server_days WHERE day < ?", (first_day,))
        for grain, first, end in ((Grain.DAY, first_day, day), (Grain.HOUR, first_hour, hour)):
            connection.execute("DELETE FROM server_energies WHERE grain = ? AND start < ?", (grain, first))
            connection.execute(f"INSERT INTO server_energies {_ENERGIES}", (grain, first, end))
        connection.execute(f"INSERT INTO server_states {_STATES}", (Grain.DAY, first_day, day))
        connection.execute(f"INSERT INTO server_days {_TIMES}", (Grain.DAY, first_day, day))


class SqliteServerSums:
    """Reads the sums with one reader's connections."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._groups: dict[int, ServerGroup] = {}
        """Cached: a group is never changed or removed."""

    def wrong_tables(self) -> tuple[str, ...]:
        ((day, hour),) = self._ask("SELECT first_day, first_hour FROM server_sums")
        days, hours = (Grain.DAY, day, 1 << 62), (Grain.HOUR, hour, 1 << 62)
        energies = "server_energies WHERE grain = ?1 AND start >= ?2 AND cells > 0"
        found = {
            kept.split()[0]
            for kept, made, since in (
                ("server_states WHERE day >= ?2 AND cells > 0", _STATES, days),
                ("server_days WHERE day >= ?2", _TIMES, days),
                (energies, _ENERGIES, days),
                (energies, _ENERGIES, hours),
                ("server_gaps WHERE cells > 0", _GAPS, ()),
            )
            if self._ask(_DIFFERS.format(f"SELECT * FROM {kept}", made), *since)[0][0]
        }
        return tuple(sorted(found))

    # --- machines

    def changes(self, after: int) -> Iterator[tuple[int, Host]]:
        columns = ", ".join(f"h.{name.strip()}" for name in HOST_COLUMNS.split(","))
        rows = self._ask(
            f"SELECT change, {columns} FROM servers JOIN hosts h USING (host_id) WHERE change > ? ORDER BY change",
            after,
        )
        return ((change, host_from_row(row)) for change, *row in rows)

    def number_of_servers(self) -> int:
        return int(self._ask("SELECT count(*) FROM servers")[0][0])

    def server_ids(self) -> frozenset[HostId]:
        return frozenset(HostId(row[0]) for row in self._ask("SELECT host_id FROM servers"))

    def places(self) -> frozenset[tuple[str, str, Population]]:
        return frozenset((entity, site, POPULATIONS[number]) for entity, site, number in self._ask(_PLACES))

    def active_pcs(self, limit: int) -> int:
        sql = f"SELECT count(*) FROM (SELECT 1 FROM hosts WHERE {_PCS} AND status = ? LIMIT ?)"
        return int(self._ask(sql, HostStatus.ACTIVE.value, limit)[0][0])

    def pc_counts(self) -> dict[tuple[Population, HostStatus], tuple[int, date]]:
        rows = self._ask(
            f"SELECT population, status, count(*), min(enrolled_day) FROM hosts WHERE {_PCS} GROUP BY 1, 2"
        )
        return {
            (POPULATIONS[population], HostStatus(status)): (count, date.fromordinal(first))
            for population, status, count, first in rows
        }

    # --- groups

    def states(self, day: date) -> dict[tuple[ServerGroup, State], int]:
        rows = self._ask(
            "SELECT group_id, state, milliseconds FROM server_states WHERE day = ? AND cells > 0",
            day.toordinal(),
        )
        return {(self._group(group), STATES[state]): milliseconds for group, state, milliseconds in rows}

    def energies(self, day: date) -> dict[tuple[ServerGroup, Method, State], EnergySums]:
        rows = self._ask(
            "SELECT group_id, method, state, milliseconds, energy_millijoules FROM server_energies"
            " WHERE grain = ? AND start = ? AND cells > 0",
            Grain.DAY,
            day.toordinal(),
        )
        return {
            (self._group(group), Method(method), STATES[state]): EnergySums(*values)
            for group, method, state, *values in rows
        }

    def hours(self, start: int, end: int) -> dict[tuple[DeviceClass, Method], dict[int, int]]:
        rows = self._ask(
            "SELECT device_class, method, start, sum(energy_millijoules) FROM server_energies"
            " JOIN server_groups USING (group_id) WHERE grain = ? AND start >= ? AND start < ? AND cells > 0"
            " GROUP BY 1, 2, 3",
            Grain.HOUR,
            start,
            end,
        )
        found: defaultdict[tuple[DeviceClass, Method], dict[int, int]] = defaultdict(dict)
        for device_class, method, hour, energy in rows:
            found[DeviceClass(device_class), Method(method)][hour] = energy
        return dict(found)

    def seen(self, day: date) -> dict[ServerGroup, int]:
        rows = self._ask(
            "SELECT group_id, count(*) FROM server_days JOIN servers USING (host_id)"
            " WHERE day = ? AND known_cells > 0 GROUP BY group_id",
            day.toordinal(),
        )
        return {self._group(group): count for group, count in rows}

    def times(self, day: date, longer_than_milliseconds: int) -> dict[HostId, int]:
        rows = self._ask(
            "SELECT host_id, milliseconds FROM server_days WHERE day = ? AND (milliseconds > ?"
            " OR host_id IN (SELECT host_id FROM servers WHERE NOT is_active))",
            day.toordinal(),
            longer_than_milliseconds,
        )
        return {HostId(host): milliseconds for host, milliseconds in rows}

    def power(self, now_unix_milliseconds: int, contact_milliseconds: int) -> dict[ServerGroup, GroupPower]:
        rows = self._ask(
            f"SELECT group_id, count(*), sum({_WATTS}), max(start + milliseconds) FROM servers"
            f" WHERE {_IS_RECENT} GROUP BY group_id",
            now_unix_milliseconds - contact_milliseconds,
        )
        return {self._group(group): GroupPower(*values) for group, *values in rows}

    def totals(self) -> dict[tuple[str, str, State], int]:
        rows = self._ask(
            "SELECT org_entity, site, state, sum(milliseconds) FROM server_totals JOIN server_groups USING (group_id)"
            " GROUP BY 1, 2, 3"
        )
        return {(entity, site, STATES[state]): milliseconds for entity, site, state, milliseconds in rows}

    def gaps(self) -> dict[str, tuple[int, int]]:
        rows = self._ask("SELECT reason, records, milliseconds FROM server_gaps WHERE cells > 0")
        return {GAP_REASONS[reason].value: (records, milliseconds) for reason, records, milliseconds in rows}

    # --- single servers

    def powers(
        self, now_unix_milliseconds: int, contact_milliseconds: int
    ) -> Iterator[tuple[AgentId, ServerGroup, float]]:
        rows = self._ask(
            f"SELECT agent_id, group_id, {_WATTS} FROM servers JOIN hosts USING (host_id) WHERE {_IS_RECENT}"
            " ORDER BY host_id",
            now_unix_milliseconds - contact_milliseconds,
        )
        return ((AgentId(agent), self._group(group), watts) for agent, group, watts in rows)

    def day_energies(self, day: date) -> Iterator[tuple[AgentId, ServerGroup, Method, int]]:
        rows = self._ask(
            "SELECT agent_id, group_id, method, sum(d.energy_millijoules) FROM derived d JOIN servers USING (host_id)"
            " JOIN hosts USING (host_id) WHERE grain = ? AND d.start = ? GROUP BY host_id, method"
            " ORDER BY host_id, method",
            Grain.DAY,
            day.toordinal(),
        )
        return (
            (AgentId(agent), self._group(group), Method(method), energy)
            for agent, group, method, energy in rows
        )

    def busiest(
        self, now_unix_milliseconds: int, contact_milliseconds: int, day: date, limit: int
    ) -> tuple[ServerUse, ...]:
        rows = self._ask(
            "SELECT host_id, agent_id, group_id, watts, last_contact_unix_milliseconds FROM"
            f" (SELECT host_id, group_id, iif({_IS_RECENT}, {_WATTS}, NULL) AS watts FROM servers WHERE is_active"
            " ORDER BY watts DESC NULLS LAST, host_id LIMIT ?) JOIN hosts USING (host_id)"
            " ORDER BY watts DESC NULLS LAST, host_id",
            now_unix_milliseconds - contact_milliseconds,
            limit,
        )
        uses = self._uses([row[0] for row in rows], day)
        energies = self._energies([row[0] for row in rows], day)
        return tuple(
            ServerUse(
                AgentId(agent),
                self._group(group),
                watts,
                contact,
                *uses.get(host, ({}, 0, 0)),
                energies.get(host),
            )
            for host, agent, group, watts, contact in rows
        )

    def _uses(self, hosts: Iterable[int], day: date) -> dict[int, tuple[dict[State, int], int, int]]:
        """Return (milliseconds by state, busy and covered milliseconds of the CPU)."""
        found: dict[int, tuple[dict[State, int], int, int]] = {}
        for host, state, milliseconds, busy, covered in self._ask(
            "SELECT host_id, state, sum(milliseconds), coalesce(sum(cpu_busy_milliseconds), 0),"
            " coalesce(sum(cpu_covered_milliseconds), 0) FROM sums WHERE grain = ? AND start = ?"
            " AND host_id IN (SELECT value FROM json_each(?)) GROUP BY host_id, state",
            Grain.DAY,
            day.toordinal(),
            json.dumps(list(hosts)),
        ):
            states, *cpu = found.get(host, ({}, 0, 0))
            states[STATES[state]] = milliseconds
            found[host] = (states, cpu[0] + busy, cpu[1] + covered)
        return found

    def _energies(self, hosts: Iterable[int], day: date) -> dict[int, int]:
        return dict(
            self._ask(
                "SELECT host_id, sum(energy_millijoules) FROM derived WHERE grain = ? AND start = ?"
                " AND host_id IN (SELECT value FROM json_each(?)) GROUP BY host_id",
                Grain.DAY,
                day.toordinal(),
                json.dumps(list(hosts)),
            )
        )

    def _group(self, group_id: int) -> ServerGroup:
        if group_id not in self._groups:
            rows = self._ask("SELECT group_id, org_entity, site, device_class FROM server_groups")
            for key, entity, site, device_class in rows:
                self._groups[key] = ServerGroup(entity, site, Population.SERVER.value, device_class)
        return self._groups[group_id]
