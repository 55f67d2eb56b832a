# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Limits what one host can make grow: its points, its units and its streams. docs/guarantees.md S11."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from veilleuse.collector.model.records import DecodedRecord, HostId, Point
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.wire_codec import BOUNDARIES, POINT_KINDS
from veilleuse.wire.limits import OTHER_UNITS

MOST_POINTS: Final = 256
"""Points of one host, ever: four times what a record may list. Renamed sensors fit three times."""
MOST_UNITS: Final = 1_024
"""Units of one host, ever, beside `unit:other`: sixteen times what a cell may list."""
MOST_EPOCHS_A_DAY: Final = 256
"""Streams that a host may begin in a day. A sound agent begins one a year.

An agent with a damaged disk, or one restored to a snapshot every hour, begins some dozens a day. Each stream
is a row for ever, and every Hello of the host reads all of them.
"""
_REMEMBERED: Final = 20_000
_REMEMBERED_WITH_UNITS: Final = 1_000
"""Servers with units kept in the cache: some 100 kB each at most."""


class HostPoints:
    """Caches the points that each host has ever sent energy of."""

    def __init__(self, database: Database) -> None:
        self._connection = database.connection
        self._known: dict[HostId, set[Point]] = {}
        database.on_forget(self._known.clear)

    def strange(
        self, host_id: HostId, records: Sequence[DecodedRecord]
    ) -> tuple[frozenset[Point], tuple[int, ...]]:
        """Return (points new to the host, seqs of the records that exceed the host's limit)."""
        known = self._known.get(host_id)
        if known is None:
            known = self._look(host_id)
        # Points of one shape are mostly one object. Compare identity first: hashing costs more than all the
        # rest.
        objects = {
            id(energy[0]): energy[0]
            for record in records
            for cell in record.cells
            for energy in cell.energies
        }
        if known.issuperset(objects.values()):
            return frozenset(), ()
        new: set[Point] = set()
        refused: list[int] = []
        for record in records:
            more = {energy[0] for cell in record.cells for energy in cell.energies} - known - new
            if more and len(known) + len(new) + len(more) > MOST_POINTS:
                refused.append(record.seq)
            elif more:
                new |= more
        return frozenset(new), tuple(refused)

    def keep(self, host_id: HostId, new: frozenset[Point]) -> None:
        """Add stored points to the cache."""
        if new:
            self._known[host_id] |= new

    def _look(self, host_id: HostId) -> set[Point]:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        rows = self._connection.execute(
            "SELECT kind, domain, boundary, subject FROM host_points JOIN points USING (point_id) WHERE host_id = ?",
            (host_id,),
        )
        found = {
            Point(POINT_KINDS[kind], domain, BOUNDARIES[edge], subject)
            for kind, domain, edge, subject in rows
        }
        return self._known.setdefault(host_id, found)


class HostUnits:
    """Maps unit names to unit_id, and caches which host has sent which unit.

    Names above MOST_UNITS count as `unit:other`.
    """

    def __init__(self, database: Database) -> None:
        self._connection = database.connection
        self._known: dict[HostId, dict[str, int]] = {}
        database.on_forget(self._known.clear)

    def id_of(self, host_id: HostId, name: str) -> int:
        """Return the row number of a unit, or of `unit:other`; a unit new to the host is written now."""
        known = self._known.get(host_id)
        if known is None:
            known = self._look(host_id)
        found = known.get(name)
        if found is None:
            others = len(known) - (OTHER_UNITS in known)
            if name != OTHER_UNITS and others >= MOST_UNITS:
                return self.id_of(host_id, OTHER_UNITS)
            found = known[name] = self._insert(host_id, name)
        return found

    def _look(self, host_id: HostId) -> dict[str, int]:
        if len(self._known) >= _REMEMBERED_WITH_UNITS:
            self._known.clear()
        rows = self._connection.execute(
            "SELECT name, unit_id FROM host_units JOIN units USING (unit_id) WHERE host_id = ?", (host_id,)
        )
        return self._known.setdefault(host_id, dict(rows))

    def _insert(self, host_id: HostId, name: str) -> int:
        execute = self._connection.execute
        execute("INSERT INTO units (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
        (unit_id,) = execute("SELECT unit_id FROM units WHERE name = ?", (name,)).fetchone()
        execute("INSERT INTO host_units VALUES (?, ?)", (host_id, unit_id))
        return int(unit_id)


def may_begin_a_stream(database: Database, host_id: HostId, today: int) -> bool:
    """Tell whether a host may begin another stream today (day number)."""
    (begun,) = database.connection.execute(
        "SELECT count(*) FROM streams WHERE host_id = ? AND created_day = ?", (host_id, today)
    ).fetchone()
    return bool(begun < MOST_EPOCHS_A_DAY)
