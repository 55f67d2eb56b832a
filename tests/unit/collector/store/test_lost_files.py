# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of a store whose files are removed under load, for each file and fault: nothing is acknowledged."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.lost_files import LOST, Lost, remove_both
from tests.support.machines import settings_in
from tests.support.pushes import HOUR, MONDAY_10H, NOW, Stream, enrol, realistic, site
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector import settings
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.app.service import rescue
from veilleuse.collector.cli.doctor.storage import check_leftovers
from veilleuse.collector.errors import DataDirectoryError, StoreDamaged, StoreLost
from veilleuse.collector.ingest.counters import Count, Health
from veilleuse.collector.ingest.writer import Writer
from veilleuse.collector.model.records import AppendOutcome
from veilleuse.collector.store import create_store, open_store
from veilleuse.collector.store.directory import find_undecided, name_remedy
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.collector.store.sqlite.own_files import OwnFiles
from veilleuse.collector.store.sqlite.reader import SqliteReader

AFTER = 40
"""Pushes sent after the fault."""


@pytest.fixture(autouse=True)
def no_file_above_a_gibibyte() -> Iterator[None]:
    """Bound the size of files: a rollback grew a garbled index (-shm) to 24 GB, all of the memory."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Loaded:
    """A store and a writer that are fed without a pause, until the store refuses."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.health = Health()
        self.writer = Writer(store, self.health, queue_pushes=1_000)
        with store.transaction():
            self.streams = [Stream(enrol(store.registry)) for _ in range(8)]
            self.own = Stream(enrol(store.registry))
        self.stop = threading.Event()
        self.acknowledged = 0
        self.feeder = threading.Thread(target=self._feed)

    def push(self, stream: Stream | None = None) -> Future[AppendOutcome]:
        """Push one more record of a stream, by default of the test's own."""
        stream = stream or self.own
        stream.add(realistic(MONDAY_10H + len(stream.wires) * 300_000 % (600 * HOUR)))
        return self.writer.append(stream.push(len(stream.wires)))

    def _feed(self) -> None:
        while not self.stop.is_set():
            waiting = [self.push(stream) for stream in self.streams]
            if any(one.exception(PATIENCE_SECONDS) for one in waiting):
                return
            self.acknowledged += len(waiting)


@contextmanager
def loaded(directory: Path) -> Iterator[Loaded]:
    """Run a store under load."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(directory, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        made = Loaded(store)
        made.writer.start()
        made.feeder.start()
        try:
            until(lambda: made.acknowledged > 200 or not made.feeder.is_alive())
            yield made
        finally:
            made.stop.set()
            made.feeder.join()
            made.writer.stop()


def _begin_again(directory: Path, lost: Lost, saved: list[Path]) -> None:
    """Follow the remedy after a rescue or a damaged index; the result is a store that opens."""
    limits = settings.Store(free_bytes_minimum=0)
    if saved:
        assert "'veilleuse serve' does not start before" in (find_undecided(directory) or ("",))[0]
        if (directory / "data.db").exists():
            with pytest.raises(
                DataDirectoryError, match=r"does not start before .* to take it: .* not wanted: mv "
            ):
                open_store(directory, limits)
        for each in saved:
            database = each.with_name(each.name.partition(".rescued")[0])
            for ending in ("-wal", "-shm"):
                database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)
            each.rename(database)
    if saved or lost.file.endswith("-shm"):
        open_store(directory, limits).close()


@pytest.mark.parametrize("lost", [one for one in LOST if one.left != "goes on"], ids=str)
def test_nothing_is_acknowledged_once_a_file_is_lost(tmp_path, lost: Lost):
    """After `rm data.db`, 2,778 pushes were acknowledged in 75 s. Now none is, and those acknowledged before
    are in the file that the error names."""
    directory = tmp_path / "data"
    with loaded(directory) as made:
        lost.apply(directory)
        after = [made.push() for _ in range(AFTER)]
        errors = [one.exception(PATIENCE_SECONDS) for one in after]
        assert len([one for one in errors if one is None]) == 0
        assert all(isinstance(one, StoreDamaged) for one in errors), errors
        made.stop.set()
        made.feeder.join()
        kinds = made.health.snapshot()[Count.STORE_ERRORS]
        saved = made.writer.submit(lambda: made.store.rescue(lambda: None), alone=True).result()
    assert set(kinds) <= {"lost", "damaged"}, kinds
    both = lost.do is remove_both or (not lost.file and lost.left == "rescued")
    assert len(saved) == (2 if both else lost.left == "rescued")
    for each in saved:
        assert each.stat().st_mode & 0o777 == 0o600
        assert str(each) in name_remedy(each.with_name(each.name.partition(".rescued")[0]))
    _begin_again(directory, lost, saved)
    if lost.left == "damaged" or lost.file.startswith("identity"):
        return
    file = next(
        path
        for path in (
            directory / "data.db",
            directory / "data.db.elsewhere",
            tmp_path / "data.elsewhere" / "data.db",
        )
        if path.exists()
    )
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as found:
        assert found.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert found.execute("SELECT count(*) FROM records").fetchone()[0] >= made.acknowledged


def _garble_count(index: Path) -> None:
    """Overwrite the number of frames in the index of a WAL: with a million, the index would have 7.7 MiB."""
    with index.open("r+b") as file:
        file.seek(16)
        file.write((1_000_000).to_bytes(4, sys.byteorder))


@pytest.mark.parametrize("error", [StoreLost, ZeroDivisionError])
def test_a_rollback_makes_a_garbled_index_no_longer(tmp_path, error: type[Exception]):
    """A rollback of SQLite makes an index as long as its header says, up to 32 GiB."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        index = tmp_path / "data.db-shm"
        before = index.stat().st_size

        def write() -> None:
            with store.transaction():
                enrol(store.registry)
                _garble_count(index)
                if error is ZeroDivisionError:
                    raise ZeroDivisionError

        with pytest.raises(error):
            write()
        assert index.stat().st_size == before
        with pytest.raises(StoreLost, match="-shm was written by another program"), store.transaction():
            pass
    with closing(open_store(tmp_path, limits)) as store:
        assert store.registry.sites() == (site(),)
        assert store.data.row("SELECT count(*) FROM hosts") == (0,)


def test_an_index_garbled_during_the_check_is_not_a_truncated_wal(tmp_path, monkeypatch):
    """An index that is garbled after its own check counts more frames than the WAL has."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=NOW)) as store:

        def garble_after_check(*_: object, **__: object) -> bool:
            _garble_count(tmp_path / "data.db-shm")
            return False

        monkeypatch.setattr(OwnFiles, "_is_written", garble_after_check)
        with pytest.raises(StoreLost, match="-shm was written by another program") as caught:
            store.registry.put_site(site())
        assert not caught.value.rescue
    with closing(open_store(tmp_path, limits)) as store:
        assert store.registry.sites() == (site(),)


def test_readers_and_a_removed_lock_disturb_nobody(tmp_path):
    """Neither readers that close the WAL nor a removed `lock` file disturb the store."""
    with loaded(tmp_path) as made:
        for _ in range(20):
            with closing(SqliteReader(tmp_path)) as reader:
                reader.record_count()
        (tmp_path / "lock").unlink(missing_ok=True)
        made.writer.submit(made.store.data.checkpoint, alone=True).result(PATIENCE_SECONDS)
        for _ in range(AFTER):
            made.push().result(PATIENCE_SECONDS)
        assert made.store.files.lost is None


def test_who_opens_the_database_for_writing_and_reads_disturbs_nobody(tmp_path):
    """A program such as `sqlite3` that opens the database for writing and only reads disturbs nobody."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        for _ in range(20):
            with closing(sqlite3.connect(tmp_path / "data.db")) as other:
                other.execute("SELECT count(*) FROM hosts").fetchone()
            with store.transaction():
                enrol(store.registry)
            assert store.files.lost is None


def test_what_was_lost_stays_lost(tmp_path):
    """A lost file stays lost, since a truncated file grows at the next checkpoint with a hole in it."""
    with loaded(tmp_path) as made:
        (tmp_path / "data.db").rename(tmp_path / "away")
        assert isinstance(made.push().exception(PATIENCE_SECONDS), StoreLost)
        (tmp_path / "away").rename(tmp_path / "data.db")
        assert isinstance(made.push().exception(PATIENCE_SECONDS), StoreLost)


def test_a_rescue_that_has_no_place_is_tried_again(tmp_path, caplog):
    """A rescue that has no place is retried: a process that ended without it would lose the last copy."""
    settings = settings_in(tmp_path)
    initialise(settings, site="Lyon")
    with open_collector(settings) as collector:
        shutil.rmtree(settings.data_dir)
        settings.data_dir.touch()
        with pytest.raises(StoreLost):
            collector.issuing.commit(lambda: None)
        assert collector.damaged.is_set()
        assert not rescue(collector)
        assert "do not stop the collector" in caplog.records[-1].remedy
        settings.data_dir.unlink()
        assert rescue(collector)
    found = sorted(path.name.partition("rescued-")[0] for path in settings.data_dir.iterdir())
    assert found == ["data.db.", "identity.db."]


def test_an_empty_database_is_damaged_and_not_old(tmp_path):
    """`hosts list` once called an empty database 'schema 0 of an earlier version'."""
    (tmp_path / "data.db").touch(mode=0o600)
    with pytest.raises(StoreDamaged, match="it is empty"), closing(SqliteReader(tmp_path)) as reader:
        reader.record_count()


def test_doctor_says_that_a_rescue_waits_for_a_decision(tmp_path):
    """A restart once continued with the older file, and acknowledged records into it."""
    settings = settings_in(tmp_path)
    initialise(settings, site="Lyon")
    rescue = settings.data_dir / "data.db.rescued-20260101T000000Z"
    shutil.copy(settings.data_dir / "data.db", rescue)
    (finding,) = check_leftovers(settings)
    assert finding.outcome == "failed"
    assert f"mv {rescue} {rescue}.unwanted" in finding.remedy
    with pytest.raises(DataDirectoryError, match="does not start before"), open_collector(settings):
        pass
    rescue.rename(f"{rescue}.unwanted")
    with open_collector(settings):
        assert not list(check_leftovers(settings))
