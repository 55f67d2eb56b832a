# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make records and spools as the resident process makes them, without waiting for the clock."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support import clock
from veilleuse.agent.model import Cell, ClockPeriod, Point, Record
from veilleuse.agent.spool.database import FILE_NAME, Bounds, FileSpool
from veilleuse.agent.spool.recovery import open_spool
from veilleuse.wire.limits import (
    CPU_BUCKET_EDGES_PERCENT,
    IDLE_RULE_VERSION,
    MEMORY_BUCKET_EDGES_PERCENT,
    bucket_index,
)
from veilleuse.wire.vocabulary import Band, Boundary, PointKind, State, Supply

METER = Point(PointKind.HWMON, "power_meter", Boundary.WALL)
"""The point of a server's ACPI power meter."""


def clock_record(
    start_unix_milliseconds: int,
    milliseconds: int,
    *,
    metered_millijoules: int | None = None,
    busy_ratio: float = 0.5,
) -> Record:
    """Return a period of an active server on mains, with energy at the wall if millijoules are given."""
    cell = Cell(milliseconds)
    cell.add_sum("cpu_covered_milliseconds", milliseconds)
    cell.add_sum("cpu_busy_milliseconds", round(milliseconds * busy_ratio))
    cell.add_bucket(
        "cpu_bucket_milliseconds", bucket_index(busy_ratio * 100, CPU_BUCKET_EDGES_PERCENT), milliseconds
    )
    cell.add_bucket("memory_bucket_milliseconds", bucket_index(30, MEMORY_BUCKET_EDGES_PERCENT), milliseconds)
    cell.add_sum("any_core_busy_milliseconds", 0)
    if metered_millijoules is not None:
        cell.add_energy(METER, metered_millijoules, milliseconds)
    return Record(
        period=ClockPeriod(start_unix_milliseconds, milliseconds),
        calendar_sha256="",
        idle_rule_version=IDLE_RULE_VERSION,
        cells={(Band.CLOSED, State.ON_ACTIVE, Supply.AC): cell},
        gaps={},
    )


def spool_of(state: Path) -> FileSpool:
    """Open the spool in an agent's state directory as the resident process does; the caller closes it."""
    state.mkdir(mode=0o700, exist_ok=True)
    bounds = Bounds(max_bytes=64 * 1024 * 1024, disk_reserve_bytes=0)
    return open_spool(state / FILE_NAME, bounds, clock.unix_milliseconds())


def milliseconds_of_states(records: list[Record]) -> Counter[State]:
    """Return the milliseconds per state over all cells."""
    found: Counter[State] = Counter()
    for record in records:
        for (_, state, _), cell in record.cells.items():
            found[state] += cell.milliseconds
    return found


def count_pending(spool: FileSpool) -> int:
    """Count the rows not yet acknowledged, numbered or not."""
    row = spool._connection.execute(
        "SELECT (SELECT count(*) FROM pending)"
        " + (SELECT count(*) FROM outbox WHERE acknowledged_unix_milliseconds IS NULL)"
    ).fetchone()
    return int(row[0])
