# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that the store's sums equal an independent count of its records, which detects a wrong table."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.promises.support.recount import recount
from tests.support.pushes import (
    HOUR,
    MONDAY_10H,
    NOW,
    Stream,
    cell,
    clock,
    enrol,
    gap,
    measurement,
    rapl,
    site,
)
from veilleuse.collector import settings
from veilleuse.collector.store import create_store
from veilleuse.wire.v1 import telemetry_pb2 as pb


def any_cell(chance: random.Random, state: Any) -> pb.Cell:
    """Return a cell with or without displays, update windows, cores and units."""
    told: dict[str, Any] = {}
    if chance.random() < 0.5:
        sizes: list[Any] = list(range(1, 1 + chance.randrange(5)))
        told["displays"] = [pb.DisplayTime(size=size, milliseconds=size) for size in sizes]
    if chance.random() < 0.5:
        told["update_window_milliseconds"] = chance.choice([0, 9_000])
        inside = chance.randrange(900)
        told["update_window_energies"] = [pb.PointEnergy(point_index=1, energy_millijoules=inside)]
    if chance.random() < 0.5:
        names = chance.sample(range(2_000), chance.randrange(64))
        told["units"] = [pb.UnitTime(name=f"unit:s{n}", cpu_milliseconds=n) for n in names]
    if chance.random() < 0.5:
        told["any_core_busy_milliseconds"] = 0
    return cell(30_000, state=state, energies=[(0, 1_000, 30_000), (1, 900, 30_000)], **told)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with two hosts, records in groups, and more unit names than a host may have."""
    chance = random.Random(5)
    directory = tmp_path_factory.mktemp("data") / "data"
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(directory, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        streams = [Stream(enrol(store.registry)) for _ in range(2)]
        for turn in range(20):
            for stream in streams:
                records = []
                for minute in range(3):
                    start = MONDAY_10H + (turn * 7 + minute) * HOUR // 2
                    cells = [any_cell(chance, state) for state in (pb.STATE_ON_ACTIVE, pb.STATE_ON_IDLE)]
                    records.append(measurement(clock(start), cells, [rapl("package-0"), rapl("dram")]))
                store.ingest.append([stream.send(*records, gap(milliseconds=turn))])
    return directory / "data.db"


def differences(path: Path, change: str = "") -> set[str]:
    """Return the tables that differ from the count, after a change that is rolled back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN")
        if change:
            assert database.execute(change).rowcount > 0
        found = {table for table, *_ in recount(database)}
        database.execute("ROLLBACK")
    return found


def test_the_sums_are_those_of_the_records(filled):
    """Every row agrees, displays, update windows and units included; one host exceeds its bound of units."""
    assert differences(filled) == set()
    with closing(sqlite3.connect(filled)) as database:
        (most,) = database.execute(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM host_units GROUP BY host_id)"
        ).fetchone()
    assert most == 1_025


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (
            "sums",
            "UPDATE sums SET display_1_milliseconds = display_1_milliseconds + 1 WHERE display_1_milliseconds > 0",
        ),
        ("sums", "UPDATE sums SET display_3_milliseconds = 0 WHERE display_3_milliseconds IS NULL"),
        ("sums", "UPDATE sums SET update_window_milliseconds = NULL WHERE update_window_milliseconds = 0"),
        (
            "point_sums",
            "UPDATE point_sums SET update_window_energy_millijoules = update_window_energy_millijoules + 1",
        ),
        ("unit_sums", "UPDATE unit_sums SET cpu_milliseconds = cpu_milliseconds - 1"),
        ("unit_sums", "DELETE FROM unit_sums WHERE unit_id = 7"),
    ],
)
def test_a_table_that_is_wrong_is_seen(filled, table, change):
    """One changed value is a difference of its table alone."""
    assert differences(filled, change) == {table}
