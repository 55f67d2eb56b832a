# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R15: the files of a released collector are migrated to the present schema: in time, and after any cut."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.promises.support.previous import WHEELS, Fleet, install
from tests.support.killing import ROOT, run_program
from tests.support.waiting import random_moment, until
from veilleuse.collector.store.sqlite.migrations import migrations
from veilleuse.wire.v1 import telemetry_pb2 as pb

RECORDED = ROOT / "tests/fixtures/golden/wire/v1_push.binpb"
WANTED_BYTES = 1_000_000_000
HOSTS = 1_000
CUTS = 4

OPEN = """
import sys
from contextlib import closing
from pathlib import Path
from veilleuse.collector import settings
from veilleuse.collector.store import open_store

def work():
    with closing(open_store(Path(sys.argv[1]), settings.Store(free_bytes_minimum=0))):
        pass
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory of the oldest release kept, with a machine and some records."""
    folder = tmp_path_factory.mktemp("released")
    with Fleet(folder, install(folder / "programs", WHEELS[0])) as fleet:
        collector = fleet.start_collector()
        fleet.enrol()
        fleet.must("veilleuse-agent", "send")
        fleet.feed(400)
        fleet.drain()
        assert fleet.stop(collector) == 0
        return fleet.data


@pytest.fixture
def data(released: Path, tmp_path: Path) -> Path:
    """Return a copy of the released data directory."""
    return shutil.copytree(released, tmp_path / "data")


def content(data: Path) -> dict[str, object]:
    """Return counts and sums, by plain SQL, that a migration must keep; assert that nothing is damaged."""
    with closing(sqlite3.connect(data / "data.db")) as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        queries = (
            "SELECT count(*), sum(seq), sum(start), sum(milliseconds), sum(length(wire)) FROM records",
            "SELECT count(*), sum(mark) FROM streams",
            "SELECT count(*), sum(energy_millijoules) FROM point_sums",
            "SELECT count(*), sum(milliseconds) FROM sums",
            "SELECT count(*), sum(energy_millijoules) FROM derived",
            "SELECT count(*), max(agent_id) FROM hosts",
        )
        return {query: db.execute(query).fetchone() for query in queries}


def schema(data: Path) -> int:
    """Return the schema's version in data.db."""
    with closing(sqlite3.connect(data / "data.db")) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.promise("R15")
def test_a_migration_cut_at_any_line_is_carried_on(data, tmp_path, figure):
    """A migration that SIGKILL ends at a line of our code is completed by the next start; data stay equal."""
    before = content(data)
    program = (
        OPEN
        + """
import shutil
from tests.support.killing import dies_at, in_child, lines_of

parts = ("store/sqlite/migrations.py", "store/sqlite/periods.py")
released, note = Path(sys.argv[1] + ".released"), Path(sys.argv[2])
total = lines_of(work, parts, note)
kills = 0
for line in range(1, total + 1, 1 + total // 30):
    shutil.rmtree(sys.argv[1])
    shutil.copytree(released, sys.argv[1])

    def cut():
        dies_at(line, parts)
        work()

    kills += in_child(cut) == -9
    assert in_child(work) == 0, line
print(kills)
"""
    )
    shutil.copytree(data, f"{data}.released")
    kills = int(run_program(program, str(data), str(tmp_path / "note")))
    figure(f"{kills} migrations interrupted by SIGKILL and completed")
    assert kills > 20
    assert schema(data) == migrations("data")[-1].number
    assert content(data) == before


@pytest.fixture
def large(data: Path) -> Iterator[Path]:
    """Yield the same directory with 1 GB in data.db: rows of 1,000 servers in the released schema."""
    server, _, _, lost = pb.PushRequest.FromString(RECORDED.read_bytes()).records
    with closing(sqlite3.connect(data / "data.db", isolation_level=None)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        for pragma in ("journal_mode = DELETE", "synchronous = OFF", "cache_size = -400000"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN")
        _fill_hosts(db)
        hour = 0
        while db.execute("PRAGMA page_count").fetchone()[0] * 4096 < WANTED_BYTES:
            _fill_hours(db, hour, 16, server, lost)
            hour += 16
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
    yield data
    shutil.rmtree(data)


def _fill_hosts(db: sqlite3.Connection) -> None:
    columns = [
        row[1] for row in db.execute("PRAGMA table_info(hosts)") if row[1] not in ("host_id", "agent_id")
    ]
    names = ", ".join(columns)
    db.execute(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {HOSTS})"
        f" INSERT INTO hosts (agent_id, {names}) SELECT randomblob(16), {names} FROM hosts, n WHERE host_id = 1"
    )
    db.execute(
        "INSERT INTO streams (host_id, epoch, mark, chain)"
        " SELECT host_id, randomblob(8), 1000000, randomblob(32) FROM hosts WHERE host_id > 1"
    )


def _fill_hours(db: sqlite3.Connection, first: int, hours: int, server: bytes, lost: bytes) -> None:
    """Add twelve records per hour and host, one in 200 a gap; four cells of two points; derived rows."""
    db.execute("DROP TABLE IF EXISTS temp.hour_of_host")
    db.execute(
        "CREATE TEMP TABLE hour_of_host AS WITH RECURSIVE e(value) AS (SELECT ? UNION ALL SELECT value + 1 FROM e"
        " WHERE value < ?) SELECT h.host_id, s.stream_id, e.value AS hour,"
        " 1700000000000 / 3600000 * 3600000 + e.value * 3600000 AS start"
        " FROM hosts h JOIN streams s USING (host_id), e WHERE h.host_id > 1 ORDER BY 3, 1",
        (first, first + hours - 1),
    )
    twelve = "(SELECT column1 AS part FROM (VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9),(10),(11)))"
    db.execute(
        "INSERT INTO records (host_id, stream_id, seq, grain, bucket, start, milliseconds, hash, wire,"
        " derived_energy_millijoules) SELECT host_id, stream_id, hour * 12 + part + 1,"
        " CASE (host_id + hour * 12 + part) % 200 WHEN 0 THEN 0 ELSE 1 END,"
        " CASE (host_id + hour * 12 + part) % 200 WHEN 0 THEN abs(random()) ELSE start END,"
        " CASE (host_id + hour * 12 + part) % 200 WHEN 0 THEN 0 ELSE start + part * 300000 END, 300000, randomblob(8),"
        f" CASE (host_id + hour * 12 + part) % 200 WHEN 0 THEN ? ELSE ? END, 1000 FROM hour_of_host, {twelve}",
        (lost, server),
    )
    four = "(SELECT column1 AS band, column2 AS state FROM (VALUES (1,1),(1,2),(2,1),(2,2)))"
    sums = [row[1] for row in db.execute("PRAGMA table_info(sums)")][6:]
    db.execute(
        f"INSERT INTO sums (host_id, grain, start, band, state, supply, {', '.join(sums)})"
        f" SELECT host_id, 1, start, band, state, 1, {', '.join(['900000'] * len(sums))} FROM hour_of_host, {four}"
    )
    db.execute(
        "INSERT INTO point_sums SELECT host_id, 1, start, band, state, 1, point, 31415926, 900000"
        f" FROM hour_of_host, {four}, (SELECT column1 AS point FROM (VALUES (1),(2)))"
    )
    db.execute(
        "INSERT INTO derived SELECT host_id, 1, start, band, state, 1, 'counter_modelled', 900000, 31415926, 1000000"
        f" FROM hour_of_host, {four}"
    )


@pytest.mark.long
@pytest.mark.promise("R15")
def test_a_gigabyte_is_migrated_within_a_minute_whatever_cuts_it(large, figure):
    """1 GB of schema 1 is migrated within a minute, after SIGKILL at random moments of the migration."""
    before = content(large)
    size = (large / "data.db").stat().st_size
    copy = large.with_name("copy")
    chance, kills, slowest = random.Random(2), 0, 0.0
    for cut in range(CUTS + 1):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(large, copy)
        if cut:  # the first migration is measured without a kill
            kills += killed(copy, chance, 0.7 * slowest)
        slowest = max(slowest, timed(copy))
        assert schema(copy) == migrations("data")[-1].number
        assert content(copy) == before
    figure(f"{size / 1e9:.2f} GB migrated in {slowest:.1f} s at most, after {kills} interruptions by SIGKILL")
    assert kills > 0
    assert slowest < 60


def killed(data: Path, chance: random.Random, longest_seconds: float) -> bool:
    """Open the store and kill the process after it began to write; return whether it still ran."""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", OPEN + "work()", str(data)])
    until(lambda: (data / "data.db-wal").exists() or process.poll() is not None, "the migration begins")
    random_moment(chance, longest_seconds)
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


def timed(data: Path) -> float:
    """Return the seconds that opening takes, in a process of its own."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-W", "ignore", "-c", OPEN + "work()", str(data)], check=True)
    return time.monotonic() - began
