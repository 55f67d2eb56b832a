# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure a simulated fleet's seconds and memory, and how often a report's 95 % interval contains the truth.

`python -m tests.bench simulate [--hosts 60] [--days 400] [--from 2025-09-01] [--seeds 1]`, or
`--preset NAME`: what it took to fill one. The records pass validation, writer, derivation and rolling like
those of real agents; then the whole months are reported.
With several seeds: for each device class, the number of simulations whose interval contains the truth, and
the mean ratio of figure and truth. A few simulations prove little: 95 % of 20 is 16 to 20.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
import resource
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

from tests.support.clock import today
from tests.support.sources import opened
from veilleuse.collector import clock
from veilleuse.collector.calendars.periods import slices
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.query import AUTRES, Query
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.settings import CollectorSettings, ReportingSettings
from veilleuse.collector.simulate.fill import simulate
from veilleuse.collector.simulate.fleet import SimulationOrder
from veilleuse.collector.simulate.presets import PRESETS, order_of
from veilleuse.collector.simulate.truth import Truth
from veilleuse.collector.store import open_reader

K = 10
"""Fewest machines of a cell, the default of reports."""
Interval = tuple[float, float, float]
"""Lower bound, figure and upper bound in kWh."""


def intervals(directory: Path, first: date, end: date) -> dict[tuple[str, str], Interval]:
    """Return (population, device class) → interval of the report of whole months, on site and at home
    together; the total has two empty names.

    If small classes of a population were merged, only the total can be compared with the truth.
    """
    question = Query(first, end, ("device_class",), K, clock.today())
    with opened(directory, ReportingSettings()) as sources:
        statement = emissions_report_of(sources, question, compare=False).statement
    found: dict[tuple[str, str], Interval] = {}
    merged = {row.key.population or "" for row in statement.rows if row.level == AUTRES}
    for row in (*statement.rows, *statement.totals):
        apart = row.level == "total" or not {row.key.population or "", ""} & merged
        if (
            row.energy.kwh_total is not None and apart
        ):  # the shares are fixed: parts of one class err together
            key = (row.key.population or "", row.key.device_class or "")
            before, (low, high) = found.get(key, (0.0, 0.0, 0.0)), row.uncertainty.kwh.ends or (0.0, 0.0)
            found[key] = before[0] + low, before[1] + row.energy.kwh_total, before[2] + high
    return found


def true_kwh(truth: Truth, first: date, end: date, population: str, device_class: str) -> float:
    """Return the true kWh of such a row."""
    asked = {"population": population, "device_class": device_class}
    return truth.kwh(first, end, **{name: value for name, value in asked.items() if value})


def whole_months(order: SimulationOrder) -> tuple[date, date]:
    """Return the whole months [first, end) in one calendar year: the last year, if it has most of them."""
    first = order.first if order.first.day == 1 else _next_month(order.first)
    end = order.end.replace(day=1)
    if first.year < end.year:
        turn = date(end.year, 1, 1)
        first, end = (turn, end) if end - turn >= turn - first else (first, turn)
    return first, end


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def one(order: SimulationOrder, directory: Path) -> tuple[float, float, Truth]:
    """Simulate a fleet; return the seconds, the processor seconds of all threads, and the truth."""
    began, spent = time.perf_counter(), time.process_time()
    truth = simulate(CollectorSettings(data_dir=directory), order, lambda what, done, whole: None)
    return time.perf_counter() - began, time.process_time() - spent, truth


def digest(path: Path) -> str:
    """Return 12 hexadecimal digits over all rows of a database, without the moments of the run: equal before
    and after a change that is to change no figure."""
    found = hashlib.sha256()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1"
        ).fetchall()
        for (table,) in tables:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(
                name for name in names if not name.endswith(("unix_milliseconds", "created_day"))
            )
            if table != "meta":
                for row in connection.execute(f"SELECT {columns} FROM {table} ORDER BY {columns}"):
                    found.update(repr((table, row)).encode())
    return found.hexdigest()[:12]


def preset_took(name: str) -> str:
    """Fill a preset as the command does by itself; return the seconds, sizes and released months."""
    order = order_of(name, today(), hosts=None, first=None, days=None, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "data"
        seconds, spent, _ = one(order, directory)
        size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 2**20
        with open_reader(directory) as store:
            hosts, assets = len(store.data.hosts()), len(store.inventory.assets())
            months = list(slices(order.first, order.end.replace(day=1), by_month=True))
            released = [
                store.publications.summary(PublicationKind.FLEET, one.first, one.end) for one in months
            ]
    mine, childs = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (
        f"{name}: {hosts} machines, {assets} assets, {order.first} to {order.end}: {seconds:.0f} s, "
        f"{spent:.0f} processor s here and {childs.ru_utime + childs.ru_stime:.0f} in the process that "
        f"generates, {size:.0f} MiB, peak memory {mine.ru_maxrss / 1024:.0f} and "
        f"{childs.ru_maxrss / 1024:.0f} MiB, {len(months) - released.count(None)} of {len(months)} whole months released and still there"
    )


def bias(logarithms: list[float]) -> str:
    """Return the geometric mean of figure ÷ truth and its standard error (k = 1), which come from different
    errors in each seed; empty for one seed."""
    if len(logarithms) < 2:
        return ""
    mean, error = statistics.fmean(logarithms), statistics.stdev(logarithms) / math.sqrt(len(logarithms))
    return f"; figure ÷ truth {math.exp(mean):.3f} (± {100 * error:.1f} %)"


def main() -> None:
    """Print the results of each seed, then how often the interval contained the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=60)
    parser.add_argument("--days", type=int, default=400)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2025, 9, 1))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--preset", choices=PRESETS, help="fill this preset once, and print what it took")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.preset:
        print(preset_took(options.preset))
        return
    inside: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    ratios: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        order = SimulationOrder(options.hosts, options.first, options.days, seed)
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "data"
            seconds, spent, truth = one(order, directory)
            rows = digest(directory / "data.db")
            size = (directory / "data.db").stat().st_size / 2**20
            first, end = whole_months(order)
            began = time.perf_counter()
            found = intervals(directory, first, end)
            reported = time.perf_counter() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"seed {seed}: {order.hosts} hosts, {order.days} days: {seconds:.1f} s, {spent:.1f} processor s, "
            f"{order.hosts * order.days / spent:.0f} agent-days a processor s, {size:.0f} MiB, tables {rows}, "
            f"peak memory {memory:.0f} MiB; report of {first} to {end} {reported:.2f} s"
        )
        for name, (low, kwh, high) in sorted(found.items()):
            true = true_kwh(truth, first, end, *name)
            inside[name].append(low <= true <= high)
            if kwh > 0 and true > 0:
                ratios[name].append(math.log(kwh / true))
            print(
                f"  {' '.join(name) or 'total':<28} {low:10.1f} {kwh:10.1f} {high:10.1f}   truth {true:10.1f}"
                + ("" if inside[name][-1] else " OUTSIDE")
            )
    for name, hits in sorted(inside.items()):
        print(f"{' '.join(name) or 'total':<28} truth inside {sum(hits)} of {len(hits)}{bias(ratios[name])}")
