# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure the processor time of looks (/metrics, first page, `top`) and yearly reports, at 1,000 to 100,000
machines.

5 % of the machines are servers.

`python -m tests.bench look [--small] [--rounds 5] [--text FOLDER]`. `--small` stops at 10,000 machines.
Between two looks, servers that are due contact the collector, and the web process follows. Goal: 50 ms at
100,000 machines, and no growth from 1,000; but `top` sorted by another key than power reads every server.
`--text` writes the answers of /metrics at a fixed time, so that two versions of the code can be compared.

The reports are of the year under way, over fleets of their own (bench/yearly.py). Goal: 1 s.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.bench import yearly
from tests.support.filled import Filled, cell, clock
from tests.support.pages import body
from veilleuse.collector.cli.fleet_screen import MAXIMUM_ROWS, Choice, Screen, SortKey, take_screen
from veilleuse.collector.cli.live_view import View, render
from veilleuse.collector.documents.text import Words, words
from veilleuse.collector.model.records import HostId
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.__main__ import FOLLOW_SECONDS, build_api
from veilleuse.collector.web.access import MetricsAuth
from veilleuse.collector.web.app import make_app
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, Population, State

SIZES = (1_000, 10_000, 100_000)
ENTITIES = 20
CLASSES = (DeviceClass.SERVER, DeviceClass.VIRTUAL_MACHINE)
TEMPLATES = ENTITIES * len(CLASSES)
"""Servers whose records are pushed and derived; the other servers get copies of their rows."""
HOUR = 3_600_000
HOURS = 40
NOW = datetime(2026, 11, 25, 15, 10, tzinfo=UTC).timestamp()
CONTACT_SECONDS = 300
COLUMNS, LINES = 200, 50
FOLLOWED = 6
"""How often the web process follows between two looks."""
SOURCES = tuple(
    (name, 360, number, None) for number, name in enumerate(("utilisation", "linux_rapl", "linux_hwmon"))
)
COPIED = ("sums", "derived", "state_totals", "gap_sums", "records")


class Fleet:
    """A filled store, whose clock moves from look to look."""

    def __init__(self, directory: Path, machines: int) -> None:
        self.now = NOW
        self.store = Filled(directory, clock=lambda: self.now)
        self.servers = [self._add_server(number) for number in range(machines // 20)]
        for number, host in enumerate(self.servers[:TEMPLATES]):
            self._push(host, number)
        self.store.derive()
        with self.store.store.transaction():
            self._copy_rows()
            for number in range(machines - len(self.servers)):
                entity = f"Entity {number % ENTITIES:02}"
                self.store.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity=entity)
        self._next = 0

    def _add_server(self, number: int) -> HostId:
        entity, device_class = f"Entity {number % ENTITIES:02}", CLASSES[number // ENTITIES % len(CLASSES)]
        return self.store.add_host(Population.SERVER, device_class, entity=entity, sources=SOURCES)

    def _push(self, host: HostId, number: int) -> None:
        now = round(NOW * 1000)
        start = now - now % HOUR - HOURS * HOUR
        busy = 0.02 * (number % 30)
        cells = [
            cell(State.ON_ACTIVE, HOUR // 2, busy_ratio=busy),
            cell(State.ON_IDLE, HOUR // 2, busy_ratio=0.01),
        ]
        self.store.push(host, [(clock(start + i * HOUR, HOUR), cells) for i in range(HOURS)])

    def _copy_rows(self) -> None:
        connection = self.store.store.data.connection
        connection.execute("CREATE TEMP TABLE copies (template INTEGER PRIMARY KEY, copy INTEGER)")
        for first in range(TEMPLATES, len(self.servers), TEMPLATES):
            pairs = zip(self.servers, self.servers[first : first + TEMPLATES], strict=False)
            connection.execute("DELETE FROM copies")
            connection.executemany("INSERT INTO copies VALUES (?, ?)", pairs)
            for table in COPIED:
                names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
                ours = {"host_id": "copy", "record_id": "NULL", "stream_id": "1000000 + copy"}
                values = ", ".join(ours.get(name, name) for name in names)
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table}"
                    " JOIN copies ON template = host_id"
                )
        connection.execute("DROP TABLE copies")
        connection.execute(
            "UPDATE records SET derived_energy_millijoules = derived_energy_millijoules WHERE stream_id > 1000000"
        )

    def pass_time(self, seconds: float) -> None:
        """Let the servers that are due contact the collector."""
        self.now += seconds
        health = pb.Health(agent_version="0.1.0", spool_records=self._next % 5, spool_bytes=4096)
        for name, successes, failures, _ in SOURCES:
            health.sources.add(name=name, successes=successes, failures=failures)
        wire = health.SerializeToString()
        with self.store.store.transaction():
            for _ in range(round(len(self.servers) * seconds / CONTACT_SECONDS)):
                host = self.servers[self._next % len(self.servers)]
                self._next += 1
                self.store.store.registry.record_hello(
                    host, facts_wire=None, health_wire=wire, now_unix_milliseconds=round(self.now * 1000)
                )


def measure(machines: int, rounds: int, text: Path | None) -> dict[str, float]:
    """Return the milliseconds of each kind of look at a fleet of this size."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        fleet = Fleet(Path(folder) / "data", machines)
        print(f"{machines} machines filled in {time.perf_counter() - began:.0f} s", flush=True)
        settings = CollectorSettings(data_dir=fleet.store.directory)
        auth, open_store = MetricsAuth("127.0.0.1", 8640, None), partial(open_reader, settings.data_dir)
        with fleet.store, closing(fleet.store.reader()) as reader, open_store() as store:
            cache = SnapshotCache(reader, settings, lambda: fleet.now)
            api, access_control = build_api(settings, auth, "bench", store, open_store)
            app = make_app(cache, settings, auth, "bench", api, access_control, open_store, lambda: fleet.now)
            found = {"first look": milliseconds(cache.take_snapshot)}
            if text is not None:
                (text / f"metrics-{machines}.txt").write_text(body(app, "/metrics"), encoding="utf-8")
            w = words("en")
            kinds: dict[str, Callable[[], object]] = {
                "look": cache.take_snapshot,
                "/metrics": lambda: body(app, "/metrics"),
                "first page": lambda: body(app, "/"),
                "top": lambda: take_screen(cache, settings, w, Choice(), MAXIMUM_ROWS),
                "top, sorted": lambda: take_screen(cache, settings, w, Choice(SortKey.CPU), MAXIMUM_ROWS),
                "top, drawn": lambda: draw(take_screen(cache, settings, w, Choice(), LINES), w),
            }
            for name, look in kinds.items():
                times = []
                for _ in range(rounds):
                    for _ in range(FOLLOWED):
                        fleet.pass_time(FOLLOW_SECONDS)
                        cache.follow()
                    fleet.pass_time(FOLLOW_SECONDS)
                    cache._last = None
                    times.append(milliseconds(look))
                found[name] = statistics.median(times)
    return found


def draw(shown: Screen, w: Words) -> None:
    """Draw a screen of `veilleuse top` for a large terminal."""
    console = Console(file=io.StringIO(), width=COLUMNS, height=LINES, force_terminal=True)
    console.print(render(shown, View(Choice()), w, COLUMNS, LINES))


def milliseconds(work: Callable[[], object]) -> float:
    """Do the work and return its processor milliseconds: other work on the machine does not change them."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def main() -> None:
    """Measure each size, and print one row a kind of look and of report, with its growth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="stop at 10,000 machines")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text", type=Path, help="folder for the answers of /metrics")
    options = parser.parse_args()
    sizes = SIZES[:2] if options.small else SIZES
    found = {size: measure(size, options.rounds, options.text) for size in sizes}
    print_table("ms at machines", found)
    print_table("s at machines", {size: yearly.fill_and_measure(size) for size in sizes})


def print_table(title: str, found: dict[int, dict[str, float]]) -> None:
    """Print one row for each name, a column for each size, and the growth from the first size to the last."""
    first, *_, last = found.values()
    print(f"{title:<20}" + "".join(f"{size:>10}" for size in found) + f"{'growth':>10}")
    for name in first:
        row = "".join(f"{one[name]:10.2f}" for one in found.values())
        print(f"{name:<20}{row}{last[name] / first[name]:10.2f}")
