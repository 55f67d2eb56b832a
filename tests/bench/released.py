# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure a reader's report over a year of released months of many groups: time and memory, twice each.

`python tests/bench/released.py [--groups 5000] [--months 12] [--folder DIR]`. Each group has ten machines
with random months as in months.py; groups of screens count too. A folder that is named is kept, and filled
once. This process serves the collector's socket. Another process answers as the web process does, and prints
its memory.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from veilleuse.collector.model.query import Query

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.months import FILLED_COLUMNS, KEYS, _row
from tests.support.machines import settings_in
from tests.support.pushes import enrol
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.calendars.periods import months_before
from veilleuse.collector.errors import QueryTooSlow
from veilleuse.collector.model.accounts import Account, Role
from veilleuse.collector.model.months import COLUMNS, PLACE, SCREEN_COLUMNS
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.__main__ import build_api
from veilleuse.collector.web.access import read_metrics_auth
from veilleuse.collector.web.api.handlers import ApiContext
from veilleuse.collector.web.api.query import ApiQuery
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

K = 10
LAG_DAYS = 10
ACCOUNT = Account(1, "bench", Role.READER, (), b"", 0, 2**62)
DIMENSIONS = {
    "entity, month": ("entity", "month"),
    "entity, device_class": ("entity", "device_class"),
    "population": ("population",),
}


def main() -> None:
    """Fill a store, serve it, let another process query it, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=5_000)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--ask", type=Path, help="the other process: the folder that is served")
    options = parser.parse_args()
    if options.ask:
        ask_all(settings_in(options.ask), options.months)
        return
    with tempfile.TemporaryDirectory() as passing:
        serve(options.folder or Path(passing), options.groups, options.months)


def serve(folder: Path, groups: int, months: int) -> None:
    """Let two processes query the collector, one after the other; the second finds the released months."""
    settings = settings_in(folder)
    if is_new := not settings.data_dir.exists():
        initialise(settings, site="lyon")
    with open_collector(settings) as collector:
        if is_new:
            began = time.monotonic()
            fill(collector, groups, months)
            print(f"{groups} groups filled in {time.monotonic() - began:.1f} s", flush=True)
        collector.store.publications.take_back(date.min, date.max)
        before = memory()
        with closing(AdminServer(settings.data_dir, collector.operations)):
            for _ in range(2):
                command = [sys.executable, __file__, "--ask", str(folder), "--months", str(months)]
                subprocess.run(command, check=True)
        sizes = [one["bytes"] for one in collector.operations.perform("published_list", {})]
        print(f"{len(sizes)} months kept, {sum(sizes)} bytes, the largest {max(sizes, default=0)}")
        print(f"the collector: {memory()}; {before} before")


def memory() -> str:
    """Return this process's peak memory as text; ru_maxrss would include its parent's peak."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return f"{int(line.split()[1]) / 1024:.0f} MiB at most"


def period(months: int) -> tuple[date, date]:
    """Return the last `months` whole months that are released, as [first, end)."""
    end = (datetime.now(UTC).date() - timedelta(days=LAG_DAYS)).replace(day=1)
    return months_before(end, months), end


def fill(collector: Collector, groups: int, months: int) -> None:
    """Write hosts and months through the registry and the MonthStore, before the collector is queried."""
    random.seed(1)
    screens = PLACE[SCREEN_COLUMNS[-3]]
    shapes = [
        sorted({*random.sample(range(len(COLUMNS)), FILLED_COLUMNS), *range(screens, screens + 3)})
        for _ in KEYS
    ]
    store = collector.store
    first, _ = period(months)
    site = store.registry.sites()[0].site
    facts = pb.Facts(device_class=pb.DEVICE_CLASS_LAPTOP, cpu_count=8)
    entities = [f"Direction {number // 50:03} > Service {number:05}" for number in range((groups + 1) // 2)]
    for entity in entities:
        with store.transaction():
            for _ in range(K):
                host_id = enrol(
                    store.registry,
                    Population.WORKSTATION,
                    site,
                    entity=entity,
                    facts=facts,
                    enrolled_on=date(2020, 1, 1),
                )
                month = first
                for _ in range(months):
                    rows = [_row(host_id, month, *place) for place in zip(KEYS, shapes, strict=True)]
                    store.rolls.write_month(host_id, month, rows)
                    month = months_before(month, -1)
    store.data.connection.execute("DELETE FROM stale_months")
    store.data.checkpoint()


def ask_all(settings: CollectorSettings, months: int) -> None:
    """Query each set of dimensions twice, as the web process does, and print time and memory."""
    with ExitStack() as cleanup:
        desk, _ = build_api(
            settings,
            read_metrics_auth(settings.http),
            "bench",
            cleanup.enter_context(open_reader(settings.data_dir)),
            partial(open_reader, settings.data_dir),
        )
        for name, dimensions in DIMENSIONS.items():
            question = ApiQuery(ResourceKind.EMISSIONS, 1, 1000, "json", Query(*period(months), dimensions))
            for _ in range(2):
                began, cpu = time.monotonic(), time.process_time()
                rows = asked(desk, question)
                print(
                    f"  by {name}: {rows} rows, {time.monotonic() - began:6.2f} s,"
                    f" {time.process_time() - cpu:.2f} s of CPU, {memory()}",
                    flush=True,
                )


def asked(desk: ApiContext, question: ApiQuery) -> int:
    """Return the number of rows of the answer; repeats a query that was too slow. Raises AdminError."""
    while True:
        began = time.monotonic()
        try:
            return len(desk._figures.document(question, ACCOUNT).tables["rows"])
        except QueryTooSlow:
            print(f"  503 too_slow after {time.monotonic() - began:.1f} s: asked again", flush=True)


if __name__ == "__main__":
    main()
