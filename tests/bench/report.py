# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure rows, seconds and memory of a year's emissions report. Goal: 10,000 hosts in less than 1 s.

`python -m tests.bench report [--hosts 10000] [--before] [--unrolled] [--rounds 3] [--profile]`. Months and
years of machines are written directly into the tables; an inventory of 1.3 times as many assets is written
through the store. Then the year is reported by entity and device class, as in `veilleuse report emissions`,
in a new process and again in the same one. `--before`: the year before has as many machines, and the report
contains the change. `--unrolled`: it is October. Nine months are stored; the tenth is first computed from its
days during the report, then stored as the collector does, which changes no figure. The nine months are also
reported alone.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import os
import pstats
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

from tests.bench import unrolled
from tests.support.sources import opened
from veilleuse.collector.documents.document import renderer
from veilleuse.collector.model.hosts import HostStatus, Site
from veilleuse.collector.model.inventory import (
    AssetMatches,
    AssetRecord,
    Entity,
    InventoryChange,
    Placement,
    PowerContext,
)
from veilleuse.collector.model.months import COLUMNS, PLACE, DayType, Vector
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.settings import ReportingSettings, Store
from veilleuse.collector.store import create_store, open_store
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.collector.store.sqlite.month_vectors import DAY_TYPE_NUMBERS, Layouts, packed, packed_sparse
from veilleuse.collector.wire_codec import number
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

YEAR = 2025
ENTITIES = tuple(f"Métropole > Direction {number:02}" for number in range(20))
CLASSES = (
    (DeviceClass.LAPTOP, Population.WORKSTATION, 40, 6.0),
    (DeviceClass.SFF, Population.WORKSTATION, 30, 22.0),
    (DeviceClass.SFF, Population.CLASSROOM, 20, 22.0),
    (DeviceClass.ALL_IN_ONE, Population.CLASSROOM, 5, 28.0),
    (DeviceClass.SERVER, Population.SERVER, 5, 180.0),
)
"""Class, population, machines in a hundred, watts while on."""
MODELS = 12
"""Number of hardware models of each class."""
HOURS = {DayType.OPEN: 3_400, DayType.SCHOOL_HOLIDAY: 2_600, DayType.CLOSED: 2_760}
"""Approximate hours of a year."""
BAND_SHARES = {Band.OPEN: 0.4, Band.NIGHT: 0.33, Band.CLOSED: 0.27}
PAGE = 10_000
"""Machines whose rows are in memory at once."""
VECTORS = 400
"""Number of different machines of a class; more would only take longer to make."""


def kinds(machines: int) -> Iterator[tuple[DeviceClass, Population, float]]:
    """Yield (class, population, watts while on) of `machines` machines, in the proportions of CLASSES."""
    line = [one for one in CLASSES for _ in range(one[2])]
    for place in range(machines):
        device_class, population, _, watts = line[place * 37 % len(line)]
        yield device_class, population, watts


def vector(draw: random.Random, population: Population, watts: float, hours: float, band: Band) -> Vector:
    """Return a machine's sums for one day type and band."""
    whole = round(hours * MILLISECONDS_PER_HOUR)
    on = (
        1.0
        if population is Population.SERVER
        else draw.uniform(0.4, 0.9)
        if band is Band.OPEN
        else draw.choice((0.0, 0.02, 0.9))
    )
    on_time = round(whole * on)
    values = [0] * len(COLUMNS)
    values[PLACE[f"{State.ON_ACTIVE}_{Supply.AC}_milliseconds"]] = on_time // 2
    values[PLACE[f"{State.ON_IDLE}_{Supply.AC}_milliseconds"]] = on_time - on_time // 2
    values[PLACE[f"{State.OFF}_{Supply.AC}_milliseconds"]] = whole - on_time
    energy, rest = round(on_time * watts * draw.uniform(0.7, 1.3)), (whole - on_time) // 2
    for method, time_of, of in (
        (Method.COUNTER_MODELLED, on_time, energy),
        (Method.LOAD_MODELLED, whole - on_time, rest),
    ):
        values[PLACE[f"{method}_milliseconds"]] = time_of
        values[PLACE[f"{method}_energy_millijoules"]] = of
        values[PLACE[f"{method}_uncertainty_millijoules"]] = of // 5
    values[PLACE[f"{State.ON_ACTIVE}_energy_millijoules"]] = energy // 2
    values[PLACE[f"{State.ON_IDLE}_energy_millijoules"]] = energy - energy // 2
    values[PLACE[f"{State.OFF}_energy_millijoules"]] = rest
    values[PLACE["counters_covered_milliseconds"]], values[PLACE["counters_energy_millijoules"]] = (
        on_time,
        energy // 2,
    )
    values[PLACE["cpu_bucket_03_milliseconds"]] = on_time
    return tuple(values)


def fill(store: SqliteStore, hosts: int, years: Iterable[int], months: int, *, days: bool = False) -> int:
    """Write sites, hosts, months and years of machines, and the inventory; return the rows of months and
    years. `months`: stored months of YEAR; `days`: with the days of the next one."""
    with store.transaction():
        store.registry.put_site(Site("hq", "FR", DEFAULT_CALENDAR.time_zone, DEFAULT_CALENDAR.to_json()))
        tokens = {
            (entity, population): store.registry.insert_token(
                token_sha256=os.urandom(32),
                created_unix_milliseconds=0,
                expires_unix_milliseconds=1,
                max_uses=1,
                networks=(),
                org_entity=entity,
                site="hq",
                population=population,
                approve=False,
            )
            for entity in ENTITIES
            for population in Population
        }
        ids = [enrol(store, tokens, place, *kind[:2]) for place, kind in enumerate(kinds(hosts))]
        rows = sum(write_year(store, ids, year, months if year == YEAR else 12) for year in years)
        if days:
            machines = [(host_id, *kind[1:]) for host_id, kind in zip(ids, kinds(hosts), strict=True)]
            rows += unrolled.write_days(store, machines, YEAR)
    inventory(store, ids)
    return rows


def model(place: int) -> str:
    """Return the hardware model of machine number `place`."""
    return f"Model {place // 3 % MODELS}"


def enrol(
    store: SqliteStore,
    tokens: dict[tuple[str, Population], int],
    place: int,
    device_class: DeviceClass,
    population: Population,
) -> HostId:
    """Insert one machine and return its number."""
    entity = ENTITIES[place % len(ENTITIES)]
    form: Any = number(device_class)
    facts = pb.Facts(device_class=form, vendor="Acme", model=model(place), cpu_count=8)
    return store.registry.insert_host(
        agent_id=AgentId(place.to_bytes(16, "big")),
        token_id=tokens[entity, population],
        org_entity=entity,
        site="hq",
        population=population,
        status=HostStatus.ACTIVE,
        enrolled_on=date(YEAR - 1, 1, 1),
        facts_wire=facts.SerializeToString(),
    )


def write_year(store: SqliteStore, ids: list[HostId], year: int, kept: int) -> int:
    """Write the first `kept` months of each machine and their sum, as rolling does; return the rows."""
    draw = random.Random(year)
    connection = store.data.connection
    layout = Layouts(connection).present()
    made: dict[tuple[float, int], list[tuple[int, int, bytes, bytes]]] = {}
    written = 0
    machines = list(enumerate(zip(ids, kinds(len(ids)), strict=True)))
    for start in range(0, len(ids), PAGE):
        months, sums = [], []
        for place, (host_id, (_, population, watts)) in machines[start : start + PAGE]:
            key = (watts, place % VECTORS)
            if key not in made:
                made[key] = list(bands(draw, population, watts, kept))
            for kind, band, of_month, of_year in made[key]:
                sums.append((year, host_id, kind, band, 0, layout, of_year))
                months += [
                    (date(year, month, 1).toordinal(), host_id, kind, band, 0, 0, layout, of_month)
                    for month in range(1, kept + 1)
                ]
        connection.executemany("INSERT INTO host_years VALUES (?, ?, ?, ?, ?, ?, ?)", sums)
        connection.executemany("INSERT INTO host_months VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sorted(months))
        written += len(sums) + len(months)
    return written


def bands(
    draw: random.Random, population: Population, watts: float, kept: int
) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yield (day type, band, bytes of a month, bytes of `kept` months) of one machine."""
    for kind, hours in HOURS.items():
        for place, band in enumerate(Band, 1):
            if kind is DayType.CLOSED and band is Band.OPEN:
                continue
            month = vector(draw, population, watts, hours * BAND_SHARES[band] / 12, band)
            year = tuple(kept * value for value in month)
            yield DAY_TYPE_NUMBERS[kind], place, packed_sparse(month), packed(year)


def inventory(store: SqliteStore, ids: list[HostId]) -> None:
    """Write 1.3 times as many assets as machines; the surplus has no machine."""
    assets_number = len(ids) * 13 // 10
    assets = [
        AssetRecord(
            asset_id=place + 1,
            source="bench",
            item="computer",
            key=str(place),
            device_class=device_class.value,
            population=population,
            power_context=PowerContext.OWN_SITE,
            vendor="Acme",
            model=model(place),
            in_service_on=date(YEAR - 1 - place % 7, 1 + place % 12, 1),
            placements=(
                Placement(
                    date(YEAR - 1 - place % 7, 1 + place % 12, 1), ENTITIES[place % len(ENTITIES)], "hq"
                ),
            ),
        )
        for place, (device_class, population, _) in enumerate(kinds(assets_number))
    ]
    entities = (Entity("Métropole", None), *(Entity(name, "Métropole", "hq") for name in ENTITIES))
    store.inventory.apply(InventoryChange(1, date(YEAR + 1, 1, 5), tuple(assets), entities))
    store.inventory.put_matching(AssetMatches({place + 1: host_id for place, host_id in enumerate(ids)}, ()))


def questions(*, current: bool) -> Iterator[tuple[str, Query]]:
    """Yield (name, query) of each report."""
    today = date(YEAR, *unrolled.TODAY) if current else date(YEAR + 1, 2, 1)
    ends = {"year": date(YEAR + 1, 1, 1)} | ({"9 months": date(YEAR, unrolled.MONTH, 1)} if current else {})
    for name, end in ends.items():
        yield name, Query(date(YEAR, 1, 1), end, ("entity", "device_class"), 10, today)


def report(directory: Path, question: Query) -> tuple[float, float, int, bytes]:
    """Return (seconds of the figures, seconds of the CSV, rows, CSV)."""
    began = time.perf_counter()
    with opened(directory, ReportingSettings()) as sources:
        made = emissions_report_of(sources, question)
    figured = time.perf_counter()
    text = renderer("csv")(made.document)
    return figured - began, time.perf_counter() - figured, len(made.statement.rows), text


def peak_mebibytes() -> float:
    """Return the largest resident set so far; ru_maxrss would include that of the parent process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def one_process(directory: Path, rounds: int, *, current: bool, profile: bool) -> None:
    """Print the time of each round and the memory of the process."""
    before = peak_mebibytes()
    for name, question in questions(current=current):
        for turn in range(rounds):
            processor = time.process_time()
            figures, csv, rows, text = report(directory, question)
            print(
                f"  {name}, {'again' if turn else 'first'}: {figures + csv:.2f} s (figures {figures:.2f}, CSV {csv:.2f}; processor "
                f"{time.process_time() - processor:.2f}) -> {rows} report rows, {len(text)} bytes, {digest(text)}",
                flush=True,
            )
        if profile:
            watched = cProfile.Profile()
            watched.runcall(report, directory, question)
            pstats.Stats(watched).sort_stats("tottime").print_stats(25)
    after = peak_mebibytes()
    print(f"  peak memory {after:.0f} MiB (the report's part {after - before:.0f} MiB)", flush=True)


def digest(csv: bytes) -> str:
    """Return a hash of the figures, to compare them before and after a change of the code."""
    return hashlib.sha256(
        b"\n".join(line for line in csv.splitlines() if b"generated" not in line)
    ).hexdigest()[:12]


def main() -> None:
    """Fill a store, then report in another process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", action="store_true", help="the year before too")
    parser.add_argument("--unrolled", action="store_true", help="the year's tenth month is not kept yet")
    parser.add_argument("--profile", action="store_true", help="where the report spends its time")
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.directory is not None:
        one_process(options.directory, options.rounds, current=options.unrolled, profile=options.profile)
        return
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "data"
        with closing(create_store(directory, Store(), simulated=True, now_unix_milliseconds=1)) as store:
            months = unrolled.MONTH - 1 if options.unrolled else 12
            years = range(YEAR - options.before, YEAR + 1)
            rows = fill(store, options.hosts, years, months, days=options.unrolled)
        size = sum(file.stat().st_size for file in directory.iterdir() if file.is_file()) / 2**20
        print(
            f"{options.hosts} hosts, {options.hosts * 13 // 10} assets, {1 + options.before} year(s): {rows} rows of machines, "
            f"{size:.0f} MiB",
            flush=True,
        )
        command = [sys.executable, "-m", "tests.bench", "report", "--directory", str(directory)]
        command += ["--rounds", str(options.rounds)]
        flags = [*["--profile"][: options.profile], *["--unrolled"][: options.unrolled]]
        subprocess.run([*command, *flags], check=True)
        if options.unrolled:
            with closing(open_store(directory, Store())) as store:
                print(unrolled.store_month(store, YEAR), flush=True)
            subprocess.run([*command, *flags], check=True)
