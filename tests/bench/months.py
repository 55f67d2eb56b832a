# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure a year of months of many machines: its stored size, and the time to read it.

`python -m tests.bench months [--hosts 10000] [--directory DIR]`. The rows are random: 8 a machine and month,
33 of 69 columns not 0, as of a workstation that measures everything. They are written through MonthStore and
read as a report reads them.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import date
from pathlib import Path

from tests.support.filled import Filled
from tests.support.rolled import workstation
from veilleuse.collector.model.months import COLUMNS, DayType, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.collector.months.reader import Periods
from veilleuse.wire.vocabulary import Band

FILLED_COLUMNS = 33
KEYS = [
    (kind, band) for kind in DayType for band in Band if not (kind is DayType.CLOSED and band is Band.OPEN)
]
TABLES = {"months": ("host_months", "host_months_by_host"), "years": ("host_years", "host_years_by_host")}
ROUNDS = 3


def main() -> None:
    """Fill a store, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as directory,
        Filled(Path(directory) / "data") as filled,
    ):
        began = time.monotonic()
        _fill(filled, options.hosts)
        print(f"{options.hosts} hosts, {len(KEYS)} rows a month: written in {time.monotonic() - began:.1f} s")
        _sizes(filled, options.hosts)
        with closing(filled.reader()) as reader:
            for name, first, end in (
                ("a year", date(2025, 1, 1), date(2026, 1, 1)),
                ("a month", date(2025, 3, 1), date(2025, 4, 1)),
                ("6 months", date(2025, 1, 1), date(2025, 7, 1)),
            ):
                for _ in range(ROUNDS):
                    _read(name, Periods(reader).host_periods(first, end))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most")


def _fill(filled: Filled, hosts: int) -> None:
    random.seed(1)
    shapes = [random.sample(range(len(COLUMNS)), FILLED_COLUMNS) for _ in KEYS]
    with filled.store.transaction():
        machines = [workstation(filled) for _ in range(hosts)]
    for start in range(0, hosts, 100):
        with filled.store.transaction():
            for host_id in machines[start : start + 100]:
                for month in range(1, 13):
                    first = date(2025, month, 1)
                    rows = [_row(host_id, first, *place) for place in zip(KEYS, shapes, strict=True)]
                    filled.store.rolls.write_month(host_id, first, rows)
    # No machine has days, so the store marks the months for another computation, which would find nothing.
    filled.store.data.connection.execute("DELETE FROM stale_months")
    filled.store.data.checkpoint()


def _row(host_id: HostId, month: date, key: tuple[DayType, Band], shape: list[int]) -> HostPeriod:
    values = [0] * len(COLUMNS)
    for place in shape:
        values[place] = random.randrange(10**6, 10**9)
    return HostPeriod(host_id, month, *key, tuple(values))


def _sizes(filled: Filled, hosts: int) -> None:
    for name, tables in TABLES.items():
        ask = filled.store.data.connection.execute
        (rows,) = ask(f"SELECT count(*) FROM {tables[0]}").fetchone()
        (size,) = ask("SELECT sum(pgsize) FROM dbstat WHERE name IN (?, ?)", tables).fetchone()
        print(f"{name:9} {rows:8} rows  {size / hosts:7.0f} B a host-year, index included")


def _read(name: str, rows: Iterable[HostPeriod]) -> None:
    began, cpu = time.monotonic(), time.process_time()
    found = sum(1 for _ in rows)
    print(
        f"{name:9} {found:8} rows  {time.monotonic() - began:6.3f} s, {time.process_time() - cpu:.3f} s of CPU"
    )
