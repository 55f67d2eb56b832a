# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the SQLite files: rights, lock, damage, versions, migrations, free space, kill -9."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from tests.support.filled import remove_own_use, remove_server_sums
from tests.support.processes import ran
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
    realistic,
    site,
)
from tests.support.stored_sums import SqliteSumReader
from veilleuse.collector import settings
from veilleuse.collector.errors import DataDirectoryError, StoreDamaged, StoreFull, StoreTooNew
from veilleuse.collector.model.publications import Publication, PublicationKind
from veilleuse.collector.model.records import Grain, ValidPush
from veilleuse.collector.store import create_store, open_store
from veilleuse.collector.store.directory import DirectoryLock, Reserve
from veilleuse.collector.store.sqlite import SqliteStore, inspect, migrations
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.host_data import export_host
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.wire.v1 import telemetry_pb2 as pb

LIMITS = settings.Store(free_bytes_minimum=0)
ROOT = Path(__file__).parents[4]


def make(directory: Path, *, simulated: bool = False) -> SqliteStore:
    """Return a store with a site."""
    store = create_store(directory, LIMITS, simulated=simulated, now_unix_milliseconds=NOW)
    store.registry.put_site(site())
    return store


def test_files_are_for_their_owner_alone(tmp_path):
    """The directory is 0700 and every file in it 0600, the WAL included, under a permissive umask too."""
    directory = tmp_path / "data"
    before = os.umask(0)
    try:
        with closing(make(directory)), DirectoryLock(directory):
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {"data.db", "data.db-wal", "identity.db", "lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_the_settings_of_the_connection_are_those_promised(tmp_path):
    """WAL and synchronous=FULL (2) let an acknowledged commit survive a power cut."""
    with closing(make(tmp_path)) as store:
        ask = store.data.connection.execute
        assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ask("PRAGMA synchronous").fetchone() == (2,)
        assert ask("PRAGMA secure_delete").fetchone() == (1,)
        with closing(SqliteReader(tmp_path)) as reader, pytest.raises(sqlite3.OperationalError):
            reader._database().connection.execute("DELETE FROM hosts")


@pytest.mark.promise("P8")
def test_names_are_not_in_data_db(tmp_path, figure):
    """P8: a name is in the files of identity.db alone."""
    with closing(make(tmp_path)) as store:
        store.registry.put_name(store_agent(store), "srv-secret-name")
        files = sorted(path for path in tmp_path.iterdir() if b"srv-secret-name" in path.read_bytes())
    apart = [path.name for path in files if path.name.startswith("identity.db")]
    figure(f"1 name found in {len(apart)} files of identity.db and in {len(files) - len(apart)} other files")
    assert apart == [path.name for path in files] != []


def store_agent(store: SqliteStore):
    """Return the agent id of a new host."""
    host = store.registry.host(enrol(store.registry))
    assert host is not None
    return host.agent_id


@pytest.mark.parametrize("deleted", [False, True])
def test_a_second_process_is_told_who_holds_the_directory(tmp_path, deleted):
    """A second process gets one line with the pid, even without the file `lock`: both could write then."""
    lock = DirectoryLock(tmp_path)
    if deleted:
        (tmp_path / "lock").unlink()
    code = (
        "import sys; from pathlib import Path; from veilleuse.collector.store.directory import DirectoryLock\n"
        "from veilleuse.collector.errors import DataDirectoryError\n"
        "try: DirectoryLock(Path(sys.argv[1]))\n"
        "except DataDirectoryError as error: print(error)"
    )
    said = ran([sys.executable, "-c", code, str(tmp_path)], check=True).stdout
    assert said == (
        f"the data directory {tmp_path} is in use by pid {'unknown' if deleted else os.getpid()}: "
        "stop it, or use another data_dir\n"
    )
    lock.release()
    DirectoryLock(tmp_path).release()


@pytest.mark.parametrize("writing", [True, False])
def test_no_data_directory_is_one_clear_line(tmp_path, writing):
    """A foreign directory gives the setting that names it and `init`; the message once advised a restore."""
    with pytest.raises(DataDirectoryError, match=r"is no data directory: point VEILLEUSE__DATA_DIR, .* init"):
        open_store(tmp_path, LIMITS) if writing else SqliteReader(tmp_path)


@pytest.mark.parametrize("writing", [True, False])
def test_a_data_directory_that_lost_its_database(tmp_path, writing):
    """A directory without data.db needs a backup, and the error does not name `init`."""
    make(tmp_path).close()
    (tmp_path / "data.db").unlink()
    with pytest.raises(DataDirectoryError, match=r"has lost data\.db: restore a backup") as caught:
        open_store(tmp_path, LIMITS) if writing else SqliteReader(tmp_path)
    assert "init" not in str(caught.value)


def test_an_unwritable_directory_is_one_clear_line(tmp_path):
    """A file in the directory's place is refused."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryError, match="cannot use the data directory"):
        make(tmp_path / "file" / "data")


def test_real_and_simulated_data_are_never_mixed(tmp_path):
    """A directory made for one kind refuses the other; the kind is read back."""
    with closing(make(tmp_path, simulated=True)) as store:
        assert store.registry.data_kind().simulated
        assert store.registry.data_kind().created_unix_milliseconds == NOW
    with pytest.raises(DataDirectoryError, match="holds simulated data"):
        make(tmp_path)
    with closing(make(tmp_path, simulated=True)), closing(SqliteReader(tmp_path)) as reader:
        assert reader.data_kind().simulated


@pytest.mark.parametrize("name", ["data.db", "identity.db"])
def test_a_damaged_file_is_one_clear_line_with_the_repair(tmp_path, name):
    """Garbage, a truncated file and overwritten pages raise StoreDamaged when a writer opens the store."""
    with closing(make(tmp_path)) as store:
        stream = Stream(enrol(store.registry))
        store.ingest.append([stream.send(*(realistic(MONDAY_10H + i * 300_000) for i in range(50)))])
    file = tmp_path / name
    sound = file.read_bytes()
    chance = random.Random(3)
    pages = bytearray(sound)
    for page in range(1, len(pages) // 4096):
        pages[page * 4096 : page * 4096 + 64] = chance.randbytes(64)
    for bad in (b"not a database at all" * 300, bytes(pages), sound[:5000]):
        file.write_bytes(bad)
        with pytest.raises(StoreDamaged, match=f"{name} is damaged .*from a backup") as caught:
            open_store(tmp_path, LIMITS)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_escapes_as_something_else(tmp_path, seed):
    """R14: a file with random bytes changed opens, or raises DataDirectoryError with one line."""
    with closing(make(tmp_path)) as store:
        stream = Stream(enrol(store.registry))
        store.ingest.append([stream.send(*(realistic(MONDAY_10H + i * 300_000) for i in range(20)))])
    file = tmp_path / "data.db"
    sound = file.read_bytes()
    chance = random.Random(seed)
    said: list[str] = []
    for _ in range(40):
        bad = bytearray(sound)
        for _ in range(chance.randrange(1, 40)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        file.write_bytes(bad)
        try:
            open_store(tmp_path, LIMITS).close()
        except DataDirectoryError as error:
            said.append(str(error))
    assert not any("\n" in line for line in said)


@pytest.mark.parametrize(("name", "column"), [("data.db", "token_sha256"), ("identity.db", "document")])
def test_a_changed_letter_in_the_name_of_a_column_is_damage(tmp_path, name, column):
    """R14 at full size found `no such column`: `quick_check` reports no changed name in the schema."""
    make(tmp_path).close()
    file = tmp_path / name
    file.write_bytes(file.read_bytes().replace(column.encode(), column.replace("t", "u").encode()))
    with pytest.raises(StoreDamaged, match=rf"{name} is damaged \(its schema has no \w+\.{column}\)"):
        open_store(tmp_path, LIMITS)


def test_an_emptied_file_is_damage_not_a_new_store(tmp_path):
    """An emptied data.db is refused and left as it is: a new store would know no agent."""
    make(tmp_path).close()
    (tmp_path / "data.db").write_bytes(b"")
    with pytest.raises(StoreDamaged, match=r"it is empty.*from a backup"):
        open_store(tmp_path, LIMITS)
    assert (tmp_path / "data.db").stat().st_size == 0


def test_a_newer_schema_is_refused(tmp_path):
    """Writers and readers refuse a newer schema, with both numbers."""
    make(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "data.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    for opening in (lambda: open_store(tmp_path, LIMITS), lambda: SqliteReader(tmp_path)):
        with pytest.raises(StoreTooNew, match=r"has schema 99, this program knows \d+"):
            opening()


def test_a_migration_that_fails_half_way_leaves_nothing_and_starts_again(tmp_path, monkeypatch):
    """The statements of a migration and its number are one transaction."""
    sound = migrations.migrations("data")
    broken = migrations.Migration(
        1, "data_0001", sound[0].sql.replace("CREATE TABLE ledger", "CREATE TABEL ledger")
    )
    monkeypatch.setattr(migrations, "migrations", lambda kind: (broken,))
    with pytest.raises(DataDirectoryError, match=r"cannot bring .* to schema 1 .*syntax error"):
        make(tmp_path)
    monkeypatch.undo()
    with closing(Database(tmp_path / "data.db", writing=False)) as database:
        assert migrations.schema_version(database) == 0
        assert database.connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    with closing(make(tmp_path)) as store:
        assert migrations.schema_version(store.data) == sound[-1].number


def back_to_16(connection: sqlite3.Connection) -> None:
    """Return the database to schema 16, without what later migrations add."""
    connection.execute("DROP INDEX months_to_compute")
    connection.execute("ALTER TABLE stale_months DROP COLUMN stored")
    remove_own_use(connection)
    remove_server_sums(connection)
    connection.execute("DROP TABLE published_periods")
    connection.execute("DROP TABLE kept_years")
    connection.execute("DROP TABLE room_servers")
    connection.execute("DROP TABLE inventory_earlier_hosts")
    for column in ("base_millijoules", "base_milliseconds"):
        connection.execute(f"ALTER TABLE psys_checks DROP COLUMN {column}")
    connection.execute("DROP TABLE dirty")
    connection.execute(
        "CREATE TABLE dirty (dirty_id INTEGER PRIMARY KEY, host_id INTEGER NOT NULL, grain INTEGER NOT NULL,"
        " start INTEGER NOT NULL, UNIQUE (host_id, grain, start)) STRICT"
    )
    for column in ("spare_instance_ids", "waiting_instance_ids", "set_back_instance_id"):
        connection.execute(f"ALTER TABLE hosts DROP COLUMN {column}")
    for then, now in (
        ("lost_instance_ids", "copied_instance_ids"),
        ("returned_instances", "greeted_records"),
    ):
        connection.execute(f"ALTER TABLE hosts RENAME COLUMN {now} TO {then}")
    connection.execute("PRAGMA user_version = 16")


def test_a_migration_is_announced_before_it_begins(tmp_path, caplog):
    """A migration may take minutes on a large file: the log names it and the file's size before it begins."""
    make(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "data.db")) as connection:
        back_to_16(connection)
    caplog.clear()
    with caplog.at_level(logging.INFO, "veilleuse.collector.store.sqlite.migrations"):
        make(tmp_path).close()
    said = [(record.message, record.migration) for record in caplog.records if "migration" in record.message]
    first = "data_0017_derive_again.sql"
    assert said[:2] == [("migration begins", first), ("migration applied", first)]
    begins = [record for record in caplog.records if record.message == "migration begins"]
    assert [record.migration for record in begins] == [one.name for one in migrations.migrations("data")[16:]]
    assert all(record.file_bytes >= 4096 for record in begins)


def test_indicators_of_an_older_format_are_published_again(tmp_path):
    """An older publication would stay for ever: the collector publishes a period once."""
    first, end = date(2026, 10, 1), date(2026, 11, 1)
    with closing(make(tmp_path)) as store:
        for kind in PublicationKind:
            store.publications.put(Publication(kind, first, end, 2, 10, "0.6", 1, "{}"))
        remove_own_use(store.data.connection)
        store.data.connection.execute("DROP TABLE declared_powers")  # schema 30 creates it
        store.data.connection.execute("PRAGMA user_version = 28")
    with closing(make(tmp_path)) as store:
        kinds = {one.kind for one in store.publications.summaries()}
        assert kinds == set(PublicationKind) - {PublicationKind.INDICATORS}


def test_what_an_earlier_method_derived_is_derived_again(tmp_path):
    """After a migration from method 0.1 every period with a measurement is derived again, but no gap."""
    with closing(make(tmp_path)) as store:
        stream = Stream(enrol(store.registry))
        store.ingest.append([stream.send(realistic(MONDAY_10H), realistic(MONDAY_10H + HOUR), gap())])
        waiting = store.derive.dirty(10)
        for period in waiting:
            store.derive.put_aside(period)
        back_to_16(store.data.connection)
    with closing(make(tmp_path)) as store:
        assert set(store.derive.dirty(10)) == set(waiting)
        assert len(waiting) == 2


def test_below_the_reserve_records_are_refused_and_the_registry_still_writes(tmp_path):
    """R6: below the reserve, records raise StoreFull and revocation works; with space, records are stored."""
    with closing(make(tmp_path)) as store:
        stream = Stream(enrol(store.registry))
        push = stream.send(realistic(MONDAY_10H))
        store.ingest._reserve = Reserve(tmp_path, 2**62, 1.0)
        with pytest.raises(StoreFull, match="less than the reserve"):
            store.ingest.append([push])
        store.registry.revoke_token(1)
        assert store.ingest.position(stream.host_id, stream.epoch).mark == 0
        store.ingest._reserve = Reserve(tmp_path, 2**62, 0.0)  # the smaller of both counts
        assert store.ingest.append([push])[0].mark == 1


def test_a_full_disk_inside_the_database_is_store_full(tmp_path):
    """SQLITE_FULL, by a page limit, stores nothing of the group; with space, the group is stored."""
    with closing(make(tmp_path)) as store:
        stream = Stream(enrol(store.registry))
        (pages,) = store.data.connection.execute("PRAGMA page_count").fetchone()
        store.data.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        push = stream.send(*(realistic(MONDAY_10H + i * 300_000) for i in range(60)))
        with pytest.raises(StoreFull, match="no space left"):
            store.ingest.append([push])
        store.data.connection.execute("PRAGMA max_page_count = 1000000")
        assert store.ingest.append([push])[0].stored_records == 60


def test_readers_see_only_what_is_committed_and_never_wait(tmp_path):
    """A reader during the writer's transaction reads the state before it."""
    with closing(make(tmp_path)) as store, closing(SqliteReader(tmp_path)) as reader:
        stream = Stream(enrol(store.registry))
        with store.transaction():
            store.ingest.append([stream.send(realistic(MONDAY_10H))])
            assert reader.record_count() == 0
        assert reader.record_count() == 1


def test_what_is_remembered_is_forgotten_with_a_rollback(tmp_path):
    """A failed transaction around append also restores the marks in memory."""
    with closing(make(tmp_path)) as store:
        stream = Stream(enrol(store.registry))
        push = stream.send(realistic(MONDAY_10H))
        with pytest.raises(RuntimeError):
            _append_and_fail(store, push)
        assert store.ingest.position(stream.host_id, stream.epoch).mark == 0
        assert store.ingest.append([push])[0].stored_records == 1


def test_units_are_found_anew_after_a_rollback_and_a_restart(tmp_path):
    """A unit whose row was rolled back is written again; a restart reads a host's units from its rows."""
    with closing(make(tmp_path)) as store:
        stream = Stream(enrol(store.registry))
        units = [pb.UnitTime(name="unit:nginx", cpu_milliseconds=5)]
        push = stream.send(measurement(cells=[cell(units=units)]))
        with pytest.raises(RuntimeError):
            _append_and_fail(store, push)
        assert store.data.connection.execute("SELECT count(*) FROM units").fetchone() == (0,)
        assert store.ingest.append([push])[0].stored_records == 1
        assert store.data.connection.execute("SELECT name FROM units").fetchall() == [("unit:nginx",)]
    later = stream.send(measurement(clock(MONDAY_10H + 60_000), [cell(units=units)]))
    with closing(open_store(tmp_path, LIMITS)) as store, closing(SqliteSumReader(tmp_path)) as reader:
        store.ingest.append([later])
        (row,) = reader.unit_sums(Grain.HOUR, 0, 2**62)
        assert (row.unit, row.cpu_milliseconds) == ("unit:nginx", 10)


def _append_and_fail(store: SqliteStore, push: ValidPush) -> None:
    with store.transaction():
        assert store.ingest.append([push])[0].mark == 1
        raise RuntimeError("the commit never came")


def test_the_administration_lists_tables_and_exports_a_host(tmp_path):
    """The counts are by table, and the export has every row of one host."""
    with closing(make(tmp_path)) as store:
        stream = Stream(enrol(store.registry))
        other = Stream(enrol(store.registry))
        store.ingest.append([stream.send(realistic(MONDAY_10H)), other.send(realistic(MONDAY_10H))])
        counts = inspect.table_counts(store.data)
        assert (counts["records"], counts["hosts"], counts["sums"]) == (2, 2, 8)
        exported = {table: list(rows) for table, rows in export_host(tmp_path, stream.host_id)}
        assert {row["host_id"] for rows in exported.values() for row in rows} == {stream.host_id}
        assert len(exported["records"]) == 1
        assert len(exported["point_sums"]) == 8
        (record,) = exported["records"]
        assert bytes.fromhex(record["wire"])
        assert "measurement" in record["wire_decoded"]


CHILD = """
import os, sys
from contextlib import closing
from pathlib import Path
from tests.support.pushes import HOUR, MONDAY_10H, Stream, realistic
from veilleuse.collector import settings
from veilleuse.collector.store import open_store
store = open_store(Path(sys.argv[1]), settings.Store(free_bytes_minimum=0))
streams = [Stream(host.host_id, epoch=b"epoch%03d" % host.host_id) for host in store.registry.hosts()]
turn = 0
for stream in streams:  # what an agent keeps: the records the collector may not have
    for seq in range(600):
        stream.add(realistic(MONDAY_10H + seq * 300_000))
marks = [store.ingest.position(s.host_id, s.epoch).mark for s in streams]
print("ready", flush=True)
while max(marks) < 600:
    pushes = [s.push(mark + 1, mark + 2) for s, mark in zip(streams, marks)]
    outcomes = store.ingest.append(pushes)
    marks = [outcome.mark for outcome in outcomes]
    os.write(1, ("".join(f"{s.host_id}:{m} " for s, m in zip(streams, marks)) + chr(10)).encode())
"""


@pytest.mark.any_date
def test_kill_9_loses_nothing_acknowledged_and_duplicates_nothing(tmp_path):
    """R1, small: after each kill of a process that appends, marks are at least the last ones it printed."""
    with closing(make(tmp_path)) as store:
        hosts = [enrol(store.registry) for _ in range(4)]
    chance = random.Random(11)
    acknowledged = dict.fromkeys(hosts, 0)
    for _ in range(5):
        _run_and_kill(tmp_path, chance.uniform(0.02, 0.2), acknowledged)
        with closing(open_store(tmp_path, LIMITS)) as store, closing(SqliteSumReader(tmp_path)) as reader:
            per_record = energy_of_a_record()
            total = dict.fromkeys(hosts, 0)
            for row in reader.point_sums(Grain.HOUR, 0, 2**62):
                total[row.host_id] += row.energy_millijoules
            for host in hosts:
                mark = store.ingest.position(host, b"epoch%03d" % host).mark
                assert mark >= acknowledged[host]
                assert total[host] == mark * per_record, "stored = marked, no more and no less"
    assert max(acknowledged.values()) > 0


def energy_of_a_record() -> int:
    """Return the energy of one `realistic` record, over its cells and points, mJ."""
    cells = realistic(MONDAY_10H).measurement.cells
    return sum(energy.energy_millijoules for cell in cells for energy in cell.energies)


def _run_and_kill(directory: Path, seconds: float, acknowledged: dict) -> None:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "proto", ROOT / "collector")))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    signal.signal(signal.SIGALRM, lambda *_: child.kill())
    signal.setitimer(signal.ITIMER_REAL, seconds)
    said = child.stdout.read()
    child.wait()
    child.stdout.close()
    signal.setitimer(signal.ITIMER_REAL, 0)
    for line in said.decode().split("\n")[:-1]:  # a truncated last line was no answer yet
        for pair in line.split():
            host, mark = map(int, pair.split(":"))
            acknowledged[host] = max(acknowledged[host], mark)
