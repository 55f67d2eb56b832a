# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rows, seconds and memory of the emissions report on a synthetic store.

`python tests/bench/report.py [--hosts 500] [--days 365]`: derived days and state sums written straight into the tables, as
servers of twenty entities; then gather + statement + CSV, as `veilleuse report emissions` does.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from veilleuse.collector.account.gather import Question, gather
from veilleuse.collector.account.statement import statement
from veilleuse.collector.codec import number
from veilleuse.collector.factors.choose import choose
from veilleuse.collector.model import AgentId, Grain, HostStatus, Site
from veilleuse.collector.report import emissions, renderer
from veilleuse.collector.settings import Store
from veilleuse.collector.store.sqlite import SqliteReader, SqliteStore, create_store
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.ladder import Method
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Population, State, Supply

FIRST = date(2025, 1, 1)
CELLS = (
    (Band.OPEN, State.ON_ACTIVE, 30_000_000),
    (Band.OPEN, State.ON_IDLE, 6_000_000),
    (Band.NIGHT, State.ON_IDLE, 28_800_000),
    (Band.CLOSED, State.ON_IDLE, 21_600_000),
)


def fill(store: SqliteStore, hosts: int, days: int) -> int:
    """Enrol and write; how many derived rows."""
    with store.transaction():
        store.registry.put_site(Site("hq", "FR", DEFAULT_CALENDAR.time_zone, DEFAULT_CALENDAR.to_json()))
        for entity in range(20):
            store.registry.insert_token(
                token_sha256=bytes([entity]) * 32,
                created_unix_milliseconds=0,
                expires_unix_milliseconds=1,
                max_uses=1,
                networks=(),
                org_entity=f"E{entity}",
                site="hq",
                population=Population.SERVER,
                approve=False,
            )
        facts = pb.Facts(device_class=pb.DEVICE_CLASS_SERVER, cpu_model="Xeon").SerializeToString()
        ids = [
            store.registry.insert_host(
                agent_id=AgentId(host.to_bytes(16, "big")),
                token_id=1 + host % 20,
                org_entity=f"E{host % 20}",
                site="hq",
                population=Population.SERVER,
                status=HostStatus.ACTIVE,
                enrolled_on=FIRST,
                facts_wire=facts,
            )
            for host in range(hosts)
        ]
        keys = [
            (host, int(Grain.DAY), (FIRST + timedelta(days=day)).toordinal(), number(band), number(state))
            for day in range(days)
            for host in ids
            for band, state, _ in CELLS
        ]
        lengths = [length for _ in range(days * hosts) for _, _, length in CELLS]
        supply = number(Supply.AC)
        store.data.connection.executemany(
            "INSERT INTO sums (host_id, grain, start, band, state, supply, milliseconds) VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((*key, supply, length) for key, length in zip(keys, lengths, strict=True)),
        )
        store.data.connection.executemany(
            "INSERT INTO derived VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (*key, supply, Method.LOAD_MODELLED.value, length, length * 120, length * 24)
                for key, length in zip(keys, lengths, strict=True)
            ),
        )
    return len(keys)


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "data"
        with closing(create_store(directory, Store(), simulated=True, now_unix_milliseconds=1)) as store:
            rows = fill(store, options.hosts, options.days)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        with closing(SqliteReader(directory)) as reader:
            end = FIRST + timedelta(days=options.days)
            gathered = gather(reader, Question(FIRST, end, now_unix_milliseconds=round(time.time() * 1000)))
            stated = statement(gathered, choose, data="simulated")
            text = renderer("csv")(emissions.document(stated, {}))
        seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{options.hosts} hosts, {options.days} days: {rows} state rows + {rows} derived rows -> {len(stated.rows)} report rows, "
        f"{len(text)} bytes, {seconds:.2f} s ({2 * rows / seconds:,.0f} rows/s), peak memory {after / 1024:.0f} MiB "
        f"(the report's part {(after - before) / 1024:.0f} MiB)"
    )


if __name__ == "__main__":
    main()
