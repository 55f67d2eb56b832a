# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that fleets with equal sums and other hours of calls leave equal rows (docs/privacy.md)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from tests.support.pushes import (
    MONDAY_10H,
    NOW,
    WORKSTATION,
    Stream,
    cell,
    clock,
    day,
    enrol,
    measurement,
    rapl,
    site,
)
from veilleuse.collector import settings
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite.migrations import migrations
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

SERVER_RECORDS: Final = 12
_DAYS: Final = (date(2026, 3, 2), date(2026, 3, 3))


def fleet(directory: Path, hours: Sequence[int]) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows after a server's record an hour; each workstation calls once, after its hour's
    record."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(directory, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        server = Stream(enrol(store.registry, agent_id=bytes(16)), epoch=bytes(8))
        workstations = [
            Stream(
                enrol(store.registry, Population.WORKSTATION, agent_id=bytes([number] * 16)),
                WORKSTATION,
                bytes([number] * 8),
            )
            for number in range(1, len(hours) + 1)
        ]
        store.data.connection.execute("UPDATE tokens SET token_sha256 = CAST(token_id AS BLOB)")
        for hour in range(SERVER_RECORDS):
            points = [rapl(f"of-hour-{hour}")]
            cells = [cell(energies=[(0, 1_000, 60_000)])]
            store.ingest.append(
                [server.send(measurement(clock(MONDAY_10H + hour * 3_600_000), cells, points))]
            )
            for number, stream in enumerate(workstations):
                if hours[number] == hour:
                    own = [rapl(f"of-workstation-{number}")]
                    closed = [cell(band=pb.BAND_CLOSED, energies=[(0, 1_000, 60_000)])]
                    store.ingest.append(
                        [stream.send(*(measurement(day(when), closed, own) for when in _DAYS))]
                    )
        return rows(store.data.connection)


def rows(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return the sorted rows of every table."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


@pytest.mark.promise("P14")
def test_the_rows_of_workstations_do_not_tell_when_they_called(tmp_path, figure):
    """Record ids were one sequence, so that dated records beside a workstation's showed the hour of its call.
    Ids of streams, points and marks did the same."""
    early, late = fleet(tmp_path / "early", (0, 1, 1)), fleet(tmp_path / "late", (11, 7, 3))
    assert len(early["records"]) == SERVER_RECORDS + 6
    different = {name: found for name, found in early.items() if found != late[name]}
    figure(
        f"{len(different)} of {len(early)} tables ({sum(map(len, early.values()))} rows) differ between two fleets with equal "
        "sums at other hours"
    )
    assert different == {}


@pytest.mark.parametrize("first", [Population.SERVER, Population.WORKSTATION])
def test_numbers_of_before_are_taken_back(tmp_path, first):
    """The migration renumbers streams and records of workstations in order, and keeps the turn of other
    marks."""
    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as old:
        for migration in migrations("data")[:22]:
            old.executescript(migration.sql)
        populations = {1: 1, 2: 3} if first is Population.WORKSTATION else {1: 3, 2: 1}
        old.execute("INSERT INTO sites VALUES ('s', 'FR', 'Europe/Paris', '{}')")
        old.execute(
            "INSERT INTO tokens (token_id, token_sha256, created_unix_milliseconds, expires_unix_milliseconds, max_uses, org_entity,"
            " site, population) VALUES (1, x'00', 0, 0, 1, 'e', 's', 1)"
        )
        for host, population in populations.items():
            values = (host, bytes([host]), population)
            old.execute(
                "INSERT INTO hosts (host_id, agent_id, token_id, org_entity, site, population, status, enrolled_day)"
                " VALUES (?, ?, 1, 'e', 's', ?, 'active', 1)",
                values,
            )
            old.execute("INSERT INTO streams VALUES (?, ?, x'00', 3, x'00', 1)", (host, host))
        for number in range(1, 7):
            host = 1 + number % 2
            grain = 2 if populations[host] == 1 else 1
            old.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, 1, x'00', x'00', NULL)",
                (number, host, host, number, grain, number, number),
            )
            old.execute("INSERT INTO dirty VALUES (?, ?, ?, ?)", (number, host, grain, number))
        old.executescript(migrations("data")[22].sql)
        workstation = next(host for host, population in populations.items() if population == 1)
        low = -(workstation << 32)
        seen = old.execute("SELECT record_id, stream_id, seq FROM records ORDER BY record_id").fetchall()
        expected = [number for number in range(1, 7) if 1 + number % 2 == workstation]
        assert seen[:3] == [(low + 1 + i, low + 1, seq) for i, seq in enumerate(expected)]
        assert [row[0] for row in seen[3:]] == [number for number in range(1, 7) if number not in expected]
        assert {row[0] for row in old.execute("SELECT stream_id FROM streams")} == {low + 1, 3 - workstation}
        turns = dict(old.execute("SELECT start, turn FROM dirty"))
        assert turns == {number: 0 if number in expected else number for number in range(1, 7)}
