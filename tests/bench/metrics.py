# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure the milliseconds of a scrape, for N servers in G groups and some PCs: reading the store, rendering.

`python -m tests.bench metrics [--hosts 1000] [--groups 50] [--pcs 2000] [--rounds 5]`. Also publishing the
last month, reading it, and 2,000 samples in both formats of /metrics and by the template of /metrics/hosts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from tests.support.clock import today
from tests.support.filled import Filled, cell, clock, start_of_minute
from tests.support.publishing import Publishing, monthly_figures
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.model.months import COLUMNS, DayType, HostPeriod
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.metrics.samples import fleet_exposition, hosts_exposition
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

HOUR = 3_600_000


def main() -> None:
    """Fill a store, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--pcs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Filled(Path(folder) / "data") as store:
        fill(store, options.hosts, options.groups)
        fill_month(store, options.pcs)
        reader = store.reader()
        settings = CollectorSettings(data_dir=store.directory)
        indicators = monthly_figures(store)
        figures, month = indicators.figures, indicators.month
        fresh = SnapshotCache(reader, settings, machine_figures=figures, month=month)
        first = milliseconds(fresh.take_snapshot)
        published = milliseconds(lambda: Publishing(store).publish_months(today()))
        read = milliseconds(indicators.refresh)
        looks = [
            milliseconds(SnapshotCache(reader, settings, machine_figures=figures, month=month).take_snapshot)
            for _ in range(options.rounds)
        ]
        again = [milliseconds(fresh._take) for _ in range(options.rounds)]
        look = fresh.take_snapshot()
        rounds = range(options.rounds)
        renders = [milliseconds(lambda: generate_latest(fleet_exposition(look, "bench", 10))) for _ in rounds]
        gathers = [milliseconds(lambda: fleet_exposition(look, "bench", 10)) for _ in rounds]
        series = fleet_exposition(look, "bench", 10).series()
        per_host = [milliseconds(lambda: hosts_exposition(fresh).text(c.PER_HOST)) for _ in rounds]
        print(f"{options.hosts} servers in {options.groups} groups: {series} series")
        print(f"  first look              {first:9.1f} ms")
        print(f"  look, nothing kept      {statistics.median(looks):9.1f} ms")
        print(f"  look, closed day kept   {statistics.median(again):9.1f} ms")
        print(f"  month published         {published:9.1f} ms, {options.pcs} PCs")
        print(f"  month read              {read:9.1f} ms, {len(figures())} figures")
        print(f"  samples                 {statistics.median(gathers):9.1f} ms")
        print(f"  samples and text        {statistics.median(renders):9.1f} ms")
        print(f"  /metrics/hosts          {statistics.median(per_host):9.1f} ms")
        reader.close()
    formats(2_000, options.rounds)


def fill(store: Filled, hosts: int, groups: int) -> None:
    """Add servers with 30 hours of records each, two states an hour."""
    start = start_of_minute(30 * 60)
    start -= start % HOUR
    cells = [
        cell(State.ON_ACTIVE, HOUR // 2, busy_ratio=0.4),
        cell(State.ON_IDLE, HOUR // 2, busy_ratio=0.01),
    ]
    for number in range(hosts):
        host = store.add_host(entity=f"E{number % groups}")
        store.push(host, [(clock(start + i * HOUR, HOUR), cells) for i in range(30)])
    store.derive()


def fill_month(store: Filled, pcs: int) -> None:
    """Store the last closed month of `pcs` workstations, three rows each."""
    month = (ended_by(today()) - timedelta(days=1)).replace(day=1)
    values = [0] * len(COLUMNS)
    for place in range(0, len(COLUMNS), 2):
        values[place] = 1_000_000 + place
    for _ in range(pcs):
        host = store.add_host(Population.WORKSTATION, DeviceClass.TOWER, power_plan=(600, 1200))
        rows = [HostPeriod(host, month, DayType.OPEN, band, tuple(values)) for band in Band]
        with store.store.transaction():
            store.store.rolls.write_month(host, month, rows)
    with store.store.transaction():  # the month has no days, so it must not be computed again from them
        store.store.data.connection.execute("DELETE FROM stale_months")


def formats(series: int, rounds: int) -> None:
    """Print the median milliseconds of `series` samples in each format."""
    out = Exposition()
    for number in range(series):
        out.add(c.POWER, (f"E{number}", "lyon", "server", "server"), number + 0.5)
    ways: dict[str, Callable[[], object]] = {
        "template": lambda: out.text([c.POWER]),
        "text": lambda: generate_latest(out),
        "OpenMetrics": lambda: generate_openmetrics(out),
    }
    told = {name: statistics.median(milliseconds(way) for _ in range(rounds)) for name, way in ways.items()}
    print(f"{series} samples: " + ", ".join(f"{name} {taken:.1f} ms" for name, taken in told.items()))


def milliseconds(work: Callable[[], object]) -> float:
    """Do the work and return its milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
